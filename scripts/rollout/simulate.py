"""Rolls thousands of made-up candidates out, judged by the gate and by fixed thresholds (K1 and K2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scripts.rollout import compare, gate, traces
from scripts.rollout.plan import Plan
from scripts.rollout.traces import CANDIDATES, Trace

WINDOWS_MAX = 120
GOLDEN_ROWS, LOOK_ROWS = 256, 8
OPEN, PROMOTED, ROLLED_BACK = 0, 1, 2


@dataclass
class Outcome:
    """What became of n rollouts of one kind.

    Attributes:
        kind: see `traces.CANDIDATES`.
        rollouts: n.
        rolled_back: how many in any step.
        promoted: how many got through all steps.
        found_at_first: how many were rolled back in the first step.
        exposed: requests that the candidate had answered when it was rolled back, one number for each: its users.
        needed: requests that both had answered by then.
        windows: how long the first step took, of all rollouts that ended it.
        by_gate: how many rollbacks each gate asked for.
    """

    kind: str
    rollouts: int
    rolled_back: int = 0
    promoted: int = 0
    found_at_first: int = 0
    exposed: list[float] = field(default_factory=list)
    needed: list[float] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)
    by_gate: dict[str, int] = field(default_factory=dict)

    @property
    def undecided(self) -> int:
        """How many were still inconclusive at a deadline."""
        return self.rollouts - self.rolled_back - self.promoted


def run(kind: str, rollouts: int, plan: Plan, seed: int, *, fixed: bool = False) -> Outcome:
    """Roll candidates of one kind out.

    Args:
        kind: see `traces.CANDIDATES`.
        rollouts: how many.
        plan: the plan; its last step has nothing beside it and is not simulated.
        seed: the same seed makes the same traces for the gate and for fixed thresholds.
        fixed: judge by fixed thresholds on the candidate alone instead of by the gate.
    """
    outcome = Outcome(kind, rollouts)
    going = np.arange(rollouts)
    exposed, needed = np.zeros(rollouts), np.zeros(rollouts)
    least = -(-plan.step_min_seconds // plan.window_seconds)
    for step, percent in enumerate(plan.steps_percent[:-1]):
        random = np.random.default_rng([seed, step, *kind.encode()])
        trace = traces.make(kind, rollouts, WINDOWS_MAX, percent, random)
        state = np.full(rollouts, OPEN)
        for windows in range(1, WINDOWS_MAX + 1):
            still = going[state[going] == OPEN]
            if not len(still):
                break
            found = _by_threshold(trace, still, windows) if fixed else _by_gate(trace, still, windows, plan, outcome)
            found[(found == PROMOTED) & (windows < least)] = OPEN
            state[still] = found
            ended = still[found != OPEN]
            served = trace.samples["errors"]
            exposed[ended] += served.candidate_of[ended, :windows].sum(axis=1)
            needed[ended] += (served.candidate_of + served.stable_of)[ended, :windows].sum(axis=1)
            if step == 0:
                outcome.windows.extend([windows] * len(ended))
        lost = going[state[going] == ROLLED_BACK]
        outcome.rolled_back += len(lost)
        outcome.found_at_first += len(lost) if step == 0 else 0
        outcome.exposed.extend(exposed[lost])
        outcome.needed.extend(needed[lost])
        going = going[state[going] == PROMOTED]
    outcome.promoted = len(going)
    return outcome


def _by_gate(trace: Trace, rollouts: NDArray[np.intp], windows: int, plan: Plan, outcome: Outcome) -> NDArray[np.int64]:
    samples = trace.until(rollouts, windows)
    unhealthy = np.zeros(len(rollouts), dtype=np.bool_)
    healthy = np.ones(len(rollouts), dtype=np.bool_)
    for name, sample in samples.items():
        found = compare.assess(sample, plan.gates[name], plan)
        outcome.by_gate[name] = outcome.by_gate.get(name, 0) + int(found.is_unhealthy.sum())
        unhealthy |= found.is_unhealthy
        healthy &= found.is_healthy
    return np.where(unhealthy, ROLLED_BACK, np.where(healthy, PROMOTED, OPEN))


def _by_threshold(trace: Trace, rollouts: NDArray[np.intp], windows: int) -> NDArray[np.int64]:
    """Judge the newest window of the candidate alone, as release managers do: over 1 % errors, or p99 over 0.1 s."""
    errors, latency = trace.samples["errors"], trace.samples["latency"]
    of = errors.candidate_of[rollouts, windows - 1]
    slow = latency.candidate[rollouts, windows - 1, traces.LATENCY_BOUNDS.index(0.1)]
    is_bad = (errors.candidate[rollouts, windows - 1, 0] > 0.01 * of) | (slow > 0.01 * of)
    return np.where(is_bad, ROLLED_BACK, PROMOTED)


def golden(kind: str, rollouts: int, seed: int) -> int:
    """Return how many candidates the replay of golden rows finds, before any traffic."""
    random = np.random.default_rng([seed, *kind.encode()])
    return int((random.binomial(GOLDEN_ROWS, CANDIDATES[kind][1].golden_wrong, rollouts) > 0).sum())


def looks(kind: str, rollouts: int, plan: Plan, seed: int) -> list[int]:
    """Return after how many looks each candidate that is found dead is found, whatever the metrics say.

    There are as many looks as all steps have until their deadlines.
    """
    random = np.random.default_rng([seed, *kind.encode()])
    count = len(plan.steps_percent) * plan.step_deadline_seconds // plan.look_seconds
    lost = random.binomial(LOOK_ROWS, CANDIDATES[kind][1].lost, (rollouts, count))
    newest = np.lib.stride_tricks.sliding_window_view(lost, gate.LOST_LOOKS, axis=1)
    dead = gate.are_deadly(np.full_like(newest, LOOK_ROWS), newest)
    return [int(one) + gate.LOST_LOOKS for one in dead.argmax(axis=1)[dead.any(axis=1)]]


def table(plan: Plan, rollouts: int, seed: int, kinds: Sequence[str] = tuple(CANDIDATES)) -> tuple[list[str], bool]:
    """Simulate every kind.

    Returns:
        The lines of a table, and whether K1 and K2 hold.
    """
    lines = [
        f"{rollouts} rollouts each, seed {seed}, {traces.REQUESTS_PER_WINDOW} requests in {plan.window_seconds} s, "
        f"steps {' → '.join(map(str, plan.steps_percent))} %",
        "medians of those rolled back: requests served until then, and users exposed (requests the candidate answered)",
        f"{'candidate':<20}{'rolled back':>12}{'at 5 %':>8}{'promoted':>10}{'undecided':>11}"
        f"{'requests':>10}{'exposed':>9}{'p99':>7}{'windows':>9}   {'fixed: back':>11}{'promoted':>10}{'exposed':>9}",
    ]
    is_kept = True
    for kind in kinds:
        ours, theirs = run(kind, rollouts, plan, seed), run(kind, rollouts, plan, seed, fixed=True)
        is_good = kind.startswith("A/A")
        found_dead = looks(kind, rollouts, plan, seed)
        if is_good:
            is_kept &= ours.rolled_back + len(found_dead) <= 0.01 * rollouts
        is_kept &= ours.rolled_back <= 0.01 * rollouts if is_good else ours.found_at_first >= 0.99 * rollouts
        lines.append(
            f"{kind:<20}{_share(ours.rolled_back, rollouts):>12}{_share(ours.found_at_first, rollouts):>8}"
            f"{_share(ours.promoted, rollouts):>10}{_share(ours.undecided, rollouts):>11}"
            f"{median(ours.needed):>10}{median(ours.exposed):>9}{_quantile(ours.exposed, 99):>7}"
            f"{_quantile(ours.windows, 50):>9}   "
            f"{_share(theirs.rolled_back, rollouts):>11}{_share(theirs.promoted, rollouts):>10}"
            f"{_quantile(theirs.exposed, 50):>9}"
        )
        if (found := golden(kind, rollouts, seed)) or CANDIDATES[kind][1].golden_wrong:
            at_zero = f"{'at 0 %':>8}{'':>21}{GOLDEN_ROWS:>10}{0:>9}{0:>7}{0:>9}"
            lines.append(f"{'  by golden replay':<20}{_share(found, rollouts):>12}{at_zero}")
        if found_dead or is_good:
            after = f"{median(found_dead)} looks, p99 {_quantile(found_dead, 99)}" if found_dead else ""
            lines.append(f"{'  by looks':<20}{_share(len(found_dead), rollouts):>12}   {after}")
    return lines, is_kept


def median(values: Sequence[float]) -> str:
    """Return the middle of some numbers, as the table shows it."""
    return _quantile(values, 50)


def _share(count: int, of: int) -> str:
    return f"{count / of * 100:.1f} %"


def _quantile(values: Sequence[float], percent: float) -> str:
    return f"{np.percentile(values, percent):.0f}" if len(values) else "-"
