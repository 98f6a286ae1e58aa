"""Measures what an instance can do on a quarter, a half and one CPU, and two quarters: `python -m load.capacity`."""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from load import balancer, bundles, closedloop, confined, printing, processes, scale_up
from load.bundles import Bundle
from load.connections import request_bytes
from load.openloop import Generator
from load.percentiles import percentile
from load.run import RESULTS, versions
from load.servers import HOST, ROOKERY, LoadError, Running
from model.command_line import Parser

SIZES = (0.25, 0.5, 1.0)
PAIR = 0.25
# after the decision to add an instance: it starts, joins, and is steady for a while
JOINING_SECONDS = 12.0
MEMORY_MB = 512
CONNECTIONS = 16
# a throttled instance stands still for up to 75 ms at a time: what it can do is asked here, not when it refuses
PATIENT = {"ROOKERY_WAIT_SECONDS": "5"}
# of the capacity: what an instance is meant to work at, as Cloud Run's autoscaler aims at 60 % of a processor
USED = 0.6


def measure(bundle: Bundle, seconds: float, rounds: int) -> dict[str, Any]:
    """Measure every size and the pair in interleaved rounds.

    Args:
        bundle: what is served.
        seconds: of each load.
        rounds: of everything; each starts every size anew.

    Raises:
        LoadError: an answer was wrong, refused or lost.
    """
    found: dict[float, list[Round]] = {cpu: [] for cpu in SIZES}
    pairs = []
    for number in range(rounds):
        for cpu in SIZES:
            found[cpu].append(_size(bundle, cpu, seconds))
        pairs.append(round(_pair(bundle, seconds), 1))
        rates = ", ".join(f"{cpu:g} CPU {found[cpu][-1].rate:.0f}/s" for cpu in SIZES)
        print(f"{number + 1}/{rounds}: {rates}, pair {pairs[-1]:.0f}/s", file=sys.stderr, flush=True)
    pair = {"cpu": PAIR, "instances": 2, "rate": statistics.median(pairs), "rates": pairs}
    return {"sizes": [_summed(cpu, found[cpu]) for cpu in SIZES], "pair": pair}


class Round(NamedTuple):
    """What one instance did: start in seconds, answers a second, percentiles at `USED` in milliseconds, its limits."""

    start: float
    rate: float
    p50_ms: float
    p99_ms: float
    how: str


def _summed(cpu: float, rounds: Sequence[Round]) -> dict[str, Any]:
    """Return medians, and every rate and start."""
    return {
        "cpu": cpu,
        "memory_mb": MEMORY_MB,
        "how": rounds[0].how,
        "rate": statistics.median(one.rate for one in rounds),
        "rates": [one.rate for one in rounds],
        "starts": [one.start for one in rounds],
        "used": USED,
        "p50_ms": statistics.median(one.p50_ms for one in rounds),
        "p99_ms": statistics.median(one.p99_ms for one in rounds),
    }


def _pair(bundle: Bundle, seconds: float) -> float:
    """Return the answers a second of two instances behind a balancer."""
    with ExitStack() as stack:
        both = [stack.enter_context(confined.instance(bundle, PAIR, MEMORY_MB, PATIENT)).running for _ in range(2)]
        port = stack.enter_context(balancer.balancing([running.port for running in both]))
        return _closed(dataclasses.replace(both[0], port=port), bundle, seconds)


def _size(bundle: Bundle, cpu: float, seconds: float) -> Round:
    """Start one size, and measure its capacity and its latency at what it is meant to work at."""
    with confined.instance(bundle, cpu, MEMORY_MB, PATIENT) as instance:
        running = instance.running
        rate = _closed(running, bundle, seconds)
        payload = request_bytes(HOST, "/predict", ROOKERY.one(bundle.instances(1)[0]).body)
        aimed = rate * USED
        outcome = Generator((HOST, running.port), payload, CONNECTIONS).run(aimed, int(aimed * seconds))
    if outcome.failures:
        raise LoadError(f"{cpu:g} CPU at {USED:.0%}: {outcome.summary()}")
    p50, p99 = (round(percentile(outcome.latencies, mark) * 1000, 3) for mark in (50, 99))
    return Round(round(running.start_seconds, 3), round(rate, 1), p50, p99, instance.how)


def _closed(running: Running, bundle: Bundle, seconds: float) -> float:
    """Return the answers a second of a closed loop, after a warm-up."""
    post = ROOKERY.one(bundle.instances(1)[0])
    closedloop.measure(running, post, 1, CONNECTIONS)
    return closedloop.measure(running, post, seconds, CONNECTIONS).rate


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write down; returns 2 if the run is worth nothing."""
    parser = Parser(
        prog="python -m load.capacity",
        description=__doc__,
        epilog="exit status: 0 written, 2 the run is worth nothing, or wrong usage\n\n"
        "example: python -m load.capacity --seconds 10 --rounds 5",
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundles/penguins"), help="default: bundles/penguins")
    parser.add_argument("--seconds", type=float, default=10, help="of each load (default: 10)")
    parser.add_argument("--rounds", type=int, default=5, help="of everything (default: 5)")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"where the figures go (default: {RESULTS})")
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(words)
    bundle = bundles.read(given.bundle)
    processes.become_load()
    try:
        found = measure(bundle, given.seconds, given.rounds)
        joined = scale_up.measure(bundle, JOINING_SECONDS)
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    document = {
        "format": 2,
        "scenario": "capacity",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", "-m", "load.capacity", *words],
        "commit": printing.commit(),
        "machine": dict(printing.machine()),
        "versions": versions(),
        "bundle": bundle.digest,
        "client": "wrk" if closedloop.has_wrk() else "python",
        **found,
        "joined": joined,
    }
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "capacity.json").write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
