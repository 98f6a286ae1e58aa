"""Every command of the repository says how it is used, and says in one line what is wrong."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUARD = 'if __name__ == "__main__":'
# what is meant for people; those of tests/ have their verbs in the Makefile
PACKAGES = ("model", "service", "scripts", "load")
# started by the benchmark alone, in an environment of their own
NOT_COMMANDS = ("load/peers",)

# run by the image's build, beside nothing else of the repository
STANDALONE = ("scripts.image.parts",)


def commands() -> list[str]:
    """Return every module that can be run."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    names = [path.relative_to(ROOT) for path in paths if GUARD in path.read_text()]
    kept = [name for name in names if not str(name).startswith(NOT_COMMANDS)]
    return [".".join(name.with_suffix("").parts).removesuffix(".__main__") for name in kept]


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command the way a person does."""
    words = [sys.executable, "-m", command, *arguments]
    return subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def helped() -> dict[str, subprocess.CompletedProcess[str]]:
    """What every command answers to --help."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands(), pool.map(lambda name: run(name, "--help"), commands()), strict=True))


@pytest.fixture(scope="module")
def misused() -> dict[str, subprocess.CompletedProcess[str]]:
    """What every command answers to an option that there is not."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands(), pool.map(lambda name: run(name, "--no-such-option"), commands()), strict=True))


def test_there_are_commands():
    assert {"model.train", "model.init", "model.predict", "model.publish", "model.sign", "service"} <= set(commands())


@pytest.mark.parametrize("command", commands())
def test_help_has_an_example(helped, command):
    found = helped[command]
    assert found.returncode == 0, found.stderr
    assert "example" in found.stdout
    assert found.stderr == ""


@pytest.mark.parametrize("command", commands())
def test_wrong_usage_is_status_two_and_no_traceback(misused, command):
    found = misused[command]
    assert (found.returncode, found.stdout) == (2, "")
    assert "Traceback" not in found.stderr
    assert "error: " in found.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", commands())
def test_exit_statuses_are_named(helped, command):
    assert "exit status" in helped[command].stdout


@pytest.mark.parametrize("command", [name for name in commands() if name not in STANDALONE])
def test_wrong_usage_is_said_in_one_line(misused, command):
    assert len(misused[command].stderr.splitlines()) == 1


@pytest.mark.parametrize("command", commands())
def test_what_is_not_a_terminal_gets_no_colours(helped, misused, command):
    assert "\x1b" not in helped[command].stdout + misused[command].stderr
