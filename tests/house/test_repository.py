"""The repository itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from service.app import create_app
from service.config import Settings

ROOT = Path(__file__).resolve().parents[2]
KEY_MATERIAL = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----|\"private_key\"\s*:|AIza[0-9A-Za-z_-]{35}|AKIA[0-9A-Z]{16}"
)
KEY_FILES = re.compile(r"(^|/)(\.env(\..*)?|id_(rsa|ecdsa|ed25519).*|.*\.(pem|key|p12|pfx))$")


def tracked_files() -> list[Path]:
    """Return what git would commit: tracked and new, without the ignored; everything when there is no git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in found.split("\0") if name and (ROOT / name).is_file()]


def test_no_key_material_in_the_tree():
    files = tracked_files()

    assert len(files) > 50
    assert [str(path) for path in files if KEY_FILES.search(str(path.relative_to(ROOT)))] == []
    assert [str(path) for path in files if KEY_MATERIAL.search(path.read_bytes())] == []


def test_a_private_key_would_be_noticed():
    # put together here, so that this file does not hold what it looks for
    assert KEY_MATERIAL.search(b"-----BEGIN EC " + b"PRIVATE KEY-----")


@pytest.mark.parametrize("name", ["a/.env", ".env.local", "deploy/id_ed25519", "keys/signing.pem", "tls.key"])
def test_key_files_would_be_noticed(name: str):
    assert KEY_FILES.search(name)


@pytest.mark.parametrize("name", [".env", "key.pem", "a/private.key", "my-service-account.json"])
def test_git_ignores_key_files(name: str):
    command = ["git", "check-ignore", "--quiet", name]

    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_with_hashes(name: str):
    text = (ROOT / name).read_text()
    blocks = re.split(r"\n(?=[a-z])", text[text.index("\n") :].replace("\\\n", " "))
    requirements = [block for block in blocks if re.match(r"\s*[a-zA-Z0-9-]+==", block)]

    assert len(requirements) > 15
    assert [block[:40] for block in requirements if "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert re.search(r"^xgboost-cpu==.* ; .*platform_machine == 'x86_64'", text, re.MULTILINE)
    assert re.search(r"^xgboost==.* ; .*platform_machine != 'x86_64'", text, re.MULTILINE)


def test_serving_installs_nothing_that_trains():
    text = (ROOT / "requirements.txt").read_text()

    for package in ("scikit-learn", "pandas", "pint", "skl2onnx", "onnxmltools", "joblib", "cloudpickle"):
        assert not re.search(rf"^{package}==", text, re.MULTILINE), package


def test_both_requirement_files_agree():
    pins = [
        dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements-dev.txt")
    ]

    assert {name: version for name, version in pins[0].items() if pins[1].get(name) != version} == {}


def test_serving_imports_nothing_that_trains(bundles: dict[str, Path]):
    program = (
        "import sys; from service.app import create_app; from service.config import Settings; "
        "client = create_app(Settings.from_env()).test_client(); "
        "assert client.get('/health/ready').status_code == 200; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('sklearn', 'scipy', 'pandas', 'pint', 'onnx', 'skl2onnx', 'onnxmltools', 'xgboost', 'apispec', 'pickle5')])"
    )
    environment = {"MODEL_URI": str(bundles["penguins"]), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert found.stdout.splitlines()[-1] == "[]"


def test_no_route_ends_in_z():
    routes = [str(rule) for rule in create_app(Settings()).url_map.iter_rules()]

    assert "/predict" in routes
    assert [route for route in routes if route.rstrip("/").endswith("z")] == []


def test_there_is_no_room_for_odds_and_ends():
    names = {path.stem for folder in ("service", "model") for path in (ROOT / folder).glob("*.py")}

    assert names & {"utils", "helpers", "common", "base", "manager", "misc"} == set()


def test_files_stay_small():
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for folder in ("service", "model", "scripts", "load")
        for path in (ROOT / folder).rglob("*.py")
    }

    assert {name: lines for name, lines in sizes.items() if lines > 330} == {}


def test_penguins_admit_no_negative_value():
    features = tomllib.loads((ROOT / "model/specs/penguins.toml").read_text())["features"]

    assert [feature["name"] for feature in features if feature["hard"][0] < 0] == []


def test_every_verb_of_the_makefile_is_listed():
    text = (ROOT / "Makefile").read_text()
    declared = re.findall(r"^\.PHONY: (\S+)$", text, re.MULTILINE)
    shown = subprocess.run(["make", "--silent"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert declared
    assert re.findall(r"^  make (\S+) ", shown, re.MULTILINE) == declared
