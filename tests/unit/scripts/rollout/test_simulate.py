"""K1 and K2 in short form; the long one is `make simulate-rollouts`."""

from __future__ import annotations

import pytest

from scripts.rollout import simulate, smoke
from scripts.rollout.traces import CANDIDATES

ROLLOUTS = 100
BAD = [kind for kind in CANDIDATES if not kind.startswith("A/A")]


def test_good_candidates_are_promoted_and_fixed_thresholds_throw_them_away(canary):
    ours = simulate.run("A/A, rates drift", ROLLOUTS, canary, seed=5)
    theirs = simulate.run("A/A, rates drift", ROLLOUTS, canary, seed=5, fixed=True)
    print(f"K1: {ours.rolled_back} of {ROLLOUTS} rolled back; by fixed thresholds {theirs.rolled_back}")
    assert ours.rolled_back <= ROLLOUTS // 100
    assert ours.promoted >= 0.95 * ROLLOUTS
    assert theirs.rolled_back > 0.5 * ROLLOUTS


@pytest.mark.parametrize("kind", BAD)
def test_bad_candidates_are_found_at_5_percent(canary, kind):
    found = simulate.run(kind, ROLLOUTS, canary, seed=6)
    print(f"K2: {kind}: {found.found_at_first} of {ROLLOUTS}, median {simulate.median(found.exposed)} requests exposed")
    assert found.found_at_first >= 0.99 * ROLLOUTS


def test_wrong_answers_do_not_even_get_traffic(canary):
    assert simulate.golden("wrong answers, 200", 1000, seed=1) == 1000


@pytest.mark.parametrize("kind", [kind for kind in CANDIDATES if "dead" in kind and "quarter" not in kind])
def test_dead_candidates_are_found_by_a_few_looks_whatever_the_metrics_say(canary, kind):
    found = simulate.looks(kind, 1000, canary, seed=6)
    print(f"K9: {kind}: {len(found)} of 1000 after {simulate.median(found)} looks")
    assert len(found) == 1000
    assert sorted(found)[980] <= 5


def test_looks_roll_no_good_candidate_back(canary):
    found = sum(len(simulate.looks(kind, 1000, canary, seed=6)) for kind in CANDIDATES if kind.startswith("A/A"))
    assert found == 0


def test_the_table_says_whether_the_promises_are_kept(canary):
    lines, is_kept = simulate.table(canary, 20, 1, ("wrong answers, 200", "p99 ×2"))
    assert is_kept
    assert len(lines) == 6
    assert simulate.LOOK_ROWS == smoke.LOOK_ROWS
    assert "100.0 %" in lines[3]
