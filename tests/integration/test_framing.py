"""No number and no early refusal hides a request in the body of another one: every answer is counted."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Tell
from tests.faults import Case, fault

from . import framing, hostile
from .conftest import Start
from .framing import BODY, HIDDEN, ROUTES, Reader, statuses
from .hostile import LIMIT_BYTES
from .servers import DEADLINE_SECONDS, Server, receive

routes = pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())


def assert_refused(server: Server, case: Case) -> None:
    """The control and the request behind it are answered; the fault ends the connection, and nothing else comes."""
    assert statuses(server, case.control + HIDDEN) == [200, 200]
    found = statuses(server, case.fault + HIDDEN, says_end=False)
    assert found in ([400], [413])


@routes
@pytest.mark.parametrize("name", framing.WRONG_LENGTHS)
def test_a_wrong_length_hides_no_request(fast_server: Server, route: tuple[bytes, bytes], name: str) -> None:
    assert_refused(fast_server, framing.wrong_length(route, name))


@routes
@pytest.mark.parametrize("name", framing.WRONG_CHUNK_SIZES)
def test_a_wrong_chunk_size_hides_no_request(fast_server: Server, route: tuple[bytes, bytes], name: str) -> None:
    case = framing.wrong_chunk_size(route, name)
    if name in framing.AWAITED_CHUNK_SIZES:
        # too large a chunk is refused once the limit has come; until then it is waited for
        assert statuses(fast_server, case.control + HIDDEN) == [200, 200]
        assert statuses(fast_server, case.fault + HIDDEN) == []
    else:
        assert_refused(fast_server, case)


# --- what is answered is read alike elsewhere


@pytest.fixture(scope="module")
def readers() -> Iterator[dict[str, Reader]]:
    """Other parsers; node's where there is node."""
    with framing.node() as read_with_node:
        found = {"h11": framing.read_with_h11, "Gunicorn": framing.read_with_gunicorn}
        yield found if read_with_node is None else {**found, "node": read_with_node}


@routes
def test_what_is_answered_is_refused_or_read_alike_by_other_parsers(
    fast_server: Server, readers: dict[str, Reader], route: tuple[bytes, bytes], tell: Tell
) -> None:
    target, body = route
    method, _, path = target.decode().partition(" ")
    expected = [(method, path, body), ("GET", "/health/live?hidden", b"")]
    alike = dict.fromkeys(readers, 0)
    for name, raw in framing.odd_requests(route).items():
        assert (name, statuses(fast_server, raw + HIDDEN)) == (name, [200, 200])
        for reader, read in readers.items():
            found = read(raw + HIDDEN)
            assert found in ([], expected), (name, reader)
            alike[reader] += found == expected
    tell(f"B1: read alike of {len(framing.odd_requests(route))}: {alike}")
    assert min(alike.values()) > 0


@routes
def test_what_other_parsers_answer_otherwise_is_refused(
    fast_server: Server, readers: dict[str, Reader], route: tuple[bytes, bytes], tell: Tell
) -> None:
    cases = [framing.wrong_length(route, name) for name in framing.WRONG_LENGTHS]
    cases += [framing.wrong_chunk_size(route, name) for name in framing.WRONG_CHUNK_SIZES]
    answered = {name: sum(bool(read(case.fault + HIDDEN)) for case in cases) for name, read in readers.items()}
    tell(f"B1: of {len(cases)} wrong numbers others answer {answered}, this one none")
    assert [read(cases[0].control + HIDDEN)[1][1] for read in readers.values()] == ["/health/live?hidden"] * len(
        readers
    )


# --- Connection: close (RFC 9112, 9.6)

OVER = b"%x\r\n%s\r\n" % (LIMIT_BYTES + 1, b" " * (LIMIT_BYTES + 1))
UNDER = b"%x\r\n%s\r\n" % (LIMIT_BYTES - len(BODY), b" " * (LIMIT_BYTES - len(BODY)))
LAST = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def in_chunks(target: bytes, chunks: bytes) -> bytes:
    return target + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


@pytest.mark.parametrize("target", [b"POST /predict", b"POST /predict?explain=false", b"POST /v1/models/x:predict"])
def test_after_a_refusal_of_a_whole_body_no_other_request_is_answered(fast_server: Server, target: bytes) -> None:
    found = statuses(fast_server, in_chunks(target, OVER + LAST) + HIDDEN * 3, says_end=False)

    assert statuses(fast_server, in_chunks(b"POST /predict", UNDER + LAST) + HIDDEN * 3) == [200] * 4
    assert found == [413]


