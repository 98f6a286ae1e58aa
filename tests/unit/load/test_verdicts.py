from __future__ import annotations

import pytest

from load.verdicts import DEMANDS, Demand, judge

OVER, UNDER = ("rookery", "rate"), ("tuned", "rate")


@pytest.mark.parametrize(
    ("at_least", "must", "aim", "over", "verdict"),
    [
        (True, 2.0, 3.0, 1.99, "missed"),
        (True, 2.0, 3.0, 2.0, "kept"),
        (True, 2.0, 3.0, 3.0, "aim"),
        (False, 0.6, 0.4, 0.61, "missed"),
        (False, 0.6, 0.4, 0.6, "kept"),
        (False, 0.6, 0.4, 0.4, "aim"),
    ],
)
def test_bounds_themselves_are_kept(at_least: bool, must: float, aim: float, over: float, verdict: str):
    demand = Demand("x", "throughput", OVER, UNDER, must, aim, at_least)
    found = judge(demand, {"rookery": {"rate": [over]}, "tuned": {"rate": [1.0]}})

    assert found is not None
    assert found.verdict == verdict


def test_ratio_is_of_medians_and_spread_of_rounds():
    demand = Demand("x", "throughput", OVER, UNDER, 2, 3, at_least=True)
    found = judge(demand, {"rookery": {"rate": [30, 10, 20]}, "tuned": {"rate": [10, 10, 5]}})

    assert found is not None
    assert (found.ratio, found.lowest, found.highest) == (2, 1, 4)


@pytest.mark.parametrize("samples", [{}, {"rookery": {"rate": [1.0]}}, {"rookery": {"rate": []}}], ids=str)
def test_what_was_not_measured_is_not_judged(samples: dict[str, dict[str, list[float]]]):
    assert judge(DEMANDS[0], samples) is None


def test_aims_are_harder_than_musts():
    assert [d.name for d in DEMANDS if d.at_least != (d.aim > d.must) or d.aim == d.must] == []
