"""What it costs that every call is counted and logged: the same server with and without, on the same core."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from load import closedloop, processes, servers
from load.parts import BATCH_ROWS, WARM_UP_SECONDS, Bench, say
from load.servers import ROOKERY, Post, Running
from load.verdicts import Demand

# nothing is counted and no prediction is logged
BLIND = {"ROOKERY_METRICS": "false", "ROOKERY_EVENT_RATE": "0"}
# each has the core to itself for so long: longer than it takes to fill the caches, and so short that neither gets a
# better hour of the machine than the other
TURN_SECONDS = 0.02
WATCHED, UNWATCHED = "watched", "unwatched"
MUST, AIM = 0.95, 0.97


def watching(bench: Bench) -> None:
    """Throughput with everything that watches, against the same without."""
    for name, measure in (("one row", "rate"), ("batches of 1,000 rows", "batch_rate")):
        over, under = (WATCHED, measure), (UNWATCHED, measure)
        bench.demands.append(
            Demand(f"counted and logged / not, {name}", "watching", over, under, MUST, AIM, at_least=True)
        )
    rows = bench.bundle.instances(BATCH_ROWS)
    many = Post("/predict", json.dumps({"instances": rows}).encode())
    for number in range(bench.rounds):
        with (
            servers.serving(ROOKERY, bench.bundle) as watched,
            servers.serving(ROOKERY, bench.bundle, settings=BLIND) as unwatched,
        ):
            of = {WATCHED: watched, UNWATCHED: unwatched}
            for measure, cpu, post in (("rate", "cpu", bench.one(ROOKERY)), ("batch_rate", "batch_cpu", many)):
                _in_turns(bench, of, post, min(WARM_UP_SECONDS, bench.seconds))
                for name, found in _in_turns(bench, of, post, bench.seconds).items():
                    bench.add(name, measure, found.rate)
                    bench.add(name, cpu, found.cpu_seconds)
                ratio = bench.samples[WATCHED][measure][-1] / bench.samples[UNWATCHED][measure][-1]
                say(f"watching {number + 1}/{bench.rounds}: {measure} {ratio:.3f} of that without")


def _in_turns(bench: Bench, of: Mapping[str, Running], post: Post, seconds: float) -> dict[str, closedloop.Throughput]:
    """Load several servers at the same time, of which one runs at a time: the rates are for the share of it."""
    with ThreadPoolExecutor(len(of)) as pool, _taking_turns([processes.family(one.pid) for one in of.values()]):
        begun = {
            name: pool.submit(closedloop.measure, running, post, seconds, bench.connections)
            for name, running in of.items()
        }
        return {name: one.result() for name, one in begun.items()}


@contextlib.contextmanager
def _taking_turns(families: list[list[int]]) -> Iterator[None]:
    """Let one family of processes run while the others stand still, in turns; in the end all run."""
    is_over = threading.Event()

    def take_turns() -> None:
        while not is_over.is_set():
            for own in families:
                for other in families:
                    if other is not own:
                        _send(signal.SIGSTOP, other)
                _send(signal.SIGCONT, own)
                is_over.wait(TURN_SECONDS)

    thread = threading.Thread(target=take_turns, name="turns")
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        for family in families:
            _send(signal.SIGCONT, family)


def _send(number: signal.Signals, family: list[int]) -> None:
    """Send a signal to processes that we started; one that ended meanwhile takes none."""
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
