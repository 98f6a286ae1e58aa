"""Invalid HTTP over raw connections: nothing of it is answered as if it had been understood (B1)."""

from __future__ import annotations

import pytest

from tests.conftest import Tell
from tests.faults import Case, fault

from .framing import BODY, HIDDEN, ROUTES, STATUS_LINE, chunked, sized, statuses
from .servers import Server

LENGTH = b"Content-Length: %d\r\n" % len(BODY)
START = b"POST /predict HTTP/1.1\r\n"
HOST = b"Host: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SIZE = b"\r\n\r\n%x\r\n" % len(BODY)
OTHER = b"X-A: a\r\n"

SIZED = sized(ROUTES["fast path"])
IN_CHUNKS = chunked(ROUTES["fast path"])
WITH_OTHER = sized(ROUTES["fast path"], b"X-A: a")
# the most that is taken: headers, bytes of the request line and of one header (Gunicorn's defaults)
MOST_HEADERS, LONGEST_LINE, LONGEST_HEADER = 100, 4094, 8190
MANY = sized(ROUTES["fast path"], *[b"X-%d: a" % number for number in range(MOST_HEADERS - 2)])
LONG_TARGET = b"GET /health/live?%s HTTP/1.1\r\n" % (b"a" * (LONGEST_LINE - 26)) + HOST + b"\r\n"
LONG_HEADER = sized(ROUTES["fast path"], b"X-A: " + b"a" * (LONGEST_HEADER - 7))

PORTS = ("65536", "4294967376", "18446744073709551696", "9" * 5000, "-80", "+80", " 80", "8 0", "0x50", "8_0", "80:80")
HOSTS = ("x y", "x/y", "a@x", "[::1", "::1", "x?y", "x#y", "x\\y", "x\xb2", "<x>")
VERSIONS = (
    *("HTTP/1.10", "HTTP/1.01", "HTTP/01.1", "HTTP/1.2", "HTTP/1.4294967297", "HTTP/1.18446744073709551617", "HTTP/1"),
    *(
        "HTTP/4294967297.1",
        "HTTP/9.9",
        "HTTP/2.0",
        "HTTP/0.9",
        "HTTP/1.",
        "HTTP/+1.1",
        "HTTP/1.-1",
        "HTTP/1,1",
        "HTTP/1.1 ",
    ),
    *("http/1.1", "HTTPS/1.1", "HTTP 1.1", "HTTP/1.\xb9"),
)

