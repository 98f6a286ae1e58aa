"""What the fake's monitoring knows, and how late: each revision's own /metrics, asked for in Prometheus' language.

Understood are the two forms of a query that a rollout asks, `sum by (x) (increase(m{…}[Ns]))` and
`max by (x) (max_over_time(m{…}[Ns]))`, over a range; the answers have the API's shape.  What happened within the last
`delay_seconds` is missing, not zero, as in Cloud Monitoring.  It is a Prometheus beside the service: Cloud Run's own
counts it does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from tests.fakes.cloudrun_resources import Resources
from tests.fakes.cloudrun_wire import Refused, Reply, Request

SCRAPE_SECONDS = 0.25
KEPT = ("rookery_requests", "rookery_request_seconds", "rookery_predictions", "rookery_confidence", "rookery_novelty")
KEPT += ("rookery_model_fallback",)
QUERY = re.compile(r"(sum|max) by \((\w+)\) \((increase|max_over_time)\(([\w:]+)\{(.*)\}\[(\d+)s\]\)\)")
CONDITION = re.compile(r'(\w+)(=~|=)"((?:[^"\\]|\\.)*)"')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Scrape:
    """What one revision said of itself at one moment."""

    time: float
    values: Mapping[Series, float]


class Metrics:
    """Answers queries about what happened up to `delay_seconds` ago; with `is_missing` it knows nothing."""

    def __init__(self, resources: Resources, clock: Callable[[], float] = time.time) -> None:
        self.resources, self._clock = resources, clock
        self.delay_seconds = 0.0
        self.is_missing = False
        self.scrapes: dict[str, list[Scrape]] = {}

    async def collect(self) -> None:
        """Read what every revision says of itself, until cancelled."""
        while True:
            for revision in list(self.resources.revisions.values()):
                if revision.state == "ready":
                    with contextlib.suppress(ConnectionError):
                        reply = await revision.scrape()
                        found = Scrape(self._clock(), parse(reply.body.decode()) if reply.status == 200 else {})
                        self.scrapes.setdefault(revision.name, []).append(found)
            await asyncio.sleep(SCRAPE_SECONDS)

    def answer(self, request: Request) -> Reply:
        """Answer a range query."""
        given = dict(request.query) | dict(parse_qsl(request.body.decode()))
        found = QUERY.fullmatch(given.get("query", ""))
        if not request.path.endswith("/api/v1/query_range") or found is None:
            return Refused(404, f"the fake does not understand {request.path} {given}").reply()
        result = [] if self.is_missing else self._range(found, *(float(given[key]) for key in ("start", "end", "step")))
        return Reply.json({"status": "success", "data": {"resultType": "matrix", "result": result}})

    def _range(self, query: re.Match[str], start: float, end: float, step: float) -> list[dict[str, object]]:
        _, by, function, name, conditions, seconds = query.groups()
        wanted = {label: (how, value) for label, how, value in CONDITION.findall(conditions)}
        _, revision = wanted.pop("revision_name")
        known = self._clock() - self.delay_seconds
        scrapes = [one for one in self.scrapes.get(revision, []) if one.time <= known]
        series: dict[str, list[list[object]]] = {}
        for index in range(int((end - start) // step) + 1):
            moment = start + index * step
            if moment > known:
                break
            grown = over(scrapes, moment, float(seconds), is_gauge=function != "increase")
            for value, total in grouped(grown, name, wanted, by).items():
                series.setdefault(value, []).append([moment, str(total)])
        return [{"metric": {by: value} if value else {}, "values": values} for value, values in series.items()]


def parse(text: str) -> dict[Series, float]:
    """Read Prometheus' text format, the families that a rollout asks for."""
    found = {}
    for line in text.splitlines():
        if line.startswith(KEPT):
            series, _, value = line.rpartition(" ")
            name, _, labels = series.partition("{")
            found[name, tuple(sorted(LABEL.findall(labels)))] = float(value)
    return found


def over(scrapes: list[Scrape], moment: float, seconds: float, *, is_gauge: bool) -> dict[Series, float]:
    """Return how much each series grew in the seconds before a moment, or a gauge's largest value."""
    within = [one for one in scrapes if moment - seconds < one.time <= moment]
    if not within:
        return {}
    if is_gauge:
        return {
            series: max(one.values.get(series, value) for one in within) for series, value in within[-1].values.items()
        }
    before = [one for one in scrapes if one.time <= moment - seconds]
    # a series that was not there before began at nothing
    base = before[-1].values if before else within[0].values
    return {series: max(0.0, value - base.get(series, 0.0)) for series, value in within[-1].values.items()}


def grouped(
    grown: Mapping[Series, float], name: str, wanted: Mapping[str, tuple[str, str]], by: str
) -> dict[str, float]:
    """Return the sums of one metric's series that fit, by the value of a label."""
    totals: dict[str, float] = {}
    for (metric, pairs), value in grown.items():
        labels = dict(pairs)
        if metric == name and all(_fits(labels.get(label, ""), *how) for label, how in wanted.items()):
            key = labels.get(by, "")
            totals[key] = totals.get(key, 0.0) + value
    return totals


def _fits(value: str, how: str, pattern: str) -> bool:
    return value == pattern if how == "=" else re.fullmatch(json.loads(f'"{pattern}"'), value) is not None
