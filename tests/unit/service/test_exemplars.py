"""A scrape in OpenMetrics leads from the latency to traces that are exported."""

from __future__ import annotations

import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service import families as f
from service.answer import Answerer, Call
from service.app import create_app
from service.config import Settings
from service.exemplars import Exemplar, Exemplars, latest
from service.ledger import NOTE_BYTES, Ledger
from service.monitor import Monitor
from service.tally import Tally
from service.ways import WAYS
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


def test_whichever_worker_is_scraped_shows_the_last_ones_of_all(answerer):
    ledger, settings = Ledger(2), Settings(trace_rate=0.0)
    tallies = [Tally(answerer.state, ledger, ledger.take()) for _ in range(2)]
    monitors = [Monitor([tally, tally.trace(settings)]) for tally in tallies]
    workers = [Answerer(answerer.state, settings, monitor) for monitor in monitors]
    # one in the same bin as the other worker's, and one in another
    for number, (worker, wait) in enumerate([(0, 0.3), (0, 0.03), (1, 0.3)]):
        traceparent = f"00-{number:032x}-{PARENT}-01".replace("00-0", "00-a", 1)
        workers[worker].answer(Call(encode(ADELIE), traceparent=traceparent, wait_seconds=wait))
    for monitor in monitors:
        monitor.flush()

    for tally, worker in zip(tallies, workers, strict=True):
        answered = request(create_app(settings, worker, tally), "GET", "/metrics", HTTP_ACCEPT=ACCEPT)
        found = re.findall(r'le="([0-9.]+)".* # {trace_id="a0+(\d)"}', answered.body.decode())
        assert found == [("0.05", "1"), ("0.5", "2")]


def test_all_that_may_be_told_has_room(answerer):
    ledger = Ledger()
    place = ledger.take()
    exemplars = Exemplars(Settings(), 0.0, place)
    one = Exemplar("f" * 32, 12.345678901234567, 1790000000.123456)
    exemplars._last = {
        ((*way, warm), index): one for way in WAYS for warm in ("true", "false") for index in range(len(f.SECONDS) + 1)
    }
    exemplars._has_new = True
    exemplars.work()
    assert len(place.noted()) < NOTE_BYTES
    assert sum(map(len, latest(ledger).values())) == len(WAYS) * 2 * (len(f.SECONDS) + 1)