INVALID: dict[str, Case] = {
    "length and chunked": fault(IN_CHUNKS, CHUNKED, LENGTH + CHUNKED),
    "chunked and length": fault(IN_CHUNKS, CHUNKED, CHUNKED + LENGTH),
    "two different lengths": fault(SIZED, LENGTH, LENGTH + b"Content-Length: 5\r\n"),
    "two equal lengths": fault(SIZED, LENGTH, LENGTH + LENGTH),
    "two lengths in one header": fault(SIZED, LENGTH, b"Content-Length: 5, %d\r\n" % len(BODY)),
    "two equal lengths in one header": fault(SIZED, LENGTH, b"Content-Length: %d, %d\r\n" % (len(BODY), len(BODY))),
    "chunk size is no number": fault(IN_CHUNKS, SIZE, b"\r\n\r\nxyz\r\n"),
    "chunk without its end": fault(IN_CHUNKS, b"\r\n0\r\n\r\n", b"0\r\n\r\n"),
    "chunk ends with a line feed": fault(IN_CHUNKS, b"\r\n0\r\n\r\n", b"\n0\r\n\r\n"),
    "chunk shorter than it says": fault(IN_CHUNKS, SIZE, b"\r\n\r\nff\r\n"),
    "chunk longer than it says": fault(IN_CHUNKS, SIZE, b"\r\n\r\n5\r\n"),
    "chunk size ends with a line feed": fault(IN_CHUNKS, SIZE, SIZE[:-2] + b"\n"),
    "line feed in a chunk extension": fault(IN_CHUNKS, SIZE, SIZE[:-2] + b";a\nb\r\n"),
    "carriage return in a chunk extension": fault(IN_CHUNKS, SIZE, SIZE[:-2] + b";a\rb\r\n"),
    "length in a trailer": fault(IN_CHUNKS, b"\r\n0\r\n", b"\r\n0\r\nContent-Length: 5\r\n"),
    "line feed in a trailer": fault(IN_CHUNKS, b"\r\n0\r\n", b"\r\n0\r\nX-A: a\nX-B: b\r\n"),
    "chunked twice": fault(IN_CHUNKS, CHUNKED, CHUNKED + CHUNKED),
    "chunked twice in one header": fault(IN_CHUNKS, b"chunked", b"chunked, chunked"),
    "chunked before gzip": fault(IN_CHUNKS, b"chunked", b"chunked, gzip"),
    "gzip before chunked": fault(IN_CHUNKS, b"chunked", b"gzip, chunked"),
    "gzip in a line before chunked": fault(IN_CHUNKS, CHUNKED, b"Transfer-Encoding: gzip\r\n" + CHUNKED),
    "identity in a line before chunked": fault(IN_CHUNKS, CHUNKED, b"Transfer-Encoding: identity\r\n" + CHUNKED),
    "identity before chunked": fault(IN_CHUNKS, b"chunked", b"identity, chunked"),
    "unknown transfer coding": fault(IN_CHUNKS, b"chunked", b"xchunked"),
    "chunked with a parameter": fault(IN_CHUNKS, b"chunked", b"chunked;a=b"),
    "chunked with a vertical tab": fault(IN_CHUNKS, b" chunked", b" \x0bchunked"),
    "chunked in quotes": fault(IN_CHUNKS, b"chunked", b'"chunked"'),
    "chunked in HTTP/1.0": fault(IN_CHUNKS, b"HTTP/1.1", b"HTTP/1.0"),
    "chunked and a space before the colon": fault(IN_CHUNKS, b"Encoding:", b"Encoding :"),
    "space before the colon": fault(SIZED, b"Length:", b"Length :"),
    "space in a name": fault(SIZED, b"Content-Length", b"Content Length"),
    "folded header": fault(WITH_OTHER, OTHER, b"X-A: a\r\n b\r\n"),
    "header folded with a tab": fault(WITH_OTHER, OTHER, b"X-A: a\r\n\tb\r\n"),
    "folded transfer encoding": fault(IN_CHUNKS, b"Encoding: chunked", b"Encoding:\r\n chunked"),
    "folded length": fault(SIZED, b"Length: ", b"Length:\r\n "),
    "folded request line": fault(WITH_OTHER, HOST, b" X-B: b\r\n" + HOST),
    "bare line feeds": Case(SIZED, SIZED.replace(b"\r\n", b"\n")),
    "bare line feed in a header": fault(SIZED, HOST, b"Host: x\n"),
    "head ends with a bare line feed": fault(SIZED, b"\r\n\r\n", b"\r\n\n"),
    "line feed before the request line": fault(SIZED, START, b"\n" + START),
    "bare carriage return in a header": fault(WITH_OTHER, OTHER, b"X-A: a\rb\r\n"),
    "NUL in a header": fault(WITH_OTHER, OTHER, b"X-A: a\x00b\r\n"),
    "control character in a name": fault(WITH_OTHER, OTHER, b"X-\x01A: a\r\n"),
    "no name": fault(WITH_OTHER, OTHER, b": a\r\n"),
    "no host": fault(SIZED, HOST, b""),
    "two hosts": fault(SIZED, HOST, HOST + b"Host: y\r\n"),
    "two equal hosts": fault(SIZED, HOST, HOST + HOST),
    "line without a colon": fault(WITH_OTHER, OTHER, b"nonsense\r\n"),
    "no version": fault(SIZED, b" HTTP/1.1", b""),
    "two request lines": fault(SIZED, START, START + START),
    "space in the target": fault(SIZED, b"/predict", b"/pre dict"),
    "control character in the target": fault(SIZED, b"/predict", b"/predict\x01"),
    "target too long": fault(LONG_TARGET, b"live?", b"live?a"),
    "target of 10,000 characters": fault(SIZED, b"/predict", b"/" + b"a" * 10_000),
    "header too long": fault(LONG_HEADER, b"X-A: ", b"X-A: a"),
    "header of 100,000 characters": fault(WITH_OTHER, OTHER, b"X-A: " + b"a" * 100_000 + b"\r\n"),
    "one header too many": fault(MANY, b"X-0: a\r\n", b"X-0: a\r\nX-B: b\r\n"),
    "1,000 headers": fault(WITH_OTHER, OTHER, OTHER * 1000),
    "100,000 headers": fault(WITH_OTHER, OTHER, b"a:\r\n" * 100_000),
    "a TLS greeting": Case(SIZED, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)),
    "body shorter than its length": fault(SIZED, LENGTH, b"Content-Length: 9999\r\n"),
    "nothing but a line end": fault(SIZED, SIZED, b"\r\n\r\n"),
    **{f"port {port[:20]}": fault(SIZED, HOST, f"Host: x:{port}\r\n".encode()) for port in PORTS},
    **{f"host {host!r}": fault(SIZED, HOST, f"Host: {host}\r\n".encode("latin-1")) for host in HOSTS},
    **{f"version {one!r}": fault(SIZED, b"HTTP/1.1", one.encode("latin-1")) for one in VERSIONS},
}

