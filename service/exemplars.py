"""From a number to one of the requests behind it: the trace of the last sampled request in each bin of the latency.

Each worker writes its own into its place in the ledger, so that whichever is scraped shows those of all.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from service import families as f
from service.config import Settings
from service.families import Labels
from service.ledger import Ledger, Place
from service.monitor import Served
from service.sampled import trace_of
from service.tracing import Sampling


class Exemplar(NamedTuple):
    """One request.

    Attributes:
        trace_id: its trace, which is exported.
        seconds: how long it took, waiting included.
        at: when it ended, in seconds since the epoch.
    """

    trace_id: str
    seconds: float
    at: float


class Exemplars:
    """Reads finished calls, see `service.monitor.Consumer`."""

    def __init__(self, settings: Settings, warm_at: float, place: Place) -> None:
        """Begin with none.

        Args:
            settings: which calls are sampled.
            warm_at: from when on calls count as warm, see `service.tally.Tally`.
            place: of this worker in the ledger.
        """
        self._sampling, self._warm_at = Sampling(settings.trace_rate, settings.project), warm_at
        self._place = place
        # by labels of the series and position of the bin
        self._last: dict[tuple[Labels, int], Exemplar] = {}
        self._has_new = False

    def note(self, calls: Sequence[Served]) -> None:
        """Remember those that are sampled."""
        for call in calls:
            trace = trace_of(call, self._sampling)
            if trace is not None:
                self._remember(call, trace.trace_id)
                self._has_new = True

    def work(self) -> None:
        """Tell the other workers what is known here."""
        if self._has_new:
            self._has_new = False
            # other threads may add to it meanwhile
            last = list(self._last.items())
            self._place.note(orjson.dumps([(*key, *one) for key, one in last]))

    def _remember(self, call: Served, trace_id: str) -> None:
        """Let a call stand for its bin."""
        ended, seconds = call.began + call.total, call.wait + call.total
        labels = call.route, call.protocol, "true" if ended >= self._warm_at else "false"
        at = time.time() - (time.perf_counter() - ended)
        self._last[labels, bisect_left(f.SECONDS, seconds)] = Exemplar(trace_id, seconds, at)


def latest(ledger: Ledger) -> dict[Labels, dict[int, Exemplar]]:
    """Return the last exemplar of all workers that live, by the labels of the latency and the position of the bin."""
    found: dict[Labels, dict[int, Exemplar]] = {}
    for text in ledger.notes():
        for labels, index, *rest in orjson.loads(text):
            of_series, one = found.setdefault(tuple(labels), {}), Exemplar(*rest)
            if index not in of_series or one.at > of_series[index].at:
                of_series[index] = one
    return found
