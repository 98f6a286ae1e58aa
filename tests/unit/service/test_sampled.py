"""The same calls are sampled for whoever asks."""

from __future__ import annotations

import pytest

from service.monitor import Served
from service.sampled import trace_of
from service.tracing import Sampling

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
KEPT, LEFT = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


def _call(route: str = "/predict", protocol: str = "rookery", **more: str) -> Served:
    return Served(protocol, route, 200, "", "a-request", 0.0, 0.0, 0.1, **more)


@pytest.mark.parametrize(
    ("call", "rate", "is_kept"),
    [
        (_call(traceparent=KEPT), 0.0, True),
        (_call(traceparent=LEFT), 1.0, False),
        (_call(cloud_trace=f"{TRACE}/1;o=1"), 0.0, True),
        (_call(cloud_trace=f"{TRACE}/1;o=0"), 1.0, False),
        (_call(), 1.0, True),
        (_call(), 0.0, False),
        (_call("/v2/models/{model}/infer", "v2", traceparent=KEPT), 0.0, True),
        (_call("/metrics", traceparent=KEPT), 1.0, False),
    ],
)
def test_the_caller_decides_about_predictions_and_else_the_rate(call, rate, is_kept):
    sampling = Sampling(rate)
    expected = sampling.trace_of(call.traceparent, call.cloud_trace, call.request_id)
    assert trace_of(call, sampling) == (expected if is_kept else None)
