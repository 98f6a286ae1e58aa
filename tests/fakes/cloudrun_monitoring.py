"""Cloud Monitoring beside the fake Cloud Run: `GET /v3/projects/P/timeSeries`, as far as a rollout asks it.

It knows what the metrics sidecar would have sent, `prometheus.googleapis.com/…`, from each revision's own /metrics,
and what Cloud Run counts itself, `run.googleapis.com/…`, from the log of the data plane: `request_count` is the
"number of requests reaching the revision", counted at the end of each, "excludes requests that are not reaching your
container instances (e.g. unauthorized requests or when maximum number of instances is reached)"
(https://cloud.google.com/monitoring/api/metrics_gcp_p_z, run).  It lies as the real one does:
young points are missing and come one by one, long answers come in pages that part a series, a metric that nobody ever
sent is 404, and now and then the quota is used up.
"""

from __future__ import annotations

import itertools
import math
import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.fakes.cloudrun_metrics import Metrics, grouped, over
from tests.fakes.cloudrun_traffic import Served
from tests.fakes.cloudrun_wire import Refused, Reply, Request

HOST = "monitoring.fake.test"
PATH = re.compile(r"/v3/projects/([^/]+)/timeSeries")
CONDITION = re.compile(r'([a-z_.]+) = (?:"([^"]*)"|monitoring\.regex\.full_match\("((?:[^"\\]|\\.)*)"\))')
OURS = re.compile(r"prometheus\.googleapis\.com/(\w+)/(counter|gauge|histogram)")
KNOWN = {"filter", "pageToken", "interval.startTime", "interval.endTime", "aggregation.alignmentPeriod"}
KNOWN |= {"aggregation.perSeriesAligner", "aggregation.crossSeriesReducer", "aggregation.groupByFields"}
# of Cloud Run's latencies, in milliseconds
SCALE, GROWTH, FINITE = 1.0, 1.4, 40
QUOTA = "Quota exceeded for quota metric 'Time series queries' and limit 'Time series queries per minute'"


@dataclass(frozen=True)
class Asked:
    """What one request asks for, as its filter and aggregation say it."""

    metric: str
    revision: str
    labels: dict[str, tuple[str, str]]
    by: str
    begin: float
    end: float
    period: float


