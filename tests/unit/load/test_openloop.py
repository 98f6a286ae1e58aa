"""The open loop against a small server of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from load.connections import request_bytes
from load.openloop import Generator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
PAYLOAD = request_bytes("x", "/", b"{}")

# number of the request → the bytes to answer; None closes without an answer
Answer = Callable[[int], bytes | None]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[tuple[str, int], list[float]]]:
    """Answer requests of one size, a thread a connection; yields the address and when each request came."""
    arrivals: list[float] = []
    lock = threading.Lock()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def talk(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(20)
            while connection.recv(len(PAYLOAD), socket.MSG_WAITALL):
                with lock:
                    number = len(arrivals)
                    arrivals.append(time.perf_counter())
                reply = answer(number)
                if reply is None:
                    return
                connection.sendall(reply)
                if reply is LAST:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=talk, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname(), arrivals
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join()


def test_requests_are_sent_when_they_are_due():
    with server(lambda _: OK) as (address, arrivals):
        outcome = Generator(address, PAYLOAD, 4).run(rate=200, requests=40)

    assert outcome.statuses == {200: 40}
    assert (len(outcome.latencies), outcome.failures) == (40, 0)
    # never early: the last one is due 39 / 200 s after the first, which itself may be late
    assert arrivals[-1] - arrivals[0] > 39 / 200 - outcome.lateness - max(outcome.latencies)


def test_latency_counts_from_when_a_request_was_due():
    """One connection and a server that holds the first answer: those behind it have waited as well."""
    held = threading.Event()

    def answer(number: int) -> bytes:
        if number == 0:
            held.wait(0.3)
        return OK

    with server(answer) as (address, _):
        outcome = Generator(address, PAYLOAD, 1).run(rate=1000, requests=10)

    assert len(outcome.latencies) == 10
    assert min(outcome.latencies) > 0.25


def test_refusals_are_counted_by_status():
    with server(lambda number: BUSY if number % 2 else OK) as (address, _):
        outcome = Generator(address, PAYLOAD, 2).run(rate=None, requests=20)

    assert outcome.statuses == {200: 10, 503: 10}
    assert outcome.failures == 10


def test_connections_that_the_server_ends_in_good_order_are_made_again():
    with server(lambda _: LAST) as (address, _):
        outcome = Generator(address, PAYLOAD, 2).run(rate=None, requests=20)

    assert outcome.statuses == {200: 20}
    assert outcome.failures == 0


def test_lost_connections_are_errors():
    with server(lambda number: None if number == 3 else OK) as (address, _):
        outcome = Generator(address, PAYLOAD, 2).run(rate=None, requests=10)

    assert outcome.statuses == {200: 9}
    assert (outcome.connection_errors, outcome.unanswered) == (1, 0)


def test_what_is_never_answered_is_told():
    held = threading.Event()

    def answer(number: int) -> bytes:
        held.wait(20)
        return OK

    with server(answer) as (address, _):
        outcome = Generator(address, PAYLOAD, 2).run(rate=1000, requests=10, drain_seconds=0.2)
        held.set()

    assert outcome.latencies == []
    assert (outcome.unanswered, outcome.failures) == (10, 10)


def test_nobody_listening_is_no_success():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    generator = Generator(address, PAYLOAD, 1)
    outcome = generator.run(rate=100, requests=5, drain_seconds=0.1)

    assert outcome.unanswered == 5
    assert outcome.connection_errors > 0
