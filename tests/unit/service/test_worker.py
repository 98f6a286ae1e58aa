"""Gunicorn's worker with our connections: they are made for clients, and closed when they are idle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.config import Config
from gunicorn.workers import gasgi

from service.connection import Connection
from service.server import Bridge
from service.worker import Worker
from tests.unit.service.calls import ADELIE, encode
from tests.unit.service.wire import Line, Transport, raw, split


class Idler:
    """A connection that remembers when it was looked at, and leaves the set then."""

    def __init__(self, worker: Worker) -> None:
        """Belong to a worker."""
        self._worker, self.looks = worker, list[float]()

    def close_if_idle(self, now: float) -> None:
        """Be idle."""
        self.looks.append(now)
        self._worker.connections.discard(self)  # type: ignore[arg-type]


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
    before = time.monotonic()
    worker.notify()
    assert [len(idler.looks) for idler in idlers] == [1, 1, 1]
    assert all(before <= idler.looks[0] <= time.monotonic() for idler in idlers)
    assert worker.connections == set()
    assert worker.tmp.last_update() >= before


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
