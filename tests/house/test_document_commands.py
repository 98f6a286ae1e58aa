"""What the documents tell people to type is there: verbs, their variables, modules, their verbs and options."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
# what says how things are now; decisions and changes say how they were
DOCUMENTS = [ROOT / name for name in ("README.md", "DEPLOYMENT.md", "CONTRIBUTING.md", "SECURITY.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
MAKEFILE = (ROOT / "Makefile").read_text()
PACKAGES = ("model", "service", "scripts", "load", "tests")
# of other projects
OTHERS = ("model_signing", "pytest")
# have no arguments, nor --help
SILENT = ("tests.house.generated", "tests.soak.sight_costs")
ACTIVATED = ". .venv/bin/activate"


class Command(NamedTuple):
    """A call of one of our modules; `verb` is empty where it has none."""

    module: str
    verb: str
    options: frozenset[str]


def typed(path: Path) -> list[str]:
    """Return what stands in a document as code, a line or a piece of a line each."""
    text = path.read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    found = lines + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    if path.name == "runbooks.md":
        found = [re.sub(r"^R ", "python -m scripts.rollout ", piece) for piece in found]
    # what follows a mark is a remark
    return [piece.split("  #")[0] for piece in found]


TYPED = sorted({(path.name, piece) for path in DOCUMENTS for piece in typed(path)})


def modules() -> list[Command]:
    """Return every call of a module of ours."""
    found = set()
    for _, piece in TYPED:
        for module, rest in re.findall(r"python -m ([\w.]+)([^|&;>]*)", piece):
            if module in OTHERS or module in SILENT:
                continue
            verb = re.match(r" ([a-z]+)(?= |$)", rest)
            options = frozenset(re.findall(r"(?<= )--[a-z-]+", rest))
            found.add(Command(module, verb.group(1) if verb else "", options))
    return sorted(found, key=lambda one: (one.module, one.verb, sorted(one.options)))


def helped(command: Command) -> str:
    """Return what a command says to --help, that of its verb too."""
    said = ""
    for words in ([], [command.verb]) if command.verb else ([],):
        line = [sys.executable, "-m", command.module, *words, "--help"]
        done = subprocess.run(line, cwd=ROOT, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, (line, done.stderr)
        said += done.stdout
    return said


@pytest.fixture(scope="module")
def said() -> dict[tuple[str, str], str]:
    """What every module and verb says to --help."""
    calls = {(one.module, one.verb): one for one in modules()}
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(calls, pool.map(helped, calls.values()), strict=True))


def test_modules_verbs_and_options_are_there(said):
    assert len(said) > 15
    missing = [
        (one.module, one.verb, option)
        for one in modules()
        for option in one.options
        if option != "--help" and not re.search(rf"{option}(?![a-z-])", said[one.module, one.verb])
    ]
    assert missing == []


def test_modules_are_ours():
    assert {one.module.partition(".")[0] for one in modules()} <= set(PACKAGES)


def test_make_has_the_verbs_and_reads_the_variables():
    wrong = []
    for name, piece in TYPED:
        for verb, rest in re.findall(r"\bmake ([a-z-]+)((?: [A-Z]+=(?:\"[^\"]*\"|\S+))*)", piece):
            if f"\n{verb}:" not in MAKEFILE:
                wrong.append((name, verb))
            wrong += [
                (name, verb, v) for v in re.findall(r" ([A-Z]+)=", rest) if not re.search(rf"\$\((if )?{v}\b", MAKEFILE)
            ]
    assert wrong == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_says_whose_python_is_meant(path):
    # without the environment the commands end in a traceback
    is_plain = any(re.match(r"(python|gunicorn) -", piece) for piece in typed(path))
    assert not is_plain or ACTIVATED in path.read_text()
