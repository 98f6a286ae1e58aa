"""Which findings stop a release."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from scripts.deploy.scan import Finding, findings, main, stopping

TODAY = date(2026, 11, 26)
CRITICAL = Finding("CVE-1", "openssl", "CRITICAL", is_fixable=True)


def occurrence(name: str, severity: str, *, is_fixable: bool) -> dict[str, Any]:
    issue = {"affectedPackage": "openssl", "fixAvailable": is_fixable}
    return {"vulnerability": {"shortDescription": name, "effectiveSeverity": severity, "packageIssue": [issue]}}


def test_findings_are_read_as_gcloud_prints_them():
    assert findings([occurrence("CVE-1", "CRITICAL", is_fixable=True)]) == [CRITICAL]
    assert findings([{"noteName": "projects/goog-vulnz/notes/CVE-2", "vulnerability": {}}]) == [
        Finding("CVE-2", "?", "SEVERITY_UNSPECIFIED", is_fixable=False)
    ]


@pytest.mark.parametrize(
    ("finding", "exceptions", "stops"),
    [
        (CRITICAL, {}, True),
        (Finding("CVE-1", "openssl", "CRITICAL", is_fixable=False), {}, False),
        (Finding("CVE-1", "openssl", "HIGH", is_fixable=True), {}, False),
        (CRITICAL, {"CVE-1": {"until": TODAY}}, False),
        (CRITICAL, {"CVE-1": {"until": date(2026, 11, 25)}}, True),
        (CRITICAL, {"CVE-2": {"until": TODAY}}, True),
    ],
    ids=["critical", "no-fix", "high", "excepted", "excepted-until-yesterday", "another-excepted"],
)
def test_what_stops(finding: Finding, exceptions: dict[str, Any], stops: bool):
    assert stopping([finding], exceptions, TODAY) == ([finding] if stops else [])


def test_the_command_names_what_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "findings.json"
    file.write_text(json.dumps([occurrence("CVE-1", "CRITICAL", is_fixable=True)]))

    assert main([str(file)], TODAY) == 1
    assert "CVE-1 in openssl" in capsys.readouterr().err


def test_no_findings_are_no_hindrance_and_no_file_is(tmp_path: Path):
    file = tmp_path / "findings.json"
    file.write_text("[]")

    assert main([str(file)]) == 0
    assert main([str(tmp_path / "missing.json")]) == 2
