"""Gunicorn's worker with our connections: they are made for clients, and closed when they are idle."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.config import Config
from gunicorn.workers import gasgi

from service import stopping, underway
from service.connection import Connection
from service.server import Bridge
from service.worker import Worker, connection_limit
from tests.unit.service.calls import ADELIE, encode
from tests.unit.service.wire import Line, Transport, raw, split


class Idler:
    """A connection that remembers when it was judged, and leaves the set then."""

    def __init__(self, worker: Worker, reason: str | None = None) -> None:
        """Belong to a worker."""
        self._worker, self._reason, self.looks = worker, reason, list[float]()

    def judge(self, now: float) -> str | None:
        """Have taken too long."""
        self.looks.append(now)
        self._worker.connections.discard(self)  # type: ignore[arg-type]
        return self._reason


class Guest:
    """A connection as the worker sees it when room is short or the end is near."""

    def __init__(
        self, is_waiting: bool, has_asked: bool = True, active_at: float = 0, is_lingering: bool = False
    ) -> None:
        """Wait, or not, since some time."""
        self.is_waiting, self.has_asked, self.active_at = is_waiting, has_asked, active_at
        self.is_aborted, self.is_lingering = False, is_lingering

    def cut_off(self) -> None:
        """Be closed at once."""
        self.is_aborted = True


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker before it has loaded its application."""
    monkeypatch.setattr(gasgi, "ASGIProtocol", ASGIProtocol)
    app: Any = SimpleNamespace(wsgi=lambda: "the application")
    log: Any = logging.getLogger("gunicorn.test")
    log.access_log_enabled = False
    made = Worker(1, 2, [], app, 30, Config(), log)
    yield made
    made.tmp.close()


def test_it_is_gunicorn_s_event_loop_worker(worker):
    assert isinstance(worker, gasgi.ASGIWorker)
    assert worker.connections == set()


def test_with_the_application_come_our_connections(worker):
    assert gasgi.ASGIProtocol is ASGIProtocol
    worker.load_wsgi()
    assert (worker.asgi, gasgi.ASGIProtocol) == ("the application", Connection)


def test_gunicorn_finds_the_worker_by_its_name():
    cfg = Config()
    cfg.set("worker_class", "service.worker.Worker")
    assert cfg.worker_class is Worker


def test_every_sign_of_life_looks_after_every_connection(worker):
    idlers = [Idler(worker) for _ in range(3)]
    worker.connections.update(idlers)
    ticks: list[None] = []
    worker.asgi = SimpleNamespace(tick=lambda: ticks.append(None))
    before = time.monotonic()
    worker.notify()
    assert len(ticks) == 1
    assert [len(idler.looks) for idler in idlers] == [1, 1, 1]
    assert all(before <= idler.looks[0] <= time.monotonic() for idler in idlers)
    assert worker.connections == set()
    assert worker.tmp.last_update() >= before


def test_what_is_closed_is_told_in_one_line(worker, caplog):
    reasons = ["body", "body", "head", "idle", None]
    worker.connections.update(Idler(worker, reason) for reason in reasons)
    with caplog.at_level(logging.INFO, "service.worker"):
        worker.sweep(1.0)
        worker.sweep(2.0)
    [line] = [record for record in caplog.records if record.message == "connections.closed"]
    assert (line.body, line.head, hasattr(line, "idle")) == (2, 1, False)


@pytest.mark.parametrize(
    ("soft", "wanted", "expected"),
    [
        (1024, None, 960),
        (1024, 5000, 960),
        (1024, 100, 100),
        (20_000, None, 8192),
        (20_000, 9000, 9000),
        (-1, None, 8192),
    ],
)
def test_there_are_fewer_connections_than_descriptors(monkeypatch, soft, wanted, expected):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert connection_limit(wanted) == expected


def test_there_is_room_until_the_limit(worker):
    worker.loop = asyncio.new_event_loop()
    worker.max_connections = 10
    worker.connections.update(Guest(is_waiting=False) for _ in range(9))
    assert worker.has_room()
    worker.connections.add(Guest(is_waiting=False))
    assert not worker.has_room()
    worker.loop.close()


def test_before_there_is_no_room_those_who_never_asked_are_closed_then_the_idle(worker, caplog):
    worker.loop = asyncio.new_event_loop()
    worker.max_connections = 20
    guests = [Guest(is_waiting=False) for _ in range(14)]
    idle, silent, later = Guest(True, True, 1.0), Guest(True, False, 9.0), Guest(True, True, 2.0)
    worker.connections.update([*guests, idle, silent, later, Guest(True, True, 3.0)])
    assert worker.has_room()
    assert [one.is_aborted for one in (silent, idle, later)] == [True, True, True]
    # once in a turn of the loop
    assert worker.has_room()
    assert sum(one.is_aborted for one in worker.connections) == 3
    assert not any(one.is_aborted for one in guests)
    with caplog.at_level(logging.INFO, "service.worker"):
        worker.connections.clear()
        worker.sweep(1.0)
    assert [record.evicted for record in caplog.records if record.message == "connections.closed"] == [3]
    worker.loop.run_until_complete(asyncio.sleep(0))
    assert not worker._is_evicting
    worker.loop.close()


