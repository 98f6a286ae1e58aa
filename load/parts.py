"""The parts of the benchmark; each adds its samples to the run's."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from load import bucket, closedloop, processes, scaling, servers
from load.bundles import Bundle
from load.connections import request_bytes
from load.openloop import Generator, Outcome
from load.percentiles import percentile
from load.servers import HOST, LIMIT, MLSERVER, ROOKERY, TUNED, TUTORIAL, Kind, LoadError, Post, Running
from load.verdicts import Demand

WARM_UP_SECONDS = 1.0
BATCH_ROWS, LARGE_BATCH_ROWS = 1_000, 10_000


@dataclass
class Bench:
    """A run: what was asked for and what was found.

    Attributes:
        bundle: what all servers serve.
        rounds: interleaved rounds.
        seconds: of load per server and round.
        connections: kept alive.
        starts: cold starts of each server.
        predictions: before memory is read.
        with_mlserver: whether MLServer takes part.
        samples: server → measure → samples; rates a second, times in seconds, sizes in bytes.
        demands: what the run itself asks for, beyond the fixed ones.
        notes: sentences for the reader.
    """

    bundle: Bundle
    rounds: int = 3
    seconds: float = 5
    connections: int = 16
    starts: int = 10
    predictions: int = 100_000
    with_mlserver: bool = False
    samples: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    demands: list[Demand] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def peers(self) -> tuple[Kind, ...]:
        """Ours first, then the peers."""
        return (ROOKERY, TUNED, TUTORIAL, *([MLSERVER] if self.with_mlserver else []))

    def add(self, server: str, measure: str, value: float) -> None:
        """Keep one sample."""
        self.samples[server][measure].append(value)

    def median(self, server: str, measure: str) -> float:
        """Return the median of what was measured so far."""
        return statistics.median(self.samples[server][measure])

    def one(self, kind: Kind) -> Post:
        """Word a request for one ordinary instance."""
        return kind.one(self.bundle.instances(1)[0])

    def generate(self, running: Running, post: Post, connections: int, rate: float | None, requests: int) -> Outcome:
        """Send requests with this repository's own client.

        Raises:
            LoadError: any was refused or lost.
        """
        payload = request_bytes(f"{HOST}:{running.port}", post.path, post.body)
        outcome = Generator((HOST, running.port), payload, connections).run(rate, requests)
        if outcome.failures:
            raise LoadError(f"{running.kind.name}: {outcome.summary()}")
        return outcome


def throughput(bench: Bench) -> None:
    """Predictions a second and processor time of each."""
    for number in range(bench.rounds):
        for kind in (*bench.peers, LIMIT):
            with servers.serving(kind, bench.bundle) as running:
                post = bench.one(kind)
                closedloop.measure(running, post, min(WARM_UP_SECONDS, bench.seconds), bench.connections)
                found = closedloop.measure(running, post, bench.seconds, bench.connections)
            bench.add(kind.name, "rate", found.rate)
            bench.add(kind.name, "cpu", found.cpu_seconds)
            say(f"throughput {number + 1}/{bench.rounds}: {kind.name} {found.rate:.0f}/s")


def tail(bench: Bench) -> None:
    """The 99th percentile of latency at half of what tuned FastAPI can, for both at the same rate."""
    if not bench.samples["tuned"]["rate"]:
        with servers.serving(TUNED, bench.bundle) as running:
            bench.add(
                "tuned", "rate", closedloop.measure(running, bench.one(TUNED), bench.seconds, bench.connections).rate
            )
    rate = bench.median("tuned", "rate") / 2
    bench.notes.append(f"p99 at {rate:.0f} requests/s, open loop")
    for number in range(bench.rounds):
        for kind in (ROOKERY, TUNED):
            with servers.serving(kind, bench.bundle) as running:
                post = bench.one(kind)
                bench.generate(running, post, bench.connections, rate, max(round(rate * WARM_UP_SECONDS), 1))
                outcome = bench.generate(running, post, bench.connections, rate, max(round(rate * bench.seconds), 100))
            bench.add(kind.name, "p50", percentile(outcome.latencies, 50))
            bench.add(kind.name, "p99", percentile(outcome.latencies, 99))
            say(
                f"tail {number + 1}/{bench.rounds}: {kind.name} p99 {bench.samples[kind.name]['p99'][-1] * 1000:.2f} ms"
            )


def batch(bench: Bench) -> None:
    """Batches of 1,000 rows a second, and the time per row of 1,000 and 10,000 alone."""
    small, large = (bench.bundle.instances(count) for count in (BATCH_ROWS, LARGE_BATCH_ROWS))
    for number in range(bench.rounds):
        for kind in (ROOKERY, TUNED):
            if kind.batch is None:
                continue
            post = kind.batch(small)
            with servers.serving(kind, bench.bundle) as running:
                bench.generate(running, post, bench.connections, None, bench.connections)
                found = closedloop.measure(running, post, bench.seconds, bench.connections)
                bench.add(kind.name, "batch_rate", found.rate)
                bench.add(kind.name, "batch_cpu", found.cpu_seconds)
                for rows, alone in ((BATCH_ROWS, post), (LARGE_BATCH_ROWS, kind.batch(large))):
                    bench.generate(running, alone, 1, None, 2)
                    times = bench.generate(running, alone, 1, None, max(round(100 * BATCH_ROWS / rows), 10)).latencies
                    bench.add(kind.name, f"row_of_{rows}", statistics.median(times) / rows)
            say(f"batch {number + 1}/{bench.rounds}: {kind.name} {found.rate:.1f} batches/s")


def coldstart(bench: Bench) -> None:
    """From the start of the process to the first prediction, from disk and from a bucket."""
    with bucket.publishing(bench.bundle) as settings:
        contestants: list[tuple[str, Kind, dict[str, str]]] = [(kind.name, kind, {}) for kind in bench.peers]
        contestants.insert(1, ("bucket", ROOKERY, settings))
        for number in range(-1, bench.starts):
            for name, kind, more in contestants:
                with servers.serving(kind, bench.bundle, settings=more) as running:
                    # the first start of each fills the disk cache
                    if number >= 0:
                        bench.add(name, "start", running.start_seconds)
            say(f"cold start {number + 1}/{bench.starts}")


def memory(bench: Bench) -> None:
    """Proportional set size of all processes after many predictions."""
    for kind in bench.peers:
        with servers.serving(kind, bench.bundle) as running:
            bench.generate(running, bench.one(kind), bench.connections, None, bench.predictions)
            bench.add(kind.name, "pss", processes.pss_bytes(running.pid))
        say(f"memory: {kind.name} {bench.median(kind.name, 'pss') / 1e6:.1f} MB after {bench.predictions} predictions")


def growth(bench: Bench) -> None:
    """Processor time of a prediction as features and trees grow, beside the engine's own."""
    sizes = tuple(dict.fromkeys((*scaling.FEATURES, *scaling.TREES)))
    made = {}
    for size in sizes:
        say(f"growth: bundle {size.name}")
        made[size] = scaling.made(size)
    for number in range(bench.rounds):
        for size, bundle in made.items():
            with servers.serving(ROOKERY, bundle) as running:
                post = ROOKERY.one(bundle.instances(1)[0])
                closedloop.measure(running, post, min(WARM_UP_SECONDS, bench.seconds), bench.connections)
                spent = closedloop.measure(running, post, bench.seconds, bench.connections).cpu_seconds
            bench.add(size.name, "cpu_ours", spent)
            bench.add(size.name, "cpu_engine", scaling.engine_seconds(bundle))
            say(f"growth {number + 1}/{bench.rounds}: {size.name} {spent * 1e6:.0f} µs")
    for first, *larger in (scaling.FEATURES, scaling.TREES):
        for size in larger:
            _compare_growth(bench, first.name, size.name)


