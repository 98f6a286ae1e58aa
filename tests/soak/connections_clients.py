"""Clients who behave badly, in a process of their own, and honest ones; all on raw sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.integration import hostile
from tests.integration.servers import HOST, Server

ESTABLISHED = 1
TICK_SECONDS = 0.25
BODY = hostile.VALID[0]
PLAIN = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)

# what each sends at once, and what once a second
ATTACKS: dict[str, tuple[bytes, bytes]] = {
    "idle": (b"", b""),
    "header drip": (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: ", b"a"),
    "body drip": (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b" "),
    "slow read": (b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n" * 3, b""),
    "idle keep-alive": (PLAIN, b""),
}


@dataclass
class Attackers:
    """What became of the attackers.

    Attributes:
        lives: kind → seconds from the connection (idle keep-alive: from its answer) until the server closed it.
        open_at_most: connections at one moment.
        left: kind → the oldest one that was still open at the end, in seconds.
    """

    lives: dict[str, list[float]] = field(default_factory=dict)
    open_at_most: int = 0
    left: dict[str, float] = field(default_factory=dict)


class _Attacker:
    """One connection of one kind."""

    def __init__(self, kind: str, port: int) -> None:
        """Connect and send the beginning."""
        self.kind = kind
        self.socket = socket.socket()
        if kind == "slow read":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(5)
        self.socket.connect((HOST, port))
        self.socket.sendall(ATTACKS[kind][0])
        if kind == "idle keep-alive":
            self.socket.recv(65_536)
        self.socket.setblocking(False)
        self.since = time.monotonic()

    def drip(self) -> None:
        """Send, or read, one byte."""
        with contextlib.suppress(OSError):
            if self.kind == "slow read":
                self.socket.recv(1)
            elif ATTACKS[self.kind][1]:
                self.socket.send(ATTACKS[self.kind][1])

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed it, whatever is left to read."""
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED


def attack(port: int, count: int, seconds: float) -> Attackers:
    """Keep `count` connections of every kind open for some time, anew whenever the server closes one."""
    found = Attackers({kind: [] for kind in ATTACKS})
    alive: list[_Attacker] = []
    end, dripped = time.monotonic() + seconds, 0.0
    while (now := time.monotonic()) < end:
        for one in [one for one in alive if not one.is_open]:
            found.lives[one.kind].append(now - one.since)
            one.socket.close()
            alive.remove(one)
        for kind in ATTACKS:
            # at most 100 a second of each kind, so that it is their number that hurts
            for _ in range(min(25, count - sum(one.kind == kind for one in alive))):
                with contextlib.suppress(OSError):
                    alive.append(_Attacker(kind, port))
        found.open_at_most = max(found.open_at_most, len(alive))
        if now - dripped >= 1:
            dripped = now
            for one in alive:
                one.drip()
        _wait(max(0.0, now + TICK_SECONDS - time.monotonic()))
    for one in alive:
        if one.is_open:
            found.left[one.kind] = max(found.left.get(one.kind, 0.0), time.monotonic() - one.since)
        one.socket.close()
    return found


def flood(port: int, count: int, seconds: float) -> int:
    """Open many connections that say nothing, hold them for some time, and return how many were ever established."""
    sockets = []
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError, OSError):
            one.connect((HOST, port))
        sockets.append(one)
    end = time.monotonic() + seconds
    seen: set[int] = set()
    while time.monotonic() < end:
        for place, one in enumerate(sockets):
            if one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED:
                seen.add(place)
        _wait(TICK_SECONDS)
    for one in sockets:
        one.close()
    return len(seen)


@contextlib.contextmanager
def beside(work: Callable[..., Any], *arguments: Any) -> Iterator[Callable[[], Any]]:
    """Do some work in a fresh process; yields a function that waits for its result."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        result = pool.apply_async(work, arguments)
        yield lambda: result.get(600)


@dataclass(frozen=True)
class Honest:
    """What honest clients saw: seconds from when a request was due, and what went wrong."""

    seconds: list[float]
    failures: list[str]

    @property
    def p99_ms(self) -> float:
        """The 99th percentile, in milliseconds."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)] * 1e3 if self.seconds else float("inf")


def honest(server: Server, rate: float, seconds: float) -> Honest:
    """Send predictions at a constant rate, each over a connection of its own; the answer must be the usual one."""
    expected = json.loads(server.predict(BODY).body)["prediction"]
    start, found, failures = time.monotonic() + 0.1, list[float](), list[str]()

    def one(number: int) -> None:
        due = start + number / rate
        _wait(max(0.0, due - time.monotonic()))
        try:
            answer = server.predict(BODY)
            if answer.status != 200 or answer.json()["prediction"] != expected:
                failures.append(f"status {answer.status}")
        except (OSError, http.client.HTTPException) as error:
            failures.append(repr(error))
        found.append(time.monotonic() - due)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(int(rate * seconds))))
    return Honest(found, failures)


def _wait(seconds: float) -> None:
    """Let some time pass: a load has a rhythm, nothing is being waited for."""
    threading.Event().wait(seconds)


def wait(seconds: float) -> None:
    """Let a load go on for some time."""
    _wait(seconds)


def summary(lives: Mapping[str, list[float]]) -> list[str]:
    """Return a line for each kind of attacker."""
    return [
        f"{kind:<16} closed {len(found):>5}, after {min(found):.1f} to {max(found):.1f} s"
        if found
        else f"{kind:<16} closed     0"
        for kind, found in lives.items()
    ]
