"""From what a source answers to windows; what it does not say is not known."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import requests

from scripts.rollout import observe
from scripts.rollout.doors import Asked
from scripts.rollout.monitoring import Monitoring
from scripts.rollout.observe import MetricsError, MetricsObserver, Span, together, without
from scripts.rollout.prometheus import Prometheus
from scripts.rollout.smoke import LOOK_ID
from scripts.rollout.windows import Histogram
from service import ways

SPAN = Span(1000.0, 60, 3)


class Reply:
    def __init__(self, body, status=200):
        self.status_code, self._body, self.text = status, body, str(body)

    def json(self):
        if self._body is None:
            raise ValueError("no JSON")
        return self._body


class Session:
    """Answers by the first text that the query holds."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def get(self, url, params, timeout):
        self.asked.append(dict(params))
        query = params.get("filter") or params["query"]
        found = next((answer for text, answer in self.answers.items() if text in query), {})
        if isinstance(found, Exception):
            raise found
        if isinstance(found, list):
            found = found.pop(0)
        return found if isinstance(found, Reply) else Reply(found)


def moment(seconds):
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def series(label, *points):
    """Return a time series: points are (end, value)."""
    return {
        "metric": {"labels": {label[0]: label[1]} if label else {}},
        "points": [{"interval": {"endTime": moment(end)}, "value": value} for end, value in points],
    }


def distribution(counts, **options):
    return {
        "distributionValue": {"count": str(sum(map(int, counts))), "bucketOptions": options, "bucketCounts": counts}
    }


def test_cloud_monitoring_gives_windows(canary):
    requests_total = {
        "timeSeries": [
            series(("status", "2xx"), (1060, {"doubleValue": 90.0}), (1120, {"doubleValue": 80.0})),
            series(("status", "5xx"), (1060, {"int64Value": "10"})),
        ]
    }
    seconds = distribution(["5", "85", "10"], explicitBuckets={"bounds": [0.1, 0.2]})
    session = Session(
        {
            "rookery_requests_total/counter": requests_total,
            "rookery_request_seconds/histogram": {"timeSeries": [series((), (1060, seconds))]},
            "rookery_predictions_total": {"timeSeries": [series(("label", "Adelie"), (1060, {"doubleValue": 7}))]},
            "rookery_model_fallback/gauge": {"timeSeries": [series((), (1060, {"doubleValue": 1.0}))]},
        }
    )
    observer = MetricsObserver(Monitoring("demo", session), canary)
    seen = observer.observe("new", "old", 1000.0, 1000.0, 1000.0 + 180 + canary.metrics_delay_seconds)
    first, second = seen.candidate
    assert (first.requests, first.errors, first.refusals, second.requests, second.errors) == (100, 10, 0, 80, 0)
    assert first.latency == Histogram((0.1, 0.2), (5, 85, 10))
    assert first.labels == {"Adelie": 7}
    assert (second.latency, second.labels, first.confidence) == (None, None, None)
    assert (seen.until_seconds, seen.due_seconds, seen.is_fallback) == (1120, 1180, True)
    asked = session.asked[0]
    assert asked["interval.startTime"] == "1970-01-01T00:16:40Z"
    assert asked["aggregation.perSeriesAligner"] == "ALIGN_DELTA"
    assert 'metric.labels.revision_name = "new"' in asked["filter"]


def test_without_a_sidecar_cloud_runs_own_metrics_count(canary):
    count = {"timeSeries": [series(("response_code_class", "5xx"), (1060, {"int64Value": "3"}))]}
    form = {"numFiniteBuckets": 2, "growthFactor": 2.0, "scale": 100.0}
    latency = {"timeSeries": [series((), (1060, distribution(["1", "2"], exponentialBuckets=form)))]}
    session = Session({"run.googleapis.com/request_count": count, "run.googleapis.com/request_latencies": latency})
    source = Monitoring("demo", session)
    seen = MetricsObserver(source, replace(canary, metrics_delay_seconds=0)).observe("new", "old", 1000, 1000, 1180)
    assert [(one.requests, one.errors, one.is_stand_in) for one in seen.candidate] == [(3, 3, False)]
    assert seen.until_seconds == 1060
    assert source.histograms(observe.LATENCY, "new", SPAN) == {0: Histogram((0.1, 0.2, 0.4), (1, 2, 0, 0))}
    assert source.counters(observe.LABELS, "new", SPAN) == {}
    assert source.histograms(observe.NOVELTY, "new", SPAN) == {}


