"""What the gate says of what was seen; K3 in full."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.rollout.gate import LOST_LOOKS, Look, Probe, Replay, judge, judge_probe
from scripts.rollout.verdict import Verdict, together
from scripts.rollout.windows import Histogram, Observation
from tests.fakes.platform import BOUNDS, DIGEST, window

HEALTHY, UNHEALTHY, INCONCLUSIVE = Verdict.HEALTHY, Verdict.UNHEALTHY, Verdict.INCONCLUSIVE
PARTS = ("requests", "errors", "refusals", "latency", "confidence", "novelty", "labels")


def seen(candidate=None, stable=None, count=10, requests=400, until=0.0, **more):
    """Return an observation of many windows; each side is a function of start and requests."""
    candidate, stable = candidate or window, stable or window
    starts = [60.0 * index for index in range(count)]
    mine = tuple(found for start in starts if (found := candidate(start, requests)) is not None)
    theirs = tuple(found for start in starts if (found := stable(start, requests)) is not None)
    return Observation(mine, theirs, until, 0.0, **more)


def of(judgement, gate):
    return next(finding for finding in judgement.findings if finding.gate == gate)


def test_two_alike_are_healthy(canary):
    judgement = judge(seen(), (), canary, 50)
    assert judgement.verdict is HEALTHY
    assert {finding.gate for finding in judgement.findings} == set(canary.gates)
    assert not judgement.is_missing


SHARES = {
    "errors": lambda start, n: window(start, n, errors=n // 20),
    "latency": lambda start, n: window(start, n, latency=Histogram(BOUNDS, (n - n // 8, 0, n // 8, 0))),
    "refusals": lambda start, n: window(start, n, refusals=n // 10),
    "classes": lambda start, n: window(start, n, labels={"Adelie": n // 4, "Chinstrap": n // 4, "Gentoo": n // 2}),
    "confidence": lambda start, n: window(start, n, confidence=Histogram((0.5, 0.9), (n // 2, n // 4, n // 4))),
    "novelty": lambda start, n: window(start, n, novelty=Histogram((0.5, 0.9, 0.99), (n // 4, n // 4, 0, n // 2))),
}


@pytest.mark.parametrize("gate", SHARES)
def test_each_gate_sees_its_own_kind_of_bad_candidate(canary, gate):
    judgement = judge(seen(SHARES[gate]), (), canary, 50)
    assert judgement.verdict is UNHEALTHY
    finding = of(judgement, gate)
    assert finding.verdict is UNHEALTHY
    assert finding.evidence > finding.evidence_needed
    assert finding.high > 0
    others = [one.verdict for one in judgement.findings if one.gate != gate]
    assert UNHEALTHY not in others


def test_a_better_candidate_is_healthy(canary):
    worse = SHARES["errors"]
    assert of(judge(seen(stable=worse), (), canary, 50), "errors").verdict is HEALTHY


def test_one_error_in_one_request_rolls_nothing_back(canary):
    judgement = judge(seen(lambda start, n: window(start, 1, errors=1), count=1), (), canary, 50)
    assert of(judgement, "errors").verdict is INCONCLUSIVE
    assert "of 500 requests" in of(judgement, "errors").reason


def test_enough_requests_that_are_not_yet_certain_say_what_is_wanted(canary):
    judgement = judge(seen(requests=60), (), canary, 50)
    assert judgement.verdict is INCONCLUSIVE
    assert "harmful is 10 points" in of(judgement, "classes").reason
    assert not judgement.is_missing


@pytest.mark.parametrize("sides", ["both", "candidate", "stable"])
@pytest.mark.parametrize("part", PARTS)
def test_a_metric_that_is_missing_never_promotes_unless_nobody_collects_the_models_own(canary, part, sides):
    def without(start, n):
        return replace(window(start, n), **{part: None})

    judgement = judge(
        seen(
            without if sides in ("both", "candidate") else None,
            without if sides in ("both", "stable") else None,
        ),
        (),
        canary,
        50,
    )
    if sides == "both" and part in ("labels", "confidence", "novelty"):
        gate = "classes" if part == "labels" else part
        assert of(judgement, gate).reason == "no live metrics; the golden and paired replay stood in"
        assert judgement.verdict is HEALTHY
    else:
        assert judgement.verdict is INCONCLUSIVE
        assert judgement.is_missing


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("side", ["candidate", "stable"])
@pytest.mark.parametrize("part", [part for part in PARTS if part != "requests"])
def test_a_metric_that_is_missing_in_part_never_promotes(canary, part, side, share):
    def partly(start, n):
        return replace(window(start, n), **({part: None} if start >= 600 * share else {}))

    judgement = judge(seen(**{side: partly}), (), canary, 50)
    assert judgement.verdict is INCONCLUSIVE
    assert judgement.is_missing


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_candidate_whose_metrics_are_a_part_of_its_requests_is_not_promoted(canary, kept):
    judgement = judge(seen(lambda start, n: window(start, n) if start < 60 * kept else None), (), canary, 50)
    assert judgement.verdict is INCONCLUSIVE
    assert judgement.is_missing


def test_nothing_at_all_is_inconclusive(canary):
    judgement = judge(Observation((), (), None, 0.0), (), canary, 5)
    assert judgement.verdict is INCONCLUSIVE
    assert judgement.is_missing
    assert together(()).verdict is INCONCLUSIVE


def test_requests_that_are_all_zero_are_inconclusive(canary):
    assert judge(seen(requests=0), (), canary, 5).verdict is INCONCLUSIVE


def test_metrics_that_are_late_are_missing_and_not_zero(canary):
    late = replace(seen(), due_seconds=canary.metrics_stale_seconds + 1.0)
    judgement = judge(late, (), canary, 50)
    assert judgement.verdict is INCONCLUSIVE
    assert of(judgement, "metrics").reason == "late: known until 181 s before they are due"
    assert judge(replace(late, due_seconds=60.0), (), canary, 50).verdict is HEALTHY


def test_bad_news_counts_although_metrics_are_late(canary):
    late = replace(seen(SHARES["errors"]), due_seconds=10_000.0)
    assert judge(late, (), canary, 50).verdict is UNHEALTHY


def test_instances_on_a_fallback_bundle_are_unhealthy(canary):
    assert judge(seen(is_fallback=True), (), canary, 50).verdict is UNHEALTHY


def test_at_100_percent_the_time_before_is_what_is_compared_with(canary):
    before = tuple(window(-6000 + 60 * index, 400) for index in range(20))
    good = replace(seen(), stable=before)
    assert judge(good, (), canary, 100, is_concurrent=False).verdict is HEALTHY
    bad = replace(seen(SHARES["errors"]), stable=before)
    assert judge(bad, (), canary, 100, is_concurrent=False).verdict is UNHEALTHY
    slow = replace(seen(SHARES["latency"]), stable=before)
    assert judge(slow, (), canary, 100, is_concurrent=False).verdict is UNHEALTHY
    few = replace(seen(requests=20), stable=before)
    assert judge(few, (), canary, 100, is_concurrent=False).verdict is INCONCLUSIVE
    nothing = replace(seen(), stable=())
    assert judge(nothing, (), canary, 100, is_concurrent=False).is_missing


def test_histograms_of_two_releases_are_compared_at_the_bounds_both_have(canary):
    def other(start, n):
        return window(start, n, latency=Histogram((0.01, 0.05, 0.5), (n - n // 100, n // 100, 0, 0)))

    finding = of(judge(seen(other), (), canary, 50), "latency")
    assert finding.verdict is HEALTHY
    apart = judge(seen(lambda start, n: window(start, n, latency=Histogram((7.0,), (n, 0)))), (), canary, 50)
    assert of(apart, "latency").is_missing


def test_latencies_that_are_all_beyond_the_usual_tail_are_judged_at_the_last_bound(canary):
    def slow(start, n):
        return window(start, n, latency=Histogram(BOUNDS, (0, 0, 0, n)))

    assert of(judge(seen(slow, slow), (), canary, 50), "latency").verdict is HEALTHY


def test_fast_latencies_are_all_the_same(canary):
    def spread(start, n):
        return window(start, n, latency=Histogram((1e-4, 1e-3, 0.1), (n // 2, n // 2, 0, 0)))

    def fast(start, n):
        return window(start, n, latency=Histogram((1e-4, 1e-3, 0.1), (n, 0, 0, 0)))

    assert of(judge(seen(spread, fast), (), canary, 50), "latency").verdict is HEALTHY


def test_the_rows_of_one_callers_batch_are_one_witness(canary):
    """A thousand like rows in one request on one side are no shift of the classes."""

    def batch(start, n):
        labels = {"Adelie": n - 4 * (n // 10), "Gentoo": 4 * (n // 10) + (1000 if start == 0 else 0)}
        return window(start, n, labels=labels)

    assert of(judge(seen(batch, requests=100, count=40), (), canary, 50), "classes").verdict is not UNHEALTHY


def probe(**more):
    return replace(Probe(DIGEST, DIGEST, True, 0.0, False, Replay(256, 0, 256, 0, 0.0)), **more)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, HEALTHY),
        ({"is_ready": False}, INCONCLUSIVE),
        ({"is_ready": False, "waited_seconds": 300.0}, UNHEALTHY),
        ({"digest_served": None}, UNHEALTHY),
        ({"digest_served": "sha256:" + "b" * 64}, UNHEALTHY),
        ({"is_fallback": True}, UNHEALTHY),
        ({"replay": Replay(256, 1, 256, 0, 0.0)}, UNHEALTHY),
        ({"replay": Replay(0, 0, 256, 0, 0.0)}, INCONCLUSIVE),
        ({"replay": Replay(256, 0, 199, 0, 0.0)}, INCONCLUSIVE),
        ({"replay": Replay(256, 0, 0, 0, 0.0)}, INCONCLUSIVE),
        ({"replay": Replay(256, 0, 256, 12, 0.0)}, HEALTHY),
        ({"replay": Replay(256, 0, 256, 13, 0.0)}, UNHEALTHY),
        ({"replay": Replay(256, 0, 256, 0, 0.051)}, UNHEALTHY),
        ({"replay": None}, HEALTHY),
    ],
    ids=str,
)
def test_probes(canary, change, verdict):
    assert together(judge_probe(probe(**change), canary)).verdict is verdict


def looks(*answered, differences=0, is_ready=True):
    return tuple(Look(8, count, differences, is_ready) for count in answered)


SILENT = {"is_ready": False, "replay": None}


@pytest.mark.parametrize(
    ("change", "verdict", "gate"),
    [
        ({"looks": looks(8, 8, 8)}, HEALTHY, ""),
        # one of eight rows is lost now and then
        ({"looks": looks(7, 7, 7)}, INCONCLUSIVE, "answers"),
        ({"looks": looks(7, 7, 8)}, HEALTHY, ""),
        ({"looks": looks(8, 8, 7)}, INCONCLUSIVE, "answers"),
        ({"looks": looks(8, 0, 8)}, HEALTHY, ""),
        ({"looks": looks(0, 0, 8)}, HEALTHY, ""),
        ({"looks": looks(8, 8, 0)}, INCONCLUSIVE, "answers"),
        ({"looks": looks(8, 0, 0)}, INCONCLUSIVE, "answers"),
        ({"looks": looks(0, 0)}, INCONCLUSIVE, "answers"),
        ({"looks": looks(0, 0, 0)}, UNHEALTHY, "answers"),
        # half of its instances are dead
        ({"looks": looks(4, 4, 4)}, UNHEALTHY, "answers"),
        ({"looks": looks(5, 3, 7)}, UNHEALTHY, "answers"),
        ({"looks": looks(6, 6, 6)}, INCONCLUSIVE, "answers"),
        ({"looks": looks(6, 5, 5)}, UNHEALTHY, "answers"),
        ({"looks": looks(8, 8, 8, differences=1)}, UNHEALTHY, "golden"),
        # it predicts, and does not say that it is ready
        ({**SILENT, "looks": looks(8, 8, 8) + looks(8, is_ready=False)}, INCONCLUSIVE, "ready"),
        ({**SILENT, "looks": looks(8, 8, 8, is_ready=False)}, UNHEALTHY, "ready"),
        ({**SILENT, "looks": looks(0, is_ready=False), "waited_seconds": 1000.0}, INCONCLUSIVE, "ready"),
        ({**SILENT, "looks": looks(8, 0, 0, is_ready=False)}, UNHEALTHY, "ready"),
    ],
    ids=str,
)
def test_looks(canary, change, verdict, gate):
    judgement = together(judge_probe(probe(**change), canary))
    assert judgement.verdict is verdict
    assert judgement.reason.startswith(gate)


def test_golden_rows_that_may_differ_may_differ_at_a_look(canary):
    tolerant = replace(canary, probing=replace(canary.probing, golden_differences_max=1))
    assert together(judge_probe(probe(looks=looks(8, differences=1)), tolerant)).verdict is HEALTHY
    assert together(judge_probe(probe(looks=looks(8, differences=2)), tolerant)).verdict is UNHEALTHY


def test_a_look_says_what_it_heard():
    assert [look.is_whole for look in looks(8, 7) + looks(8, is_ready=False)] == [True, False, False]
    assert [look.is_silent for look in looks(8, 0) + looks(8, 0, is_ready=False)] == [False, False, False, True]
    assert LOST_LOOKS == 3


def test_windows_that_the_platform_stands_in_for_bring_bad_news_and_no_promotion(canary):
    """The service's own metrics end as the candidate dies; the platform's go on."""

    def dying(start, n):
        return window(start, n) if start < 300 else replace(empty(start, n), requests=n, errors=n, is_stand_in=True)

    def silent(start, n):
        return window(start, n) if start < 300 else replace(empty(start, n), requests=n, errors=0, is_stand_in=True)

    def empty(start, n):
        return replace(window(start, n), **dict.fromkeys(PARTS))

    assert of(judge(seen(dying), (), canary, 50), "errors").verdict is UNHEALTHY
    late = replace(seen(silent, until=300.0), due_seconds=600.0)
    judgement = judge(late, (), canary, 50)
    assert (judgement.verdict, judgement.is_missing) == (INCONCLUSIVE, True)
    assert of(judgement, "errors").verdict is HEALTHY