def _compare_growth(bench: Bench, small: str, large: str) -> None:
    """Ask that ours grows no more than the engine does, and a fifth."""
    for measure in ("cpu_ours", "cpu_engine"):
        for less, more in zip(bench.samples[small][measure], bench.samples[large][measure], strict=True):
            bench.add(f"{small} to {large}", f"growth_{measure}", more / less)
    name = f"{small} to {large}"
    over, under = (name, "growth_cpu_ours"), (name, "growth_cpu_engine")
    bench.demands.append(Demand(f"growth {name} / the engine's", "growth", over, under, 1.2, 1.0, at_least=False))


def workers(bench: Bench) -> None:
    """What a second worker on a second core adds; needs a third core for the load."""
    is_honest = len(processes.CORES) >= 3
    shared = processes.CORES[:2]
    for number in range(bench.rounds):
        for count in (1, 2):
            cores = processes.CORES[:count] if is_honest else shared
            with servers.serving(ROOKERY, bench.bundle, cores, {"ROOKERY_WORKERS": str(count)}) as running:
                post = bench.one(ROOKERY)
                closedloop.measure(running, post, min(WARM_UP_SECONDS, bench.seconds), bench.connections)
                found = closedloop.measure(running, post, bench.seconds, bench.connections)
            bench.add(f"workers={count}", "rate", found.rate)
            bench.add(f"workers={count}", "cpu", found.cpu_seconds)
            say(f"workers {number + 1}/{bench.rounds}: {count}: {found.rate:.0f}/s, {found.cpu_seconds * 1e6:.0f} µs")
    if is_honest:
        over, under = ("workers=2", "rate"), ("workers=1", "rate")
        bench.demands.append(Demand("second worker", "workers", over, under, 1.8, 1.9, at_least=True))
        return
    possible = 2 * bench.median("workers=1", "cpu") / bench.median("workers=2", "cpu")
    bench.notes.append(
        f"second worker: not judged; {len(processes.CORES)} cores, which the load shares. By processor time of each "
        f"prediction two workers on two cores of their own would answer {possible:.2f} times as many"
    )


def say(text: str) -> None:
    """Tell how far the run is."""
    print(text, file=sys.stderr, flush=True)


PARTS: dict[str, Callable[[Bench], None]] = {
    "throughput": throughput,
    "tail": tail,
    "batch": batch,
    "coldstart": coldstart,
    "memory": memory,
    "growth": growth,
    "workers": workers,
}
