"""Measures what an instance can do on a quarter, a half and one CPU, and two quarters: `python -m load.capacity`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from load import balancer, bundles, closedloop, confined, printing, processes
from load.bundles import Bundle
from load.connections import request_bytes
from load.openloop import Generator
from load.percentiles import percentile
from load.run import RESULTS, versions
from load.servers import HOST, ROOKERY, LoadError, Running

SIZES = (0.25, 0.5, 1.0)
PAIR = 0.25
MEMORY_MB = 512
CONNECTIONS = 16
# a throttled instance stands still for up to 75 ms at a time: what it can do is asked here, not when it refuses
PATIENT = {"ROOKERY_WAIT_SECONDS": "5"}
# of the capacity: what an instance is meant to work at, as Cloud Run's autoscaler aims at 60 % of a processor
USED = 0.6


def measure(bundle: Bundle, seconds: float, starts: int) -> dict[str, Any]:
    """Measure every size and the pair.

    Args:
        bundle: what is served.
        seconds: of each load.
        starts: cold starts of each size.

    Raises:
        LoadError: an answer was wrong, refused or lost.
    """
    sizes = []
    for cpu in SIZES:
        sizes.append(_size(bundle, cpu, seconds, starts))
        print(f"{cpu:g} CPU: {sizes[-1]['rate']:.0f} answers/s", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        both = [stack.enter_context(confined.instance(bundle, PAIR, MEMORY_MB, PATIENT)).running for _ in range(2)]
        port = stack.enter_context(balancer.balancing([running.port for running in both]))
        front = dataclasses.replace(both[0], port=port)
        rate = _closed(front, bundle, seconds)
    print(f"2 × {PAIR:g} CPU: {rate:.0f} answers/s", file=sys.stderr, flush=True)
    return {"sizes": sizes, "pair": {"cpu": PAIR, "instances": 2, "rate": round(rate, 1)}}


def _size(bundle: Bundle, cpu: float, seconds: float, starts: int) -> dict[str, Any]:
    """Measure one size: capacity, latency at what it is meant to work at, starts."""
    begun = []
    for _ in range(starts):
        with confined.instance(bundle, cpu, MEMORY_MB) as instance:
            begun.append(round(instance.running.start_seconds, 3))
    with confined.instance(bundle, cpu, MEMORY_MB, PATIENT) as instance:
        rate = _closed(instance.running, bundle, seconds)
        payload = request_bytes(HOST, "/predict", ROOKERY.one(bundle.instances(1)[0]).body)
        outcome = Generator((HOST, instance.running.port), payload, CONNECTIONS).run(
            rate * USED, int(rate * USED * seconds)
        )
        if outcome.failures:
            raise LoadError(f"{cpu:g} CPU at {USED:.0%}: {outcome.summary()}")
        throttled, how = instance.throttled_seconds(), instance.how
    return {
        "cpu": cpu,
        "memory_mb": MEMORY_MB,
        "how": how,
        "rate": round(rate, 1),
        "starts": begun,
        "used": USED,
        "p50_ms": round(percentile(outcome.latencies, 50) * 1000, 3),
        "p99_ms": round(percentile(outcome.latencies, 99) * 1000, 3),
        "throttled_seconds": throttled,
    }


def _closed(running: Running, bundle: Bundle, seconds: float) -> float:
    """Return the answers a second of a closed loop, after a warm-up."""
    post = ROOKERY.one(bundle.instances(1)[0])
    closedloop.measure(running, post, 1, CONNECTIONS)
    return closedloop.measure(running, post, seconds, CONNECTIONS).rate


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write down; returns 2 if the run is worth nothing."""
    parser = argparse.ArgumentParser(
        prog="python -m load.capacity",
        description=__doc__,
        epilog="example: python -m load.capacity --seconds 10 --starts 10",
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundles/penguins"), help="default: bundles/penguins")
    parser.add_argument("--seconds", type=float, default=10, help="of each load (default: 10)")
    parser.add_argument("--starts", type=int, default=10, help="cold starts of each size (default: 10)")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"where the figures go (default: {RESULTS})")
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(words)
    bundle = bundles.read(given.bundle)
    processes.become_load()
    try:
        found = measure(bundle, given.seconds, given.starts)
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    document = {
        "format": 1,
        "scenario": "capacity",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", "-m", "load.capacity", *words],
        "commit": printing.commit(),
        "machine": dict(printing.machine()),
        "versions": versions(),
        "bundle": bundle.digest,
        "client": "wrk" if closedloop.has_wrk() else "python",
        **found,
    }
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "capacity.json").write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
