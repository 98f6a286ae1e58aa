"""Runs a scenario and keeps every sample: `python -m load.run spike`, which `make load SCENARIO=spike` calls."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from load import bundles, cloud, confined, monitoring, overload, preflight, printing, processes, scenarios
from load.bundles import Bundle
from load.collector import Collector, by_trace, collecting
from load.confined import Confined, Watch
from load.identity import GCLOUD, Identity, TokenError
from load.preflight import Stop
from load.scenarios import Scenario
from load.servers import ROOT, LoadError
from load.traffic import Traffic
from model.command_line import Parser

RESULTS = Path("load/results")
PACKAGES = ("locust", "gevent", *printing.PACKAGES)
# every so many single rows to an instance of our own are traced, which its figures hold
TRACED_EVERY = 5
# Locust's own status for a run in which requests failed: the samples say which
SOME_FAILED = 1
WORDS = "{scenario}: {requests} requests, {failures} failures; written to {file}"
EXAMPLES = """examples:
  python -m load.run spike                          an instance of 1 CPU and 512 MB on this machine
  python -m load.run normal --quick --cpu 0.5       shorter, half a CPU
  python -m load.run spike --host https://rookery-abc.a.run.app       a deployed one; gcloud gives the token if it asks
  python -m load.run stress --web 8089              watch it at http://127.0.0.1:8089

exit status: 0 no request failed, 1 some did, 2 the run is worth nothing, 3 the host is not fit to be loaded
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one scenario; returns the exit status."""
    given = parse(arguments)
    scenario = scenarios.named(given.scenario, quick=given.quick, soak_seconds=given.soak)
    try:
        run = remote(scenario, given) if given.host else local(scenario, given)
    except (Stop, TokenError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    path = write(run, given.results)
    told = outcome(run, path)
    print(json.dumps(told) if given.json else WORDS.format(**told))
    # an open loop far beyond the capacity is there to be refused
    return 1 if told["failures"] and not scenario.overload else 0


def outcome(run: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return how a run went, in a few words, and where it was written to."""
    failures = run["samples"]["failure"]
    counts = {"requests": len(failures), "failures": sum(map(bool, failures))}
    return {**{name: run[name] for name in ("scenario", "quick", "host", "bundle")}, **counts, "file": str(path)}


def local(scenario: Scenario, given: argparse.Namespace) -> dict[str, Any]:
    """Run against an instance of our own.

    Raises:
        LoadError: the run is worth nothing.
        Stop: the instance is not fit.
    """
    bundle = bundles.read(given.bundle or ROOT / "bundles" / scenario.model)
    processes.become_load()
    cpu, memory_mb = given.cpu or scenario.cpu, given.memory or scenario.memory_mb
    with collecting() as collector, confined.instance(bundle, cpu, memory_mb, collector.settings) as instance:
        ready = time.time()
        if scenario.overload:
            found = _opened(scenario, bundle, instance)
        else:
            found = _locust(scenario, given, instance.running.address, bundle.folder, instance)
            found["traces"] = _traces(collector, found["samples"]["trace_id"])
        throttled = instance.throttled_seconds()
        limits = {"cpu": cpu, "memory_mb": memory_mb, "how": instance.how}
        started = {
            "start_seconds": round(instance.running.start_seconds, 3),
            "ready_before_seconds": round(found["began"] - ready, 3),
            "throttled_seconds": throttled,
        }
    return {**described(scenario, given, bundle.digest), "limits": limits, "instance": started, **found}


