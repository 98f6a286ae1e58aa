"""What docs/operations.md points to is there."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from service.config import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/operations.md").read_text()
ANSWERS = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
PROOFS = sorted({proof for _, answer in ANSWERS for proof in re.findall(r"`([^`]+)`", answer.partition("→")[2])})
TOPICS = (
    "edge cases", "corrupted", "realistic load", "slow", "metrics", "layers", "root", "scale", "ten times",
    "monitored", "Blue and green", "deployment fails", "memory", "not built",
)  # fmt: skip


def exists(proof: str) -> bool:
    """Whether a verb, a module, a metric, a setting or a file is there."""
    if proof.startswith("make "):
        return f"\n{proof[5:]}:" in (ROOT / "Makefile").read_text()
    if proof.startswith("python -m "):
        return importlib.util.find_spec(proof.split()[2]) is not None
    if proof.startswith("rookery_"):
        return any(proof in path.read_text() for path in (ROOT / "service").rglob("*.py"))
    if proof.isupper():
        return proof in {declared.metadata["env"] for declared in dataclasses.fields(Settings)}
    return (ROOT / proof).is_file()


def test_every_question_is_there():
    questions = [question for question, _ in ANSWERS]
    assert [topic for topic in TOPICS if not any(topic in question for question in questions)] == []


@pytest.mark.parametrize(("question", "answer"), ANSWERS, ids=[question for question, _ in ANSWERS])
def test_every_answer_ends_in_what_shows_it(question, answer):
    last = answer.rstrip().splitlines()[-1]
    assert last.startswith("→ `")


@pytest.mark.parametrize("proof", PROOFS)
def test_what_is_named_is_there(proof):
    assert exists(proof)


@pytest.mark.parametrize("proof", ["make nothing", "rookery_nothing", "NOTHING", "tests/nothing.py"])
def test_what_is_not_there_would_be_noticed(proof):
    assert not exists(proof)
