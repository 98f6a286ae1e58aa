"""Makes up what two revisions serve, seeded: good candidates, and each kind of bad one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm

from scripts.rollout.evidence import Floats
from scripts.rollout.sample import Sample

REQUESTS_PER_WINDOW = 600
LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CONFIDENCE_BOUNDS = tuple(round(0.05 * step, 2) for step in range(1, 21))
NOVELTY_BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
MEDIAN_SECONDS, SPREAD = 0.02, 0.6
# what the 99th percentile of a log-normal distribution is away from its median, in spreads
P99 = 2.326
SWINGS = 0.8


@dataclass(frozen=True)
class Behaviour:
    """How a revision answers.

    Attributes:
        errors: probability of a 5xx.
        refusals: probability of a 4xx.
        classes: probability of each predicted class.
        spread: of the logarithm of the seconds.
        unsure: share of answers whose confidence is anything at all.
        novel: share of rows beyond everything trained on.
        drifts: the rates move up and down by 80 % within the hour, for both revisions alike.
        golden_wrong: share of golden rows that are answered otherwise than known.
        dead: share of its instances that answer nothing: their requests are the platform's 5xx.
    """

    errors: float = 0.005
    refusals: float = 0.02
    classes: tuple[float, ...] = (0.44, 0.2, 0.36)
    spread: float = SPREAD
    unsure: float = 0.0
    novel: float = 0.0
    drifts: bool = False
    golden_wrong: float = 0.0
    dead: float = 0.0

    @property
    def lost(self) -> float:
        """Probability that a request is answered 5xx, by the service or in its place."""
        return self.dead + (1 - self.dead) * self.errors


GOOD = Behaviour()
# p99 doubles, the median stays
SLOW_SPREAD = SPREAD + np.log(2) / P99

CANDIDATES: Mapping[str, tuple[Behaviour, Behaviour]] = {
    "A/A": (GOOD, GOOD),
    "A/A, rates drift": (replace(GOOD, drifts=True), replace(GOOD, drifts=True)),
    "A/A, no errors": (replace(GOOD, errors=0.0), replace(GOOD, errors=0.0)),
    "errors +2 points": (GOOD, replace(GOOD, errors=0.025)),
    "p99 ×2": (GOOD, replace(GOOD, spread=float(SLOW_SPREAD))),
    "wrong answers, 200": (GOOD, replace(GOOD, classes=(0.41, 0.24, 0.35), unsure=0.3, golden_wrong=0.2)),
    "class shift": (GOOD, replace(GOOD, classes=(0.32, 0.32, 0.36))),
    "refusals +5 points": (GOOD, replace(GOOD, refusals=0.07)),
    "dead": (GOOD, replace(GOOD, dead=1.0)),
    "half of it dead": (GOOD, replace(GOOD, dead=0.5)),
    "a quarter dead": (GOOD, replace(GOOD, dead=0.25)),
}


@dataclass(frozen=True)
class Trace:
    """What a batch of n rollouts saw in one step: the samples of every gate, shapes (n, w, k) and (n, w)."""

    samples: Mapping[str, Sample]

    def until(self, rollouts: NDArray[np.intp], windows: int) -> Mapping[str, Sample]:
        """Return what some of the rollouts knew after so many windows."""
        return {
            gate: replace(
                sample,
                candidate=sample.candidate[rollouts, :windows],
                candidate_of=sample.candidate_of[rollouts, :windows],
                stable=sample.stable[rollouts, :windows],
                stable_of=sample.stable_of[rollouts, :windows],
            )
            for gate, sample in self.samples.items()
        }


def make(kind: str, rollouts: int, windows: int, percent: int, random: np.random.Generator) -> Trace:
    """Draw a step of many rollouts.

    Args:
        kind: one of `CANDIDATES`.
        rollouts: how many.
        windows: how many each.
        percent: the candidate's share.
        random: where chance comes from.
    """
    shape = (rollouts, windows)
    swing = SWINGS * np.sin(np.linspace(0, 2 * np.pi, windows) + random.uniform(0, 2 * np.pi, (rollouts, 1)))
    sides = []
    for behaviour, share in zip(CANDIDATES[kind], (1 - percent / 100, percent / 100), strict=True):
        of = random.poisson(REQUESTS_PER_WINDOW * share, shape)
        # what is dead is measured by the platform alone: it has no latencies, classes, confidence or novelty
        alive = random.binomial(of, 1 - behaviour.dead)
        level = 1 + swing if behaviour.drifts else np.ones(shape)
        sides.append((of, alive, _events(behaviour, of, alive, level, random)))
    (stable_of, _, stable), (candidate_of, candidate_alive, candidate) = sides
    samples = {
        gate: Sample(
            kinds=tuple(str(index) for index in range(events.shape[-1])),
            candidate=events,
            candidate_of=(candidate_of if gate in ("errors", "refusals") else candidate_alive).astype(np.float64),
            stable=stable[gate],
            stable_of=stable_of.astype(np.float64),
            is_tail=gate == "latency",
        )
        for gate, events in candidate.items()
    }
    return Trace(samples)


def _events(
    behaviour: Behaviour, of: NDArray[np.int64], alive: NDArray[np.int64], level: Floats, random: np.random.Generator
) -> dict[str, Floats]:
    latency = norm.sf(np.log(np.array(LATENCY_BOUNDS) / MEDIAN_SECONDS) / behaviour.spread)
    sure = beta.cdf(np.array(CONFIDENCE_BOUNDS), 8, 1)
    unsure = np.clip((np.array(CONFIDENCE_BOUNDS) - 1 / 3) * 1.5, 0, 1)
    confidence = (1 - behaviour.unsure) * sure + behaviour.unsure * unsure
    novelty = (1 - behaviour.novel) * (1 - np.array(NOVELTY_BOUNDS)) + behaviour.novel
    classes = np.array(behaviour.classes)
    moved = classes * (1 + 0.2 * (level[..., None] - 1) * np.array([1, -1, 0]))
    return {
        "errors": (of - alive + random.binomial(alive, behaviour.errors * level))[..., None].astype(np.float64),
        "latency": _tails(alive, latency, random),
        "refusals": random.binomial(alive, behaviour.refusals * level)[..., None].astype(np.float64),
        "classes": random.multinomial(alive, moved / moved.sum(axis=-1, keepdims=True)).astype(np.float64),
        "confidence": _tails(alive, confidence[::-1], random)[..., ::-1],
        "novelty": _tails(alive, novelty, random),
    }


def _tails(of: NDArray[np.int64], shares: Floats, random: np.random.Generator) -> Floats:
    """Draw how many lie beyond each of several bounds; `shares` fall."""
    buckets = -np.diff(np.concatenate([[1.0], shares, [0.0]]))
    drawn = random.multinomial(of, buckets)
    tails: Floats = np.cumsum(drawn[..., :0:-1], axis=-1)[..., ::-1].astype(np.float64)
    return tails