def _traces(collector: Collector, trace_ids: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the milliseconds of the model and of the whole call, of each trace that was asked for.

    Raises:
        LoadError: most of them did not arrive.
    """
    wanted = {trace_id for trace_id in trace_ids if trace_id}
    found = by_trace(collector.wait_for(wanted))
    if len(found.keys() & wanted) < len(wanted) / 2:
        raise LoadError(f"{len(found)} of {len(wanted)} traces arrived")
    return found


def remote(scenario: Scenario, given: argparse.Namespace) -> dict[str, Any]:
    """Run against a host.

    Raises:
        LoadError: the run is worth nothing.
        Stop: the host is not fit.
        TokenError: it wants a token, and there is none.
    """
    if scenario.overload:
        raise LoadError("an overload is for an instance of one's own: it would only start more instances elsewhere")
    host = given.host.rstrip("/")
    token = os.environ.get("LOAD_TOKEN", "")
    command: tuple[str, ...] = ()
    try:
        target = preflight.inspect(host, Identity(token).headers(), given.bundle)
    except Stop as stop:
        if stop.finding != "unauthorised" or token:
            raise
        command = GCLOUD
        target = preflight.inspect(host, Identity(command=command).headers(), given.bundle)
    found = _locust(scenario, given, host, given.bundle, None, command)
    if place := given.cloud or monitoring.place_of(host):
        print("waiting for Cloud Monitoring, up to five minutes", file=sys.stderr, flush=True)
        found["cloud"] = cloud.ask(place, found["began"], scenario.seconds)
    return {**described(scenario, given, target.bundle.digest), "limits": None, "instance": None, **found}


def described(scenario: Scenario, given: argparse.Namespace, digest: str) -> dict[str, Any]:
    """Say what ran, where and when."""
    return {
        "format": 2,
        "scenario": scenario.name,
        "says": scenario.says,
        "quick": given.quick,
        "stages": [[stage.name, stage.seconds, stage.users] for stage in scenario.stages],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", "-m", "load.run", *given.words],
        "commit": printing.commit(),
        "machine": dict(printing.machine()),
        "versions": versions(),
        "host": "an instance on this machine" if not given.host else given.host,
        "bundle": digest,
    }


def versions() -> dict[str, str]:
    """Say what loads and what is loaded."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def write(run: Mapping[str, Any], folder: Path) -> Path:
    """Write a run down with all its samples, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run['scenario']}{'-quick' if run['quick'] else ''}.json.gz"
    part = path.with_suffix(".part")
    with gzip.open(part, "wt") as file:
        json.dump(run, file)
    os.replace(part, path)
    return path


def _opened(scenario: Scenario, bundle: Bundle, instance: Confined) -> dict[str, Any]:
    """Send an open loop from this process."""
    watch = Watch(instance.running.pid, os.getpid())
    with watch.watching():
        found = overload.run(instance.running, Traffic(bundle, scenario.mix), scenario.overload, scenario.open_seconds)
    return {**found, "overload": scenario.overload, "resources": _since(watch, found["began"])}


def _locust(
    scenario: Scenario,
    given: argparse.Namespace,
    host: str,
    folder: Path | None,
    instance: Confined | None,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Let Locust load a host, in a process of its own.

    Raises:
        LoadError: Locust failed.
        Stop: it found that the host is not fit.
    """
    with tempfile.TemporaryDirectory(prefix="rookery-load-") as scratch:
        samples = Path(scratch) / "samples.json.gz"
        environment = {**os.environ, "LOAD_SCENARIO": scenario.name, "LOAD_QUICK": "1" if given.quick else "0"}
        environment |= {"LOAD_SAMPLES": str(samples), "LOAD_BUNDLE": str(folder or "")}
        environment |= {"LOAD_SOAK_SECONDS": str(given.soak), "LOAD_TRACED_EVERY": str(TRACED_EVERY if instance else 0)}
        if command:
            environment["LOAD_TOKEN_COMMAND"] = " ".join(command)
        page = ["--autostart", "--autoquit", "3", "--web-host", "127.0.0.1", "--web-port", str(given.web)]
        words = [sys.executable, "-m", "locust", "-f", "load/locustfile.py", "--host", host, "--stop-timeout", "10"]
        words += ["--loglevel", "WARNING", *(page if given.web else ["--headless", "--only-summary"])]
        if given.web:
            print(f"watch it at http://127.0.0.1:{given.web}", file=sys.stderr, flush=True)
        with _running(words, environment) as process:
            watch = Watch(instance.running.pid if instance else process.pid, process.pid)
            with watch.watching():
                status = process.wait()
        if status not in (0, SOME_FAILED) or not samples.is_file():
            raise LoadError(f"locust ended with {status} and wrote no samples")
        with gzip.open(samples, "rt") as file:
            found = dict(json.load(file))
    if not found["samples"]["start"]:
        raise LoadError("no request was sent")
    return {**found, "resources": _since(watch, found["began"]) if instance else []}


@contextlib.contextmanager
def _running(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child until the block ends."""
    process = subprocess.Popen(list(words), cwd=ROOT, env=dict(environment), stdout=sys.stderr)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _since(watch: Watch, began: float) -> list[tuple[float, float, int, float]]:
    """Count the seconds of what was watched from when the samples' count."""
    return [(round(row[0] + watch.began - began, 3), *row[1:]) for row in watch.rows]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        prog="python -m load.run",
        description=__doc__,
        epilog=EXAMPLES,
    )
    parser.add_argument("scenario", choices=list(scenarios.FULL))
    parser.add_argument("--host", default="", help="base URL of a deployed service (default: start one here)")
    parser.add_argument(
        "--cloud",
        type=monitoring.place,
        metavar="PROJECT/SERVICE",
        help="whose metrics to read, where the host's address does not say",
    )
    parser.add_argument(
        "--bundle", type=Path, help="whose golden rows are sent (default: bundles/<model>; a host's: none)"
    )
    parser.add_argument("--quick", action="store_true", help="the short form")
    parser.add_argument(
        "--soak",
        type=float,
        default=scenarios.SOAK_SECONDS,
        metavar="SECONDS",
        help="how long the soak is (default: an hour)",
    )
    parser.add_argument("--cpu", type=float, default=0, help="processors of the instance here (default: 1)")
    parser.add_argument("--memory", type=int, default=0, help="its memory in MiB (default: 512)")
    parser.add_argument("--web", type=int, default=0, metavar="PORT", help="show Locust's page there while it runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"where the samples go (default: {RESULTS})")
    parser.add_argument("--json", action="store_true", help="print how it went as JSON")
    words = list(sys.argv[1:] if arguments is None else arguments)
    return parser.parse_args(words, argparse.Namespace(words=words))


if __name__ == "__main__":
    sys.exit(main())