def test_linear_buckets_and_points_of_other_times():
    form = {"numFiniteBuckets": 2, "width": 0.5, "offset": 0.0}
    found = series((), (1060, distribution(["1", "2", "3", "4"], linearBuckets=form)), (9000, {"doubleValue": 1}))
    source = Monitoring("demo", Session({"rookery_novelty": {"timeSeries": [found, series((), (1120, {}))]}}))
    assert source.histograms(observe.NOVELTY, "new", SPAN) == {0: Histogram((0.0, 0.5, 1.0), (1, 2, 3, 4))}


def test_pages_are_read_to_the_end_and_not_for_ever():
    page = {"timeSeries": [series(("label", "a"), (1060, {"doubleValue": 1}))], "nextPageToken": "more"}
    last = {"timeSeries": [series(("label", "a"), (1060, {"doubleValue": 2}))]}
    session = Session({"rookery_predictions_total": [page, last]})
    assert Monitoring("demo", session).counters(observe.LABELS, "new", SPAN) == {0: {"a": 3.0}}
    assert session.asked[1]["pageToken"] == "more"
    with pytest.raises(MetricsError, match="pages"):
        Monitoring("demo", Session({"rookery": page})).counters(observe.LABELS, "new", SPAN)


def matrix(*result):
    return {"status": "success", "data": {"result": [{"metric": m, "values": v} for m, v in result]}}


def test_prometheus_gives_windows_and_the_queries_are_as_documented():
    session = Session(
        {
            "rookery_requests_total": matrix(({"status": "2xx"}, [[1060, "59.6"], [1120, "NaN"]])),
            "rookery_request_seconds_bucket": matrix(
                ({"le": "0.1"}, [[1060, "50.2"]]), ({"le": "+Inf"}, [[1060, "60"]]), ({"le": "0.2"}, [[1060, "49.9"]])
            ),
            "rookery_model_fallback": matrix(({"revision_name": "new"}, [[1060, "0"]])),
        }
    )
    source = Prometheus("http://prometheus/", session)
    assert source.counters(observe.REQUESTS, "new", SPAN) == {0: {"2xx": 59.6}}
    assert source.histograms(observe.LATENCY, "new", SPAN) == {0: Histogram((0.1, 0.2), (50, 0, 10))}
    assert source.counters(observe.FALLBACK, "new", SPAN) == {0: {"new": 0.0}}
    assert session.asked[0] == {
        "query": 'sum by (status) (increase(rookery_requests_total{revision_name="new",'
        'route=~".*(predict|infer|invocations).*|none"}[60s]))',
        "start": 1060.0,
        "end": 1180.0,
        "step": 60,
    }


FAILURES = [
    requests.ConnectionError("refused"),
    Reply({"error": "no"}, 503),
    Reply(None),
    Reply({"status": "error"}),
    Reply([]),
]


@pytest.mark.parametrize("failure", FAILURES[:3], ids=["refused", "503", "no-json"])
@pytest.mark.parametrize("kind", [Prometheus, Monitoring])
def test_a_source_that_fails_knows_nothing_and_that_is_not_zero(canary, kind, failure, caplog):
    source = kind("http://x", Session({"rookery": failure, "run": failure}))
    seen = MetricsObserver(source, canary).observe("new", "old", 1000.0, 0.0, 2000.0)
    assert (seen.candidate, seen.stable, seen.until_seconds, seen.is_fallback) == ((), (), None, None)
    assert "metrics.unknown" in caplog.text


@pytest.mark.parametrize("failure", FAILURES[3:], ids=["error", "list"])
def test_prometheus_that_answers_something_else_is_an_error(failure):
    with pytest.raises(MetricsError):
        Prometheus("http://x", Session({"rookery": failure})).counters(observe.LABELS, "new", SPAN)


def test_a_step_that_is_younger_than_the_delay_asks_nothing(canary):
    session = Session({})
    seen = MetricsObserver(Monitoring("demo", session), canary).observe("new", "old", 1000.0, 1000.0, 1100.0)
    assert (seen.candidate, seen.is_fallback, session.asked) == ((), None, [])


def test_the_time_before_a_switch_is_asked_for_the_stable_revision(canary):
    session = Session({"rookery_requests_total": {"timeSeries": []}})
    plan = replace(canary, metrics_delay_seconds=0)
    MetricsObserver(Monitoring("demo", session), plan).observe("new", "old", 6000.0, 0.0, 6300.0)
    spans = {(asked["interval.startTime"][11:19], asked["interval.endTime"][11:19]) for asked in session.asked}
    assert spans == {("01:40:00", "01:45:00"), ("00:00:00", "01:40:00")}


