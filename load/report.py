"""Writes LOAD_TEST_REPORT.md and its plots: `python -m load.report`, which `make report` calls.

Runs are summed up in `docs/load/*.json`; the report is made from those alone, so anybody can make it again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from load import autoscale, plots, render, scenarios, sizing, summary
from load.run import RESULTS
from load.servers import ROOT
from load.sizing import Capacity
from model.command_line import Parser

RECORDED = ROOT / "docs/load"
REPORT = ROOT / "LOAD_TEST_REPORT.md"
EXAMPLES = """examples:
  python -m load.report --quick                   run everything in its short form, then write
  python -m load.report --from load/results       from runs that are there
  python -m load.report --check                   say whether the report is what its files say

exit status: 0 written, or the same; 1 a run failed, or with --check it differs; 2 wrong usage
"""
# so that all of it takes less than ten minutes, and less than 25
QUICK_CAPACITY = ("--seconds", "3", "--rounds", "3")
FULL_CAPACITY = ("--seconds", "8", "--rounds", "4")
SOAK_SECONDS = 240.0
# of an instance's queue, as the service ships
WAIT_SECONDS = 0.25


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or read, then write; with --check compare. Returns 1 where they differ or a run failed."""
    given = parse(arguments)
    if given.check:
        return check()
    results = given.source
    if results is None:
        results = RESULTS
        _run_all(quick=given.quick, soak_seconds=given.soak)
    record(results, quick=given.quick)
    for path, text in made().items():
        path.write_text(text)
    print(f"written to {REPORT.relative_to(ROOT)}")
    return 0


def record(results: Path, *, quick: bool) -> None:
    """Sum up the runs of a folder; a scenario's long form goes before its short one unless that is asked for."""
    RECORDED.mkdir(parents=True, exist_ok=True)
    for name in scenarios.FULL:
        forms = [results / f"{name}-quick.json.gz", results / f"{name}.json.gz"]
        found = next((path for path in (forms if quick else forms[::-1]) if path.is_file()), None)
        if found is not None:
            with gzip.open(found, "rt") as file:
                _write(RECORDED / f"{name}.json", summary.of(json.load(file)))
    if (results / "capacity.json").is_file():
        capacity = json.loads((results / "capacity.json").read_text())
        gke = tomllib.loads((ROOT / "slo.toml").read_text())["load"]["gke"]
        _write(RECORDED / "capacity.json", {**capacity, "scale_up": scaled_up(capacity, gke)})


def scaled_up(capacity: Mapping[str, Any], gke: Mapping[str, float]) -> list[dict[str, Any]]:
    """Simulate the rise of every profile on both platforms, with the measured starts."""
    known = Capacity.measured(capacity["sizes"])
    starts = {size["cpu"]: sorted(size["starts"])[len(size["starts"]) // 2] for size in capacity["sizes"]}
    found = []
    for profile in sizing.PROFILES:
        warm = known.instances(profile.mean, 1) if profile.min_instances else 0
        fleet = autoscale.fleet(1 / known.rate(1), starts[1.0], 20, WAIT_SECONDS, 16, warm)
        ran = autoscale.simulate(fleet, autoscale.cloud_run, autoscale.CHECK_SECONDS, profile.mean, profile.peak)
        found.append({"platform": "Cloud Run", "profile": profile.name, **ran})
        limit = gke["limit_cpu"]
        fleet = autoscale.fleet(
            1 / known.rate(limit), starts[limit], int(gke["replicas_max"]), WAIT_SECONDS, 0, int(gke["replicas_min"])
        )
        follow = autoscale.pod_autoscaler(gke["cpu_target"] * gke["request_cpu"] / limit)
        ran = autoscale.simulate(fleet, follow, autoscale.SYNC_SECONDS, profile.mean, profile.peak)
        found.append({"platform": "HPA", "profile": profile.name, **ran})
    return found


def made() -> dict[Path, str]:
    """Return every file that is made from what is recorded, with its text."""
    read = {path.stem: json.loads(path.read_text()) for path in RECORDED.glob("*.json")}
    runs = {name: read[name] for name in scenarios.FULL if name in read}
    slo = tomllib.loads((ROOT / "slo.toml").read_text())
    pictures = {RECORDED / name: text for name, text in plots.all_of(runs, read["capacity"]).items()}
    return {REPORT: render.report(runs, read["capacity"], slo), **pictures}


def check() -> int:
    """Compare what is committed with what its files say; returns 1 where they differ."""
    texts = made()
    wrong = [path for path, text in texts.items() if not path.is_file() or path.read_text() != text]
    wrong += [path for path in RECORDED.glob("*.svg") if path not in texts]
    for path in wrong:
        print(f"{path.relative_to(ROOT)} is not what {RECORDED.relative_to(ROOT)} says; run `make report FROM=…`")
    return 1 if wrong else 0


def _run_all(*, quick: bool, soak_seconds: float) -> None:
    """Run everything, one after the other, each in a process of its own.

    Raises:
        SystemExit: something could not run; the report stays as it was.
    """
    form = ["--quick"] if quick else []
    commands = [
        ["load.run", name, *form, *(["--soak", f"{soak_seconds:g}"] if name == "soak" and not quick else [])]
        for name in scenarios.FULL
    ]
    commands.append(["load.capacity", *(QUICK_CAPACITY if quick else FULL_CAPACITY)])
    began = time.monotonic()
    for number, words in enumerate(commands, 1):
        passed = time.monotonic() - began
        print(f"{passed:4.0f} s, {number}/{len(commands)}: python -m {' '.join(words)}", file=sys.stderr, flush=True)
        status = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=False).returncode
        if status not in (0, 1):
            raise SystemExit(f"error: python -m {' '.join(words)} ended with {status}")
    print(f"{time.monotonic() - began:4.0f} s in all", file=sys.stderr, flush=True)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON, a line for each first entry."""
    lines = [f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in document.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _folder(text: str) -> Path:
    """Read the name of a folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder; `make report` and `make load` write load/results")
    return Path(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        prog="python -m load.report",
        description=__doc__,
        epilog=EXAMPLES,
    )
    parser.add_argument("--quick", action="store_true", help="the short forms, in less than ten minutes")
    parser.add_argument(
        "--soak",
        type=float,
        default=SOAK_SECONDS,
        metavar="SECONDS",
        help=f"of the soak's long form (default: {SOAK_SECONDS:g})",
    )
    parser.add_argument("--from", dest="source", type=_folder, help="folder of recorded runs; nothing is run")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
