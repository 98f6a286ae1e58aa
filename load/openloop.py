"""Sends requests at fixed times, whatever the server does, and keeps every latency: `python -m load.openloop --help`.

A closed loop slows down with the server and hides its overload. Here request i is due at i / rate seconds, waits for a
free connection if it must, and its latency counts from when it was due.
"""

from __future__ import annotations

import functools
import gc
import json
import math
import os
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from load.connections import Connection, request_bytes
from load.percentiles import percentile
from load.processes import LOAD_CORE
from model.command_line import Parser

# nearer than this the loop spins instead of sleeping: epoll counts whole milliseconds
SPIN_SECONDS = 0.002
RETRY_SECONDS = 0.05
CONNECT_SECONDS = 5
EXAMPLE = b'{"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}'


@dataclass
class Outcome:
    """What became of all requests.

    Attributes:
        seconds: from the first due time to the last answer.
        latencies: of each answer, in seconds, in order of the answers, whatever the status.
        codes: the status of each answer, in the order of `latencies`.
        ends: when each came, in seconds since the beginning, in the same order.
        wrongs: what a check found wrong with each, in the same order; empty without a check.
        statuses: answers by status.
        connection_errors: requests lost with their connection, and failed attempts to connect.
        unanswered: requests that were due and had no answer when the time to drain was over.
        lateness: the longest that a request waited though a connection was free, in seconds: the client's own fault.
        began: when the first request was due, on `time.perf_counter`.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    connection_errors: int = 0
    unanswered: int = 0
    lateness: float = 0.0
    began: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    @property
    def failures(self) -> int:
        """Requests without a 2xx."""
        refused = sum(count for status, count in self.statuses.items() if not 200 <= status < 300)
        return refused + self.connection_errors + self.unanswered

    def latencies_of(self, status: int) -> list[float]:
        """Return the latencies of the answers with one status."""
        return [seconds for code, seconds in zip(self.codes, self.latencies, strict=True) if code == status]

    def summary(self) -> dict[str, object]:
        """Return everything but the raw samples."""
        marks = {f"p{mark:g}": percentile(self.latencies, mark) * 1000 for mark in (50, 95, 99, 99.9) if self.latencies}
        return {
            "answers_per_second": round(self.rate, 1),
            "latency_ms": {name: round(value, 3) for name, value in marks.items()},
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "connection_errors": self.connection_errors,
            "unanswered": self.unanswered,
            "client_lateness_ms": round(self.lateness * 1000, 3),
        }


class Generator:
    """Sends one request again and again over a few connections."""

    def __init__(
        self,
        address: tuple[str, int],
        payload: bytes,
        connections: int,
        check: Callable[[int, bytes], str] | None = None,
    ) -> None:
        """Prepare; nothing is sent before `run`.

        Args:
            address: host and port.
            payload: the bytes of the request, see `request_bytes`.
            connections: kept alive, made again when the server closes them.
            check: says what is wrong with an answer; as all requests are the same, it is asked once for each answer.
        """
        self._address, self._payload, self._count = address, payload, connections
        self._check = functools.cache(check) if check is not None else None
        self._outcome = Outcome()
        self._by_number: dict[int, Connection] = {}
        self._free: list[Connection] = []
        self._broken: list[tuple[float, Connection]] = []

    def run(self, rate: float | None, requests: int, drain_seconds: float = 5) -> Outcome:
        """Send requests and wait for their answers.

        Args:
            rate: requests due a second; None for a closed loop, in which each is due when a connection is free.
            requests: how many.
            drain_seconds: how long to wait for answers after the last one was due, in an open loop.
        """
        was_enabled = gc.isenabled()
        gc.disable()
        self._epoll = select.epoll()
        try:
            for _ in range(self._count):
                self._add(Connection(self._address, self._epoll))
            self._wait_for_connections()
            self._loop(rate, requests, drain_seconds)
        finally:
            for connection in [*self._by_number.values(), *(connection for _, connection in self._broken)]:
                connection.close()
            self._epoll.close()
            if was_enabled:
                gc.enable()
        return self._outcome

    def _wait_for_connections(self) -> None:
        """Let the connections be made before the first request is due; what fails then is tried again later."""
        deadline = time.perf_counter() + CONNECT_SECONDS
        while len(self._free) < self._count and time.perf_counter() < deadline:
            self._serve_events(RETRY_SECONDS)
        self._outcome.connection_errors = 0

    def _loop(self, rate: float | None, requests: int, drain_seconds: float) -> None:
        """Send what is due, take what arrives, until all is answered or it is too late."""
        clock, free, outcome = time.perf_counter, self._free, self._outcome
        interval = 1 / rate if rate else 0.0
        begin = self._began = outcome.began = clock()
        end = begin + requests * interval + drain_seconds if rate else math.inf
        sent = 0
        while True:
            now = clock()
            while sent < requests and free:
                due = begin + sent * interval if rate else now
                if due > now:
                    break
                sent += 1
                self._send(free.pop(), due, now)
            if sent == requests and not any(c.is_busy for c in self._by_number.values()):
                break
            if now > end:
                outcome.unanswered = sum(c.is_busy for c in self._by_number.values()) + requests - sent
                break
            wait = due - now if free and sent < requests else RETRY_SECONDS
            self._serve_events(wait - SPIN_SECONDS if wait > SPIN_SECONDS else 0)
        outcome.seconds = clock() - begin

    def _send(self, connection: Connection, due: float, now: float) -> None:
        """Send one request, or lose it with its connection."""
        if connection.freed <= due and now - due > self._outcome.lateness:
            self._outcome.lateness = now - due
        try:
            connection.send(self._payload, due)
        except OSError:
            self._lose(connection)

    def _serve_events(self, timeout: float) -> None:
        """Take what arrives within some time."""
        for number, mask in self._epoll.poll(timeout):
            connection = self._by_number[number]
            try:
                if mask & select.EPOLLOUT:
                    self._write(connection)
                if mask & ~select.EPOLLOUT:
                    self._read(connection)
            except OSError:
                self._lose(connection)
        while self._broken and self._broken[0][0] < time.perf_counter():
            connection = self._broken.pop(0)[1]
            connection.reopen()
            self._add(connection)

    def _write(self, connection: Connection) -> None:
        """Go on with a connection that can be written to."""
        if connection.is_connected:
            connection.send_rest()
            return
        connection.finish_connecting()
        self._release(connection, time.perf_counter())

    def _read(self, connection: Connection) -> None:
        """Take a reply, if it is complete."""
        found = connection.receive()
        if found is None:
            return
        now = time.perf_counter()
        status, closes = found
        if self._check is not None:
            self._outcome.wrongs.append(self._check(status, connection.body))
        self._outcome.latencies.append(now - connection.due)
        self._outcome.ends.append(now - self._began)
        self._outcome.codes.append(status)
        self._outcome.statuses[status] += 1
        if closes:
            self._reopen(connection)
        else:
            self._release(connection, now)

    def _release(self, connection: Connection, now: float) -> None:
        """Let a connection be used."""
        connection.freed = now
        self._free.append(connection)

    def _lose(self, connection: Connection) -> None:
        """Count what was under way and connect anew, later if nobody listens; an idle connection may be closed."""
        if connection.is_busy or not connection.is_connected:
            self._outcome.connection_errors += 1
        if connection in self._free:
            self._free.remove(connection)
        if connection.is_connected:
            self._reopen(connection)
            return
        del self._by_number[connection.fileno]
        connection.close()
        self._broken.append((time.perf_counter() + RETRY_SECONDS, connection))

    def _reopen(self, connection: Connection) -> None:
        """Connect anew at once."""
        del self._by_number[connection.fileno]
        connection.reopen()
        self._add(connection)

    def _add(self, connection: Connection) -> None:
        """Follow a connection."""
        self._by_number[connection.fileno] = connection


def main(arguments: Sequence[str] | None = None) -> int:
    """Load one address and print what became of it as JSON; returns 1 if any request had no 2xx."""
    parser = Parser(
        prog="python -m load.openloop",
        description="Send requests at a constant rate, whatever the server does.",
        epilog="exit status: 0 every request had a 2xx, 1 some had not, 2 wrong usage\n\n"
        "example: python -m load.openloop http://127.0.0.1:8080/predict --rate 2000 --seconds 10",
    )
    parser.add_argument("url", help="where to post")
    parser.add_argument("--rate", type=float, help="requests due a second; without it the next follows on each answer")
    parser.add_argument("--seconds", type=float, default=10, help="of requests at that rate (default: 10)")
    parser.add_argument("--requests", type=int, help="how many, instead of --seconds")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--drain-seconds", type=float, default=5, help="wait so long for the last answers (default: 5)")
    parser.add_argument("--body", type=Path, help="file with the JSON to send (default: a penguin)")
    parser.add_argument("--samples", type=Path, help="write every latency there, in seconds, one a line")
    given = parser.parse_args(arguments)
    if given.rate is None and given.requests is None:
        parser.error("give --rate, or --requests for a closed loop")
    os.sched_setaffinity(0, {LOAD_CORE})
    url = urlsplit(given.url)
    address = (url.hostname or "127.0.0.1", url.port or 80)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    payload = request_bytes(url.netloc, path, given.body.read_bytes() if given.body else EXAMPLE)
    requests = given.requests or round(given.rate * given.seconds)
    outcome = Generator(address, payload, given.connections).run(given.rate, requests, given.drain_seconds)
    if given.samples:
        given.samples.write_text("".join(f"{seconds:.6f}\n" for seconds in outcome.latencies))
    print(json.dumps(outcome.summary(), indent=2))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
