"""Turns metrics into windows: what both revisions were seen to do, as far as it is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from scripts.rollout.plan import Plan
from scripts.rollout.windows import Histogram, Observation, Window

log = logging.getLogger(__name__)

_Known = TypeVar("_Known")

# a prediction, over whichever protocol, and what was refused before its route was known
ROUTES = ".*(predict|infer|invocations).*|none"


class MetricsError(Exception):
    """The metrics cannot be read; the text is one line for a person."""


@dataclass(frozen=True)
class Family:
    """One metric of the service, as both sources ask for it.

    Attributes:
        name: as the service exports it.
        by: the label whose values are told apart; `le` of a histogram, empty for a gauge.
        where: conditions on labels, values are regular expressions.
    """

    name: str
    by: str
    where: tuple[tuple[str, str], ...] = ()


REQUESTS = Family("rookery_requests_total", "status", (("route", ROUTES),))
LATENCY = Family("rookery_request_seconds", "le", (("route", ROUTES), ("warm", "true")))
LABELS = Family("rookery_predictions_total", "label")
CONFIDENCE = Family("rookery_confidence", "le")
NOVELTY = Family("rookery_novelty", "le")
FALLBACK = Family("rookery_model_fallback", "")

# window index → label value → count
Counts = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Span:
    """Some windows one after the other.

    Attributes:
        begin_seconds: when the first begins, seconds since the epoch.
        window_seconds: length of each.
        windows: how many.
    """

    begin_seconds: float
    window_seconds: int
    windows: int

    @property
    def end_seconds(self) -> float:
        """When the last one ends."""
        return self.begin_seconds + self.windows * self.window_seconds

    def index(self, end_seconds: float) -> int:
        """Return which window ends at a moment."""
        return round((end_seconds - self.begin_seconds) / self.window_seconds) - 1


class Source(Protocol):
    """Where metrics come from; what is not there is left out, never 0."""

    def counters(self, family: Family, revision: str, span: Span) -> Counts:
        """Return how much a counter grew, or a gauge's largest value, by window and label value.

        Raises:
            MetricsError: the source cannot be asked.
        """
        ...

    def histograms(self, family: Family, revision: str, span: Span) -> Mapping[int, Histogram]:
        """Return what a histogram gained, by window.

        Raises:
            MetricsError: the source cannot be asked.
        """
        ...


class MetricsObserver:
    """Observes two revisions through one source."""

    def __init__(self, source: Source, plan: Plan) -> None:
        """Prepare.

        Args:
            source: where the metrics are.
            plan: how long windows are, and how late metrics come.
        """
        self._source, self._plan = source, plan

    def observe(
        self, candidate: str, stable: str, since_seconds: float, stable_since_seconds: float, now_seconds: float
    ) -> Observation:
        """See `doors.Observer`; a source that fails leaves out what it was asked for."""
        due = now_seconds - self._plan.metrics_delay_seconds
        mine = self._span(since_seconds, due)
        theirs = mine
        if stable_since_seconds < since_seconds:
            theirs = self._span(stable_since_seconds, min(since_seconds, due))
        windows = self._windows(candidate, mine)
        ends = [one.end_seconds for one in windows]
        return Observation(
            candidate=windows,
            stable=self._windows(stable, theirs),
            until_seconds=max(ends, default=None),
            due_seconds=mine.end_seconds,
            is_fallback=self._is_fallback(candidate, mine),
        )

    def _span(self, begin: float, end: float) -> Span:
        length = self._plan.window_seconds
        return Span(begin, length, max(0, int((end - begin) // length)))

    def _windows(self, revision: str, span: Span) -> tuple[Window, ...]:
        """Return the windows about which anything is known."""
        if not span.windows:
            return ()
        source = self._source
        requests = _known(lambda: source.counters(REQUESTS, revision, span))
        labels = _known(lambda: source.counters(LABELS, revision, span))
        latency = _known(lambda: source.histograms(LATENCY, revision, span))
        confidence = _known(lambda: source.histograms(CONFIDENCE, revision, span))
        novelty = _known(lambda: source.histograms(NOVELTY, revision, span))
        found = []
        for index in sorted(set().union(requests, labels, latency, confidence, novelty)):
            begin = span.begin_seconds + index * span.window_seconds
            status, classes = requests.get(index), labels.get(index)
            found.append(
                Window(
                    start_seconds=begin,
                    end_seconds=begin + span.window_seconds,
                    # what is known by status is known altogether: a status that never occurred is not exported
                    requests=None if status is None else round(sum(status.values())),
                    errors=None if status is None else round(status.get("5xx", 0)),
                    refusals=None if status is None else round(status.get("4xx", 0)),
                    latency=latency.get(index),
                    confidence=confidence.get(index),
                    novelty=novelty.get(index),
                    labels=None if classes is None else {name: round(count) for name, count in classes.items()},
                )
            )
        return tuple(found)

    def _is_fallback(self, candidate: str, span: Span) -> bool | None:
        if not span.windows:
            return None
        found = _known(lambda: self._source.counters(FALLBACK, candidate, span))
        values = [value for window in found.values() for value in window.values()]
        return any(values) if values else None


def _known(ask: Callable[[], Mapping[int, _Known]]) -> Mapping[int, _Known]:
    try:
        return ask()
    except MetricsError as error:
        log.warning("metrics.unknown", extra={"reason": str(error)})
        return {}


def by_bounds(cumulative: Sequence[tuple[float, float]]) -> Histogram:
    """Return a histogram from Prometheus' cumulative counts by upper bound, the last one infinite."""
    ordered = sorted(cumulative)
    counts, below = [], 0
    for _, value in ordered:
        # increases are extrapolated, so that one bound's may come out a little below the one before
        here = max(round(value), below)
        counts.append(here - below)
        below = here
    return Histogram(tuple(bound for bound, _ in ordered[:-1]), tuple(counts))
