"""The two statistics of the gate, exact however often they are looked at; decision record 0035 has the sources.

`log_evidence` tests that a rate rose, `bounds` holds a rate between two limits at every moment at once.
Both take whole batches, so that the simulation and the controller judge with the same lines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, logsumexp

Floats = NDArray[np.float64]

# how many times worse than tolerated the mixture thinks a candidate may be, each equally likely
RISES = np.array([1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 40.0, 150.0])
# to 3e-8 of a rate
BISECTIONS = 25


def log_evidence(candidate: Floats, candidate_of: Floats, stable: Floats, stable_of: Floats, ratio: float) -> Floats:
    """Return the log of the evidence that a candidate's rates are above `ratio` times the stable revision's.

    A mixture sequential probability ratio test over independent strata (windows): whatever the rates are and however
    they drift from window to window, as long as the candidate's is at most `ratio` times the stable one's, the
    evidence exceeds 1/α at *any* of all looks with probability at most α.

    Args:
        candidate: events, shape (..., w, k): w windows, k kinds of event.
        candidate_of: what they are out of, shape (..., w).
        stable: as `candidate`, of the stable revision in the same windows.
        stable_of: as `candidate_of`.
        ratio: the tolerated ratio of the rates, at least 1.

    Returns:
        Shape (..., k).
    """
    both = candidate + stable
    of = candidate_of[..., None]
    at_ratio = of * ratio + stable_of[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.log((of * (ratio * RISES) + stable_of[..., None]) / at_ratio)
    # a window in which nobody was served says nothing
    growth = np.where(at_ratio > 0, growth, 0.0)
    spent = np.swapaxes(both, -1, -2) @ growth
    won = candidate.sum(axis=-2)[..., None] * np.log(RISES)
    mixed: Floats = logsumexp(won - spent, axis=-1) - np.log(len(RISES))
    return mixed


def mean_evidence(log_evidences: Floats) -> Floats:
    """Return the log of the mean of evidences (..., k): again evidence, whatever the dependence between the kinds."""
    mixed: Floats = logsumexp(log_evidences, axis=-1) - np.log(log_evidences.shape[-1])
    return mixed


def bounds(events: Floats, of: Floats, alpha: float) -> tuple[Floats, Floats]:
    """Return the confidence sequence of a rate: limits that hold at all looks together with probability 1 − alpha.

    The beta-binomial mixture martingale of Robbins, inverted by bisection.

    Args:
        events: any shape.
        of: at least `events`, same shape; where it is 0 the limits are 0 and 1.
        alpha: error probability over all looks and both limits.
    """
    mixture = betaln(0.5 + events, 0.5 + of - events) - betaln(0.5, 0.5)
    limit = np.log(1 / alpha)
    rate = events / np.maximum(of, 1)

    def excluded(guess: Floats) -> NDArray[np.bool_]:
        tiny = np.finfo(np.float64).tiny
        fit = events * np.log(np.maximum(guess, tiny)) + (of - events) * np.log(np.maximum(1 - guess, tiny))
        outside: NDArray[np.bool_] = mixture - fit >= limit
        return outside

    low_out, low_in = np.zeros_like(rate), rate.copy()
    high_in, high_out = rate.copy(), np.ones_like(rate)
    for _ in range(BISECTIONS):
        low, high = (low_out + low_in) / 2, (high_in + high_out) / 2
        is_low_out, is_high_out = excluded(low), excluded(high)
        low_out, low_in = np.where(is_low_out, low, low_out), np.where(is_low_out, low_in, low)
        high_out, high_in = np.where(is_high_out, high, high_out), np.where(is_high_out, high_in, high)
    return low_out, high_out