class CloudMonitoring:
    """Answers for `HOST`.

    Attributes:
        delay_seconds: younger points are missing.
        spread_seconds: a point may be late by so much more, each by its own.
        shortest_period: of alignment; the real one has 60 s.
        points_per_page: of one answer.
        has_sidecar: whether anybody sends the service's own metrics.
        refuse_every: every so many-th request finds the quota used up; 0 none.
        asked: how many requests were answered, by status.
    """

    def __init__(
        self, metrics: Metrics, log: Callable[[], Sequence[Served]], clock: Callable[[], float] = time.time
    ) -> None:
        self._metrics, self._log, self._clock = metrics, log, clock
        self.delay_seconds = self.spread_seconds = 0.0
        self.shortest_period = 60.0
        self.points_per_page = 100
        self.has_sidecar = True
        self.refuse_every = 0
        self.asked: dict[int, int] = {}

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        try:
            reply = self._listed(request)
        except Refused as refusal:
            reply = refusal.reply()
        self.asked[reply.status] = self.asked.get(reply.status, 0) + 1
        return reply

    def _listed(self, request: Request) -> Reply:
        if not request.headers.get("authorization", "").startswith("Bearer "):
            raise Refused(401, "Request is missing required authentication credential.")
        if request.method != "GET" or not PATH.fullmatch(request.path):
            raise Refused(404, f"no such route in the fake: {request.method} {request.path}")
        if self.refuse_every and sum(self.asked.values()) % self.refuse_every == self.refuse_every - 1:
            raise Refused(429, QUOTA)
        asked = self._read(request)
        points = [(labels, point) for labels, series in self._series(asked).items() for point in series]
        start = int(request.query.get("pageToken") or 0)
        end = start + self.points_per_page
        parts = itertools.groupby(points[start:end], key=lambda one: one[0])
        key = asked.by.rpartition(".")[2]
        listed = [
            {
                "metric": {"type": asked.metric, "labels": {key: value} if key else {}},
                "points": [one[1] for one in part],
            }
            for value, part in parts
        ]
        more = {"nextPageToken": str(end)} if end < len(points) else {}
        return Reply.json({"timeSeries": listed, "unit": "1", **more} if listed else {"unit": "1"})

    def _read(self, request: Request) -> Asked:
        query = request.query
        if unknown := set(query) - KNOWN:
            raise Refused(400, f"Invalid JSON payload received. Unknown name {sorted(unknown)}")
        conditions = {}
        for part in query["filter"].split(" AND "):
            found = CONDITION.fullmatch(part)
            if not found:
                raise Refused(400, f"Field filter had an invalid value of {query['filter']}")
            conditions[found[1]] = ("=", found[2]) if found[2] is not None else ("=~", found[3])
        period = float(query["aggregation.alignmentPeriod"].removesuffix("s"))
        if period < self.shortest_period:
            raise Refused(400, "Field aggregation.alignmentPeriod had an invalid value: it must be at least 60 s")
        metric, resource = conditions.pop("metric.type")[1], conditions.pop("resource.type")[1]
        is_ours = metric.startswith("prometheus.")
        if resource != ("prometheus_target" if is_ours else "cloud_run_revision"):
            raise Refused(400, "The supplied filter does not specify a valid combination of metric and resource")
        revision = conditions.pop("metric.labels.revision_name" if is_ours else "resource.labels.revision_name")[1]
        labels = {name.rpartition(".")[2]: value for name, value in conditions.items()}
        times = (datetime.fromisoformat(query[f"interval.{end}Time"]).timestamp() for end in ("start", "end"))
        return Asked(metric, revision, labels, query.get("aggregation.groupByFields", ""), *times, period)

    def _series(self, asked: Asked) -> dict[str, list[dict[str, Any]]]:
        """Return points by label value, the newest first."""
        found: dict[str, list[dict[str, Any]]] = {}
        ours = OURS.fullmatch(asked.metric)
        if ours and not (self.has_sidecar and self._metrics.scrapes):
            raise Refused(404, f"Cannot find metric(s) that match type = {asked.metric!r}.")
        for end in self._ends(asked):
            values = self._ours(asked, ours[1], ours[2], end) if ours else self._built_in(asked, end)
            interval = {"startTime": _time(end - asked.period), "endTime": _time(end)}
            for label, value in values.items():
                found.setdefault(label, []).append({"interval": interval, "value": value})
        return found

    def _ends(self, asked: Asked) -> Iterator[float]:
        """Return the ends of the periods about which anything is known yet."""
        for index in range(int((asked.end - asked.begin) // asked.period)):
            end = asked.end - index * asked.period
            own = zlib.crc32(f"{asked.metric} {asked.revision} {end:.0f}".encode())
            late = own % 8 / 8 * self.spread_seconds
            if end <= self._clock() - self.delay_seconds - late:
                yield end

    def _ours(self, asked: Asked, name: str, kind: str, end: float) -> dict[str, Any]:
        scrapes = self._metrics.scrapes.get(asked.revision, [])
        grown = over(scrapes, end, asked.period, is_gauge=kind == "gauge")
        if kind != "histogram":
            values = grouped(grown, name, asked.labels, asked.by.rpartition(".")[2])
            return {label: {"doubleValue": value} for label, value in values.items()}
        below = grouped(grown, f"{name}_bucket", asked.labels, "le")
        if not below:
            return {}
        bounds = sorted(float(bound) for bound in below)
        cumulative = [value for _, value in sorted((float(bound), value) for bound, value in below.items())]
        counts = [round(high - low) for low, high in itertools.pairwise([0.0, *cumulative])]
        return {"": _distribution(counts, {"explicitBuckets": {"bounds": bounds[:-1]}})}

    def _built_in(self, asked: Asked, end: float) -> dict[str, Any]:
        served = [one for one in self._log() if one.revision == asked.revision and end - asked.period < one.time <= end]
        if asked.metric == "run.googleapis.com/request_count":
            classes = sorted(f"{one.status // 100}xx" for one in served)
            # 64-bit integers are text in JSON
            return {name: {"int64Value": str(len(list(group)))} for name, group in itertools.groupby(classes)}
        if asked.metric != "run.googleapis.com/request_latencies":
            raise Refused(404, f"Cannot find metric(s) that match type = {asked.metric!r}.")
        counts = [0] * (FINITE + 2)
        for one in served:
            power = math.log(max(one.seconds * 1000, 1e-9) / SCALE, GROWTH)
            counts[min(max(0, math.floor(power) + 1), FINITE + 1)] += 1
        form = {"scale": SCALE, "growthFactor": GROWTH, "numFiniteBuckets": FINITE}
        return {"": _distribution(counts, {"exponentialBuckets": form})} if served else {}


def _distribution(counts: list[int], options: dict[str, Any]) -> dict[str, Any]:
    while counts and not counts[-1]:
        counts.pop()
    shown = {"count": str(sum(counts)), "bucketOptions": options, "bucketCounts": [str(count) for count in counts]}
    return {"distributionValue": shown}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
