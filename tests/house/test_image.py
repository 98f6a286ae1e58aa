"""What the image is built from is pinned, and what must not enter it cannot."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BUILDERS = "\n".join(path.read_text() for path in sorted((ROOT / "scripts/image").glob("*.sh")))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
NOT_SLIM = {"xgboost", "xgboost-cpu", "scipy", "nvidia-nccl-cu12"}


def pins(name: str) -> dict[str, str]:
    """Return name → the pin with its marker and hashes."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return dict(re.findall(r"^([a-z0-9-]+)==(.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["requirements-slim.txt", "requirements-build.txt", "tests/e2e/requirements.txt"])
def test_what_is_installed_for_the_image_is_pinned_with_hashes(name: str):
    found = pins(name)

    assert found
    assert [name for name, pin in found.items() if "--hash=sha256:" not in pin] == []
    assert "://" not in (ROOT / name).read_text()


def test_slim_is_everything_but_xgboost():
    full = pins("requirements.txt")

    assert pins("requirements-slim.txt") == {name: pin for name, pin in full.items() if name not in NOT_SLIM}
    assert full.keys() >= NOT_SLIM


def test_every_installation_in_the_image_checks_hashes():
    calls = re.findall(r"-m pip [^&|\n]*", (DOCKERFILE + BUILDERS).replace("\\\n", " "))
    commands = [call for call in calls if " install " in call]

    assert len(commands) == 2
    assert [command for command in commands if "--require-hashes" not in command] == []


def test_process_1_is_gunicorn_and_not_a_shell():
    assert DOCKERFILE.rstrip().splitlines()[-1] == 'CMD ["gunicorn", "-c", "service/gunicorn_conf.py"]'
    assert "ENTRYPOINT" not in DOCKERFILE


def test_dependencies_come_before_the_source():
    assert DOCKERFILE.index("packages.sh /build/requirements.txt") < DOCKERFILE.index("COPY service")


def test_a_base_that_is_pinned_is_pinned_by_a_digest():
    (base,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)

    assert re.fullmatch(r"python:\S+-slim-bookworm(@sha256:[0-9a-f]{64})?", base)


def test_the_build_sees_only_what_is_named():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    named = {line[1:] for line in lines if line.startswith("!")}

    assert lines[0] == "*"
    assert named == {line for line in named if (ROOT / line).exists() or line == "bundles"}
    assert named & {".git", ".env", ".venv", "tests", "docs", "keys", "load"} == set()
    assert {"**/.env*", "**/*.pem", "**/*.key", "**/__pycache__"} <= set(lines)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(workflow: Path):
    used = re.findall(r"uses: +(\S+)(.*)", workflow.read_text())

    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" +# v\d+(\.\d+)*", comment), action


def test_scripts_are_shell_that_parses():
    scripts = [*sorted((ROOT / "scripts/image").glob("*.sh")), ROOT / "tests/e2e/container.sh"]

    assert len(scripts) == 4
    for script in scripts:
        shell = script.read_text().splitlines()[0].split("/")[-1].split()[-1]
        assert subprocess.run([shell, "-n", script], check=False).returncode == 0, script
        assert script.stat().st_mode & 0o111