def test_a_metric_that_nobody_sends_is_not_there_and_cloud_runs_own_stands_in():
    own = {"timeSeries": [series(("response_code_class", "5xx"), (1060, {"int64Value": "2"}))]}
    session = Session({"rookery_requests": Reply({}, 404), "run.googleapis.com/request_count": own})
    source = Monitoring("demo", session)
    assert (source.counters(observe.REQUESTS, "new", SPAN), source.platform("new", SPAN)) == ({}, {0: {"5xx": 2.0}})
    assert Monitoring("demo", Session({"rookery": Reply({}, 404)})).counters(observe.LABELS, "new", SPAN) == {}


def test_a_quota_that_is_used_up_is_asked_again_and_given_up_after_a_while():
    found = {"timeSeries": [series(("label", "a"), (1060, {"doubleValue": 3}))]}
    session = Session({"rookery": [Reply({}, 429), Reply({}, 503), found]})
    assert Monitoring("demo", session).counters(observe.LABELS, "new", SPAN) == {0: {"a": 3.0}}
    assert len(session.asked) == 3
    with pytest.raises(MetricsError, match="429"):
        Monitoring("demo", Session({"rookery": Reply({}, 429)}), patience_seconds=0.5).counters(
            observe.LABELS, "new", SPAN
        )


def counted(*errors, requests=100):
    """Return counts of windows in a row; None where nothing is known."""
    return {
        index: {"2xx": float(requests - number), "5xx": float(number)}
        for index, number in enumerate(errors)
        if number is not None
    }


@pytest.mark.parametrize(
    ("own", "platform", "errors"),
    [
        ((2, 2, 2, 2), (2, 2, 2, 2), [2, 2, 2, 2]),
        # the service is scraped up to a window later
        ((0, 2, 2, 2), (2, 2, 2, 2), [0, 2, 2, 2]),
        ((0, 0, 40, 0), (0, 40, 0, 0), [0, 0, 40, 0]),
        # half of the instances are dead: the service never saw what the platform answered for them
        ((0, 0, 0, 0), (0, 50, 50, 50), [0, 0, 50, 50]),
        ((1, 1, 1, 1), (1, 51, 51, 51), [1, 1, 50, 51]),
        # all are dead: nobody is scraped
        ((1, 1, None, None), (1, 1, 100, 100), [1, 1, 100, 100]),
        # what was counted and not scraped before the end
        ((1, 0, None, None), (1, 7, 100, 100), [1, 0, 107, 100]),
        # the platform knows nothing, or late: then the service's own are what is known
        ((3, 3, 3, 3), (), [3, 3, 3, 3]),
        ((3, 3, 3, 3), (3, 3, None, None), [3, 3, 3, 3]),
        # nothing of the service's own
        ((), (0, 5, None, 5), [0, 5, None, 5]),
    ],
    ids=str,
)
def test_errors_that_only_the_platform_saw_count_and_no_error_counts_twice(own, platform, errors):
    found = together(counted(*own), counted(*own), counted(*platform), 4)
    assert [found[index]["5xx"] if index in found else None for index in range(4)] == errors


def test_only_the_platforms_5xx_are_added_to_what_the_service_counts():
    own = {0: {"2xx": 90.0, "4xx": 10.0}, 1: {"2xx": 90.0, "4xx": 10.0}}
    platform = {0: {"2xx": 500.0, "4xx": 70.0, "5xx": 20.0}, 1: {"2xx": 500.0}}
    assert together(own, {}, platform, 2) == {0: own[0], 1: own[1] | {"5xx": 20.0}}
    # the service's own errors on another route are its own too
    assert together(own, {1: {"5xx": 20.0}}, platform, 2) == own


def test_our_own_requests_are_taken_out_of_the_platforms_counts():
    counts = {0: {"2xx": 10.0, "5xx": 1.0}, 1: {"2xx": 3.0}, 2: {"2xx": 10.0}}
    asked = [Asked(1000.0 + second, "2xx") for second in (5, 58, 59, 65, 66, 67, 68)] + [Asked(1030.0, "5xx")]
    assert without(counts, asked, SPAN) == {0: {"2xx": 7.0, "5xx": 0.0}, 1: {"2xx": 0.0}, 2: {"2xx": 9.0}}
    assert without(counts, [], SPAN) == counts
    late = {0: {"2xx": 1.0}, 1: {"2xx": 9.0}, 2: {"2xx": 9.0}}
    assert without(late, asked[:3], SPAN) == {0: {"2xx": 0.0}, 1: {"2xx": 7.0}, 2: {"2xx": 9.0}}


