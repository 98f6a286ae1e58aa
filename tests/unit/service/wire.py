"""Speaks raw HTTP/1.1 to a real connection over a transport that only remembers."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gunicorn.config import Config

from service.admission import SLICE_SECONDS, Admission
from service.connection import Connection
from service.deadlines import Deadlines
from service.server import Bridge

DEADLINE_SECONDS = 20
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
# what differs from one answer to the next
CHANGING = re.compile(rb"(?im)^(date|server-timing): [^\r]*")
GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Transport(asyncio.Transport):
    """A socket's end: keeps what is written and says when it is closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin open, with a client who reads."""
        super().__init__({"peername": ("10.0.0.9", 1234), "sockname": ("127.0.0.1", 8080), "socket": self})
        self.options: list[tuple[int, int, Any]] = []
        self._loop, self.written, self.is_closed = loop, b"", False
        self.connection: Connection | None = None
        self.is_aborted, self.is_reading, self.unread_bytes = False, True, 0

    def setsockopt(self, level: int, name: int, value: Any) -> None:
        """Remember what is asked of the socket."""
        self.options.append((level, name, value))

    def get_write_buffer_size(self) -> int:
        """What the client has not read, as a test says."""
        return self.unread_bytes

    def abort(self) -> None:
        """Close at once."""
        self.is_aborted = True
        self.close()

    def write(self, data: Any) -> None:
        """Keep what goes out."""
        if not self.is_closed:
            self.written += bytes(data)

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self.is_closed

    def can_write_eof(self) -> bool:
        """Nothing to be said about the end."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Any number of bytes may be on their way."""

    def pause_reading(self) -> None:
        """Parts keep coming."""
        self.is_reading = False

    def resume_reading(self) -> None:
        """Parts keep coming."""
        self.is_reading = True

    def close(self) -> None:
        """Tell the connection soon, as a real transport does."""
        if not self.is_closed:
            self.is_closed = True
            assert self.connection is not None
            self._loop.call_soon(self.connection.connection_lost, None)


class Worker:
    """What a connection asks of Gunicorn's worker."""

    def __init__(self, asgi: Any, loop: asyncio.AbstractEventLoop, keepalive: int = 5, timeout: int = 30) -> None:
        """Serve an application."""
        self.cfg = Config()
        for name, value in (("keepalive", keepalive), ("timeout", timeout), ("asgi_disconnect_grace_period", 0)):
            self.cfg.set(name, value)
        self.log = logging.getLogger("gunicorn.test")
        self.log.access_log_enabled = False  # type: ignore[attr-defined]
        self.asgi, self.loop = asgi, loop
        self.alive, self.nr, self.nr_conns, self.max_requests = True, 0, 0, sys.maxsize
        self.connections: set[Connection] = set()
        self.deadlines = Deadlines()
        self.max_connections = 10
        self.ops_port: int | None = None

    def has_room(self) -> bool:
        """Take a few."""
        return len(self.connections) < self.max_connections


class Spy:
    """An application that notes which requests reached it."""

    def __init__(self, bridge: Bridge, slice_seconds: float) -> None:
        """Stand before a bridge."""
        # a queue belongs to one event loop
        bridge.admission = Admission(0.25, 512, slice_seconds=slice_seconds)
        self._bridge, self.short_door, self.answerer = bridge, bridge.short_door, bridge.answerer
        self.admission, self.bodies = bridge.admission, bridge.bodies
        self.paths: list[str] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Note the path and pass the request on."""
        self.paths.append(scope["path"])
        await self._bridge(scope, receive, send)


class Line:
    """One client's connection to the service."""

    def __init__(
        self, bridge: Bridge, keepalive: int = 5, timeout: int = 30, slice_seconds: float = SLICE_SECONDS
    ) -> None:
        """Connect; needs a running loop."""
        loop = asyncio.get_running_loop()
        self.spy = Spy(bridge, slice_seconds)
        self.worker = Worker(self.spy, loop, keepalive, timeout)
        self.connection, self.transport = Connection(self.worker), Transport(loop)
        self.transport.connection = self.connection
        self.connection.connection_made(self.transport)

    @property
    def answers(self) -> list[Answer]:
        """What came back so far."""
        return split(self.transport.written)

    def send(self, *parts: bytes) -> None:
        """Send parts, one after the other, without a turn of the loop."""
        for part in parts:
            if not self.transport.is_closed:
                self.connection.data_received(part)

    async def wait_for(self, count: int) -> list[Answer]:
        """Wait for so many answers, or for the end of the connection."""
        await self.until(lambda: len(self.answers) >= count or self.transport.is_closed)
        return self.answers

    async def until(self, happened: Any) -> None:
        """Wait until something has happened."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        turns = 0
        while not happened():
            assert time.monotonic() < deadline
            turns += 1
            await asyncio.sleep(0 if turns < 100 else 0.001)

    async def settle(self) -> None:
        """Let everything happen that is ready to happen."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def hang_up(self) -> None:
        """End the connection and wait for its task."""
        self.connection.connection_lost(None)
        task = self.connection._task
        await asyncio.wait([task], timeout=DEADLINE_SECONDS)
        assert task.done()


@dataclass(frozen=True)
class Answer:
    """One answer as it came over the line."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.head.split(b" ", 2)[1])

    def header(self, name: str) -> str | None:
        """Return the only value of a header, None if it is not there."""
        found = re.findall(rb"(?im)^" + name.encode() + rb": ([^\r]*)", self.head)
        assert len(found) <= 1
        return found[0].decode("latin-1") if found else None

    def comparable(self, given_id: bytes = b"") -> tuple[bytes, bytes]:
        """Return everything but the time, durations, and the request id if it had to be made up."""
        head, body = CHANGING.sub(rb"\1", self.head), self.body
        made_up = (self.header("x-request-id") or "").encode()
        if made_up and not GIVEN_ID.fullmatch(given_id):
            head, body = head.replace(made_up, b"<id>"), body.replace(made_up, b"<id>")
        return head, body


def split(written: bytes) -> list[Answer]:
    """Return the whole answers in what was written."""
    answers = []
    while True:
        head, end, rest = written.partition(b"\r\n\r\n")
        if not end:
            return answers
        declared = LENGTH.search(head + b"\r\n")
        length = int(declared[1]) if declared else 0
        if len(rest) < length:
            return answers
        answers.append(Answer(head, rest[:length]))
        written = rest[length:]


def raw(
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
    line: str = "POST /predict HTTP/1.1",
    length: str | None = "",
    host: str | None = "localhost",
) -> bytes:
    """Return the bytes of a request; its own length and a host unless told otherwise."""
    lines = [line]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    if length is not None:
        lines.append(f"Content-Length: {length or len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
