"""What Cloud Monitoring says of a deployed service, read from its REST interface on loopback."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from load import cloud
from load.identity import Identity
from load.monitoring import PAGES_MAX, CloudError, Monitoring, Place, place_of
from tests.fakes.timeseries import TimeSeries

BEGAN = 1_790_000_040.0
SECONDS = 150.0
PLACE = Place("my-project", "rookery", "europe-west1")


def point(minute: int, value: dict[str, Any]) -> dict[str, Any]:
    """Word a point whose minute ends so many minutes after the load began."""
    ends = [datetime.fromtimestamp(BEGAN + 60 * (minute + more), UTC).isoformat() for more in (-1, 0)]
    start, end = (text.replace("+00:00", "Z") for text in ends)
    return {"interval": {"startTime": start, "endTime": end}, "value": value}


def spread(counts: list[int], mean: float) -> dict[str, Any]:
    """Word a distribution; the API leaves zeros at the end out, and counts are texts."""
    options = {"linearBuckets": {"numFiniteBuckets": 10, "width": 0.1, "offset": 0}}
    told = {"count": str(sum(counts)), "mean": mean, "bucketOptions": options}
    return {"distributionValue": {**told, "bucketCounts": [str(count) for count in counts]}}


def instances(state: str, counts: list[int]) -> dict[str, Any]:
    points = [point(minute, {"int64Value": str(count)}) for minute, count in enumerate(counts, 1)]
    return {"metric": {"labels": {"state": state}}, "points": points[::-1]}


KNOWN = {
    "run.googleapis.com/container/instance_count": [instances("active", [1, 4, 3]), instances("idle", [1, 0, 0])],
    "run.googleapis.com/container/cpu/utilizations": [
        {"points": [point(2, spread([0, 0, 0, 0, 0, 0, 4], 0.58)), point(1, spread([0, 0, 12], 0.12))]}
    ],
    "run.googleapis.com/container/startup_latencies": [
        {
            "points": [
                point(
                    2,
                    {
                        "distributionValue": {
                            "count": "3",
                            "mean": 900.0,
                            "bucketOptions": {
                                "exponentialBuckets": {"numFiniteBuckets": 4, "growthFactor": 2, "scale": 250}
                            },
                            "bucketCounts": ["0", "0", "2", "1"],
                        }
                    },
                )
            ]
        }
    ],
}


@pytest.fixture
def fake() -> Iterator[TimeSeries]:
    with TimeSeries("secret", "rookery", KNOWN) as running:
        yield running


def monitoring(fake: TimeSeries, token: str = "secret", place: Place = PLACE) -> Monitoring:
    return Monitoring(place, Identity(token), fake.url)


def read(fake: TimeSeries, **more: Any) -> dict[str, Any]:
    return cloud.read(monitoring(fake, **more), BEGAN, BEGAN + SECONDS, late=0, pause=0)


def test_instances_processor_and_starts_are_summed_up_over_time(fake: TimeSeries):
    found = read(fake)

    assert found["instances, active"] == {
        "unit": "",
        "points": [(60.0, 1.0), (120.0, 4.0), (180.0, 3.0)],
        "mean": pytest.approx(8 / 3, abs=1e-4),
        "p50": 3.0,
        "p95": 4.0,
        "most": 4.0,
    }
    assert found["instances, idle"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    # 12 samples below 20 %, 4 below 60 %: percentiles are upper edges
    assert found["CPU"] == {
        "unit": "share",
        "points": [(60.0, 0.12), (120.0, 0.58)],
        "count": 16,
        "mean": 0.235,
        "p50": 0.2,
        "p95": 0.6,
        "most": 0.6,
    }
    assert {name: found["start-up"][name] for name in ("count", "mean", "p50", "p95", "unit")} == {
        "count": 3,
        "mean": 900.0,
        "p50": 500.0 * 2,
        "p95": 2000.0,
        "unit": "ms",
    }
    # what nobody knows is absent, not zero
    assert "memory" not in found


def test_only_the_service_and_the_load_are_asked_for(fake: TimeSeries):
    read(fake)

    assert all('resource.labels.service_name = "rookery"' in asked["filter"] for asked in fake.asked)
    assert all('resource.labels.location = "europe-west1"' in asked["filter"] for asked in fake.asked)
    assert {asked["interval.startTime"] for asked in fake.asked} == {
        datetime.fromtimestamp(BEGAN, UTC).isoformat().replace("+00:00", "Z")
    }
    assert read(fake, place=Place("my-project", "another")) == {}


def test_the_last_minute_is_waited_for():
    now = datetime.now(UTC).timestamp()
    ends = [datetime.fromtimestamp(now + more, UTC).isoformat() for more in (-30, 30)]
    points = [
        {"interval": {"startTime": end, "endTime": end}, "value": {"int64Value": str(count)}}
        for count, end in enumerate(ends, 1)
    ]
    known = {
        "run.googleapis.com/container/instance_count": [
            {"metric": {"labels": {"state": "active"}}, "points": points[::-1]}
        ]
    }
    with TimeSeries("secret", "rookery", known, late=3) as fake:
        found = cloud.read(monitoring(fake), now - 90, now, late=60, pause=0.01)

    assert fake.late == 0
    assert found["instances, active"]["most"] == 2.0


def test_pages_are_not_read_for_ever():
    known = {"run.googleapis.com/container/instance_count": [instances("active", [1])] * (PAGES_MAX + 1)}
    with (
        TimeSeries("secret", "rookery", known) as fake,
        pytest.raises(CloudError, match="more than 50 pages"),
    ):
        read(fake)


def test_who_may_not_look_is_told_which_role_is_missing(fake: TimeSeries):
    with pytest.raises(CloudError, match=r"403 .*monitoring.timeSeries.list.*roles/monitoring.viewer"):
        read(fake, token="another")


def test_a_recorded_run_is_completed_and_not_lost_without(
    fake: TimeSeries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "normal.json.gz"
    run = {"began": BEGAN, "samples": {"start": [0.0, SECONDS - 1]}, "host": "https://x"}
    monkeypatch.setenv("LOAD_MONITORING_URL", fake.url)
    words = [str(path), "my-project/rookery"]
    for token, status in (("another", 1), ("secret", 0)):
        path.write_bytes(gzip.compress(json.dumps(run).encode()))
        monkeypatch.setenv("LOAD_ACCESS_TOKEN", token)
        assert cloud.main(words) == status
        run = json.loads(gzip.decompress(path.read_bytes()))
        assert run["samples"]["start"] == [0.0, SECONDS - 1]
        assert ("missing" in run["cloud"]) == bool(status)

    assert run["cloud"]["instances, active"]["most"] == 4.0
    assert "403" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("https://rookery-123456789012.europe-west1.run.app", Place("123456789012", "rookery", "europe-west1")),
        ("https://my-rookery-123456789012.us-central1.run.app/", Place("123456789012", "my-rookery", "us-central1")),
        (
            "https://candidate---rookery-123456789012.us-central1.run.app",
            Place("123456789012", "rookery", "us-central1"),
        ),
        ("https://rookery-x7k2abcd-ew.a.run.app", None),
        ("http://127.0.0.1:8080", None),
    ],
)
def test_an_address_says_where_it_is_or_does_not(host: str, place: Place | None):
    assert place_of(host) == place
