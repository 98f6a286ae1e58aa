from __future__ import annotations

from typing import Any

import pytest

from load import summary
from load.summary import GROWTH


def run(samples: list[tuple[float, float, str, str]], stages: list[list[Any]], **more: Any) -> dict[str, Any]:
    columns = list(zip(*samples, strict=True))
    names = ("start", "seconds", "kind", "failure")
    blank = [None] * len(samples)
    return {
        "format": summary.FORMAT,
        "stages": stages,
        "samples": {
            **{name: list(column) for name, column in zip(names, columns, strict=True)},
            "trace_id": more.get("trace_id", [""] * len(samples)),
            "predict_ms": more.get("predict_ms", blank),
            "total_ms": more.get("total_ms", blank),
        },
        "resources": more.get("resources", []),
        "instance": more.get("instance"),
        "traces": more.get("traces"),
    }


def test_ramp_and_steady_are_apart_and_percentiles_are_of_good_answers():
    slow = [(float(n), 1.0, "single", "") for n in range(5)]
    fast = [(5 + n / 20, 0.010, "single", "") for n in range(99)]
    wrong = [(9.97, 9.0, "single", "wrong answer: label"), (9.98, 0.0, "bad", "lost: timeout")]
    found = summary.of(run(slow + fast + wrong, [["ramp", 5, 10], ["steady", 5, 10]]))
    ramp, steady = found["phases"]

    assert (ramp["requests"], ramp["ms"]["p50"]) == (5, 1000)
    assert (steady["requests"], steady["failures"]) == (101, 2)
    assert (steady["ms"]["p50"], steady["ms"]["max"]) == (10, 10)
    # a percentile that 99 answers cannot tell
    assert steady["ms"]["p99"] is None
    assert steady["refused_ms"]["max"] == 9000
    assert found["failures"] == {"lost: timeout": 1, "wrong answer: label": 1}


def test_cold_is_what_began_in_the_first_ten_seconds_of_the_instance():
    samples = [(float(n), 0.1, "single", "") for n in range(20)]
    found = summary.of(run(samples, [["steady", 20, 1]], instance={"ready_before_seconds": 4.0}))

    assert (found["cold"]["requests"], found["warm"]["requests"]) == (6, 14)


def test_model_share_and_use_are_of_the_stage():
    samples = [(n / 10, 0.002, "single", "") for n in range(100)]
    resources = [[float(n), 0.25, 64 << 20, 0.5] for n in range(10)]
    found = summary.of(
        run(
            samples,
            [["steady", 10, 5]],
            predict_ms=[0.5] * 100,
            total_ms=[1.0] * 100,
            resources=resources,
        )
    )["phases"][0]

    assert found["share"] == {
        "from": "Server-Timing",
        "requests": 100,
        "model_ms": 0.5,
        "service_ms": 1.0,
        "whole_ms": 2.0,
    }
    assert (found["cpu"], found["memory_mb"], found["caller_cpu"]) == (0.25, 64, 0.5)
    # Little's law: ten a second that take 2 ms each
    assert found["in_flight"] == 0.02


def test_time_is_told_by_traces_where_there_are_any_and_the_whole_is_of_the_same_requests():
    samples = [(n / 10, 0.002 if n % 5 else 0.004, "single", "") for n in range(100)]
    ids = ["" if n % 5 else f"{n:032x}" for n in range(100)]
    found = summary.of(
        run(
            samples,
            [["steady", 10, 5]],
            trace_id=ids,
            traces={trace_id: [0.1, 0.4] for trace_id in ids[:50] if trace_id},
            predict_ms=[9.0] * 100,
            total_ms=[9.0] * 100,
        )
    )["phases"][0]

    assert found["share"] == {"from": "traces", "requests": 10, "model_ms": 0.1, "service_ms": 0.4, "whole_ms": 4.0}


def test_a_run_of_another_version_is_refused_by_name():
    with pytest.raises(SystemExit, match="format None, not 2"):
        summary.of({"format": None})


@pytest.mark.parametrize("seconds", [1e-6, 0.001, 0.0123, 9.87])
def test_buckets_hold_what_they_say(seconds: float):
    (bucket,) = summary.histogram([seconds])
    low, high = (GROWTH ** (int(bucket) + more) / 1e6 for more in (0, 1))

    assert low < seconds * (1 + 1e-9)
    assert seconds <= high * (1 + 1e-9)
    assert high / low == pytest.approx(1.02)


def test_series_stays_short_however_long_the_run_was():
    samples = [(float(n), 0.1, "single", "") for n in range(3600)]
    series = summary.of(run(samples, [["steady", 3600, 1]]))["series"]

    assert len(series["at"]) <= summary.POINTS
    assert {len(column) for column in series.values()} == {len(series["at"])}
