"""Compares the rates of two revisions under a gate's rule, one sample or a whole batch of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.rollout import evidence
from scripts.rollout.evidence import Floats
from scripts.rollout.plan import Plan, Rule
from scripts.rollout.sample import Sample


@dataclass(frozen=True)
class Assessed:
    """One gate's numbers for a whole batch of samples; every attribute has the batch's shape, `kind` is an index."""

    is_unhealthy: NDArray[np.bool_]
    is_healthy: NDArray[np.bool_]
    kind: NDArray[np.intp]
    low: Floats
    high: Floats
    evidence: Floats


def assess(sample: Sample, rule: Rule, plan: Plan) -> Assessed:
    """Compare rates of kinds of events, stratified by window.

    Args:
        sample: shapes as in `evidence.log_evidence`.
        rule: what is tolerated.
        plan: how the error probabilities are split.
    """
    by_kind = evidence.log_evidence(
        sample.candidate, sample.candidate_of, sample.stable, sample.stable_of, rule.ratio_tolerated
    )
    mixed = evidence.mean_evidence(by_kind)
    of = sample.candidate_of.sum(axis=-1)
    stable_events, low, high, observed = _differences(sample, plan.false_promotion_max / 2)
    worst = by_kind.argmax(axis=-1)
    is_unhealthy = (
        (mixed >= np.log(1 / plan.rollback_alpha))
        & (of >= rule.requests_to_roll_back)
        & (_pick(observed, worst) > rule.difference_tolerated)
    )
    open_high = np.where(_counts_for_promotion(sample, stable_events, plan), high, -1.0)
    is_healthy = ~is_unhealthy & (of >= rule.requests_to_promote) & (open_high.max(axis=-1) < rule.difference_harmful)
    kind = np.where(is_unhealthy, worst, open_high.argmax(axis=-1))
    return Assessed(is_unhealthy, is_healthy, kind, _pick(low, kind), _pick(high, kind), mixed)


def assess_before(sample: Sample, rule: Rule, plan: Plan) -> Assessed:
    """Compare with what was before, where nothing runs beside the candidate: two confidence sequences, apart or not."""
    stable_events, low, high, _ = _differences(sample, plan.rollback_alpha / 2)
    counted = _counts_for_promotion(sample, stable_events, plan)
    low, high = np.where(counted, low, -1.0), np.where(counted, high, -1.0)
    of = sample.candidate_of.sum(axis=-1)
    is_unhealthy = (low.max(axis=-1) > rule.difference_tolerated) & (of >= rule.requests_to_roll_back)
    is_healthy = ~is_unhealthy & (of >= rule.requests_to_promote) & (high.max(axis=-1) < rule.difference_harmful)
    kind = np.where(is_unhealthy, low.argmax(axis=-1), high.argmax(axis=-1))
    return Assessed(is_unhealthy, is_healthy, kind, _pick(low, kind), _pick(high, kind), np.full(of.shape, np.nan))


def _differences(sample: Sample, alpha: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the stable events, the limits of the difference of the rates, and the difference seen: shapes (..., k)."""
    events, stable_events = sample.candidate.sum(axis=-2), sample.stable.sum(axis=-2)
    of = np.broadcast_to(sample.candidate_of.sum(axis=-1)[..., None], events.shape)
    stable_of = np.broadcast_to(sample.stable_of.sum(axis=-1)[..., None], events.shape)
    low, high = evidence.bounds(events, of, alpha)
    stable_low, stable_high = evidence.bounds(stable_events, stable_of, alpha)
    observed = events / np.maximum(of, 1) - stable_events / np.maximum(stable_of, 1)
    return stable_events, low - stable_high, high - stable_low, observed


def _counts_for_promotion(sample: Sample, stable_events: Floats, plan: Plan) -> NDArray[np.bool_]:
    """Return which kinds must surely not be harmful, shape (..., k): of latencies only the slow tail."""
    if not sample.is_tail:
        return np.ones(stable_events.shape, dtype=np.bool_)
    share = stable_events / np.maximum(sample.stable_of.sum(axis=-1)[..., None], 1)
    in_tail: NDArray[np.bool_] = share <= plan.tail
    # if even the last bound is within what is usual, that one counts
    in_tail[..., -1] = True
    return in_tail


def _pick(values: Floats, index: NDArray[np.intp]) -> Floats:
    picked: Floats = np.take_along_axis(values, index[..., None], axis=-1)[..., 0]
    return picked
