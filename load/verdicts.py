"""What the benchmark asks for, as ratios of medians in one run, and how they are judged."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["aim", "kept", "missed", "not judged"]
# server → measure → one sample a round
Samples = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Demand:
    """A ratio that must be kept.

    Attributes:
        name: what it says.
        part: the part of the benchmark that measures it.
        over: server and measure above the line.
        under: server and measure below it.
        must: the bound; missing it fails the run.
        aim: the bound that would be good.
        at_least: whether more is better.
    """

    name: str
    part: str
    over: tuple[str, str]
    under: tuple[str, str]
    must: float
    aim: float
    at_least: bool

    def is_within(self, ratio: float, bound: float) -> bool:
        """Whether a ratio keeps a bound; the bound itself is kept."""
        return ratio >= bound if self.at_least else ratio <= bound


@dataclass(frozen=True)
class Judged:
    """A demand with what was measured.

    Attributes:
        demand: what was asked for.
        ratio: of the medians.
        lowest: the least ratio of a single round.
        highest: the largest.
        verdict: how it is judged.
    """

    demand: Demand
    ratio: float
    lowest: float
    highest: float
    verdict: Verdict


def _at_least(name: str, part: str, over: tuple[str, str], under: tuple[str, str], must: float, aim: float) -> Demand:
    return Demand(name, part, over, under, must, aim, at_least=True)


def _at_most(name: str, part: str, over: tuple[str, str], under: tuple[str, str], must: float, aim: float) -> Demand:
    return Demand(name, part, over, under, must, aim, at_least=False)


def _of(server: str, measure: str, other: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (server, measure), (other, measure)


DEMANDS = (
    _at_least("one row, predictions/s / tuned FastAPI", "throughput", *_of("rookery", "rate", "tuned"), 2.0, 3.0),
    _at_least(
        "one row, predictions/s / tutorial FastAPI", "throughput", *_of("rookery", "rate", "tutorial"), 7.0, 12.0
    ),
    _at_least("one row, predictions/s / the limit", "throughput", *_of("rookery", "rate", "limit"), 0.45, 0.65),
    _at_most("p99 at half of tuned's capacity / tuned FastAPI", "tail", *_of("rookery", "p99", "tuned"), 0.6, 0.4),
    _at_least(
        "batches of 1,000 named rows/s / tuned FastAPI", "batch", *_of("rookery", "batch_rate", "tuned"), 4.0, 8.0
    ),
    _at_most(
        "time per row, batch of 10,000 / of 1,000",
        "batch",
        ("rookery", "row_of_10000"),
        ("rookery", "row_of_1000"),
        1.1,
        1.0,
    ),
    _at_most("cold start from disk / tuned FastAPI", "coldstart", *_of("rookery", "start", "tuned"), 1.0, 0.7),
    _at_most("cold start from disk / tutorial FastAPI", "coldstart", *_of("rookery", "start", "tutorial"), 0.35, 0.2),
    _at_most("cold start from a bucket / tutorial FastAPI", "coldstart", *_of("bucket", "start", "tutorial"), 0.6, 0.4),
    _at_most("memory after the predictions / tuned FastAPI", "memory", *_of("rookery", "pss", "tuned"), 1.3, 1.0),
    _at_most(
        "memory after the predictions / tutorial FastAPI", "memory", *_of("rookery", "pss", "tutorial"), 0.55, 0.45
    ),
)


def judge(demand: Demand, samples: Samples) -> Judged | None:
    """Judge one demand; None if it was not measured."""
    over = samples.get(demand.over[0], {}).get(demand.over[1], ())
    under = samples.get(demand.under[0], {}).get(demand.under[1], ())
    if not over or not under:
        return None
    ratio = statistics.median(over) / statistics.median(under)
    # a round's own ratio where both were measured in it
    rounds = [a / b for a, b in zip(over, under, strict=False)]
    return Judged(demand, ratio, min(rounds), max(rounds), _verdict(demand, ratio))


def _verdict(demand: Demand, ratio: float) -> Verdict:
    """Say which bound is kept."""
    if demand.is_within(ratio, demand.aim):
        return "aim"
    return "kept" if demand.is_within(ratio, demand.must) else "missed"
