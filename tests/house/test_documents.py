"""The documents say what is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.generated import with_tables

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("model/**/*.md")])


def test_readme_says_what_it_is_on_line_3_and_runs_by_line_12():
    lines = (ROOT / "README.md").read_text().splitlines()

    assert lines[2] == "Rookery serves tabular models on Google Cloud Run, and never gives a silent wrong answer."
    assert any(line.startswith("make run") for line in lines[:12])
    assert any(line.startswith("curl ") for line in lines[:12])


def test_the_tables_of_settings_and_metrics_are_what_the_code_says():
    text = (ROOT / "DEPLOYMENT.md").read_text()

    assert text == with_tables(text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_every_decision_is_in_the_index():
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text()

    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert records
    assert re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", index) == records


def test_every_reason_code_stands_in_the_runbook():
    source = "".join(path.read_text() for path in [*ROOT.glob("model/*.py"), ROOT / "service/loader.py"])
    codes = set(re.findall(r'(?:BundleError|NotReady)\(\s*"([a-z_]+)"', source))
    codes |= set(re.findall(r'code = "([a-z_]+)" if .* else "([a-z_]+)"', source).pop())
    table = (ROOT / "DEPLOYMENT.md").read_text()

    assert len(codes) > 10
    assert [code for code in sorted(codes) if f"`{code}`" not in table] == []


def test_readme_states_the_class_order():
    assert "Adelie 0, Chinstrap 1, Gentoo 2" in (ROOT / "README.md").read_text()
