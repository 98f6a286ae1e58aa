"""More to do than can be done: who is answered, who is refused and how, and that nothing else suffers for ever."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from load.openloop import Generator
from tests.conftest import Tell
from tests.unit.service.calls import ADELIE

from . import servers, slow
from .conftest import Start
from .servers import DEADLINE_SECONDS, HOST, Answer, Server

ENGINE_SECONDS = 0.02
BODY = json.dumps(ADELIE).encode()
BATCH = json.dumps({"instances": [ADELIE] * 600}).encode()
Slow = Callable[..., Server]


@pytest.fixture
def slow_server(start: Start, bundles: dict[str, Path], tmp_path: Path) -> Slow:
    """Settings → a ready server with an engine of 20 ms, its queue watched."""

    def begin(**settings: str) -> Server:
        own = {
            "MODEL_URI": str(bundles["penguins"]),
            "SLOW_ENGINE_SECONDS": str(ENGINE_SECONDS),
            "SLOW_ENGINE_RECORD": str(tmp_path / "record"),
        }
        server = start({**own, **settings}, arguments=slow.ARGUMENTS)
        server.wait_until("/health/ready", 200)
        return server

    return begin


def request(body: bytes, path: str = "/predict", request_id: str = "") -> bytes:
    name = f"X-Request-Id: {request_id}\r\n" if request_id else ""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{name}"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def flood(server: Server, data: bytes, count: int) -> list[Answer]:
    """Send one request on each of many connections at the same time; every connection must go on afterwards."""
    sockets = [socket.create_connection((HOST, server.port), timeout=DEADLINE_SECONDS) for _ in range(count)]
    try:
        for sock in sockets:
            sock.sendall(data)
        answers = [servers.receive(sock) for sock in sockets]
        for sock in sockets[:: max(1, count // 8)]:
            sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert servers.receive(sock).status == 200
        return answers
    finally:
        for sock in sockets:
            sock.close()


def seen(tmp_path: Path) -> dict[str, int]:
    return json.loads((tmp_path / "record").read_text())


@pytest.mark.parametrize(
    ("settings", "path", "body"),
    [
        ({}, "/predict", BODY),
        ({"FAST_PATH": "false"}, "/predict", BODY),
        ({}, "/predict", BATCH),
        ({}, "/predict?explain=true", BODY),
    ],
    ids=["short door", "bridge", "batches", "explanations"],
)
def test_what_cannot_be_answered_in_time_is_refused_with_the_time_to_come_again(
    slow_server: Slow, settings: dict[str, str], path: str, body: bytes, tell: Tell
) -> None:
    server = slow_server(**settings)
    # the estimate needs an answer
    server.request("POST", path, body, {"Content-Type": "application/json"})
    answers = flood(server, request(body, path, "my-id"), 100)
    counts = Counter(answer.status for answer in answers)
    tell(f"G1: 100 requests at once of 20 ms each, {path}: {dict(counts)}")
    assert counts.keys() == {200, 503}
    for answer in answers:
        assert answer.headers["x-request-id"] == "my-id"
        assert "x-model-digest" in answer.headers
        if answer.status == 503:
            assert answer.headers["retry-after"] == "1"
            assert answer.content_type == "application/problem+json"
            assert (answer.codes, answer.json()["request_id"]) == ([("", "overloaded")], "my-id")


@pytest.mark.parametrize(
    ("settings", "limit"),
    [({"ROOKERY_MAX_WAITING": "4"}, 4), ({"ROOKERY_MAX_WAITING": "4", "FAST_PATH": "false"}, 4), ({}, 512)],
    ids=["short door", "bridge", "by time"],
)
def test_the_queue_is_never_longer_than_allowed_and_nobody_is_answered_late(
    slow_server: Slow, settings: dict[str, str], limit: int, tmp_path: Path, tell: Tell
) -> None:
    server = slow_server(**settings)
    outcome = Generator((HOST, server.port), request(BODY), 64).run(500, 500)
    found = seen(tmp_path)
    tell(f"G2: {dict(outcome.statuses)}, {found}")
    assert set(outcome.statuses) == {200, 503}
    assert (outcome.connection_errors, outcome.unanswered) == (0, 0)
    assert found["most_waiting"] <= limit
    assert (found["late"], found["twice"]) == (0, 0)


def test_probes_are_answered_while_predictions_are_refused(slow_server: Slow, tell: Tell) -> None:
    server = slow_server()
    sockets = [socket.create_connection((HOST, server.port), timeout=DEADLINE_SECONDS) for _ in range(50)]
    took: list[float] = []
    statuses: Counter[int] = Counter()
    try:
        for _ in range(4):
            for sock in sockets:
                sock.sendall(request(BODY))
            for path in ("/health/live", "/health/ready"):
                begin = time.monotonic()
                assert server.get(path).status == 200
                took.append(time.monotonic() - begin)
            statuses.update(servers.receive(sock).status for sock in sockets)
    finally:
        for sock in sockets:
            sock.close()
    tell(f"G3: {len(took)} probes, the slowest {max(took) * 1000:.0f} ms, beside {dict(statuses)}")
    assert statuses.keys() == {200, 503}


def test_single_rows_are_answered_beside_large_batches(slow_server: Slow, tell: Tell) -> None:
    server = slow_server(SLOW_ENGINE_SECONDS="0", ROOKERY_WAIT_SECONDS="10")
    with server.open_socket() as large:
        large.sendall(request(json.dumps({"instances": [ADELIE] * 10_000}).encode()))
        outcome = Generator((HOST, server.port), request(BODY), 20).run(None, 2_000)
        assert servers.receive(large).status == 200
    tell(f"G4: {dict(outcome.statuses)} at {outcome.rate:.0f}/s")
    assert outcome.statuses == {200: 2_000}


def test_all_is_well_after_an_overload(slow_server: Slow, tell: Tell) -> None:
    server = slow_server()
    refused = sum(answer.status == 503 for answer in flood(server, request(BODY), 100))
    begin = time.monotonic()
    assert [server.predict(ADELIE).status for _ in range(20)] == [200] * 20
    tell(f"G5: after {refused} refusals 20 answers in {time.monotonic() - begin:.2f} s")
    assert refused
