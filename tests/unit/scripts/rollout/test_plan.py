"""What `slo.toml` may say of a rollout."""

from __future__ import annotations

import copy

import pytest

from scripts.rollout import plan
from scripts.rollout.plan import GATES, PlanError, Policy
from scripts.rollout.sample import LIVE


def test_the_repositorys_own_plans(canary, blue_green):
    assert (canary.name, canary.steps_percent) == ("canary", (5, 20, 50, 100))
    assert (blue_green.name, blue_green.steps_percent) == ("blue-green", (100,))
    assert blue_green.gates == canary.gates
    assert canary.policy in tuple(Policy)
    assert GATES == LIVE


def test_the_error_probability_is_split_over_gates_and_steps(canary, blue_green):
    assert canary.rollback_alpha * len(GATES) * 4 == pytest.approx(canary.false_rollback_max)
    assert blue_green.rollback_alpha * len(GATES) == pytest.approx(canary.false_rollback_max)
    assert canary.false_rollback_max <= 0.005


def test_steps(canary):
    assert [canary.is_last(step) for step in range(4)] == [False, False, False, True]
    assert not canary.needs_approval(0)


def change(slo, path, value):
    found = copy.deepcopy(slo)
    table = found
    for name in path[:-1]:
        table = table[name]
    if value is None:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("rollout",), None, r"no \[rollout\]"),
        (("rollout", "steps_percent"), [5, 5, 100], "must grow"),
        (("rollout", "steps_percent"), [5, 50], "must grow"),
        (("rollout", "steps_percent"), [0, 100], "must grow"),
        (("rollout", "steps_percent"), [], "must grow"),
        (("rollout", "policy"), "hope", "policy must be one of hold"),
        (("rollout", "false_rollback_max"), 0, "probabilities"),
        (("rollout", "false_promotion_max"), 1, "probabilities"),
        (("rollout", "warm_seconds"), None, "has no warm_seconds"),
        (("rollout", "wram_seconds"), 1, "no use for wram_seconds"),
        (("rollout", "gates", "errors"), None, "must have exactly"),
        (("rollout", "gates", "errors", "ratio_tolerated"), 0.5, "ratio_tolerated"),
        (("rollout", "probing", "pairs_min"), None, "rollout.probing"),
    ],
    ids=str,
)
def test_what_it_may_not_say(slo, path, value, text):
    with pytest.raises(PlanError, match=text):
        plan.read(change(slo, path, value))


def test_an_unknown_plan_names_those_there_are(slo):
    with pytest.raises(PlanError, match="canary, blue-green"):
        plan.read(slo, "yolo")