def test_a_dead_candidates_errors_are_the_platforms_and_its_missing_metrics_stay_missing(canary):
    own = {"timeSeries": [series(("status", "2xx"), (1060, {"doubleValue": 50.0}))]}
    platform = {
        "timeSeries": [
            series(("response_code_class", "2xx"), (1060, {"int64Value": "50"})),
            series(("response_code_class", "5xx"), (1120, {"int64Value": "55"}), (1180, {"int64Value": "60"})),
        ]
    }
    session = Session({"rookery_requests_total/counter": own, "run.googleapis.com/request_count": platform})
    plan = replace(canary, metrics_delay_seconds=0)
    asked = {"new": [Asked(1150.0, "5xx")] * 10}
    seen = MetricsObserver(Monitoring("demo", session), plan).observe("new", "old", 1000.0, 1000.0, 1180.0, asked)
    found = [(one.requests, one.errors, one.is_stand_in) for one in seen.candidate]
    assert found == [(50, 0, False), (55, 55, True), (50, 50, True)]
    assert seen.until_seconds == 1060


@pytest.mark.parametrize(
    ("failing", "seen"),
    [
        ('full_match("5xx")', [(60, 10)]),
        ("run.googleapis.com", [(60, 10)]),
        ('full_match(".*(predict|infer|invocations).*|none")', [(55, 55)]),
        ("nothing", [(60, 10), (55, 55)]),
    ],
)
def test_what_cannot_be_asked_is_unknown_and_never_zero(canary, failing, seen):
    own = {
        "timeSeries": [
            series(("status", "2xx"), (1060, {"doubleValue": 50.0})),
            series(("status", "5xx"), (1060, {"doubleValue": 10.0})),
        ]
    }
    platform = {"timeSeries": [series(("response_code_class", "5xx"), (1120, {"int64Value": "55"}))]}
    answers = {
        failing: Reply({}, 403),
        "rookery_requests_total/counter": own,
        "run.googleapis.com/request_count": platform,
    }
    plan = replace(canary, metrics_delay_seconds=0)
    session = Session(answers)
    found = MetricsObserver(Monitoring("demo", session), plan).observe("new", "old", 1000.0, 1000.0, 1180.0)
    assert [(one.requests, one.errors) for one in found.candidate] == seen
    if "predict" in failing:
        assert found.until_seconds is None


@pytest.mark.parametrize("value", [{"doubleValue": "NaN"}, {"doubleValue": "Infinity"}, {}], ids=str)
def test_what_is_no_number_is_unknown(value):
    points = {"timeSeries": [series(("status", "5xx"), (1060, value), (1120, {"doubleValue": 1.0}))]}
    source = Monitoring("demo", Session({"rookery_requests_total": points}))
    assert source.counters(observe.REQUESTS, "new", SPAN) == {1: {"5xx": 1.0}}


def test_managed_prometheus_knows_the_platforms_counts_and_another_one_does_not():
    counts = matrix(({"response_code_class": "5xx"}, [[1060, "7"], [1120, "NaN"]]))
    session = Session({"run_googleapis_com:request_count": counts})
    assert Prometheus("http://prometheus/", session).platform("new", SPAN) == {0: {"5xx": 7.0}}
    assert session.asked[0]["query"] == (
        "sum by (response_code_class) (increase(run_googleapis_com:request_count"
        '{monitored_resource="cloud_run_revision",revision_name="new"}[60s]))'
    )
    assert Prometheus("http://prometheus/", Session({"run": matrix()})).platform("new", SPAN) == {}


def test_every_route_of_the_service_is_asked_for_its_own_errors_but_health_and_our_looks():
    unasked = {route for route in ways.ROUTES if not re.fullmatch(observe.ANY_ROUTE, route)}
    assert unasked == {route for route in ways.ROUTES if "health" in route} | {"/ping", ways.LOOK_ROUTE}
    assert LOOK_ID == ways.LOOK_ID
    assert not re.fullmatch(observe.ROUTES, ways.LOOK_ROUTE)
    assert re.fullmatch(observe.ROUTES, "/predict")


def test_a_source_that_takes_too_long_is_asked_no_more(canary):
    own = {"timeSeries": [series(("status", "2xx"), (1060, {"doubleValue": 50.0}))]}
    for seconds, known in ((9.0, True), (0.1, False)):
        session, moments = Session({"rookery_requests_total": own}), iter(range(1000))
        observer = MetricsObserver(Monitoring("demo", session), canary, lambda: next(moments) / seconds)  # noqa: B023
        seen = observer.observe("new", "old", 1000.0, 1000.0, 1180.0 + canary.metrics_delay_seconds)
        assert (bool(seen.stable), len(session.asked) > 4) == (known, known)
