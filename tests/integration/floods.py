"""Clients that make the service hold bodies: large ones at once, and large ones in tiny chunks."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import hostile
from .hostile import LIMIT_BYTES
from .servers import Server, receive

BODY = hostile.VALID[0]
# one byte at the end is never sent
HELD_BYTES = LIMIT_BYTES - 100


@dataclass
class Held:
    """Connections that announced a body each.

    Attributes:
        taken: those that were asked for it (`100 Continue`) and have sent all but the last byte.
        answers: how many got which status instead.
        faults: what an answer lacked.
    """

    taken: list[socket.socket] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@contextlib.contextmanager
def held_bodies(server: Server, count: int, target: str = "/predict", size_bytes: int = HELD_BYTES) -> Iterator[Held]:
    """Open connections that each announce a body, and send all of it but a byte if they are asked for it."""
    head = (
        f"POST {target} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {size_bytes}\r\n\r\n"
    ).encode()
    held = Held()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(server.open_socket())
            sock.sendall(head)
            if sock.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL) == b"HTTP/1.1 100":
                assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
                sock.sendall(BODY + b" " * (size_bytes - len(BODY) - 1))
                held.taken.append(sock)
                continue
            answer = receive(sock)
            held.answers[answer.status] += 1
            if "retry-after" not in answer.headers or answer.headers["connection"] != "close":
                held.faults.append(str(answer))
        yield held


def in_chunks_of(size_bytes: int, body: bytes, target: str = "/predict") -> bytes:
    """Return a request whose body comes in chunks of one size; the last one may be shorter."""
    parts = [body[start : start + size_bytes] for start in range(0, len(body), size_bytes)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return f"POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"


def padded(size_bytes: int = HELD_BYTES) -> bytes:
    """Return a valid body of a size."""
    return BODY.ljust(size_bytes)
