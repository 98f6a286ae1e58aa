"""Measures cold starts, process start to first prediction: `python -m load.cold_start bundles/penguins --starts 20`.

`--bucket` starts from a fake bucket on loopback, with an empty cache.
"""

from __future__ import annotations

import json
import select
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from load import bucket, bundles, processes, servers
from load.bundles import Bundle
from load.percentiles import percentile
from load.servers import ROOKERY, LoadError, Running
from model.command_line import Parser

PHASES = ("imports", "fetch", "verify", "load", "golden", "listen", "total")
TOLD_SECONDS = 5


@dataclass(frozen=True)
class Start:
    """One cold start.

    Attributes:
        seconds: from the start of the process to its first prediction, seen from outside.
        phases: what the service itself logged, in seconds.
    """

    seconds: float
    phases: dict[str, float]


def start_once(bundle: Bundle, settings: Mapping[str, str]) -> Start:
    """Start the server with an empty cache, get one prediction, stop it."""
    with servers.serving(ROOKERY, bundle, settings=settings) as running:
        told = _told(running)
    return Start(running.start_seconds, {phase: told[f"{phase}_seconds"] for phase in PHASES})


def _told(running: Running) -> dict[str, float]:
    """Return the line in which the server says that it has started; it may come a moment after the first answer."""
    deadline = time.monotonic() + TOLD_SECONDS
    while True:
        printed = running.output.read_text(errors="replace")
        lines = [json.loads(line) for line in printed.splitlines(keepends=True) if line[0] + line[-1] == "{\n"]
        for line in lines:
            if line["message"] == "service.started":
                return dict(line)
        if time.monotonic() > deadline:
            raise LoadError(f"the server did not say that it started:\n{printed}")
        select.select([], [], [], 0.01)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the starts one after the other and print medians and the 95th percentile."""
    parser = Parser(
        prog="python -m load.cold_start",
        description=__doc__,
        epilog="exit status: 0 measured, 2 the run is worth nothing, or wrong usage\n\n"
        "example: python -m load.cold_start bundles/penguins --starts 5",
    )
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("bundles/penguins"), help="a bundle")
    parser.add_argument("--starts", type=int, default=20, help="default: 20")
    parser.add_argument("--bucket", action="store_true", help="from a fake bucket instead of the disk")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    bundle = bundles.read(given.bundle)
    processes.become_load()
    source: AbstractContextManager[dict[str, str]] = bucket.publishing(bundle) if given.bucket else nullcontext({})
    try:
        with source as settings:
            start_once(bundle, settings)  # fills the disk cache
            starts = [start_once(bundle, settings) for _ in range(given.starts)]
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    seconds = [start.seconds for start in starts]
    median, p95 = statistics.median(seconds), percentile(seconds, 95)
    phases = {phase: statistics.median(start.phases[phase] for start in starts) for phase in PHASES}
    if given.json:
        print(json.dumps({"starts": given.starts, "median_seconds": median, "p95_seconds": p95, "phases": phases}))
        return 0
    print(f"{given.starts} starts: first prediction after {median:.3f} s (median), {p95:.3f} s (p95)")
    for phase, phase_seconds in phases.items():
        print(f"  {phase:<10}{phase_seconds:.4f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
