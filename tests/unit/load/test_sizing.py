from __future__ import annotations

import math

import pytest

from load import autoscale, objectives, sizing
from load.sizing import Capacity, Profile

SIZES = [{"cpu": 0.25, "rate": 2000.0}, {"cpu": 0.5, "rate": 5000.0}, {"cpu": 1.0, "rate": 10000.0}]
KNOWN = Capacity.measured(SIZES)


@pytest.mark.parametrize(
    ("cpu", "rate"), [(0.0, 0), (0.125, 1000), (0.25, 2000), (0.375, 3500), (1.0, 10000), (2.0, 20000)]
)
def test_capacity_joins_what_was_measured_and_goes_on_in_proportion(cpu: float, rate: float):
    assert KNOWN.rate(cpu) == pytest.approx(rate)


def test_instances_are_used_to_the_target_and_there_is_always_one():
    assert [KNOWN.instances(rate, 1.0) for rate in (0.1, 6000, 6001, 60000)] == [1, 1, 2, 10]


def test_a_step_is_billed_for_every_lonely_request():
    prices = sizing.prices()
    lonely = Profile("lonely", 1e-4, 1e-4, 0)
    each = prices["billed_step_seconds"] * (prices["request"]["vcpu_second"] + 0.5 * prices["request"]["gib_second"])
    found = sizing.cost(lonely, KNOWN, 1.0, 0.5, prices)

    assert found.billing == "request"
    assert found.per_million == pytest.approx(1e6 * each + prices["request"]["million_requests"], rel=0.01)
    # an instance is kept for a quarter of an hour, and the next request comes after three
    assert found.cold_share == pytest.approx(math.exp(-0.09))


def test_busy_service_is_cheaper_by_the_instance_and_a_sidecar_is_paid_too():
    prices = sizing.prices()
    alone, beside = (sizing.cost(Profile("b", 500, 5000, 1), KNOWN, 1, 0.5, prices, cpu, cpu / 4) for cpu in (0, 1))

    assert alone.billing == "instance"
    assert alone.month == pytest.approx(sizing.MONTH_SECONDS * (0.000018 + 0.5 * 0.000002))
    assert beside.month > 1.9 * alone.month
    assert alone.cold_share == 0


def test_profiles_are_there_once_and_tenfold():
    assert [(one.name, one.peak) for one in sizing.PROFILES] == [
        ("lab", 1),
        ("lab × 10", 10),
        ("field app", 20),
        ("field app × 10", 200),
        ("telemetry", 500),
        ("telemetry × 10", 5000),
    ]


@pytest.mark.parametrize(("rate", "verdict"), [(4000.0, "kept"), (3500.0, "kept"), (3400.0, "missed")])
def test_prediction_is_judged_by_the_pair(rate: float, verdict: str):
    capacity = {"sizes": SIZES, "pair": {"cpu": 0.25, "instances": 2, "rate": rate}}
    (found,) = objectives.judge({"capacity": {"prediction_error_max": 0.15}}, {}, capacity)

    assert found.verdict == verdict


def test_first_request_waits_for_the_start_where_nothing_is_kept():
    cold = autoscale.simulate(autoscale.fleet(0.001, 2.0, 5, 0.25, 16, 0), autoscale.cloud_run, 5, 1, 5)
    warm = autoscale.simulate(autoscale.fleet(0.001, 2.0, 5, 0.25, 16, 1), autoscale.cloud_run, 5, 1, 5)

    assert (cold["started"], warm["started"]) == (1, 0)
    assert cold["worst_ms"] > 1900
    assert warm["worst_ms"] < 100


def test_pods_are_added_by_the_documented_rule():
    # two pods that are used fully, at a target of a quarter of what each can: 4 more at once, then up to the most
    fleet = autoscale.fleet(0.01, 1.0, 10, 0.25, 0, 2)
    follow = autoscale.pod_autoscaler(0.25)
    fleet.busy = [(15.0, 30.0)]
    follow(fleet, 15.0)
    assert len(fleet.instances) == 6
    fleet.busy.append((30.0, 90.0))
    follow(fleet, 30.0)
    assert len(fleet.instances) == 10


def test_number_of_pods_stays_within_the_tolerance():
    fleet = autoscale.fleet(0.01, 1.0, 10, 0.25, 0, 2)
    fleet.busy = [(15.0, 2 * 0.25 * 15 * 1.05)]
    autoscale.pod_autoscaler(0.25)(fleet, 15.0)

    assert len(fleet.instances) == 2
