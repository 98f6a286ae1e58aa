"""The start of the service is made of imports: which modules, not how many seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# what serving a bundle by its lookup tables needs, counted by package; a new name here costs every cold start
NEEDED = {
    "blinker", "click", "flask", "gunicorn", "gunicorn_h1c", "itsdangerous", "jinja2", "markupsafe", "model",
    "msgspec", "numpy", "orjson", "service", "typing_extensions", "uvloop", "werkzeug",
}  # fmt: skip
# with every part of the standard library; 580 when this was written
MOST_MODULES = 582

START = """
import json, sys
from service import gunicorn_conf, startup
import gunicorn.app.wsgiapp, gunicorn_h1c, uvloop, service.worker
from service.config import Settings
startup.begin(Settings.from_env())
import service.app
bridge = service.app.asgi()
import service.connection
from service.form import Call
row = dict(bill_length_mm=39.1, bill_depth_mm=18.7, flipper_length_mm=181, body_mass_g=3750)
assert bridge.short_door.answer(Call(json.dumps(row).encode())).status == 200
first = sorted(sys.modules)
assert json.loads(bridge.short_door.answer(Call(json.dumps(row).encode(), "explain=true")).body)["contributions"]
print(json.dumps([first, sorted(set(sys.modules) - set(first))]))
"""


def _modules_after_the_first_prediction(folder: Path, **settings: str) -> tuple[list[str], list[str]]:
    """Return what is imported for the first prediction, and what for the first explanation after it."""
    environment = {"PATH": "/usr/bin:/bin", "MODEL_URI": str(folder), "ROOKERY_LOG_LEVEL": "error", **settings}
    done = subprocess.run(
        [sys.executable, "-c", START], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    first, explained = json.loads(done.stdout.splitlines()[-1])
    return first, explained


def _packages(modules: list[str]) -> set[str]:
    own = {"__main__", "__mp_main__", "cython_runtime"}
    names = {name.partition(".")[0] for name in modules}
    return {name for name in names if name not in sys.stdlib_module_names and name not in own and name[0] != "_"}


@pytest.fixture(scope="module")
def imported(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """What is imported when the first prediction has been answered, and when it has been explained."""
    return _modules_after_the_first_prediction(
        bundles["penguins"], MODEL_CACHE_DIR=str(tmp_path_factory.mktemp("cache"))
    )


@pytest.fixture(scope="module")
def modules(imported: tuple[list[str], list[str]]) -> list[str]:
    """What is imported when the first prediction has been answered."""
    return imported[0]


def test_serving_imports_what_serving_needs(modules):
    assert _packages(modules) <= NEEDED


def test_no_more_modules_are_imported_than_are_counted(modules):
    print(f"{len(modules)} modules, at most {MOST_MODULES}")
    assert len(modules) <= MOST_MODULES


@pytest.mark.parametrize(
    "name",
    ["google.cloud.storage", "google.cloud.logging", "google.protobuf", "grpc", "marshmallow", "prometheus_client"],
)
def test_what_only_some_need_waits(modules, name):
    assert not [module for module in modules if module == name or module.startswith(f"{name}.")]


def test_the_first_explanation_loads_no_other_library(imported):
    assert _packages(imported[1]) <= NEEDED


def test_another_engine_is_imported_when_it_is_asked_for(bundles, tmp_path):
    found, _ = _modules_after_the_first_prediction(bundles["penguins"], MODEL_CACHE_DIR=str(tmp_path), ENGINE="onnx")
    # google: protocol buffers, for the structure of the file
    assert _packages(found) - NEEDED == {"google", "onnxruntime"}
