"""What it costs that every call is counted and logged: the same server with and without, on the same core."""

from __future__ import annotations

import json
import statistics

from load import closedloop, servers
from load.parts import BATCH_ROWS, Bench, say
from load.servers import ROOKERY, Post
from load.verdicts import Demand

# nothing is counted and no prediction is logged
BLIND = {"ROOKERY_METRICS": "false", "ROOKERY_EVENT_RATE": "0"}
# the two take turns so often in each round: what disturbs the machine disturbs both
TURNS = 4
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
            for measure, cpu, post in (("rate", "cpu", bench.one(ROOKERY)), ("batch_rate", "batch_cpu", many)):
                of = {WATCHED: watched, UNWATCHED: unwatched}
                found: dict[str, list[closedloop.Throughput]] = {name: [] for name in of}
                for _ in range(TURNS):
                    for name, running in of.items():
                        found[name].append(closedloop.measure(running, post, bench.seconds / TURNS, bench.connections))
                for name, turns in found.items():
                    bench.add(name, measure, statistics.mean(turn.rate for turn in turns))
                    bench.add(name, cpu, statistics.mean(turn.cpu_seconds for turn in turns))
                ratio = bench.samples[WATCHED][measure][-1] / bench.samples[UNWATCHED][measure][-1]
                say(f"watching {number + 1}/{bench.rounds}: {measure} {ratio:.3f} of that without")
