from __future__ import annotations

import pytest

from load import scenarios


def test_all_that_were_asked_for_are_there():
    held = {name: [(s.name, s.seconds, s.users) for s in plan.stages] for name, plan in scenarios.FULL.items()}

    assert list(held) == ["baseline", "normal", "stress", "spike", "soak", "iris", "overload"]
    assert [plan.seconds for plan in scenarios.FULL.values()][:4] == [60, 300, 120, 90]
    assert [stage[2] for stage in held["iris"]] == [150, 150, 300, 300]
    assert held["spike"][0] == ("ramp", 60, 100)
    assert scenarios.FULL["iris"].stages[0].rate == 10
    assert scenarios.FULL["overload"].overload == 10


@pytest.mark.parametrize("name", scenarios.FULL)
def test_short_form_is_shorter_and_reaches_as_many_users(name: str):
    full, quick = scenarios.named(name, quick=False), scenarios.named(name, quick=True)

    assert 0 < quick.seconds < full.seconds
    assert [stage.users for stage in quick.stages] == [stage.users for stage in full.stages]


def test_all_short_forms_together_leave_time_for_the_rest_of_ten_minutes():
    assert sum(scenarios.named(name, quick=True).seconds for name in scenarios.FULL) < 300


def test_soak_is_as_long_as_there_is_time():
    assert scenarios.named("soak", quick=False).seconds == 3600
    assert scenarios.named("soak", quick=False, soak_seconds=240).seconds == 240
    assert scenarios.named("normal", quick=False, soak_seconds=240).seconds == 300


def test_stage_is_found_by_time():
    spike = scenarios.named("spike", quick=False)

    assert [getattr(spike.stage_at(seconds), "name", None) for seconds in (0, 59.9, 60, 89, 90)] == [
        "ramp",
        "ramp",
        "steady",
        "steady",
        None,
    ]