def test_those_that_have_had_their_last_answer_make_room_before_all_others(worker):
    worker.loop = asyncio.new_event_loop()
    worker.max_connections = 10
    done = [Guest(False, True, 9.0, is_lingering=True), Guest(False, True, 8.0, is_lingering=True)]
    others = [Guest(False) for _ in range(5)] + [Guest(True, False), Guest(True)]
    worker.connections.update([*done, *others])
    assert worker.has_room()
    assert [one.is_aborted for one in done] == [True, True]
    assert not any(one.is_aborted for one in others)
    worker.loop.close()


def test_after_sigterm_the_service_is_not_ready(worker, penguins_app):
    try:
        assert penguins_app.test_client().get("/health/ready").status_code == 200
        worker.handle_exit_signal()
        answer = penguins_app.test_client().get("/health/ready")
        assert (answer.status_code, answer.json["reason"], worker.alive) == (503, "stopping", False)
        assert penguins_app.test_client().get("/health/live").status_code == 200
    finally:
        stopping.told.clear()


def test_a_dismissed_worker_ends_at_the_next_tick(worker):
    found = underway.share()
    try:
        worker.tick()
        assert worker.alive
        found.dismiss()
        worker.tick()
        assert (worker.alive, stopping.told.is_set()) == (False, True)
    finally:
        stopping.told.clear()
        underway.share()


def test_an_idle_connection_does_not_hold_up_the_end(worker, answerer, caplog):
    assert ASGIProtocol._check_h1c_protocol_available()

    async def conversation() -> bool:
        line = Line(Bridge(lambda *_: [], answerer, 1 << 20, has_short_door=True), keepalive=1)
        # the connection belongs to the real worker from the start
        worker.asgi, worker.loop = line.worker.asgi, line.worker.loop
        worker.cfg.set("keepalive", 1)
        worker.cfg.set("graceful_timeout", 10)
        connection, transport = Connection(worker), Transport(worker.loop)
        transport.connection = connection
        connection.connection_made(transport)
        connection.data_received(raw(encode(ADELIE)))
        await line.settle()
        assert [answer.status for answer in split(transport.written)] == [200]
        worker.alive = False
        await worker._shutdown()
        await line.hang_up()
        return transport.is_closed

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(conversation())
    assert caplog.messages == []


class Sticky(Guest):
    """A connection whose request does not end."""

    def judge(self, now: float) -> str | None:
        """Be in time, by its own deadlines."""
        return None

    def close_if_waiting(self) -> None:
        """Do not wait."""

    def unfinished(self, now: float) -> dict[str, object] | None:
        """Be under way."""
        return None if self.is_waiting else {"request_id": "stuck-1", "route": "/predict", "stage": "answer"}


def test_what_does_not_end_is_named_and_cut_off(worker, caplog):
    stuck, silent = Sticky(is_waiting=False), Sticky(is_waiting=True)
    worker.connections.update([stuck, silent])
    # no time is left after the margin
    worker.cfg.set("graceful_timeout", 1)
    with caplog.at_level(logging.WARNING, "service.worker"):
        asyncio.run(worker._drain())
    assert (stuck.is_aborted, silent.is_aborted) == (True, True)
    assert [(record.message, record.request_id) for record in caplog.records] == [("request.abandoned", "stuck-1")]


def test_listeners_stay_open_for_the_lame_duck_s_time_only_after_sigterm(worker):
    closed = []
    worker.servers = [SimpleNamespace(close=lambda: closed.append(time.monotonic()))]
    worker._lame_duck_seconds = 0.2
    begun = worker._told_at = time.monotonic()
    asyncio.run(worker._be_lame_duck())
    assert closed[0] >= begun + 0.2
    worker._quick_shutdown = True
    asyncio.run(worker._be_lame_duck())
    assert len(closed) == 2


def test_a_second_sigterm_does_not_prolong_it(worker):
    try:
        worker.handle_exit_signal()
        told_at = worker._told_at
        worker.handle_exit_signal()
        assert worker._told_at == told_at
    finally:
        stopping.told.clear()


def test_the_kernel_holds_little_of_what_is_not_read(worker):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker.sockets = [SimpleNamespace(sock=listener)]
        worker.load_wsgi()
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 16 << 10
