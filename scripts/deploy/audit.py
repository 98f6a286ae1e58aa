"""Checks the pinned Python packages for known vulnerabilities: `python -m scripts.deploy.audit REQUIREMENTS`.

pip-audit asks the database, OSV first and PyPI's own where OSV cannot be reached.  A package that the database does not
know is not a package without vulnerabilities: pip-audit skips it and ends with "No known vulnerabilities found", so
what was skipped is counted here and the check is called incomplete.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from model.command_line import Parser
from scripts.deploy.scan import EXCEPTIONS

# each service with the options that choose it
SERVICES = {"OSV": ("--vulnerability-service", "osv"), "PyPI": ("--vulnerability-service", "pypi")}
LONGEST_SECONDS = 600
FOUND, WRONG, INCOMPLETE = 1, 2, 75


@dataclass(frozen=True)
class Vulnerability:
    """One known vulnerability of a pinned package.

    Attributes:
        names: its identifier and aliases, such as `GHSA-…` and `CVE-…`.
        package: name and version.
        fixed_in: versions without it, oldest first; empty where there is none.
    """

    names: tuple[str, ...]
    package: str
    fixed_in: tuple[str, ...]


def read(report: Mapping[str, Any]) -> tuple[list[Vulnerability], list[str]]:
    """Return the vulnerabilities in a report (`pip-audit --format=json`), and the packages that were not checked."""
    found, skipped = [], []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            skipped.append(package["name"])
            continue
        found += [
            Vulnerability(
                (one["id"], *one.get("aliases", ())), f"{package['name']} {package['version']}", (*one["fix_versions"],)
            )
            for one in package["vulns"]
        ]
    return found, skipped


def open_ones(
    found: Sequence[Vulnerability], exceptions: Mapping[str, Mapping[str, Any]], today: date
) -> list[Vulnerability]:
    """Return the vulnerabilities without an exception that still holds, under any of their names."""
    return [
        one for one in found if not any(name in exceptions and today <= exceptions[name]["until"] for name in one.names)
    ]


def ask(file: Path, options: Sequence[str]) -> Mapping[str, Any] | None:
    """Have pip-audit check one file of requirements; returns its report, or None if the database did not answer."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(file), "--require-hashes", "--disable-pip"]
    command += ["--format=json", "--progress-spinner=off", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS)
        report: Mapping[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return report


def main(arguments: Sequence[str] | None = None, today: date | None = None) -> int:
    """Run the command; see its help for the exit statuses."""
    parser = Parser(
        prog="python -m scripts.deploy.audit",
        description="Check pinned Python packages for known vulnerabilities.",
        epilog="exit status: 0 none is known, 1 some are, 2 a file cannot be used, or wrong usage, 75 the database "
        "could not be asked about every package\n\nexample: python -m scripts.deploy.audit requirements.txt",
    )
    parser.add_argument("requirements", nargs="+", type=Path, help="files of requirements with hashes")
    parser.add_argument("--osv-url", help="address of an OSV API to ask instead of the public databases")
    parser.add_argument("--exceptions", type=Path, default=EXCEPTIONS, help="dated exceptions (TOML)")
    given = parser.parse_args(arguments)
    services: Mapping[str, Sequence[str]] = SERVICES
    if given.osv_url:
        services = {given.osv_url: (*SERVICES["OSV"], "--osv-url", given.osv_url)}
    try:
        exceptions = tomllib.loads(given.exceptions.read_text())
        for file in given.requirements:
            file.read_bytes()
        statuses = [
            _check(file, services, exceptions, today or datetime.now(UTC).date()) for file in given.requirements
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    return FOUND if FOUND in statuses else max(statuses)


def _check(
    file: Path, services: Mapping[str, Sequence[str]], exceptions: Mapping[str, Mapping[str, Any]], today: date
) -> int:
    """Check one file and say what was found; returns the status."""
    trouble = []
    for name, options in services.items():
        report = ask(file, options)
        if report is None:
            trouble.append(f"{name} did not answer")
            continue
        found, skipped = read(report)
        for one in (stopping := open_ones(found, exceptions, today)):
            remedy = f"fixed in {', '.join(one.fixed_in)}" if one.fixed_in else "no version fixes it"
            print(f"error: {file}: {one.package} has {' '.join(one.names)}; {remedy}", file=sys.stderr)
        if stopping:
            return FOUND
        if not skipped:
            print(f"{file}: {len(report['dependencies'])} packages checked, no open vulnerability is known")
            return 0
        trouble.append(f"{name} does not know {len(skipped)} of {len(report['dependencies'])} packages")
    print(f"{file}: NOT CHECKED for known vulnerabilities: {'; '.join(trouble)}", file=sys.stderr)
    return INCOMPLETE


if __name__ == "__main__":
    sys.exit(main())
