"""Judges a candidate: pure functions of what was seen, and of the plan.

Three verdicts. `unhealthy` needs evidence that survives looking at it again and again, `healthy` needs certainty that
nothing harmful is left, and everything else, above all what is not known, is `inconclusive`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.rollout.compare import Assessed, assess, assess_before
from scripts.rollout.plan import Plan, Rule
from scripts.rollout.sample import BEFORE, LIVE, MODEL, Sample, gather, is_unknown
from scripts.rollout.verdict import Finding, Judgement, Verdict, together
from scripts.rollout.windows import Observation, Window

# a candidate is dead if each of so many looks in a row lost a row, and together they lost at least this share
LOST_LOOKS = 3
LOST_SHARE = 1 / 3


@dataclass(frozen=True)
class Look:
    """What the candidate answered at one look, while it has traffic.

    Attributes:
        asked: golden rows that were sent, each in a request of its own: instances are chosen by request.
        answered: those answered with a probability for every class.
        differences: those answered otherwise than known.
        is_ready: it said that it is ready, and which bundle it serves.
    """

    asked: int
    answered: int
    differences: int
    is_ready: bool

    @property
    def is_whole(self) -> bool:
        """Whether everything was answered."""
        return self.is_ready and self.answered == self.asked

    @property
    def is_silent(self) -> bool:
        """Whether nothing was answered."""
        return not self.is_ready and not self.answered


@dataclass(frozen=True)
class Replay:
    """What became of the golden rows.

    Attributes:
        rows: golden rows that the candidate answered.
        differences: those with another answer than the known one.
        pairs: rows that both revisions answered.
        changed: those with another class.
        shift: mean |Δp| of the class that the stable revision predicts.
    """

    rows: int
    differences: int
    pairs: int
    changed: int
    shift: float


@dataclass(frozen=True)
class Probe:
    """What the candidate answered on its tag's address.

    Attributes:
        digest_intended: of the bundle that is meant to be served.
        digest_served: of the one that is, None if it did not tell.
        is_ready: it said so.
        waited_seconds: for how long it has been asked without being ready.
        is_fallback: another bundle stands in for the pinned one.
        replay: the golden rows' answers, None if they were not asked for.
        commit: what the candidate was built from, empty if it did not tell.
        stable_commit: what the stable revision was built from, likewise.
        looks: the newest looks at a candidate that has traffic, the last one newest; empty before it has any.
    """

    digest_intended: str
    digest_served: str | None
    is_ready: bool
    waited_seconds: float
    is_fallback: bool
    replay: Replay | None = None
    commit: str = ""
    stable_commit: str = ""
    looks: tuple[Look, ...] = ()


def judge(
    observation: Observation, probes: Sequence[Finding], plan: Plan, percent: int, *, is_concurrent: bool = True
) -> Judgement:
    """Judge a step; it began only because the golden rows and the pairs were healthy.

    Args:
        observation: what both revisions were seen to do since the step began.
        probes: what `judge_probe` found of who the candidate is.
        plan: what is tolerated.
        percent: what the step gives the candidate.
        is_concurrent: whether the stable windows are of the same intervals; at 100 % they are of the time before, and
            only errors and latency are compared.
    """
    whole = _judge_whole(observation, plan, percent, is_concurrent)
    gates = LIVE if is_concurrent else BEFORE
    return together([*probes, *whole, *(_judge_gate(gate, observation, plan, is_concurrent) for gate in gates)])


def judge_probe(probe: Probe, plan: Plan) -> tuple[Finding, ...]:
    """Judge what the candidate answered on its tag's address."""
    looks = _judge_looks(probe.looks, plan) if probe.looks else ()
    if not probe.is_ready:
        newest = probe.looks[-LOST_LOOKS:]
        is_too_long = probe.waited_seconds >= plan.probing.ready_seconds
        if newest:
            # one that has traffic has been ready before: it is not starting
            is_too_long = are_unready(newest)
        verdict = Verdict.UNHEALTHY if is_too_long else Verdict.INCONCLUSIVE
        return (Finding("ready", verdict, f"has not been ready for {probe.waited_seconds:.0f} s"), *looks)
    is_meant = probe.digest_served == probe.digest_intended
    served = f"serves {probe.digest_served or 'an unknown bundle'}"
    return (
        Finding("ready", Verdict.HEALTHY, "says it is ready"),
        Finding("identity", _is(is_meant), served if is_meant else f"{served}, intended is {probe.digest_intended}"),
        Finding(
            "fallback", _is(not probe.is_fallback), "runs on a fallback bundle" if probe.is_fallback else "no fallback"
        ),
        *(_judge_replay(probe.replay, plan) if probe.replay else ()),
        *looks,
    )


def _judge_looks(looks: Sequence[Look], plan: Plan) -> tuple[Finding, ...]:
    """Judge the golden rows of the newest looks: whether they are answered, and how."""
    last, newest = looks[-1], looks[-LOST_LOOKS:]
    asked, lost = sum(look.asked for look in newest), sum(look.asked - look.answered for look in newest)
    # one look may meet an instance that is just being replaced, and nothing is promoted on it
    answers = Verdict.HEALTHY if last.answered == last.asked else Verdict.INCONCLUSIVE
    if are_lost(newest):
        answers = Verdict.UNHEALTHY
    is_known = last.differences <= plan.probing.golden_differences_max
    return (
        Finding(
            "answers",
            answers,
            f"{lost} of {asked} golden rows were not answered at the last {len(newest)} looks",
        ),
        Finding("golden", _is(is_known), f"{last.differences} of {last.answered} golden rows are answered otherwise"),
    )


