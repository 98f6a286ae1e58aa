"""Every finished call is noted once, whichever door it came through, and whoever reads them cannot do harm."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from flask import Flask

from model.predictor import Answer
from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.errors import Overloaded
from service.instances import Instances
from service.monitor import FEW_CALLS, MOST_CALLS, MOST_ROWS, MOST_WAITING_CALLS, Monitor, Served, taken
from service.server import Bridge
from tests.unit.service.calls import ADELIE, ask, request


class Reader:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.noted: list[Served] = []
        self.batches: list[list[Served]] = []

    def note(self, calls: Sequence[Served]) -> None:
        self.noted += calls

    def work(self) -> None:
        self.batches.append(taken(self.noted))

    @property
    def calls(self) -> list[Served]:
        return [call for batch in self.batches for call in batch]


class Failing:
    """Fails whatever it is told, or at its work."""

    def note(self, calls: Sequence[Served]) -> None:
        raise RuntimeError("no memory")

    def work(self) -> None:
        """Do nothing."""


class FailingLater:
    """Fails at a later piece of its work."""

    def note(self, calls: Sequence[Served]) -> None:
        """Take anything."""

    def work(self) -> Iterator[None]:
        yield
        raise RuntimeError("disk full")


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def watched(answerer: Answerer, reader: Reader) -> Answerer:
    """Penguins, and somebody who reads every call."""
    return Answerer(answerer.state, Settings(), Monitor([reader]))


@pytest.fixture
def app(watched: Answerer) -> Flask:
    return create_app(Settings(), watched)


def seen(watched: Answerer, reader: Reader) -> list[tuple[str, int, str]]:
    """Return route, status and reason of every call so far."""
    watched.monitor.flush()
    return [(call.route, call.status, call.reason) for call in reader.calls]


def test_an_answer_is_noted_with_everything_known(watched, reader):
    reply = ask(watched, ADELIE, traceparent="00-a-b-01", cloud_trace="c/1;o=1", wait_seconds=0.25)
    watched.monitor.flush()
    [call] = reader.calls
    assert (call.protocol, call.route, call.status, call.reason) == ("rookery", "/predict", 200, "")
    assert (call.request_id, call.traceparent, call.cloud_trace, call.wait) == ("test-1", "00-a-b-01", "c/1;o=1", 0.25)
    assert call.instances is not None
    assert call.answers is not None
    assert (reply.status, call.instances.matrix.shape, len(call.answers)) == (200, (1, 4), 1)
    assert min(call.decode, call.predict, call.render) > 0
    assert call.total == pytest.approx(call.decode + call.predict + call.render)


def test_batches_are_noted_with_their_predictions_and_handed_on_after_many_rows(watched, reader):
    for _ in range(4):
        assert reader.batches == []
        ask(watched, {"instances": [ADELIE] * (MOST_ROWS // 4)})
    [calls] = reader.batches
    assert [len(call.answers.classes) for call in calls] == [MOST_ROWS // 4] * 4


def test_rows_that_were_answered_one_by_one_are_handed_on_after_as_many(reader):
    matrix, answer = np.zeros((MOST_ROWS // 2, 4), np.float32), Answer(0, [1.0], [True], 0.0, False)
    call = Served(
        "rookery", "/predict", 200, "", "", 0.0, 0.0, 0.0,
        instances=Instances(matrix, is_single=False), answers=[answer] * len(matrix),
    )  # fmt: skip
    monitor = Monitor([reader])
    monitor.note(call)
    assert reader.batches == []
    monitor.note(call)
    assert [len(batch) for batch in reader.batches] == [2]


@pytest.mark.parametrize(
    ("body", "status", "reason", "codes"),
    [
        (b"{", 400, "malformed-body", ["malformed"]),
        ({**ADELIE, "bill_length_mm": "39"}, 422, "invalid-instance", ["type"]),
        ({**ADELIE, "flipper_length_mm": 7.13}, 400, "implausible-value", ["unit"]),
    ],
)
def test_a_refusal_is_noted_with_its_problems_and_without_the_instances(watched, reader, body, status, reason, codes):
    ask(watched, body)
    assert seen(watched, reader) == [("/predict", status, reason)]
    [call] = reader.calls
    assert ([problem.code for problem in call.problems], call.instances, call.answers) == (codes, None, None)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/health/live", ("/health/live", 200, "")),
        ("GET", "/predict", ("", 405, "method-not-allowed")),
        ("POST", "/nowhere", ("", 404, "not-found")),
        ("GET", "/docs/assets/nothing.css", ("/docs/assets/<name>", 404, "not-found")),
        ("POST", "/predict", ("/predict", 200, "")),
        ("POST", "/predict/", ("/predict", 200, "")),
        ("POST", "/predict?x=1", ("/predict", 400, "invalid-parameter")),
    ],
)
def test_flask_notes_every_request_once(app, watched, reader, method, path, expected):
    answered = request(app, method, path, ADELIE if method == "POST" else b"", HTTP_X_REQUEST_ID="test-1")
    assert seen(watched, reader) == [expected]
    assert (answered.status, answered.header("X-Request-Id"), reader.calls[0].request_id) == (
        expected[1], "test-1", "test-1",
    )  # fmt: skip


def test_what_the_bridge_refuses_is_noted_with_the_route_it_was_meant_for(app, watched, reader):
    bridge = Bridge(app, watched, max_body_bytes=10, route_of=lambda method, path: f"{method} {path}")
    messages = iter([{"type": "http.request", "body": b"x" * 11, "more_body": False}])

    async def receive():
        return next(messages)

    async def send(message):
        del message

    scope = {
        "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "http_version": "1.1", "headers": [],
    }  # fmt: skip
    asyncio.run(bridge(scope, receive, send))
    assert seen(watched, reader) == [("POST /predict", 413, "body-too-large")]


def test_calls_are_handed_on_in_order_once_there_are_many():
    reader = Reader()
    monitor = Monitor([reader])
    for number in range(2 * MOST_CALLS + 1):
        monitor.note_refusal(Overloaded(), str(number))
    assert [len(batch) for batch in reader.batches] == [MOST_CALLS, MOST_CALLS]
    monitor.flush()
    assert [call.request_id for call in reader.calls] == [str(number) for number in range(2 * MOST_CALLS + 1)]


def test_some_calls_are_told_about_together():
    reader = Reader()
    monitor = Monitor([reader])
    for told in (0, FEW_CALLS):
        for number in range(FEW_CALLS):
            assert len(reader.noted) == told
            monitor.note_refusal(Overloaded(), str(number))
    assert len(reader.noted) == 2 * FEW_CALLS
    monitor.note_refusal(Overloaded(), "")
    # once a second, however few there are, everybody hears and works
    monitor.tick()
    assert len(reader.calls) == 2 * FEW_CALLS + 1


def test_what_one_thread_notes_is_told_about_between_two_answers_and_once():
    reader, later = Reader(), []
    monitor = Monitor([reader])
    monitor.put_off(later.append)
    _note(monitor, *range(FEW_CALLS + 2))
    assert (len(later), reader.noted) == (1, [])
    later.pop()()
    assert (len(later), len(reader.noted)) == (0, FEW_CALLS + 2)
    _note(monitor, *range(FEW_CALLS))
    assert len(later) == 1
    # another thread's are not put off
    thread = threading.Thread(target=_note, args=(monitor, 0))
    thread.start()
    thread.join()
    assert len(reader.noted) == 2 * FEW_CALLS + 3
    later.pop()()
    assert (later, len(reader.noted)) == ([], 2 * FEW_CALLS + 3)


def test_what_one_thread_notes_can_be_put_off_and_no_other_waits_for_it():
    reader, later = Reader(), []
    monitor = Monitor([reader])
    monitor.put_off(later.append)

    def note(count: int) -> None:
        for _ in range(count):
            monitor.note_refusal(Overloaded(), "")

    note(MOST_CALLS + 2)
    assert (len(later), reader.calls) == (1, [])
    for _ in ("told", "read"):
        later.pop()()
    assert len(reader.calls) == MOST_CALLS + 2
    note(MOST_CALLS)
    later.pop()()
    assert len(later) == 1
    thread = threading.Thread(target=note, args=(FEW_CALLS,))
    thread.start()
    thread.join()
    assert len(reader.calls) == 2 * MOST_CALLS + 2 + FEW_CALLS


def test_none_is_lost_or_read_twice_when_many_threads_note_them():
    reader = Reader()
    monitor = Monitor([reader])

    def note(thread: int) -> None:
        for number in range(5_000):
            monitor.note_refusal(Overloaded(), f"{thread}-{number}")

    threads = [threading.Thread(target=note, args=(thread,)) for thread in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    monitor.flush()
    ids = [call.request_id for call in reader.calls]
    assert (len(ids), len(set(ids))) == (20_000, 20_000)


@pytest.mark.parametrize("failing", [Failing(), FailingLater()], ids=["told", "working"])
def test_a_reader_that_fails_is_logged_once_a_time_and_harms_nobody(answerer, reader, caplog, failing):
    watched = Answerer(answerer.state, Settings(), Monitor([failing, reader]))
    assert [ask(watched, ADELIE).status for _ in range(3)] == [200] * 3
    watched.monitor.flush()
    assert len(reader.calls) == 3
    [record] = caplog.records
    assert (record.message, vars(record)["consumer"]) == ("monitor.failed", type(failing).__name__)
    assert record.exc_info is not None


class Piecewise:
    """Reads a call a piece."""

    def __init__(self) -> None:
        self.noted: list[Served] = []
        self.ids: list[str] = []

    def note(self, calls: Sequence[Served]) -> None:
        self.noted += calls

    def work(self) -> Iterator[None]:
        for call in taken(self.noted):
            self.ids.append(call.request_id)
            yield


@pytest.fixture
def later() -> list[Callable[[], None]]:
    """What was put off."""
    return []


@pytest.fixture
def slow(later) -> tuple[Monitor, Piecewise]:
    """Calls are read one by one, in turns."""
    reader = Piecewise()
    monitor = Monitor([reader])
    monitor.put_off(later.append)
    return monitor, reader


def _note(monitor: Monitor, *numbers: int) -> None:
    for number in numbers:
        monitor.note_refusal(Overloaded(), str(number))


def test_what_is_put_off_is_worked_off_piece_by_piece(slow, later):
    monitor, reader = slow
    _note(monitor, *range(MOST_CALLS))
    later.pop()()
    for turn in range(3):
        later.pop()()
        assert (len(reader.ids), len(later)) == (turn + 1, 1)
    # what comes meanwhile is read afterwards
    _note(monitor, MOST_CALLS)
    while later:
        later.pop()()
    assert reader.ids == [str(number) for number in range(MOST_CALLS)]
    monitor.flush()
    assert reader.ids[MOST_CALLS:] == [str(MOST_CALLS)]


def test_whoever_needs_everything_read_gets_it_between_two_pieces(slow, later):
    monitor, reader = slow
    _note(monitor, *range(MOST_CALLS))
    later.pop()()
    _note(monitor, MOST_CALLS)
    monitor.flush()
    assert reader.ids == [str(number) for number in range(MOST_CALLS + 1)]
    # the turn that was asked for finds nothing to do, and asks for no other
    later.pop()()
    assert (later, len(reader.ids)) == ([], MOST_CALLS + 1)


def test_calls_that_come_faster_than_pieces_are_worked_off_are_read_at_once(slow, later):
    monitor, reader = slow
    _note(monitor, *range(MOST_CALLS))
    for _ in ("told", "a piece"):
        later.pop()()
    _note(monitor, *range(MOST_CALLS, MOST_CALLS + MOST_WAITING_CALLS))
    for _ in ("told", "the rest"):
        later.pop()()
    assert (later, len(reader.ids)) == ([], MOST_CALLS + MOST_WAITING_CALLS)
