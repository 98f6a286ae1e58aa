"""The statistics hold what they promise, over all looks together."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.rollout import evidence

ALPHA = 0.05
RUNS, WINDOWS = 1000, 60


def looks(candidate, stable, of, stable_of, ratio):
    return [
        evidence.log_evidence(
            candidate[:, :until, None], of[:, :until], stable[:, :until, None], stable_of[:, :until], ratio
        )[:, 0]
        for until in range(1, WINDOWS + 1)
    ]


@pytest.mark.parametrize("ratio", [1.0, 1.5])
@pytest.mark.parametrize("rate", [0.002, 0.05, 0.3])
def test_evidence_exceeds_its_bound_at_any_look_as_seldom_as_promised(rate, ratio):
    """Ville's bound, at the edge of what is tolerated, with rates that drift from window to window."""
    random = np.random.default_rng(7)
    drift = rate * random.uniform(0.2, 1.8, (RUNS, WINDOWS))
    of, stable_of = np.full((RUNS, WINDOWS), 30.0), np.full((RUNS, WINDOWS), 570.0)
    candidate = random.binomial(30, np.minimum(1, ratio * drift)).astype(float)
    stable = random.binomial(570, drift).astype(float)
    crossed = np.max(looks(candidate, stable, of, stable_of, ratio), axis=0) >= np.log(1 / ALPHA)
    print(f"rate {rate}, tolerated ×{ratio}: {crossed.mean():.3f} of {RUNS} cross at one of {WINDOWS} looks")
    assert crossed.mean() <= ALPHA


def test_evidence_grows_where_the_rate_rose():
    of, stable_of = np.full((1, 20), 50.0), np.full((1, 20), 950.0)
    found = evidence.log_evidence(np.full((1, 20, 1), 3.0), of, np.full((1, 20, 1), 9.0), stable_of, 1.0)
    assert found[0, 0] > 20


def test_nobody_served_is_no_evidence():
    nothing = np.zeros((3, 2))
    assert evidence.log_evidence(nothing, np.zeros(3), nothing, np.zeros(3), 1.25) == pytest.approx(0)
    low, high = evidence.bounds(np.zeros(1), np.zeros(1), 0.01)
    assert (low[0], high[0]) == pytest.approx((0, 1))


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.4])
def test_bounds_hold_the_rate_at_every_look_as_often_as_promised(rate):
    random = np.random.default_rng(11)
    events = random.binomial(30, rate, (RUNS, WINDOWS)).cumsum(axis=1).astype(float)
    of = np.broadcast_to(30.0 * np.arange(1, WINDOWS + 1), events.shape)
    low, high = evidence.bounds(events, of, ALPHA)
    missed = ((low > rate) | (high < rate)).any(axis=1)
    print(f"rate {rate}: {missed.mean():.3f} of {RUNS} leave the bounds at one of {WINDOWS} looks")
    assert missed.mean() <= ALPHA
    assert (low <= events / of).all()
    assert (events / of <= high).all()
    assert (high - low)[:, -1].mean() < (high - low)[:, 4].mean() / 2


def test_the_mean_of_evidences_is_between_them():
    mixed = evidence.mean_evidence(np.log([[1.0, 3.0, 8.0]]))
    assert mixed == pytest.approx(np.log(4.0))
