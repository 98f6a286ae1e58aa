"""Asks Cloud Monitoring's REST interface, where the metrics sidecar and Cloud Run itself write.

See https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/list.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import google.auth.exceptions
import requests.exceptions
from google.api_core.exceptions import RetryError
from google.api_core.retry import Retry, if_exception_type

from scripts.rollout.observe import LATENCY, Counts, Family, MetricsError, Span
from scripts.rollout.windows import Histogram

URL = "https://monitoring.googleapis.com"
TIMEOUT_SECONDS = (5, 10)
PAGES_MAX = 100
BUSY = (429, 500, 502, 503, 504)
# what Cloud Run counts itself, see https://cloud.google.com/monitoring/api/metrics_gcp_p_z: requests at the end of
# their life, also those that an instance broke off; not those that found no instance free (429), nor forbidden ones
REQUEST_COUNT, REQUEST_CLASS = "run.googleapis.com/request_count", "metric.labels.response_code_class"
# for where there is no sidecar, in milliseconds
REQUEST_LATENCIES = "run.googleapis.com/request_latencies"


class _Busy(MetricsError):
    """Asking again helps: the quota of this minute is used up, or a server is overloaded."""


class Monitoring:
    """Metrics from Cloud Monitoring."""

    def __init__(
        self,
        project: str,
        session: Any,
        *,
        url: str = URL,
        revision_label: str = "revision_name",
        patience_seconds: float = 5,
    ) -> None:
        """Prepare.

        Args:
            project: whose metrics.
            session: sends requests with credentials.
            url: of the API.
            revision_label: the label that the sidecar names the revision by.
            patience_seconds: how long one question is asked again where that helps.
        """
        self._url, self._session = f"{url.rstrip('/')}/v3/projects/{project}/timeSeries", session
        self._retry = Retry(predicate=if_exception_type(_Busy), initial=0.2, maximum=2, timeout=patience_seconds)
        self._label = f"metric.labels.{revision_label}"

    def counters(self, family: Family, revision: str, span: Span) -> Counts:
        """See `observe.Source`."""
        kind = "counter" if family.by else "gauge"
        label = f"metric.labels.{family.by}" if family.by else ""
        return self._counts(self._ours(family, revision, kind), span, label, gauge=not family.by)

    def platform(self, revision: str, span: Span) -> Counts:
        """See `observe.Source`."""
        return self._counts(_cloud_run(REQUEST_COUNT, revision), span, REQUEST_CLASS)

    def histograms(self, family: Family, revision: str, span: Span) -> Mapping[int, Histogram]:
        """See `observe.Source`; Cloud Run's own latencies hold cold starts too."""
        found = self._histograms(self._ours(family, revision, "histogram"), span, 1)
        if found or family.name != LATENCY.name:
            return found
        return self._histograms(_cloud_run(REQUEST_LATENCIES, revision), span, 1000)

    def _ours(self, family: Family, revision: str, kind: str) -> str:
        conditions = [
            f'metric.type = "prometheus.googleapis.com/{family.name}/{kind}"',
            'resource.type = "prometheus_target"',
            f'{self._label} = "{revision}"',
            *(f'metric.labels.{label} = monitoring.regex.full_match("{value}")' for label, value in family.where),
        ]
        return " AND ".join(conditions)

    def _counts(self, condition: str, span: Span, label: str, *, gauge: bool = False) -> Counts:
        found: dict[int, dict[str, float]] = {}
        for series in self._series(condition, span, label, gauge=gauge):
            value = series.get("metric", {}).get("labels", {}).get(label.rsplit(".", 1)[-1], "")
            for index, point in _points(series, span):
                # what is no number is not known
                number = float(point.get("doubleValue", point.get("int64Value", "nan")))
                if math.isfinite(number):
                    window = found.setdefault(index, {})
                    window[value] = window.get(value, 0) + number
        return found

    def _histograms(self, condition: str, span: Span, scale: float) -> Mapping[int, Histogram]:
        found = {}
        for series in self._series(condition, span, ""):
            for index, point in _points(series, span):
                distribution = point.get("distributionValue", {})
                if "bucketOptions" in distribution:
                    found[index] = _histogram(distribution, scale)
        return found

    def _series(self, condition: str, span: Span, label: str, *, gauge: bool = False) -> Iterator[Mapping[str, Any]]:
        asked = {
            "filter": condition,
            "interval.startTime": _time(span.begin_seconds),
            "interval.endTime": _time(span.end_seconds),
            "aggregation.alignmentPeriod": f"{span.window_seconds}s",
            "aggregation.perSeriesAligner": "ALIGN_MAX" if gauge else "ALIGN_DELTA",
            "aggregation.crossSeriesReducer": "REDUCE_MAX" if gauge else "REDUCE_SUM",
            **({"aggregation.groupByFields": label} if label else {}),
        }
        for _ in range(PAGES_MAX):
            body = self._get(asked)
            yield from body.get("timeSeries", [])
            if not body.get("nextPageToken"):
                return
            asked["pageToken"] = body["nextPageToken"]
        raise MetricsError(f"{self._url}: more than {PAGES_MAX} pages")

    def _get(self, asked: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            body: Mapping[str, Any] = self._retry(self._get_once)(asked)
            return body
        except RetryError as error:
            raise MetricsError(str(error.cause)) from error

    def _get_once(self, asked: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            reply = self._session.get(self._url, params=asked, timeout=TIMEOUT_SECONDS)
            if reply.status_code == 404:
                # nobody ever sent this metric: there is no sidecar
                return {}
            if reply.status_code != 200:
                kind = _Busy if reply.status_code in BUSY else MetricsError
                raise kind(f"{self._url}: {reply.status_code} {reply.text[:200]}")
            body: Mapping[str, Any] = reply.json()
            return body
        except (requests.exceptions.RequestException, google.auth.exceptions.GoogleAuthError, ValueError) as error:
            raise MetricsError(f"{self._url}: {error}") from error


def _cloud_run(name: str, revision: str) -> str:
    return (
        f'metric.type = "{name}" AND resource.type = "cloud_run_revision"'
        f' AND resource.labels.revision_name = "{revision}"'
    )


def _points(series: Mapping[str, Any], span: Span) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for point in series.get("points", []):
        index = span.index(datetime.fromisoformat(point["interval"]["endTime"]).timestamp())
        if 0 <= index < span.windows:
            yield index, point["value"]


def _histogram(distribution: Mapping[str, Any], scale: float) -> Histogram:
    """Return a distribution's counts; they may end early, the rest are zeros."""
    options = distribution["bucketOptions"]
    if "explicitBuckets" in options:
        bounds = [float(bound) for bound in options["explicitBuckets"]["bounds"]]
    elif "exponentialBuckets" in options:
        form = options["exponentialBuckets"]
        bounds = [form["scale"] * form["growthFactor"] ** power for power in range(int(form["numFiniteBuckets"]) + 1)]
    else:
        form = options["linearBuckets"]
        offset, width = form.get("offset", 0), form["width"]
        bounds = [offset + width * step for step in range(int(form["numFiniteBuckets"]) + 1)]
    counts = [int(count) for count in distribution.get("bucketCounts", [])]
    counts += [0] * (len(bounds) + 1 - len(counts))
    return Histogram(tuple(bound / scale for bound in bounds), tuple(counts))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
