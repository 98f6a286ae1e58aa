"""Requests as raw bytes, faults of their framing, and what other servers read in the same bytes."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import h11
from gunicorn.asgi.parser import PythonProtocol

from tests.faults import Case, fault

from . import hostile
from .servers import DEADLINE_SECONDS, HOST, Server

BODY = hostile.VALID[0]
ROWS = hostile.VALID[1]
STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

# what an attacker hides in a body: whoever is answered once too often has been smuggled past
HIDDEN = b"GET /health/live?hidden HTTP/1.1\r\nHost: x\r\n\r\n"

# the fast path, the bridge's loop and its thread, another protocol, and a request that needs no body
ROUTES = {
    "fast path": (b"POST /predict", BODY),
    "bridge": (b"POST /predict?explain=false", BODY),
    "explanation": (b"POST /predict?explain=true", BODY),
    "another protocol": (b"POST /invocations", ROWS),
    "no body needed": (b"GET /health/live", BODY),
}


def sized(route: tuple[bytes, bytes], *lines: bytes) -> bytes:
    """Return a request with its length."""
    target, body = route
    head = [target + b" HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join([*head, b"", b""]) + body


def chunked(route: tuple[bytes, bytes], *lines: bytes) -> bytes:
    """Return a request with its body in one chunk."""
    target, body = route
    head = [target + b" HTTP/1.1", b"Host: x", b"Transfer-Encoding: chunked", *lines]
    return b"\r\n".join([*head, b"", b""]) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


# --- numbers: size of the body → what is written instead, in decimal or hex digits

Digits = Callable[[int], bytes]
POWERS = (31, 32, 53, 60, 63, 64, 65, 128)


def wrong_numbers(size: int, digits: Digits) -> dict[str, bytes]:
    """Return what must not be read as this size, or as any other: 2^31 and more, signs, other digits, other forms."""
    right = digits(size)
    large = {f"2^{power}{sign}": digits(2**power + more) for power in POWERS for sign, more in (("", 0), ("+n", size))}
    wrapped = {f"a multiple of 2^{power}, +n": digits(3 * 2**power + size) for power in POWERS}
    forms = {
        "negative": b"-" + right,
        "negative zero": b"-0",
        "plus": b"+" + right,
        "a space inside": right[:1] + b" " + right[1:],
        "a tab inside": right[:1] + b"\t" + right[1:],
        "a vertical tab before": b"\x0b" + right,
        "a form feed after": right + b"\x0c",
        "a no-break space before": b"\xa0" + right,
        "NUL after": right + b"\x00",
        "underscore": right[:1] + b"_" + right[1:],
        "comma": right + b"," + right,
        "comma and space": right + b", " + right,
        "point": right + b".0",
        "exponent": right + b"e0" if digits is not hexadecimal else right + b"p0",
        "0x": b"0x%x" % size,
        "0o": b"0o%o" % size,
        "h after": b"%xh" % size,
        "quotes": b'"' + right + b'"',
        "superscript": right + b"\xb2",
        "Arabic digits": "٩٤".encode(),
        "full-width digits": "９４".encode(),
        "no digit": b"many",
        "5,000 digits": b"9" * 5000,
        "5,000 zeros before": b"0" * 5000 + right,
    }
    if digits is hexadecimal:
        # five thousand zeros before a chunk size are read alike by every parser tried
        del forms["5,000 zeros before"]
        forms |= {"a space before": b" " + right, "a space after": right + b" ", "a tab after": right + b"\t"}
    else:
        forms |= {"hex digits": b"5e", "nothing": b"", "30 zeros before": b"0" * 30 + right}
    return large | wrapped | forms


def decimal(number: int) -> bytes:
    """Write a length."""
    return b"%d" % number


def hexadecimal(number: int) -> bytes:
    """Write a chunk size."""
    return b"%x" % number


def odd_numbers(size: int, digits: Digits) -> dict[str, bytes]:
    """Return what RFC 9110 and 9112 allow and may be answered: one meaning, however unusual it looks."""
    right = digits(size)
    both = {"a zero before": b"0" + right, "ten zeros before": b"0" * 10 + right, "plain": right}
    if digits is hexadecimal:
        return both | {
            "capitals": right.upper(),
            "17 zeros before": b"0" * 17 + right,
            "5,000 zeros before": b"0" * 5000 + right,
            "an extension": right + b";a=b",
            "a quoted extension": right + b';a="b c"',
            "an empty extension": right + b";",
        }
    return both | {
        "a space more before": b" " + right,
        "a tab before": b"\t" + right,
        "a space after": right + b" ",
        "a tab after": right + b"\t",
    }


def wrong_length(route: tuple[bytes, bytes], name: str) -> Case:
    """Return a request whose length is a wrong number."""
    right = b"Content-Length: %d\r\n" % len(route[1])
    wrong = wrong_numbers(len(route[1]), decimal)[name]
    return fault(sized(route), right, b"Content-Length: " + wrong + b"\r\n")


def wrong_chunk_size(route: tuple[bytes, bytes], name: str) -> Case:
    """Return a request whose chunk size is a wrong number."""
    right = b"\r\n\r\n%x\r\n" % len(route[1])
    wrong = wrong_numbers(len(route[1]), hexadecimal)[name]
    return fault(chunked(route), right, b"\r\n\r\n" + wrong + b"\r\n")


WRONG_LENGTHS = list(wrong_numbers(94, decimal))
WRONG_CHUNK_SIZES = list(wrong_numbers(94, hexadecimal))

# these are sizes of chunks that might come: more than the limit of a body, less than 2^64
AWAITED_CHUNK_SIZES = {
    name for name, text in wrong_numbers(94, hexadecimal).items() if name.partition("2^")[2] and int(text, 16) < 2**64
}


def odd_requests(route: tuple[bytes, bytes]) -> dict[str, bytes]:
    """Return requests that look unusual and have one meaning."""
    size = len(route[1])
    lengths = {
        f"length: {name}": sized(route).replace(b": %d\r\n" % size, b": " + text + b"\r\n")
        for name, text in odd_numbers(size, decimal).items()
    }
    sizes = {
        f"chunk size: {name}": chunked(route).replace(b"\r\n\r\n%x\r\n" % size, b"\r\n\r\n" + text + b"\r\n")
        for name, text in odd_numbers(size, hexadecimal).items()
    }
    last = {
        f"last chunk: {name}": chunked(route).replace(b"\r\n0\r\n\r\n", b"\r\n" + text + b"\r\n\r\n")
        for name, text in {"zeros": b"000", "an extension": b"0;a=b"}.items()
    }
    return lengths | sizes | last


# --- what is answered


def exchange_raw(server: Server, raw: bytes, *, says_end: bool = True) -> bytes:
    """Send bytes and return all that comes until the server ends the connection.

    Args:
        server: that is asked.
        raw: what is sent, whatever the server does meanwhile.
        says_end: whether the client closes its half, so that even a connection in order ends.
    """
    received = b""
    with server.open_socket() as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(raw)
            if says_end:
                sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(65_536):
                received += chunk
    return received


def statuses(server: Server, raw: bytes, *, says_end: bool = True) -> list[int]:
    """Send bytes and return the status of every answer until the server ends the connection."""
    received = exchange_raw(server, raw, says_end=says_end)
    return [int(status) for status in STATUS_LINE.findall(received)]


# --- what others read: method, target and body of each request, nothing more once one is refused

Message = tuple[str, str, bytes]
Reader = Callable[[bytes], list[Message]]


def read_with_h11(raw: bytes) -> list[Message]:
    """Read as h11 does, which uvicorn and Hypercorn use (https://github.com/python-hyper/h11)."""
    connection, messages = h11.Connection(h11.SERVER), list[Message]()
    connection.receive_data(raw)
    head, body = None, b""
    with contextlib.suppress(h11.RemoteProtocolError):
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                messages.append((head.method.decode(), head.target.decode("latin-1"), bytes(body)))
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
    return messages


def read_with_gunicorn(raw: bytes) -> list[Message]:
    """Read as Gunicorn's own parser in Python does."""
    messages: list[Message] = []
    while raw:
        body: list[bytes] = []
        parser = PythonProtocol(on_body=body.append)
        try:
            parser.feed(raw)
        except Exception:  # noqa: BLE001 - each refusal has a class of its own
            return messages
        if not parser.is_complete:
            return messages
        messages.append((parser.method.decode(), parser.path.decode("latin-1"), b"".join(body)))
        raw = parser.remaining()
    return messages


NODE = """
const server = require('http').createServer((request, response) => {
  const parts = [];
  request.on('data', part => parts.push(part));
  request.on('end', () => response.end(
    JSON.stringify([request.method, request.url, Buffer.concat(parts).toString('latin1')]) + '\\n'));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""


@contextmanager
def node() -> Iterator[Reader | None]:
    """Read as llhttp does, in node's own server; None where there is no node."""
    path = shutil.which("node")
    if path is None:
        yield None
        return
    with subprocess.Popen([path, "-e", NODE], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())

            def read(raw: bytes) -> list[Message]:
                received = b""
                with socket.create_connection((HOST, port), timeout=DEADLINE_SECONDS) as sock:
                    with contextlib.suppress(OSError):
                        sock.sendall(raw)
                        sock.shutdown(socket.SHUT_WR)
                    with contextlib.suppress(ConnectionResetError):
                        while chunk := sock.recv(65_536):
                            received += chunk
                found = [json.loads(line) for line in received.split(b"\n") if line.startswith(b"[")]
                return [(method, target, body.encode("latin-1")) for method, target, body in found]

            yield read
        finally:
            process.kill()
