"""Judges what Artifact Analysis found in the image: `python -m scripts.deploy.scan FINDINGS`."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from model.command_line import Parser

EXCEPTIONS = Path(__file__).resolve().parents[2] / "deploy/scan-exceptions.toml"
STOPPING = "CRITICAL"
FAILED, WRONG = 1, 2


@dataclass(frozen=True)
class Finding:
    """One weakness of one package; `is_fixable` says whether a newer version mends it."""

    name: str
    package: str
    severity: str
    is_fixable: bool


def findings(occurrences: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Read what `gcloud artifacts docker images list-vulnerabilities --format=json` prints."""
    found = []
    for occurrence in occurrences:
        weakness = occurrence["vulnerability"]
        issues = weakness.get("packageIssue", [])
        found.append(
            Finding(
                name=weakness.get("shortDescription") or occurrence.get("noteName", "").rpartition("/")[2],
                package=issues[0].get("affectedPackage", "?") if issues else "?",
                severity=weakness.get("effectiveSeverity") or weakness.get("severity", "SEVERITY_UNSPECIFIED"),
                is_fixable=any(issue.get("fixAvailable") for issue in issues),
            )
        )
    return found


def stopping(found: Sequence[Finding], exceptions: Mapping[str, Mapping[str, Any]], today: date) -> list[Finding]:
    """Return what stops a release: critical, with a fix, and without an exception that still holds.

    Args:
        found: all findings.
        exceptions: by name of the weakness, each with `until`, the last day on which it holds, and `reason`.
        today: the day of the release.
    """
    return [
        one
        for one in found
        if one.severity == STOPPING
        and one.is_fixable
        and not (one.name in exceptions and today <= exceptions[one.name]["until"])
    ]


def main(arguments: Sequence[str] | None = None, today: date | None = None) -> int:
    """Run the command; returns 0, 1 if something stops the release, 2 for a file that cannot be used."""
    parser = Parser(
        prog="python -m scripts.deploy.scan",
        description="Stop at a critical finding that has a fix and no dated exception.",
        epilog="exit status: 0 nothing stops the release, 1 a finding does, 2 a file cannot be used, or wrong usage\n\n"
        "example: python -m scripts.deploy.scan build/findings.json",
    )
    parser.add_argument("findings", type=Path, help="JSON of gcloud artifacts docker images list-vulnerabilities")
    parser.add_argument("--exceptions", type=Path, default=EXCEPTIONS, help="dated exceptions (TOML)")
    given = parser.parse_args(arguments)
    try:
        found = findings(json.loads(given.findings.read_text()))
        exceptions = tomllib.loads(given.exceptions.read_text())
        stops = stopping(found, exceptions, today or datetime.now(UTC).date())
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"error: {given.findings} or {given.exceptions} cannot be used: {error}", file=sys.stderr)
        return WRONG
    print(f"{len(found)} findings, {len(stops)} of them stop the release")
    for one in stops:
        print(f"error: {one.name} in {one.package} is critical and has a fix; renew the base image", file=sys.stderr)
    return FAILED if stops else 0


if __name__ == "__main__":
    sys.exit(main())
