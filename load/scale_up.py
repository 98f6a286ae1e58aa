"""Measures what callers meet while a second instance is added: one is overloaded, another is started and joins.

The instances have a quarter of a CPU each and stand behind a balancer of connections; every request comes over a
connection of its own, as a platform's balancer sends each request where it likes. The load is batches, at a constant
rate, more than one instance can answer and less than two can.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from load import balancer, confined
from load.bundles import Bundle
from load.connections import request_bytes
from load.openloop import Generator, Outcome
from load.percentiles import percentile
from load.servers import HOST, ROOKERY, LoadError

CPU, MEMORY_MB = 0.25, 512
ROWS, CONNECTIONS = 100, 64
# of one instance's capacity
FACTOR = 1.5
CAPACITY_REQUESTS, WARM_REQUESTS = 60, 60
BEFORE_SECONDS = 3.0
# no refusal for so long: it is over
CALM_SECONDS = 1.0


@dataclass
class Joining:
    """A second instance, on its way.

    Attributes:
        decided: when it was started, on the clock of `time.perf_counter`.
        spin_up_seconds: until it had answered its first prediction.
    """

    decided: float = 0.0
    spin_up_seconds: float = 0.0
    failed: list[BaseException] = field(default_factory=list)


def measure(bundle: Bundle, after_seconds: float) -> dict[str, Any]:
    """Overload one instance, add another.

    Args:
        bundle: what both serve.
        after_seconds: how long the load goes on after the decision.

    Raises:
        LoadError: an instance does not start.
    """
    payload = request_bytes(
        HOST,
        "/predict",
        ROOKERY.batch(bundle.instances(ROWS)).body if ROOKERY.batch else b"",
        [("Connection", "close")],
    )
    with ExitStack() as stack:
        first = stack.enter_context(confined.instance(bundle, CPU, MEMORY_MB)).running
        ports = [first.port]
        address = (HOST, stack.enter_context(balancer.balancing(ports)))
        Generator(address, payload, 4).run(None, WARM_REQUESTS)
        one = Generator(address, payload, 4).run(None, CAPACITY_REQUESTS).rate
        rate = one * FACTOR
        began = time.perf_counter()
        joining = stack.enter_context(_joining(bundle, ports))
        outcome = Generator(address, payload, CONNECTIONS).run(rate, int(rate * (BEFORE_SECONDS + after_seconds)))
    if joining.failed:
        raise LoadError(f"the second instance did not start: {joining.failed[0]}")
    return {"cpu": CPU, "rows": ROWS, "rate": round(rate, 1), "one": round(one, 1), **_told(outcome, joining, began)}


@contextmanager
def _joining(bundle: Bundle, ports: list[int]) -> Iterator[Joining]:
    """Start a second instance in a while, beside the block, and let it join; it ends with the block."""
    joining, over = Joining(), threading.Event()

    def join() -> None:
        over.wait(BEFORE_SECONDS)
        joining.decided = time.perf_counter()
        try:
            with confined.instance(bundle, CPU, MEMORY_MB) as instance:
                joining.spin_up_seconds = instance.running.start_seconds
                ports.append(instance.running.port)
                over.wait()
        except (LoadError, OSError) as error:
            joining.failed.append(error)

    thread = threading.Thread(target=join)
    thread.start()
    try:
        yield joining
    finally:
        over.set()
        thread.join()


def _told(outcome: Outcome, joining: Joining, began: float) -> dict[str, Any]:
    """Part the load at the decision and at the last refusal: before, while it starts, and steady afterwards."""
    decided = joining.decided - began
    rows = sorted(zip(outcome.ends, outcome.latencies, outcome.codes, strict=True))
    last = max((end for end, _, code in rows if code != 200), default=decided)
    end = outcome.seconds
    calm = end - last >= CALM_SECONDS
    return {
        "spin_up_seconds": round(joining.spin_up_seconds, 3),
        "scale_up_seconds": round(last - decided, 3) if calm else None,
        "stages": [
            _stage("one instance, overloaded", rows, 0.0, decided),
            _stage("the second starts and joins", rows, decided, last if calm else end),
            *([_stage("two instances, steady", rows, last, end)] if calm else []),
        ],
    }


def _stage(name: str, rows: Sequence[tuple[float, float, int]], begin: float, end: float) -> dict[str, Any]:
    """Sum up the answers that came between two moments."""
    within = [(seconds, code) for at, seconds, code in rows if begin < at <= end]
    good = [seconds for seconds, code in within if code == 200]
    return {
        "name": name,
        "seconds": round(end - begin, 3),
        "answered": round(len(good) / (end - begin), 1),
        "refused": len(within) - len(good),
        "p50_ms": round(percentile(good, 50) * 1000, 3) if good else None,
        "p99_ms": round(percentile(good, 99) * 1000, 3) if len(good) >= 100 else None,
    }