# unusual and in order
VALID = {
    "the longest target": LONG_TARGET,
    "the longest header": LONG_HEADER,
    "the most headers": MANY,
    "HTTP/1.0": SIZED.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a line end before the request": b"\r\n" + SIZED,
    "a trailer": IN_CHUNKS.replace(b"\r\n0\r\n", b"\r\n0\r\nX-A: a\r\n"),
    "chunked in capitals": IN_CHUNKS.replace(b"chunked", b"Chunked"),
    **{
        f"host {host!r}": SIZED.replace(HOST, f"Host: {host}\r\n".encode())
        for host in ("", "x:", "x:0", "x:80", "x:080", "x:65535", "127.0.0.1:8080", "[::1]:80", "a_b.example", "x%20y")
    },
}


def test_valid_requests_are_answered_over_a_raw_connection(fast_server: Server) -> None:
    assert [name for name, raw in VALID.items() if statuses(fast_server, raw) != [200]] == []


@pytest.mark.parametrize("name", INVALID)
def test_invalid_http_is_never_answered_with_success_or_failure_of_ours(
    fast_server: Server, name: str, tell: Tell
) -> None:
    workers = fast_server.workers()
    case = INVALID[name]
    # whatever the fault makes of the body, no request in it is answered
    found = statuses(fast_server, case.fault + HIDDEN)

    tell(f"B1: {name}: {found or 'closed without an answer'}")
    assert statuses(fast_server, case.control + HIDDEN) == [200, 200]
    assert [status for status in found if status < 300 or status == 500] == []
    assert len(found) <= 1
    assert fast_server.workers() == workers


def test_pipelined_requests_are_answered_in_order(fast_server: Server) -> None:
    one = SIZED
    two = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
    three = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    assert statuses(fast_server, one + two + three) == [200, 404, 200]


def test_underscore_in_a_header_does_not_stand_for_a_dash(fast_server: Server) -> None:
    with fast_server.open_socket() as sock:
        sock.sendall(START + HOST + b"X_Request_Id: forged\r\nContent_Length: 3\r\n" + LENGTH + b"\r\n" + BODY)
        received = sock.recv(65_536)

    assert STATUS_LINE.match(received) is None or int(STATUS_LINE.match(received)[1]) in (200, 400)
    assert b"forged" not in received