REFUSALS = {
    "declared too large": (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (LIMIT_BYTES + 1), 413),
    "expecting 100": (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (LIMIT_BYTES + 1),
        413,
    ),
    "too many headers": (b"POST /predict HTTP/1.1\r\nHost: x\r\n" + b"X-A: a\r\n" * 101 + b"\r\n", 431),
    "a header too long": (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "a target too long": (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "a transfer coding": (b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
}


@pytest.mark.parametrize(("head", "status"), REFUSALS.values(), ids=REFUSALS.keys())
def test_after_an_early_refusal_no_other_request_is_answered(fast_server: Server, head: bytes, status: int) -> None:
    assert statuses(fast_server, head + HIDDEN * 3, says_end=False) == [status]
    # whoever sends the rest anyway
    assert statuses(fast_server, head + b" " * (LIMIT_BYTES + 1) + HIDDEN * 3, says_end=False) == [status]
    # the connection's fault is nobody else's
    assert statuses(fast_server, HIDDEN * 3) == [200] * 3


@pytest.mark.parametrize("target", [b"POST /predict", b"POST /predict?explain=false"])
def test_after_408_the_rest_of_the_body_and_what_follows_are_not_answered(hasty_server: Server, target: bytes) -> None:
    raw = framing.sized((target, BODY))
    with hasty_server.open_socket() as sock:
        sock.sendall(raw[:-5])
        answer = receive(sock)
        with contextlib.suppress(OSError):
            sock.sendall(raw[-5:] + HIDDEN * 3)
        assert (answer.status, answer.headers["connection"], sock.recv(65_536)) == (408, "close", b"")

    assert statuses(hasty_server, raw + HIDDEN * 3) == [200] * 4


# --- the refusal can be read


@pytest.mark.parametrize("head", [head for head, _ in REFUSALS.values()], ids=REFUSALS.keys())
def test_a_client_that_sends_everything_first_reads_why_it_was_refused(fast_server: Server, head: bytes) -> None:
    with fast_server.open_socket() as sock:
        # more than both kernels hold: closing at once would reset the connection, and the answer with it
        sock.sendall(head + b" " * (16 << 20))
        answer = receive(sock)

        assert answer.status >= 400
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert sock.recv(1) == b""


def test_a_client_that_never_stops_sending_is_cut_off(fast_server: Server, tell: Tell) -> None:
    deadline, sent = time.monotonic() + DEADLINE_SECONDS, 0
    with fast_server.open_socket() as sock:
        sock.sendall(REFUSALS["declared too large"][0])
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                sent += sock.send(b" " * (1 << 20))

    tell(f"B1: cut off after {sent >> 20} MiB")
    assert time.monotonic() < deadline
    assert fast_server.predict(hostile.ADELIE).status == 200


def test_a_refused_client_that_says_nothing_more_is_closed(fast_server: Server) -> None:
    with fast_server.open_socket() as sock:
        sock.sendall(REFUSALS["declared too large"][0])
        answer = receive(sock)
        assert (answer.status, sock.recv(1)) == (413, b"")
        # the server has closed its half; a byte finds out once it has closed the other one too
        deadline, is_open = time.monotonic() + DEADLINE_SECONDS, True
        while is_open and time.monotonic() < deadline:
            assert fast_server.get("/health/live").status == 200
            try:
                sock.sendall(b" ")
            except ConnectionError:
                is_open = False
    assert not is_open


@pytest.mark.parametrize("target", [b"POST /predict", b"POST /predict?explain=false"])
def test_a_body_that_turns_out_wrong_is_no_failure_of_the_service(
    start: Start, bundles: dict[str, Path], target: bytes
) -> None:
    server = start({"MODEL_URI": str(bundles["penguins"])})
    server.wait_until("/health/ready", 200)
    head = in_chunks(target, b"").replace(b"Host: x", b"Host: x\r\nExpect: 100-continue")
    case = fault(LAST, BODY + b"\r\n0\r\n", BODY + b"xx0\r\n")
    found = []
    for body in (case.control, case.fault):
        with server.open_socket() as sock:
            sock.sendall(head)
            # the application waits for the body
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(body)
            found.append(receive(sock).status)
    assert found == [200, 400]
    assert server.stop() == 0

    lines = [json.loads(line) for line in server.stdout_lines]
    assert [line for line in lines if line.get("httpRequest", {}).get("status", 0) >= 500] == []
