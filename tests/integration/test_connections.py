"""Slow clients, floods and the end of the process, in short: counts and statuses, no times (B2, B3, L1 to L3)."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Tell

from . import hostile
from .conftest import Start
from .servers import DEADLINE_SECONDS, HOST, Server, receive

BODY = hostile.VALID[0]
COUNT = 50


def post(body: bytes, head: bytes = b"") -> bytes:
    return b"POST /predict HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)


SLOW = {
    "idle": (b"", None),
    "header drip": (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: ", 408),
    "body drip": (post(BODY)[:-5], 408),
    "body drip over the bridge": (post(BODY, b"Origin: https://lab.example\r\n")[:-5], 408),
    "slow read": (b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n" * 8, 200),
    # not a prediction: fifty at once may be refused when the machine stands still for a while, and rightly
    "idle keep-alive": (b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 200),
}


@contextlib.contextmanager
def attackers(server: Server, sent: bytes) -> Iterator[list[socket.socket]]:
    """Many connections that have sent the same."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(COUNT):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(60)
            one.connect((HOST, server.port))
            one.sendall(sent)
            made.append(one)
        yield made


@pytest.mark.parametrize(("sent", "status"), SLOW.values(), ids=SLOW.keys())
def test_slow_clients_are_closed_and_harm_nobody(
    hasty_server: Server, sent: bytes, status: int | None, tell: Tell
) -> None:
    workers = hasty_server.workers()
    with attackers(hasty_server, sent) as slow:
        honest = [hasty_server.predict(hostile.ADELIE).status for _ in range(20)]
        for one in slow:
            # closed whatever is left to read: nothing is read before
            _wait_until_closed(hasty_server, one)
        first = [_read(one) for one in slow]

    tell(f"B2: {COUNT} closed, honest {honest.count(200)} of {len(honest)}")
    assert honest == [200] * 20
    expected = [] if status is None else [str(status).encode()]
    assert [line for line in first if line.split(b" ")[1:2] != expected] == []
    assert hasty_server.workers() == workers


