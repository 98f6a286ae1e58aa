"""What a revision was seen to do: counts by window, and what is not known is None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Histogram:
    """Counts by bucket.

    Attributes:
        bounds: upper ends, growing, without infinity.
        counts: one more than bounds, not cumulative; the last is what lies above all bounds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    def above(self, index: int) -> int:
        """How many lie above `bounds[index]`."""
        return sum(self.counts[index + 1 :])


@dataclass(frozen=True)
class Window:
    """What one revision served in one interval; every part is None where nothing is known about it.

    Attributes:
        start_seconds: when it begins, seconds since the epoch.
        end_seconds: when it ends.
        requests: requests answered, of any status.
        errors: those answered 5xx.
        refusals: those answered 4xx.
        latency: seconds of the requests of warm instances.
        confidence: largest probability of every answered row.
        novelty: novelty of every answered row.
        labels: answered rows by predicted class.
        is_stand_in: the service's own counts are known of other windows and not of this one; requests, errors and
            refusals are what the platform counted.
    """

    start_seconds: float
    end_seconds: float
    requests: int | None = None
    errors: int | None = None
    refusals: int | None = None
    latency: Histogram | None = None
    confidence: Histogram | None = None
    novelty: Histogram | None = None
    labels: Mapping[str, int] | None = None
    is_stand_in: bool = False


@dataclass(frozen=True)
class Observation:
    """What is known of both revisions since a step began.

    Attributes:
        candidate: its windows in order.
        stable: the stable revision's windows of the same intervals, or, at 100 %, those before the switch.
        until_seconds: end of the newest window anything is known about, None if nothing is.
        due_seconds: until when metrics should be known by now, their usual delay considered.
        is_fallback: an instance of the candidate says that another bundle stands in; None if nobody said.
    """

    candidate: tuple[Window, ...]
    stable: tuple[Window, ...]
    until_seconds: float | None
    due_seconds: float
    is_fallback: bool | None = None
