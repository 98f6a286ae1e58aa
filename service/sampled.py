"""Those of the finished calls whose traces are exported: spans and exemplars are made of the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.monitor import Served, is_prediction
from service.tracing import Sampling, Trace


def sampled(calls: Sequence[Served], sampling: Sampling) -> Iterator[tuple[Served, Trace]]:
    """Yield the sampled predictions with their traces; of any other call no more than two strings' ends are read."""
    may_keep = sampling.may_keep
    for call in calls:
        if may_keep(call.traceparent, call.cloud_trace) and is_prediction(call):
            trace = sampling.trace_of(call.traceparent, call.cloud_trace, call.request_id)
            if trace.is_sampled:
                yield call, trace
