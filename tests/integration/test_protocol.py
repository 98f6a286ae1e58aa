"""Invalid HTTP over raw connections: nothing of it is answered as if it had been understood (B1)."""

from __future__ import annotations

import errno
import re
import socket

import pytest

from tests.conftest import Tell

from . import hostile
from .servers import Server

BODY = hostile.VALID[0]
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
START = b"POST /predict HTTP/1.1\r\n"
HOST = b"Host: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ONE_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

INVALID = {
    "length and chunked": START + HOST + LENGTH + CHUNKED + b"\r\n" + ONE_CHUNK,
    "chunked and length": START + HOST + CHUNKED + LENGTH + b"\r\n" + ONE_CHUNK,
    "two different lengths": START + HOST + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY,
    "two equal lengths": START + HOST + LENGTH + LENGTH + b"\r\n" + BODY,
    "two lengths in one header": START + HOST + b"Content-Length: 5, 111\r\n\r\n" + BODY,
    "negative length": START + HOST + b"Content-Length: -1\r\n\r\n" + BODY,
    "length with a plus": START + HOST + b"Content-Length: +111\r\n\r\n" + BODY,
    "length with a point": START + HOST + b"Content-Length: 111.0\r\n\r\n" + BODY,
    "hexadecimal length": START + HOST + b"Content-Length: 0x6f\r\n\r\n" + BODY,
    "length in words": START + HOST + b"Content-Length: many\r\n\r\n" + BODY,
    "length of 5,000 digits": START + HOST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + BODY,
    "empty length": START + HOST + b"Content-Length: \r\n\r\n" + BODY,
    "chunk size is no number": START + HOST + CHUNKED + b"\r\nxyz\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk size is negative": START + HOST + CHUNKED + b"\r\n-6f\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk size with a prefix": START + HOST + CHUNKED + b"\r\n0x6f\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk size beyond 64 bits": START + HOST + CHUNKED + b"\r\n1000000000000006f\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk without its end": START + HOST + CHUNKED + b"\r\n6f\r\n" + BODY + b"0\r\n\r\n",
    "chunk shorter than it says": START + HOST + CHUNKED + b"\r\nff\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunked twice": START + HOST + CHUNKED + CHUNKED + b"\r\n" + ONE_CHUNK,
    "chunked before gzip": START + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + ONE_CHUNK,
    "unknown transfer coding": START + HOST + b"Transfer-Encoding: xchunked\r\n\r\n" + ONE_CHUNK,
    "chunked with a vertical tab": START + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + ONE_CHUNK,
    "chunked in HTTP/1.0": b"POST /predict HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n" + ONE_CHUNK,
    "space before the colon": START + HOST + b"Content-Length : 111\r\n\r\n" + BODY,
    "space in a name": START + HOST + b"Content Length: 111\r\n\r\n" + BODY,
    "folded header": START + HOST + b"X-Folded: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
    "folded transfer encoding": START + HOST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + ONE_CHUNK,
    "bare line feeds": (START + HOST + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "bare line feed in a header": START + b"Host: x\n" + LENGTH + b"\r\n" + BODY,
    "bare carriage return in a header": START + HOST + b"X-A: a\rb\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in a header": START + HOST + b"X-A: a\x00b\r\n" + LENGTH + b"\r\n" + BODY,
    "no host": START + LENGTH + b"\r\n" + BODY,
    "two hosts": START + HOST + b"Host: y\r\n" + LENGTH + b"\r\n" + BODY,
    "line without a colon": START + HOST + b"nonsense\r\n" + LENGTH + b"\r\n" + BODY,
    "no version": b"POST /predict\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "unknown version": b"POST /predict HTTP/9.9\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "lower-case version": b"POST /predict http/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "space in the target": b"POST /pre dict HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "control character in the target": b"POST /predict\x01 HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "target of 10,000 characters": b"POST /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "header of 100,000 characters": START + HOST + b"X-A: " + b"a" * 100_000 + b"\r\n" + LENGTH + b"\r\n" + BODY,
    "1,000 headers": START + HOST + b"X-A: a\r\n" * 1000 + LENGTH + b"\r\n" + BODY,
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "body shorter than its length": START + HOST + b"Content-Length: 9999\r\n\r\n" + BODY,
    "nothing but a line end": b"\r\n\r\n",
    "header folded with a tab": START + HOST + b"X-Folded: a\r\n\tb\r\n" + LENGTH + b"\r\n" + BODY,
    "folded request line": START + b" X-A: a\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "head ends with a bare line feed": START + HOST + LENGTH + b"\n" + BODY,
    "line feed before the request line": b"\n" + START + HOST + LENGTH + b"\r\n" + BODY,
    "gzip before chunked": START + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + ONE_CHUNK,
    "two request lines": START + START + HOST + LENGTH + b"\r\n" + BODY,
    "list of lengths": START + HOST + b"Content-Length: 111, 111\r\n\r\n" + BODY,
    "chunked and a space before the colon": START + HOST + b"Transfer-Encoding : chunked\r\n\r\n" + ONE_CHUNK,
}

STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def statuses(server: Server, raw: bytes) -> list[int]:
    """Send bytes, say that no more will come, and return the status of every answer until the connection ends."""
    received = b""
    with server.open_socket() as sock:
        try:
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                raise
        try:
            while chunk := sock.recv(65_536):
                received += chunk
        except ConnectionResetError:
            pass
    return [int(status) for status in STATUS_LINE.findall(received)]


def test_valid_request_is_answered_over_a_raw_connection(fast_server: Server) -> None:
    assert statuses(fast_server, START + HOST + LENGTH + b"\r\n" + BODY) == [200]
    assert statuses(fast_server, START + HOST + CHUNKED + b"\r\n" + ONE_CHUNK) == [200]


@pytest.mark.parametrize("name", INVALID)
def test_invalid_http_is_never_answered_with_success_or_failure_of_ours(
    fast_server: Server, name: str, tell: Tell
) -> None:
    workers = fast_server.workers()
    found = statuses(fast_server, INVALID[name])

    tell(f"B1: {name}: {found or 'closed without an answer'}")
    assert [status for status in found if status < 300 or status == 500] == []
    assert fast_server.workers() == workers


def test_pipelined_requests_are_answered_in_order(fast_server: Server) -> None:
    one = START + HOST + LENGTH + b"\r\n" + BODY
    two = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
    three = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    assert statuses(fast_server, one + two + three) == [200, 404, 200]


def test_underscore_in_a_header_does_not_stand_for_a_dash(fast_server: Server) -> None:
    with fast_server.open_socket() as sock:
        sock.sendall(START + HOST + b"X_Request_Id: forged\r\nContent_Length: 3\r\n" + LENGTH + b"\r\n" + BODY)
        received = sock.recv(65_536)

    assert STATUS_LINE.match(received) is None or int(STATUS_LINE.match(received)[1]) in (200, 400)
    assert b"forged" not in received