def are_unready(looks: Sequence[Look]) -> bool:
    """Whether a candidate was not ready at `LOST_LOOKS` looks in a row."""
    return len(looks) >= LOST_LOOKS and not any(look.is_ready for look in looks[-LOST_LOOKS:])


def are_lost(looks: Sequence[Look]) -> bool:
    """Whether a candidate lost too many golden rows at `LOST_LOOKS` looks in a row."""
    newest = looks[-LOST_LOOKS:]
    asked = np.array([look.asked for look in newest])
    lost = asked - np.array([look.answered for look in newest])
    return len(newest) == LOST_LOOKS and bool(are_deadly(asked, lost))


def are_deadly(asked: NDArray[np.int64], lost: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which candidates are dead by the golden rows asked and lost at `LOST_LOOKS` looks, shapes (..., looks)."""
    deadly: NDArray[np.bool_] = (lost > 0).all(axis=-1) & (lost.sum(axis=-1) >= LOST_SHARE * asked.sum(axis=-1))
    return deadly


def _judge_replay(replay: Replay, plan: Plan) -> tuple[Finding, ...]:
    rules = plan.probing
    golden = _is(replay.differences <= rules.golden_differences_max) if replay.rows else Verdict.INCONCLUSIVE
    changed = replay.changed / max(replay.pairs, 1)
    paired = Verdict.INCONCLUSIVE
    if replay.pairs >= rules.pairs_min:
        paired = _is(changed <= rules.changed_max and replay.shift <= rules.shift_max)
    return (
        Finding(
            "golden", golden, f"{replay.differences} of {replay.rows} golden rows are answered otherwise than known"
        ),
        Finding(
            "paired", paired, f"{replay.changed} of {replay.pairs} rows change class, mean |Δp| {replay.shift:.3g}"
        ),
    )


def _is(healthy: bool) -> Verdict:
    return Verdict.HEALTHY if healthy else Verdict.UNHEALTHY


def _judge_gate(gate: str, observation: Observation, plan: Plan, is_concurrent: bool) -> Finding:
    sample = gather(gate, observation, plan.slow_seconds, is_concurrent=is_concurrent)
    if sample is None:
        if gate in MODEL and is_unknown(gate, observation):
            return Finding(gate, Verdict.HEALTHY, "no live metrics; the golden and paired replay stood in")
        return Finding(gate, Verdict.INCONCLUSIVE, "no metrics", is_missing=True)
    rule = plan.gates[gate]
    found = (assess if is_concurrent else assess_before)(sample, rule, plan)
    verdict = Verdict.INCONCLUSIVE
    if found.is_unhealthy:
        verdict = Verdict.UNHEALTHY
    elif found.is_healthy and not sample.is_partial:
        verdict = Verdict.HEALTHY
    return _found(gate, verdict, sample, found, rule, plan)


def _found(gate: str, verdict: Verdict, sample: Sample, found: Assessed, rule: Rule, plan: Plan) -> Finding:
    kind = int(found.kind)
    candidate = (float(sample.candidate[:, kind].sum()), float(sample.candidate_of.sum()))
    stable = (float(sample.stable[:, kind].sum()), float(sample.stable_of.sum()))
    name = sample.kinds[kind]
    reason = (
        f"{f'{name}: ' if name else ''}{_rate(candidate)} against {_rate(stable)}, "
        f"difference in {found.low * 100:+.2f}..{found.high * 100:+.2f} points"
    )
    if verdict is Verdict.INCONCLUSIVE:
        reason += f", {_want(sample, candidate, rule)}"
    concurrent = not np.isnan(found.evidence)
    return Finding(
        gate=gate,
        verdict=verdict,
        reason=reason,
        is_missing=sample.is_partial,
        kind=name,
        candidate=candidate,
        stable=stable,
        low=float(found.low),
        high=float(found.high),
        evidence=float(found.evidence) if concurrent else None,
        evidence_needed=float(np.log(1 / plan.rollback_alpha)) if concurrent else None,
    )


def _want(sample: Sample, candidate: tuple[float, float], rule: Rule) -> str:
    if sample.is_partial:
        return "metrics are missing in some windows"
    if candidate[1] < rule.requests_to_promote:
        return f"{candidate[1]:.0f} of {rule.requests_to_promote} requests"
    return f"harmful is {rule.difference_harmful * 100:g} points"


def _rate(share: tuple[float, float]) -> str:
    return f"{share[0] / max(share[1], 1) * 100:.2f} % of {share[1]:.0f}"


def _judge_whole(observation: Observation, plan: Plan, percent: int, is_concurrent: bool) -> tuple[Finding, ...]:
    """Judge what concerns all gates: a fallback bundle, metrics that are late, or of a part of the requests."""
    if observation.is_fallback:
        return (Finding("fallback", Verdict.UNHEALTHY, "instances run on a fallback bundle"),)
    until, due = observation.until_seconds, observation.due_seconds
    if until is None or until < due - plan.metrics_stale_seconds:
        behind = "nothing is known" if until is None else f"known until {due - until:.0f} s before they are due"
        return (Finding("metrics", Verdict.INCONCLUSIVE, f"late: {behind}", is_missing=True),)
    if not is_concurrent:
        return ()
    seen = _requests(observation.candidate)
    both = seen + _requests(observation.stable)
    wanted = plan.share_seen_min * percent / 100
    if both and seen / both < wanted:
        share = f"the candidate has {seen / both * 100:.2g} % of the requests in the metrics, {percent} % are planned"
        return (Finding("metrics", Verdict.INCONCLUSIVE, f"incomplete: {share}", is_missing=True),)
    return ()


def _requests(windows: Sequence[Window]) -> int:
    return sum(window.requests or 0 for window in windows)
