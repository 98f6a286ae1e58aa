"""A line for every call that went wrong or took long, a sample of predictions, and never what was sent."""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from model import baseline
from model.manifest import example
from service.answer import Answerer, Call
from service.config import Settings
from service.events import FEW_LINES, MOST_LINES, MOST_ROWS, Events
from service.loader import NotReady, Ready
from service.monitor import Monitor, Served
from service.structured import JsonFormatter

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ALL = Settings(event_rate=1.0, slow_seconds=60.0)
Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What was logged, as it stands in the log."""
    caplog.set_level(logging.INFO)
    return lambda: [json.loads(JsonFormatter().format(r)) for r in caplog.records if r.name == "service.events"]


def _answerer(known: Answerer, settings: Settings) -> Answerer:
    return Answerer(known.state, settings, Monitor([Events(known.state, settings)]))


def _ask(known: Answerer, settings: Settings, *calls: Call) -> None:
    answerer = _answerer(known, settings)
    for call in calls:
        answerer.answer(call)
    answerer.monitor.flush()


def _row(answerer: Answerer) -> dict[str, float | str | None]:
    return example(answerer.require_model().predictor.manifest)


def _body(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_prediction_is_told_with_bins_instead_of_values(answerer, lines):
    call = Call(_body(_row(answerer)), request_id="r-1", traceparent=f"00-{TRACE}-{PARENT}-01")
    _ask(answerer, replace(ALL, project="lab"), call)

    [line] = lines()
    predictor = answerer.require_model().predictor
    assert (line["message"], line["severity"], line["request_id"]) == ("prediction.made", "INFO", "r-1")
    assert (line["digest"], line["rows"], line["protocol"], line["rate"]) == (answerer.digest, 1, "rookery", 1.0)
    assert line["logging.googleapis.com/trace"] == f"projects/lab/traces/{TRACE}"
    assert line["logging.googleapis.com/trace_sampled"] is True
    assert line["logging.googleapis.com/spanId"] != PARENT
    assert line["httpRequest"]["status"] == 200
    assert set(line["seconds"]) == {"wait", "decode", "predict", "render", "total"}
    [told] = line["predictions"]
    assert told["label"] in predictor.manifest.classes
    assert told["label"] in told["prediction_set"]
    assert 0 < told["confidence"] <= 1
    matrix = np.array([list(_row(answerer).values())], dtype=np.float32)
    probabilities = predictor.predict(matrix).probabilities
    counts = baseline.build(predictor.manifest).count(matrix, probabilities, np.zeros(1))
    variables = baseline.build(predictor.manifest).variables
    assert told["bins"] == {
        one.name: one.bins[int(count.argmax())]
        for one, count in zip(variables, counts, strict=True)
        if one.kind == "feature"
    }


@pytest.mark.parametrize("name", ["penguins", "plots"])
def test_no_value_and_no_header_reaches_the_log(answerers, lines, name):
    answerer = answerers[name]
    marks = {"bill_length_mm": 43.98765, "depth_m": 3.98765}
    row = {key: marks.get(key, value) for key, value in _row(answerer).items()}
    secrets = Call(
        _body({"instances": [row, {**row, "nobody-knows-me": "secret-value"}]}),
        query="on_error=row",
        accept="application/json;q=0.123456",
        request_id="r-2",
        forwarded="203.0.113.77",
        peer="203.0.113.78",
    )
    _ask(answerer, ALL, secrets, secrets._replace(query=""), secrets._replace(body=b'"secret-value"'))

    text = json.dumps(lines())
    assert (text.count('"prediction.made"'), text.count('"request.refused"')) == (1, 2)
    for secret in ("98765", "nobody-knows-me", "secret-value", "0.123456", "203.0.113"):
        assert secret not in text


def test_of_a_batch_the_first_rows_are_told_and_which_they_are(answerer, lines):
    row = _row(answerer)
    bad = {**row, "bill_depth_mm": "wide"}
    _ask(answerer, ALL, Call(_body({"instances": [bad, row, *[row] * 40]}), query="on_error=row"))

    [line] = lines()
    assert line["rows"] == 42
    assert [told["row"] for told in line["predictions"]] == list(range(1, MOST_ROWS + 1))


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (0.1, 70, 130), (1.0, 1_000, 1_000)])
def test_a_share_of_the_predictions_is_told(answerer, lines, rate, low, high):
    settings = replace(ALL, event_rate=rate)
    events = Events(answerer.state, settings, draw=random.Random(5).random)
    taken: list[Served] = []

    class Keep:
        def note(self, calls):
            taken.extend(calls)

        def work(self):
            """Do nothing."""

    asking = Answerer(answerer.state, settings, Monitor([Keep()]))
    asking.answer(Call(_body(_row(answerer))))
    asking.monitor.flush()
    _read(events, taken * 1_000)

    assert low <= len(lines()) <= high


def _read(events: Events, calls: Sequence[Served]) -> None:
    """Let events read calls, and write."""
    events.note(calls)
    list(events.work())


def _served(status: int = 200, reason: str = "", total: float = 0.001, wait: float = 0.0) -> Served:
    return Served("rookery", "/predict", status, reason, "id", 1.0, wait, total)


REFUSED = {
    "the caller's fault": (_served(422, "invalid-instance"), "INFO"),
    "too much to do": (_served(503, "overloaded"), "WARNING"),
    "our fault": (_served(500, "internal"), "ERROR"),
}


@pytest.mark.parametrize(("call", "severity"), REFUSED.values(), ids=REFUSED)
def test_every_refusal_has_a_line(lines, call, severity):
    _read(Events(NotReady("hash_mismatch", "x"), Settings(event_rate=0.0)), [call, _served()])

    [line] = lines()
    assert (line["message"], line["reason"], line["severity"]) == ("request.refused", call.reason, severity)
    assert line["httpRequest"] == {
        "requestMethod": "POST",
        "requestUrl": "/predict",
        "status": call.status,
        "latency": "0.001000s",
    }


def test_the_codes_of_a_refusal_are_told(answerer, lines):
    row = {**_row(answerer), "bill_depth_mm": "wide", "other": 1}
    _ask(answerer, replace(ALL, event_rate=0.0), Call(_body(row)))

    assert lines()[0]["codes"] == ["type", "unknown"]


@pytest.mark.parametrize(
    "call", [_served(total=0.5), _served(wait=0.5), _served(wait=0.3, total=0.3)], ids=["total", "wait", "both"]
)
def test_what_was_slow_has_a_line(lines, call):
    _read(Events(NotReady("hash_mismatch", "x"), Settings(slow_seconds=0.5)), [call, _served(total=0.499)])

    assert [(line["message"], line["severity"]) for line in lines()] == [("request.slow", "WARNING")]


def test_a_flood_of_refusals_is_counted(lines):
    now = [1_000.0]
    events = Events(NotReady("hash_mismatch", "x"), Settings(), clock=lambda: now[0])
    _read(events, [_served(503, "no-model")] * 500 + [_served(422, "invalid-instance")] * 7)
    now[0] += 1
    # once a second calls are handed on, even if there are none
    _read(events, [])
    _read(events, [_served(422, "invalid-instance")])

    found = lines()
    assert [line["message"] for line in found[:MOST_LINES]] == ["request.refused"] * MOST_LINES
    assert [line["message"] for line in found[MOST_LINES:]] == ["request.not_logged", "request.refused"]
    assert (found[MOST_LINES]["requests"], found[MOST_LINES]["reasons"]) == (
        407,
        {"no-model": 400, "invalid-instance": 7},
    )


def test_a_flood_of_refusals_that_say_the_same_leaves_room_for_others(lines):
    events = Events(NotReady("hash_mismatch", "x"), Settings(), clock=lambda: 1_000.0)
    alike = [_served(503, "overloaded"), _served(429, "rate-limited")]
    _read(events, [*alike * 500, _served(500, "internal")])

    found = Counter(line["reason"] for line in lines())
    assert found == {**FEW_LINES, "internal": 1}


def test_lines_are_earned_bit_by_bit(lines):
    now = [1_000.0]
    events = Events(NotReady("hash_mismatch", "x"), Settings(), clock=lambda: now[0])
    told = []
    # 2,000 refusals a second, as the monitor hands them on
    for _ in range(32):
        before = len(lines())
        _read(events, [_served(503, "no-model")] * 128)
        told.append(sum(line["message"] == "request.refused" for line in lines()[before:]))
        now[0] += 1 / 16

    assert (told[0], max(told[1:]), sum(told[16:])) == (MOST_LINES, 7, MOST_LINES)


def test_a_clock_that_is_set_back_earns_nothing(lines):
    now = [1_000.0]
    events = Events(NotReady("hash_mismatch", "x"), Settings(), clock=lambda: now[0])
    _read(events, [_served(503, "no-model")] * 150)
    now[0] -= 60
    _read(events, [_served(503, "no-model")])

    assert sum(line["message"] == "request.refused" for line in lines()) == MOST_LINES


def test_a_service_without_a_model_tells_no_predictions(lines):
    state = NotReady("hash_mismatch", "x")
    _ask(Answerer(state, ALL), ALL, Call(b"{}"))

    assert [line["reason"] for line in lines()] == ["no-model"]


def test_nothing_is_said_about_ready_and_ordinary_calls(answerer, lines):
    assert isinstance(answerer.state, Ready)
    _read(Events(answerer.state, Settings()), [_served()] * 100)
    assert lines() == []
