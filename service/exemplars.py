"""From a number to one of the requests behind it: the trace of the last sampled request in each bin of the latency."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import NamedTuple

from service import families as f
from service.config import Settings
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
    """Reads finished calls, see `service.monitor.Consumer`; knows those of this worker alone."""

    def __init__(self, settings: Settings, warm_at: float) -> None:
        """Begin with none.

        Args:
            settings: which calls are sampled.
            warm_at: from when on calls count as warm, see `service.tally.Tally`.
        """
        self._sampling, self._warm_at = Sampling(settings.trace_rate, settings.project), warm_at
        self._last: dict[tuple[str, ...], dict[int, Exemplar]] = {}

    def note(self, call: Served) -> None:
        """Remember it if it is sampled."""
        trace = trace_of(call, self._sampling)
        if trace is not None:
            self._remember(call, trace.trace_id)

    def work(self) -> None:
        """See `service.monitor.Consumer`: nothing is left to do."""

    def of(self, labels: tuple[str, ...]) -> dict[int, Exemplar]:
        """Return what is known about a series of the latency, by the position of the bin."""
        return dict(self._last.get(labels, {}))

    def _remember(self, call: Served, trace_id: str) -> None:
        """Let a call stand for its bin."""
        ended, seconds = call.began + call.total, call.wait + call.total
        labels = call.route, call.protocol, "true" if ended >= self._warm_at else "false"
        at = time.time() - (time.perf_counter() - ended)
        self._last.setdefault(labels, {})[bisect_left(f.SECONDS, seconds)] = Exemplar(trace_id, seconds, at)