def _wait_until_closed(server: Server, one: socket.socket) -> None:
    """Wait until the server has closed a connection, without reading from it; honest requests go on."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1:
            return
        assert server.get("/health/live").status == 200
    raise AssertionError("never closed")


def _read(one: socket.socket) -> bytes:
    """Return the beginning of what came."""
    with contextlib.suppress(ConnectionResetError):
        return one.recv(100)
    return b""


def test_a_slow_client_reads_why(hasty_server: Server) -> None:
    with hasty_server.open_socket() as sock:
        sock.sendall(post(BODY, b"X-Request-Id: slow-1\r\n")[:-5])
        answer = receive(sock)

        assert (answer.status, answer.content_type) == (408, "application/problem+json")
        assert (answer.json()["request_id"], answer.headers["connection"]) == ("slow-1", "close")
        assert sock.recv(1) == b""


def test_who_half_closes_is_answered(fast_server: Server) -> None:
    with fast_server.open_socket() as sock:
        sock.sendall(post(BODY) + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" + post(BODY))
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := sock.recv(65_536):
            received += chunk

    assert received.count(b"HTTP/1.1 200 OK") == 3


def test_many_requests_in_one_go_are_all_answered(fast_server: Server) -> None:
    with fast_server.open_socket() as sock:
        sock.sendall(post(BODY) * 1000)
        answers = received = 0
        sock.shutdown(socket.SHUT_WR)
        while chunk := sock.recv(65_536):
            received += len(chunk)
            answers += chunk.count(b"HTTP/1.1 200")

    # an answer's first line may be cut in two by the reading
    assert 990 <= answers <= 1000


def test_a_flood_of_connections_is_survived(start: Start, bundles: dict[str, Path], tell: Tell) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = start({"MODEL_URI": str(bundles["penguins"])})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server.wait_until("/health/ready", 200)
    (worker,) = server.workers()
    before = len(os.listdir(f"/proc/{worker}/fd"))
    with contextlib.ExitStack() as stack:
        for _ in range(min(600, soft // 2)):
            stack.enter_context(server.open_socket())
        most = len(os.listdir(f"/proc/{worker}/fd"))
        assert server.predict(hostile.ADELIE).status == 200
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (after := len(os.listdir(f"/proc/{worker}/fd"))) > before and time.monotonic() < deadline:
        assert server.get("/health/live").status == 200

    tell(f"B3: {most} descriptors at most, {after} after and {before} before")
    assert server.workers() == [worker]
    assert after <= before
    assert most <= 256
    assert len(server.stderr_lines) < 50
    closed = [line for line in map(json.loads, server.stdout_lines) if line["message"] == "connections.closed"]
    assert sum(line.get("evicted", 0) + line.get("refused", 0) for line in closed) > 0


def test_the_bound_of_the_settings_holds(start: Start, bundles: dict[str, Path]) -> None:
    server = start({"MODEL_URI": str(bundles["penguins"]), "ROOKERY_MAX_CONNECTIONS": "5"})
    server.wait_until("/health/ready", 200)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(server.open_socket())
            # a request under way is not closed for the sake of another
            with contextlib.suppress(OSError):
                sock.sendall(post(BODY)[:-1])
        with pytest.raises((ConnectionError, OSError)):
            server.get("/health/live")


# --- the end


def test_after_sigterm_it_answers_for_a_moment_and_says_that_it_is_the_end(
    start: Start, bundles: dict[str, Path]
) -> None:
    server = start({"MODEL_URI": str(bundles["penguins"]), "ROOKERY_LAME_DUCK_SECONDS": "5"})
    server.wait_until("/health/ready", 200)
    with server.open_socket() as sock:
        sock.sendall(post(BODY))
        assert receive(sock).status == 200
        server.process.terminate()
        refusal = server.wait_until("/health/ready", 503)
        sock.sendall(post(BODY))
        last = receive(sock)
        new = server.predict(hostile.ADELIE)

    assert (refusal.json()["reason"], refusal.content_type) == ("stopping", "application/problem+json")
    assert (last.status, last.headers["connection"]) == (200, "close")
    assert (new.status, new.headers["connection"]) == (200, "close")
    assert server.stop() == 0


def test_requests_under_way_at_sigterm_are_answered(start: Start, bundles: dict[str, Path], tell: Tell) -> None:
    # eleven batches at once: on a slow machine the last ones would be refused, as they should be
    server = start({"MODEL_URI": str(bundles["penguins"]), "ROOKERY_WAIT_SECONDS": "20"})
    server.wait_until("/health/ready", 200)
    batch = json.dumps({"instances": [hostile.ADELIE] * 1000}).encode()
    with contextlib.ExitStack() as stack:
        begun = []
        for number in range(32):
            sock = stack.enter_context(server.open_socket())
            request = post(batch) if number % 3 == 2 else post(BODY)
            cut = len(request) - (number % 3 == 1)
            sock.sendall(request[:cut])
            begun.append((sock, request[cut:]))
        server.process.terminate()
        statuses = []
        for sock, rest in begun:
            sock.sendall(rest)
            statuses.append(receive(sock).status)

    tell(f"L1: {statuses.count(200)} of {len(statuses)}")
    assert statuses == [200] * 32
    assert server.stop() == 0


def test_a_stuck_request_does_not_hold_up_the_end_and_is_named(
    start: Start, bundles: dict[str, Path], tell: Tell
) -> None:
    server = start({"MODEL_URI": str(bundles["penguins"]), "ROOKERY_BODY_SECONDS": "300"})
    server.wait_until("/health/ready", 200)
    with server.open_socket() as stuck, server.open_socket() as other:
        stuck.sendall(post(BODY, b"X-Request-Id: stuck-1\r\n")[:-1])
        other.sendall(post(BODY)[:-1])
        server.process.terminate()
        other.sendall(post(BODY)[-1:])
        assert receive(other).status == 200
        assert server.stop() == 0

    lines = [line for line in map(json.loads, server.stdout_lines) if line["message"] == "request.abandoned"]
    tell(f"L3: {lines}")
    assert [(line["severity"], line["request_id"], line["route"], line["stage"]) for line in lines] == [
        ("WARNING", "stuck-1", "/predict", "body")
    ]


def test_it_restarts_after_as_many_requests_as_it_is_told_to(start: Start, bundles: dict[str, Path]) -> None:
    server = start({"MODEL_URI": str(bundles["penguins"])}, arguments=("--max-requests", "5"))
    server.wait_until("/health/ready", 200)
    workers = server.workers()
    statuses = [server.predict(hostile.ADELIE).status for _ in range(20)]

    assert statuses == [200] * 20
    server.wait_for_workers(lambda found: len(found) == 1 and found != workers)
