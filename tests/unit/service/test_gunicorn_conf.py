"""Gunicorn's configuration takes its values from the settings, and stops with one line when one is wrong."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from service import startup, underway
from service.config import Settings
from service.loader import Ready

FILE = Path(__file__).resolve().parents[3] / "service" / "gunicorn_conf.py"
SET = (
    "PORT",
    "ROOKERY_OPS_PORT",
    "ROOKERY_BIND_HOST",
    "ROOKERY_WORKERS",
    "ROOKERY_LOG_LEVEL",
    "ROOKERY_LOG_FORMAT",
    "ROOKERY_IDLE_SECONDS",
)


def _run(monkeypatch: pytest.MonkeyPatch, **env: str) -> dict[str, object]:
    for name in SET:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(FILE))


def test_the_defaults_listen_on_this_machine_only(monkeypatch):
    found = _run(monkeypatch)
    assert (found["bind"], found["workers"], found["loglevel"]) == (["127.0.0.1:8080"], 1, "info")


def test_address_port_workers_and_level_come_from_the_settings(monkeypatch):
    found = _run(monkeypatch, PORT="9", ROOKERY_BIND_HOST="0.0.0.0", ROOKERY_WORKERS="3", ROOKERY_LOG_LEVEL="error")
    assert (found["bind"], found["workers"], found["loglevel"]) == (["0.0.0.0:9"], 3, "error")


@pytest.mark.parametrize(("level", "its"), [("info", "warning"), ("debug", "debug"), ("error", "error")])
def test_whoever_looks_on_is_not_told_what_gunicorn_does(monkeypatch, level, its):
    assert _run(monkeypatch, ROOKERY_LOG_FORMAT="text", ROOKERY_LOG_LEVEL=level)["loglevel"] == its


def test_operations_may_have_a_port_of_their_own(monkeypatch):
    found = _run(monkeypatch, PORT="9", ROOKERY_OPS_PORT="10", ROOKERY_BIND_HOST="0.0.0.0")
    assert found["bind"] == ["0.0.0.0:9", "0.0.0.0:10"]


def test_the_event_loop_worker_calls_our_bridge_after_the_fork(monkeypatch):
    found = _run(monkeypatch)
    assert tuple(found[name] for name in ("wsgi_app", "worker_class", "asgi_lifespan", "preload_app")) == (
        "service.app:asgi()",
        "service.worker.Worker",
        "on",
        False,
    )


def test_a_stopped_service_is_gone_before_cloud_run_kills_it(monkeypatch):
    timeout = _run(monkeypatch)["graceful_timeout"]
    assert isinstance(timeout, int)
    assert timeout < 10


def test_idle_connections_are_kept_as_long_as_the_settings_say(monkeypatch):
    assert _run(monkeypatch, ROOKERY_IDLE_SECONDS="620")["keepalive"] == 620


def test_every_name_is_a_setting_of_gunicorn(monkeypatch):
    from gunicorn.config import Config

    ours = {name for name, value in _run(monkeypatch).items() if not name.startswith("_") and not callable(value)}
    assert ours - {"sys", "logs", "annotations"} <= set(Config().settings)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("PORT", "http", "error: PORT='http' must be a whole number from 1 to 65535\n"),
        ("ROOKERY_WORKER", "2", "error: ROOKERY_WORKER is not a setting; did you mean ROOKERY_WORKERS?\n"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(monkeypatch, capsys, name, value, line):
    with pytest.raises(SystemExit) as stopped:
        _run(monkeypatch, **{name: value})
    assert (2, line) == (stopped.value.code, capsys.readouterr().err)


@pytest.fixture
def protocol(monkeypatch: pytest.MonkeyPatch, private_environment: Settings, root_logging: None) -> type:
    """Gunicorn keeps the parser on its class: what the hook puts there goes away after the test."""
    from gunicorn.asgi.protocol import ASGIProtocol

    assert ASGIProtocol._check_h1c_protocol_available()
    monkeypatch.setattr(ASGIProtocol, "_h1c_protocol_class", ASGIProtocol._h1c_protocol_class)
    return ASGIProtocol


def test_the_parser_holds_a_whole_body_behind_a_request_in_progress(monkeypatch, private_environment, protocol):
    monkeypatch.setenv("MAX_BODY_BYTES", "100000")
    _run(monkeypatch)["post_fork"](SimpleNamespace(num_workers=1), SimpleNamespace(age=1))  # type: ignore[operator]
    startup.finish(private_environment)
    assert protocol._h1c_protocol_class.keywords == {"limit_remaining": 100_000 + (128 << 10)}


def test_a_worker_begins_to_load_after_the_fork(monkeypatch, bundles, protocol):
    monkeypatch.setenv("MODEL_URI", str(bundles["penguins"]))
    _run(monkeypatch)["post_fork"](SimpleNamespace(num_workers=1), SimpleNamespace(age=1))  # type: ignore[operator]
    # other settings: what comes back was loaded by the hook
    state = startup.finish(Settings(model_uri="/nowhere"))
    assert isinstance(state, Ready)
    assert f"sha256:{bundles['penguins'].name}" == state.digest


def test_a_worker_that_ends_in_good_order_says_so(monkeypatch, private_environment):
    found = underway.share()
    assert not found.is_finished
    _run(monkeypatch)["worker_exit"](None, SimpleNamespace(finish=lambda: None))  # type: ignore[operator]
    assert found.is_finished
    underway.share()
