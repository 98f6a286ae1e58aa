"""A scrape in OpenMetrics leads from the latency to traces that are exported."""

from __future__ import annotations

import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service.answer import Answerer, Call
from service.app import create_app
from service.config import Settings
from service.monitor import Monitor
from service.tally import Tally
from tests.unit.service.calls import ADELIE, encode, request

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"


def _scrape(answerer: Answerer, traceparent: str, accept: str, rate: float = 0.0) -> tuple[str | None, str]:
    settings, tally = Settings(trace_rate=rate), Tally(answerer.state)
    asking = Answerer(answerer.state, settings, Monitor([tally, tally.trace(settings)]))
    asking.answer(Call(encode(ADELIE), traceparent=traceparent, wait_seconds=0.3))
    answered = request(create_app(settings, asking, tally), "GET", "/metrics", HTTP_ACCEPT=accept)
    return answered.header("Content-Type"), answered.body.decode()


def test_the_bin_of_a_sampled_request_names_its_trace(answerer):
    kind, text = _scrape(answerer, f"00-{TRACE}-{PARENT}-01", ACCEPT)

    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    found = [
        (sample.labels["le"], sample.labels["route"], sample.exemplar.labels, sample.exemplar.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert [one[:3] for one in found] == [("0.5", "/predict", {"trace_id": TRACE})]
    assert 0.3 < found[0][3] < 0.5


@pytest.mark.parametrize(
    ("traceparent", "rate", "count"), [(f"00-{TRACE}-{PARENT}-00", 1.0, 0), ("", 0.0, 0), ("", 1.0, 1)]
)
def test_only_traces_that_are_exported_are_named(answerer, traceparent, rate, count):
    _, text = _scrape(answerer, traceparent, ACCEPT, rate)
    assert len(re.findall("# {trace_id", text)) == count


def test_prometheus_own_format_has_no_place_for_them(answerer):
    kind, text = _scrape(answerer, f"00-{TRACE}-{PARENT}-01", "text/plain;version=0.0.4")
    assert (kind, TRACE in text) == ("text/plain; version=0.0.4; charset=utf-8", False)
