"""Whatever is sent, the real server refuses it in its own words, quickly, and keeps its memory and its worker."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Tell

from . import hostile
from .conftest import Fleet
from .hostile import LIMIT_BYTES
from .servers import Server, exchange, receive
from .shots import Shot, faults_of_refusal, fire, grown_bytes, percentile

SEED = 20_260_131
BODIES = 2_000
MEMORY_BYTES = 20_000_000


def test_malformed_bodies_are_refused_without_a_5xx_or_a_restart(
    fast_server: Server, plain_server: Server, tell: Tell
) -> None:
    workers = fast_server.workers(), plain_server.workers()
    shots = fire(fast_server, BODIES, SEED)
    plain = fire(plain_server, BODIES, SEED)

    milliseconds = [shot.seconds * 1e3 for shot in shots]
    statuses = dict(sorted(Counter(shot.answer.status for shot in shots).items()))
    tell(f"A1: {len(shots)} bodies: {statuses}, p99 {percentile(milliseconds, 0.99):.1f} ms")
    assert [shot for shot in shots if shot.answer.status >= 500] == []
    assert (fast_server.workers(), plain_server.workers()) == workers
    assert len(workers[0]) == 1
    for shot in shots:
        if shot.answer.status >= 400:
            assert faults_of_refusal(shot.answer) == []
        else:
            # reads the body strictly: no NaN, no Infinity
            assert set(shot.answer.json()) & {"prediction", "predictions"} != set()
    different = [
        (one.query, one.body, one.answer, two.answer)
        for one, two in zip(shots, plain, strict=True)
        if (one.answer.status, one.answer.body) != (two.answer.status, two.answer.body)
    ]
    assert different == []


@pytest.mark.parametrize("name", hostile.REFUSED)
def test_known_tricks_are_refused_with_their_code(fast_server: Server, name: str) -> None:
    case = hostile.REFUSED[name]
    answer = fast_server.predict(case.body)

    assert answers(fast_server, case)
    assert faults_of_refusal(answer) == []
    assert answer.status == case.status
    assert [found for _, found in answer.codes] == [case.code]


@pytest.mark.parametrize("charset", ["utf-16", "utf-32", "latin-1", "utf-7", "cp037", "nonsense"])
def test_odd_charset_is_refused(fast_server: Server, charset: str) -> None:
    answer, control = (
        fast_server.predict(hostile.VALID[0], "", {"Content-Type": f"application/json; charset={one}"})
        for one in (charset, "utf-8")
    )

    assert control.status == 200
    assert faults_of_refusal(answer) == []
    assert answer.status == 415


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_false_content_encoding_is_refused(fast_server: Server, encoding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    compress = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    answer, control = (
        fast_server.predict(body, "", headers) for body in (hostile.VALID[0], compress(hostile.VALID[0]))
    )

    assert control.status == 200
    assert faults_of_refusal(answer) == []
    assert (answer.status, answer.codes) == (400, [("", "malformed")])


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", lambda body: zlib.compress(body, wbits=-15))],
    ids=["gzip", "deflate", "deflate without a frame"],
)
@pytest.mark.parametrize("count", [1, 2_000])
def test_compressed_body_is_answered_like_the_plain_one(
    penguin_server: Server, encoding: str, compress: Callable[[bytes], bytes], count: int
) -> None:
    body = json.dumps({"instances": [hostile.ADELIE] * count}).encode()
    answer = penguin_server.predict(compress(body), "", {"Content-Encoding": encoding})

    assert answer.status == 200
    assert answer.body == penguin_server.predict(body).body


# --- how much memory a body can cost


@pytest.fixture(scope="module")
def fresh_server(fleet: Fleet, bundles: dict[str, Path]) -> Server:
    """A server whose worker has had nothing but small requests."""
    server = fleet.start({"MODEL_URI": str(bundles["penguins"])})
    server.wait_until("/health/ready", 200)
    for body in hostile.VALID:
        assert server.predict(body).status == 200
    assert [server.predict(body).status for body in (b"[", b"{}")] == [400, 422]
    return server


def describe(name: str, shot: Shot, grown: int) -> str:
    """Say what a body cost."""
    return (
        f"{name} ({len(shot.body) / 1e6:.1f} MB): {shot.answer.status} in {shot.seconds * 1e3:.0f} ms, "
        f"reply {len(shot.answer.body)} bytes, memory {grown / 1e6:+.1f} MB beyond the body"
    )


def answers(server: Server, case: hostile.Refused) -> bool:
    """Whether the same without the fault is answered."""
    return server.predict(case.control, "", case.headers).status == 200


def test_amplification_is_bounded(fresh_server: Server, tell: Tell) -> None:
    (worker,) = fresh_server.workers()
    grown = {}
    for name, case in hostile.AMPLIFIERS.items():
        shot, grown[name] = grown_bytes(fresh_server, worker, case.body)
        tell(f"A5: {describe(name, shot, grown[name])}")
        assert faults_of_refusal(shot.answer) == []
        assert (name, shot.answer.status) == (name, case.status)
    assert {name: size for name, size in grown.items() if size >= MEMORY_BYTES} == {}
    # after the measuring, which must not profit from memory that a control left
    assert [name for name, case in hostile.AMPLIFIERS.items() if not answers(fresh_server, case)] == []
    assert fresh_server.workers() == [worker]


def test_bombs_cost_no_more_than_plain_bodies(fresh_server: Server, tell: Tell) -> None:
    (worker,) = fresh_server.workers()
    grown = {}
    for name, case in hostile.BOMBS.items():
        shot, grown[name] = grown_bytes(fresh_server, worker, case.body, case.headers)
        tell(f"A6: {describe(name, shot, grown[name])}")
        assert faults_of_refusal(shot.answer) == []
        assert (name, shot.answer.status) == (name, case.status)
    assert {name: size for name, size in grown.items() if size >= MEMORY_BYTES} == {}
    # after the measuring, which must not profit from memory that a control left
    assert [name for name, case in hostile.BOMBS.items() if not answers(fresh_server, case)] == []
    assert fresh_server.workers() == [worker]


# --- how large a body can be


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /predict HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def test_body_exactly_at_the_limit_is_answered(fast_server: Server) -> None:
    assert fast_server.predict(hostile.VALID[0].ljust(LIMIT_BYTES)).status == 200


def test_length_one_byte_over_the_limit_is_refused(fast_server: Server) -> None:
    with fast_server.open_socket() as sock:
        sock.sendall(head(f"Content-Length: {LIMIT_BYTES + 1}"))
        answer = receive(sock)

    assert faults_of_refusal(answer) == []
    assert (answer.status, answer.codes) == (413, [("", "body_too_large")])


@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]], ids=["plain", "expecting 100"])
def test_length_of_40_mb_without_a_body_is_refused_at_once_and_the_connection_ends(
    fast_server: Server, expect: list[str]
) -> None:
    with fast_server.open_socket() as sock:
        sock.sendall(head("Content-Length: 40000000", *expect))
        raw = b"".join(iter(lambda: sock.recv(65_536), b""))

    assert raw.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in raw.lower()
    assert json.loads(raw.partition(b"\r\n\r\n")[2])["errors"][0]["code"] == "body_too_large"


@pytest.mark.parametrize("over", [0, 1], ids=["at the limit", "one byte over"])
def test_chunked_body_is_counted_as_it_comes(fast_server: Server, over: int) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    body = hostile.VALID[0]
    rest = 65_536 - len(body) + over
    with fast_server.open_socket() as sock:
        sock.sendall(head("Transfer-Encoding: chunked"))
        sock.sendall(b"%x\r\n%s\r\n" % (len(body), body))
        sock.sendall(chunk * (LIMIT_BYTES // 65_536 - 1))
        sock.sendall(b"%x\r\n%s\r\n" % (rest, b" " * rest))
        if not over:
            sock.sendall(b"0\r\n\r\n")
        answer = receive(sock)

    assert answer.status == (413 if over else 200)


def test_requests_after_a_refusal_are_answered(fast_server: Server) -> None:
    with fast_server.open_socket() as sock:
        sock.sendall(head("Content-Length: 40000000"))
        assert receive(sock).status == 413

    assert fast_server.predict(hostile.VALID[0]).status == 200


def test_large_and_small_requests_follow_each_other_on_one_connection(fast_server: Server) -> None:
    large, small = json.dumps({"instances": [hostile.ADELIE] * 1_000}).encode(), hostile.VALID[0]
    with closing(fast_server.connect()) as connection:
        statuses = [exchange(connection, "POST", "/predict", body).status for body in [small, large] * 100]

    assert statuses == [200] * 200
