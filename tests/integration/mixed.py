"""A mix of requests over a few kept connections: single rows, batches, refusals, explanations, unknown paths."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from load.connections import parse_reply

from .servers import DEADLINE_SECONDS, HOST

ADELIE = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}


def post(value: object, query: str = "", request_id: str = "") -> bytes:
    """Return the bytes of a request for predictions."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    name = f"X-Request-Id: {request_id}\r\n" if request_id else ""
    head = f"POST /predict{query} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{name}"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


# share of all requests, the request, the status it must have
MIX = [
    (0.78, post(ADELIE), 200),
    (0.05, post({"instances": [ADELIE] * 10}), 200),
    (0.05, post({**ADELIE, "body_mass_g": "heavy"}), 422),
    (0.04, post(b"{"), 400),
    (0.02, post(ADELIE, "?explain=true"), 200),
    (0.005, post({"instances": [ADELIE] * 600}), 200),
    (0.03, get("/nowhere"), 404),
    (0.02, get("/health/live"), 200),
    (0.005, get("/model"), 200),
]


@dataclass
class Outcome:
    """What became of all requests.

    Attributes:
        statuses: answers by status.
        wrong: answers with another status than the request must have.
        lost: requests whose connection ended before the answer.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: Counter[tuple[int, int]] = field(default_factory=Counter)
    lost: int = 0


class Client:
    """Sends one request on each of a few connections, then reads all answers, and so on; connects again when cut."""

    def __init__(self, port: int, connections: int = 8, seed: int = 7) -> None:
        self._port, self._random = port, Random(seed)
        self._sockets: list[socket.socket | None] = [None] * connections
        self.outcome = Outcome()

    def run(self, requests: int, after: Callable[[int], object] = lambda _: None) -> Outcome:
        """Send so many requests of the mix; `after` is told how many were sent, after each round."""
        for sent in self.rounds(requests):
            after(sent)
        return self.outcome

    def rounds(self, requests: int) -> Iterator[int]:
        """Send so many requests of the mix, yielding how many were sent after each round."""
        sent = 0
        shares = [share for share, _, _ in MIX]
        while sent < requests:
            chosen = self._random.choices(MIX, shares, k=len(self._sockets))
            self.round([(data, status) for _, data, status in chosen])
            sent += len(chosen)
            yield sent

    def round(self, chosen: list[tuple[bytes, int]]) -> None:
        """Send one request on each connection and read the answers."""
        under_way = []
        for index, (data, status) in enumerate(chosen):
            try:
                if self._sockets[index] is None:
                    self._sockets[index] = socket.create_connection((HOST, self._port), timeout=DEADLINE_SECONDS)
                self._sockets[index].sendall(data)
                under_way.append((index, status))
            except OSError:
                self._lose(index)
        for index, status in under_way:
            self._read(index, status)

    def close(self) -> None:
        for one in self._sockets:
            if one is not None:
                one.close()

    def _read(self, index: int, wanted: int) -> None:
        buffer = b""
        try:
            while (found := parse_reply(buffer)) is None:
                data = self._sockets[index].recv(1 << 18)
                if not data:
                    self._lose(index)
                    return
                buffer += data
        except OSError:
            self._lose(index)
            return
        status, _, is_last = found
        self.outcome.statuses[status] += 1
        if status != wanted:
            self.outcome.wrong[wanted, status] += 1
        if is_last:
            self._sockets[index].close()
            self._sockets[index] = None

    def _lose(self, index: int) -> None:
        self.outcome.lost += 1
        if self._sockets[index] is not None:
            self._sockets[index].close()
            self._sockets[index] = None
