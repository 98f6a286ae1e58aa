"""Every private name of Gunicorn that the service uses exists in the installed Gunicorn, which is the pinned one."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import pytest
from gunicorn.asgi import protocol
from gunicorn.workers import base, gasgi

ROOT = Path(__file__).resolve().parents[2]

USED = {
    "the module": "_CACHED_SERVER_HEADER _REASON_PHRASES _get_cached_date_header _get_cached_status_line",
    "ASGIProtocol, overridden": """_arm_keepalive_timer _close_transport _feed_callback_parser _on_body
        _on_headers_complete _on_message_complete _send_error_response""",
    "ASGIProtocol, called": "_check_h1c_protocol_available _pause_reading _resume_reading _safe_write",
    "ASGIProtocol, attributes": """_awaiting_request _body_receiver _callback_parser _closed _conn_lost_handled
        _current_request _flow_control _h1c_protocol_class _request_ready""",
    "BodyReceiver": "_body_wait_expired _wake_waiter",
    "ASGIWorker": "_quick_shutdown _shutdown",
}
NAMES = {name for names in USED.values() for name in names.split()}

# lengths and chunk sizes wrap at 2^64 before
PARSER_FLOOR = (0, 6, 10)


def sources() -> list[str]:
    """Return the modules of the service that import Gunicorn."""
    texts = [path.read_text() for path in sorted((ROOT / "service").rglob("*.py"))]
    return [text for text in texts if re.search(r"^\s*(from|import) gunicorn\b", text, re.MULTILINE)]


def is_private(name: str) -> bool:
    """Whether a name has one underscore before it."""
    return name.startswith("_") and not name.startswith("__")


def used(texts: Iterable[str]) -> set[str]:
    """Return every private name that is defined in these modules or read from, or written to, any object."""
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in attributes | functions if is_private(name)}


def own(texts: Iterable[str]) -> set[str]:
    """Return the private names that these modules define themselves: functions, and attributes that they assign."""
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    assigned = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in assigned | functions if is_private(name)}


def in_gunicorn() -> set[str]:
    """Return every private name that the installed Gunicorn defines or assigns where the service looks for it."""
    texts = [inspect.getsource(module) for module in (protocol, gasgi, base)]
    slots = {name for name in protocol.BodyReceiver.__slots__ if is_private(name)}
    names = {*dir(protocol), *dir(protocol.ASGIProtocol), *dir(protocol.BodyReceiver), *dir(gasgi.ASGIWorker)}
    return {name for name in names if is_private(name)} | slots | own(texts)


def missing(names: set[str]) -> list[str]:
    """Return the names that the installed Gunicorn does not have."""
    return sorted(names - in_gunicorn())


def test_gunicorn_has_every_private_name_that_the_service_uses():
    assert missing(NAMES) == [], f"Gunicorn {version('gunicorn')} has no longer: {', '.join(missing(NAMES))}"


def test_every_private_name_of_gunicorn_that_the_service_uses_is_listed():
    texts = sources()
    foreign = used(texts) - own(texts)
    # a name of our own that Gunicorn has too overrides it
    found = foreign | (own(texts) & in_gunicorn())
    assert len(texts) >= 4
    assert (sorted(found - NAMES), sorted(NAMES - found)) == ([], []), "private names: not listed, and no longer used"


def test_a_name_that_gunicorn_does_not_have_would_be_noticed():
    text = "from gunicorn.asgi import protocol\nclass A:\n    def _b(self):\n        self._made_up(); self._c = 1"
    assert used([text]) - own([text]) == {"_made_up"}
    assert missing({*NAMES, "_made_up"}) == ["_made_up"]


def pinned(name: str) -> str:
    """Return the version of a package that the image gets."""
    found = re.search(rf"^{name}==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", ["gunicorn", "gunicorn-h1c"])
def test_the_installed_version_is_the_pinned_one(name):
    assert version(name) == pinned(name)


def test_gunicorn_is_pinned_to_one_version_where_its_private_names_are_used():
    declared = (ROOT / "pyproject.toml").read_text()
    assert f'"gunicorn=={version("gunicorn")}"' in declared


def test_the_parser_does_not_wrap_lengths():
    assert tuple(int(part) for part in version("gunicorn-h1c").split(".")[:3]) >= PARSER_FLOOR
    assert f'"gunicorn-h1c>={".".join(map(str, PARSER_FLOOR))}"' in (ROOT / "pyproject.toml").read_text()
