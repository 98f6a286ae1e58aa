"""Whoever is woken finds a runbook: for each alert, and for each end of a rollout."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.rollout.__main__ import STATUS
from scripts.rollout.controller import End

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = (ROOT / "docs/runbooks.md").read_text()


def test_every_alert_has_a_runbook():
    alerts = {path.stem for path in (ROOT / "deploy/monitoring/policies").glob("*.json")}
    linked = re.findall(r"^\| (`.*`) \| \[.*\]\(#(.*)\) \|$", RUNBOOKS, re.MULTILINE)
    headings = {re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in headlines()}

    assert {name for names, _ in linked for name in re.findall(r"`(\w+)`", names)} == alerts
    assert {anchor for _, anchor in linked} <= headings


def test_every_end_of_a_rollout_has_a_runbook():
    numbered = {int(line.split(":")[0]) for line in headlines() if line[0].isdigit()}

    assert numbered == {STATUS[end] for end in End} - {STATUS[End.PROMOTED]}


def headlines() -> list[str]:
    """Return the third-level headings."""
    return re.findall(r"^### (.+)$", RUNBOOKS, re.MULTILINE)
