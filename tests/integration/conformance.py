"""Runs schemathesis, the same way each time, against the document that a server tells about itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from service.openapi import tags

from .servers import Server

CONFIG = Path(__file__).with_name("schemathesis.toml")

# `on_error=row` and `on_unit=convert` ask for an answer to a body that breaks the schema, so the one check that
# forbids such answers runs without them, and all others run with them
OTHERS = "^(" + "|".join(map(re.escape, (tags.V2, tags.V1, tags.INVOCATIONS, tags.VERTEX))) + ")$"
OWN = ("--exclude-tag-regex", OTHERS)
RUNS = {
    "all checks": (("--config-file", str(CONFIG)), ("--checks", "all", *OWN)),
    "all parameters": ((), ("--checks", "all", "--exclude-checks", "negative_data_rejection", *OWN)),
    "protocols": (("--config-file", str(CONFIG)), ("--checks", "all", "--include-tag-regex", OTHERS)),
}


@dataclass(frozen=True)
class Conformance:
    """What a run found.

    Attributes:
        cases: requests that were made up.
        failures: of them, those that a check has something against, and errors.
        operations: tried, of those that were to be tried.
        text: what it printed.
    """

    cases: int
    failures: int
    operations: tuple[int, int]
    text: str


def run(server: Server, name: str, examples: int, folder: Path, document: Path | None = None) -> Conformance:
    """Try every operation.

    Args:
        server: is ready.
        name: of `RUNS`.
        examples: of each operation, beside those that cover the schema.
        folder: where it may leave its files.
        document: read instead of the server's own.
    """
    before, after = RUNS[name]
    report = folder / "report.json"
    where = [str(document), "--url", server.url] if document else [f"{server.url}/openapi.json"]
    program = [sys.executable, "-m", "schemathesis.cli", *before, "run", *where, *after]
    how = ["--generation-deterministic", "--max-examples", str(examples), "--continue-on-failure", "--no-color"]
    found = subprocess.run(
        [*program, *how, "--report", "json", "--report-json-path", str(report)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(report.read_text())
    cases, operations = told["test_cases"], told["operations"]
    failures = cases["with_failures"] + cases["errored"] + operations["errored"] + len(told["errors"])
    # whatever else it ends with is one more
    failures = failures or int(found.returncode != 0)
    return Conformance(
        cases["generated"], failures, (operations["tested"], operations["selected"]), found.stdout[-20_000:]
    )
