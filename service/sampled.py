"""Whether a finished call's trace is exported: spans and exemplars are made of the same ones."""

from __future__ import annotations

from service.monitor import Served, is_prediction
from service.tracing import Sampling, Trace


def trace_of(call: Served, sampling: Sampling) -> Trace | None:
    """Return the trace of a sampled prediction, else None; of most calls no more than two strings' ends are read."""
    if sampling.may_keep(call.traceparent, call.cloud_trace) and is_prediction(call):
        trace = sampling.trace_of(call.traceparent, call.cloud_trace, call.request_id)
        if trace.is_sampled:
            return trace
    return None
