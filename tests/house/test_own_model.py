"""The commands of docs/your-own-model.md, one after the other, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from model.spec import Spec
from tests.fakes.gcs import FakeStorage
from tests.fakes.gcs import fake_storage as fake_storage
from tests.house.test_readme_commands import free_port, running

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/your-own-model.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
NEEDED = (".venv", "Makefile", "load", "model", "requirements-dev.txt", "scripts", "service", "slo.toml", "tests")
# 1 where a row is bad
SCORED = (0, 1)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the commands need of the repository, in a folder that may fill up."""
    for name in NEEDED:
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.fixture
def cloud(fake_storage: FakeStorage) -> FakeStorage:
    """A bucket of the document's name."""
    fake_storage.create_bucket("my-models")
    return fake_storage


def test_every_command_of_the_document_works_in_order(folder: Path, cloud: FakeStorage):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV", "MAKE", "MFLAGS"))}
    environment |= cloud.environment()
    printed: dict[str, str] = {}
    with ExitStack() as service:
        port = free_port()
        for command in COMMANDS:
            if command.startswith("make run"):
                service.enter_context(running(command, port, folder / "run.txt", folder))
                continue
            shown = command.replace(":8080", f":{port}")
            done = subprocess.run(["sh", "-c", shown], cwd=folder, env=environment, capture_output=True, text=True)
            assert done.returncode in (SCORED if "model.predict" in command else (0,)), (command, done.stderr)
            printed[command] = done.stdout
            if command.startswith("curl"):
                service.close()

        # what the document says of the same command without its exception
        rehearsal = next(command for command in COMMANDS if "tests.rehearse" in command)
        strict = rehearsal.replace(" --changed-max 0.2", "")
        refused = subprocess.run(["sh", "-c", strict], cwd=folder, env=environment, capture_output=True, text=True)
        [said] = re.findall(r'"(\d+ of \d+ rows change class)"', TEXT)
        assert strict != rehearsal
        assert (refused.returncode, said in refused.stdout) == (1, True), refused.stdout + refused.stderr

    versions = re.findall(r"^[0-9a-f]{12} +machines +(\d)", printed[next(c for c in COMMANDS if " ls " in c)], re.M)
    assert sorted(versions) == ["1", "2"]
    rehearsed = printed[next(c for c in COMMANDS if "tests.rehearse" in c)]
    assert "1 of 1 as expected" in rehearsed
    assert len((folder / "scored.csv").read_text().splitlines()) == 1501


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
def test_every_table_of_the_document_is_one_of_a_spec(block: str):
    whole = tomllib.loads((ROOT / "model/specs/penguins.toml").read_text())

    found = msgspec.convert({**whole, **tomllib.loads(block)}, Spec)

    assert found.name == "penguins"


def test_the_document_has_every_step():
    words = (
        "model.init",
        "make train",
        "make run",
        "model.predict",
        "make publish",
        "tests.rehearse",
        "scripts.rollout",
    )
    assert [word for word in words if not any(word in command for command in COMMANDS)] == []
