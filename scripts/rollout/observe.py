"""Turns metrics into windows: what both revisions were seen to do, as far as it is known."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, TypeVar

from scripts.rollout.doors import Asked
from scripts.rollout.plan import Plan
from scripts.rollout.windows import Histogram, Observation, Window

log = logging.getLogger(__name__)

# a source that does not answer must not keep anybody from looking at the candidate: after so long no more is asked
OBSERVE_SECONDS = 20.0

_Known = TypeVar("_Known")

# a prediction, over whichever protocol, and what was refused before its route was known
ROUTES = ".*(predict|infer|invocations).*|none"
# every route but those of health, which the platform asks itself and does not count, and that of our own looks
ANY_ROUTE = ".*(predict|infer|invocations|model|feedback|metrics|version|openapi|docs|assets|execution).*|/|/v2|none"


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
OWN_ERRORS = Family(REQUESTS.name, "status", (("route", ANY_ROUTE), ("status", "5xx")))
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

    def platform(self, revision: str, span: Span) -> Counts:
        """Return what the platform counted of all requests for a revision, by window and class of status.

        It sees what never reached the service: instances that are dead, or break off, or take too long.

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

    def __init__(self, source: Source, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            source: where the metrics are.
            plan: how long windows are, and how late metrics come.
            clock: seconds from anywhere, to bound how long is asked.
        """
        self._source, self._plan, self._clock = source, plan, clock
        self._deadline = 0.0

    def observe(
        self,
        candidate: str,
        stable: str,
        since_seconds: float,
        stable_since_seconds: float,
        now_seconds: float,
        asked: Mapping[str, Sequence[Asked]] | None = None,
    ) -> Observation:
        """See `doors.Observer`; a source that fails leaves out what it was asked for."""
        self._deadline = self._clock() + OBSERVE_SECONDS
        due = now_seconds - self._plan.metrics_delay_seconds
        mine = self._span(since_seconds, due)
        theirs = mine
        if stable_since_seconds < since_seconds:
            theirs = self._span(stable_since_seconds, min(since_seconds, due))
        asked = asked or {}
        windows = self._windows(candidate, mine, asked.get(candidate, ()))
        ends = [one.end_seconds for one in windows if not one.is_stand_in]
        return Observation(
            candidate=windows,
            stable=self._windows(stable, theirs, asked.get(stable, ())),
            until_seconds=max(ends, default=None),
            due_seconds=mine.end_seconds,
            is_fallback=self._is_fallback(candidate, mine),
        )

    def _span(self, begin: float, end: float) -> Span:
        length = self._plan.window_seconds
        return Span(begin, length, max(0, int((end - begin) // length)))

    def _windows(self, revision: str, span: Span, asked: Sequence[Asked]) -> tuple[Window, ...]:
        """Return the windows about which anything is known."""
        if not span.windows:
            return ()
        source = self._source
        own = self._ask(lambda: source.counters(REQUESTS, revision, span))
        own_errors = self._ask(lambda: source.counters(OWN_ERRORS, revision, span))
        platform = without(self._known(lambda: source.platform(revision, span)), asked, span)
        if own is not None and own_errors is None:
            # whether the service counted the platform's errors is not known: then they say nothing
            platform = {}
        requests = together(own or {}, own_errors or {}, platform, span.windows)
        labels = self._known(lambda: source.counters(LABELS, revision, span))
        latency = self._known(lambda: source.histograms(LATENCY, revision, span))
        confidence = self._known(lambda: source.histograms(CONFIDENCE, revision, span))
        novelty = self._known(lambda: source.histograms(NOVELTY, revision, span))
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
                    is_stand_in=status is not None and own != {} and index not in (own or {}),
                )
            )
        return tuple(found)

    def _is_fallback(self, candidate: str, span: Span) -> bool | None:
        if not span.windows:
            return None
        found = self._known(lambda: self._source.counters(FALLBACK, candidate, span))
        values = [value for window in found.values() for value in window.values()]
        return any(values) if values else None

    def _ask(self, ask: Callable[[], Mapping[int, _Known]]) -> Mapping[int, _Known] | None:
        """Return what the source knows, None if it cannot be asked, or takes too long."""
        try:
            if self._clock() > self._deadline:
                raise MetricsError(f"not asked: the questions before took {OBSERVE_SECONDS:.0f} s")
            return ask()
        except MetricsError as error:
            log.warning("metrics.unknown", extra={"reason": str(error)})
            return None

    def _known(self, ask: Callable[[], Mapping[int, _Known]]) -> Mapping[int, _Known]:
        return self._ask(ask) or {}


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


def without(counts: Counts, asked: Sequence[Asked], span: Span) -> Counts:
    """Return the platform's counts without our own requests, which are no traffic.

    Args:
        counts: by window and class of status.
        asked: our own, as far as they were answered.
        span: of the windows.
    """
    ours: dict[tuple[int, str], float] = {}
    for one in asked:
        key = (int((one.time_seconds - span.begin_seconds) // span.window_seconds), one.status)
        ours[key] = ours.get(key, 0) + 1
    found: dict[int, dict[str, float]] = {}
    late: dict[str, float] = {}
    for index in sorted(counts):
        found[index] = {}
        for status, count in counts[index].items():
            here = ours.get((index, status), 0)
            # the clocks differ: one that was answered at the end of the window before may be counted in this one
            taken = min(count, here + late.get(f"{index} {status}", 0))
            late[f"{index + 1} {status}"] = max(0, here - taken)
            found[index][status] = count - taken
    return found


def together(own: Counts, own_errors: Counts, platform: Counts, windows: int) -> Counts:
    """Return requests by window and class of status: the service's own, and the errors that only the platform saw.

    The platform sees every request, the service those that reached it and were scraped. So what the platform counts
    as 5xx beyond the service's own is added to these, and where nothing of its own is known the platform's counts stand
    in. The service's counts may come a window later, so an error is the platform's alone only if no later window
    makes up for it.

    Args:
        own: of the service, of predictions.
        own_errors: of the service, the 5xx of all routes.
        platform: of all requests, without our own.
        windows: how many there are.
    """
    found = {index: dict(status) for index, status in platform.items() if index not in own}
    found |= {index: dict(status) for index, status in own.items()}
    theirs = [platform.get(index, {}).get("5xx", 0.0) if index in own else 0.0 for index in range(windows)]
    ours = [own_errors.get(index, {}).get("5xx", 0.0) if index in own else 0.0 for index in range(windows)]
    ahead = [seen - counted for seen, counted in zip(accumulate([0.0, *theirs]), accumulate(ours), strict=False)]
    least = list(accumulate(reversed(ahead), min))[::-1]
    unseen = [max(0.0, one) for one in least]
    for index, (before, after) in enumerate(zip([0.0, *unseen], unseen, strict=False)):
        if after > before:
            # where nothing else is known of this window these are
            status = found.setdefault(index, {})
            status["5xx"] = status.get("5xx", 0) + after - before
    return found
