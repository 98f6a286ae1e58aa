"""Whatever is sent, the real server refuses it in its own words, quickly, and keeps its memory and its worker."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import hostile
from .conftest import Fleet, Tell
from .servers import Answer, Server, exchange, receive

SEED = 20_260_131
BODIES = 2_000
REQUESTS_PER_CONNECTION = 50
# more than this on a connection that is used again is what the last test of this module is about
TAIL_BYTES = 32 << 10
LIMIT_BYTES = 8 << 20
MEMORY_BYTES = 20_000_000
REPLY_BYTES = 16 << 10


@dataclass(frozen=True)
class Shot:
    """One body, what came back, and how long that took."""

    query: str
    body: bytes
    answer: Answer
    seconds: float


def fire(server: Server, count: int) -> list[Shot]:
    """Send seeded bodies over keep-alive connections; large ones over connections of their own."""
    shots = []
    found = list(hostile.bodies(count, SEED))
    for first in range(0, count, REQUESTS_PER_CONNECTION):
        with closing(server.connect()) as connection:
            for offset, (query, body) in enumerate(found[first : first + REQUESTS_PER_CONNECTION]):
                headers = {"Content-Type": "application/json", "X-Request-Id": f"shot-{first + offset}"}
                start = time.perf_counter()
                if len(body) < TAIL_BYTES:
                    answer = exchange(connection, "POST", f"/predict{query}", body, headers)
                else:
                    answer = server.request("POST", f"/predict{query}", body, headers)
                shots.append(Shot(query, body, answer, time.perf_counter() - start))
    return shots


def assert_is_our_refusal(answer: Answer) -> None:
    """Check the form that every refusal has."""
    body = answer.json()
    assert answer.content_type == "application/problem+json"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["status"] == answer.status
    assert len(body.get("errors", [])) <= 20
    assert len(answer.body) <= REPLY_BYTES


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[round(share * (len(values) - 1))]


def test_malformed_bodies_are_refused_without_a_5xx_or_a_restart(
    fast_server: Server, plain_server: Server, tell: Tell
) -> None:
    workers = fast_server.workers(), plain_server.workers()
    shots = fire(fast_server, BODIES)
    plain = fire(plain_server, BODIES)

    milliseconds = [shot.seconds * 1e3 for shot in shots]
    statuses = dict(sorted(Counter(shot.answer.status for shot in shots).items()))
    tell(f"A1: {len(shots)} bodies: {statuses}, p99 {percentile(milliseconds, 0.99):.1f} ms")
    assert [shot for shot in shots if shot.answer.status >= 500] == []
    assert (fast_server.workers(), plain_server.workers()) == workers
    assert len(workers[0]) == 1
    for shot in shots:
        if shot.answer.status >= 400:
            assert_is_our_refusal(shot.answer)
        else:
            # reads the body strictly: no NaN, no Infinity
            assert set(shot.answer.json()) & {"prediction", "predictions"} != set()
    different = [
        (one.query, one.body, one.answer, two.answer)
        for one, two in zip(shots, plain, strict=True)
        if (one.answer.status, one.answer.body) != (two.answer.status, two.answer.body)
    ]
    assert different == []


# A2 is depth, A3 numbers, A4 ambiguity
REFUSED = {
    "100 brackets": (hostile.TRICKS["100 brackets"], "ambiguous"),
    "1,000 brackets": (hostile.TRICKS["1,000 brackets"], "ambiguous"),
    "100,000 brackets": (hostile.TRICKS["100,000 brackets"], "ambiguous"),
    "80,000 objects": (hostile.TRICKS["80,000 objects"], "ambiguous"),
    "100,000 brackets in a field": (hostile.TRICKS["100,000 brackets in a field"], "ambiguous"),
    **{
        f"number {name}": (json.dumps({**hostile.ADELIE, "body_mass_g": "@"}).encode().replace(b'"@"', literal), code)
        for name, literal, code in [
            ("NaN", b"NaN", "ambiguous"),
            ("Infinity", b"Infinity", "ambiguous"),
            ("-Infinity", b"-Infinity", "ambiguous"),
            ("1e999", b"1e999", "ambiguous"),
            ("of 400 digits", b"9" * 400, "ambiguous"),
            ("of 5,000 digits", b"9" * 5000, "ambiguous"),
            ("of 1 MB of digits", b"9" * 1_000_000, "ambiguous"),
            ("in words", b'"NaN"', "type"),
            ("true", b"true", "type"),
        ]
    },
    "duplicate key": (hostile.VALID[0][:-1] + b', "body_mass_g": 3750}', "ambiguous"),
    "duplicate key with an escape": (hostile.VALID[0][:-1] + b', "body\\u005fmass_g": 3750}', "ambiguous"),
    "10,000 equal keys": (
        b'{"instances": [{}' + b",{}" * 9_000 + b"]," + b'"a": 1, ' * 10_000 + b'"a": 1}',
        "ambiguous",
    ),
    "UTF-16": (hostile.TRICKS["UTF-16"], "ambiguous"),
    "UTF-32": (hostile.TRICKS["UTF-32"], "ambiguous"),
    "byte order mark": (hostile.TRICKS["byte order mark"], "ambiguous"),
    "lone surrogate": (hostile.VALID[0][:-1] + b', "\\udfff": 1}', "ambiguous"),
    "NUL": (hostile.TRICKS["NUL at the end"], "ambiguous"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_known_tricks_are_refused_with_their_code(fast_server: Server, name: str) -> None:
    body, code = REFUSED[name]
    answer = fast_server.predict(body)

    assert_is_our_refusal(answer)
    assert answer.status in (400, 422)
    assert [found for _, found in answer.codes] == [code]


@pytest.mark.parametrize("charset", ["utf-16", "utf-32", "latin-1", "utf-7", "cp037", "nonsense"])
def test_odd_charset_is_refused(fast_server: Server, charset: str) -> None:
    answer = fast_server.predict(hostile.VALID[0], "", {"Content-Type": f"application/json; charset={charset}"})

    assert_is_our_refusal(answer)
    assert answer.status == 415


def test_false_content_encoding_is_refused(fast_server: Server) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = fast_server.predict(hostile.VALID[0], "", headers)

    assert_is_our_refusal(answer)
    assert answer.status == 415


# --- how much memory a body can cost


def peak_bytes(pid: int) -> int:
    """Return the most memory a process ever had, since it was last told to forget."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak(pid: int) -> None:
    """Let the peak start over from what the process has now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


AMPLIFIERS = {
    "300,000 empty rows": (b'{"instances": [{}' + b",{}" * 299_999 + b"]}", 413),
    "8 MiB of []": (b'{"instances": [[]' + b",[]" * ((LIMIT_BYTES - 19) // 3) + b"]}", 413),
    "8 MiB of [ and ]": (b"[]" * (LIMIT_BYTES // 2), 413),
    "60,000 unknown keys": (json.dumps({f"key{i}": i for i in range(60_000)}).encode(), 413),
    "8 MiB of commas": (b"[" + b"," * (LIMIT_BYTES - 1), 413),
    "8 MiB of quotes": (b'"' * LIMIT_BYTES, 413),
    "8 MiB of closing brackets": (b"]" * LIMIT_BYTES, 400),
    "8 MiB of digits": (b'{"body_mass_g": ' + b"9" * (LIMIT_BYTES - 17) + b"}", 400),
    "8 MiB of spaces": (b" " * LIMIT_BYTES, 400),
}


@pytest.fixture(scope="module")
def fresh_server(fleet: Fleet, bundles: dict[str, Path]) -> Server:
    """A server whose worker has had nothing but small requests."""
    server = fleet.start({"MODEL_URI": str(bundles["penguins"])})
    server.wait_until("/health/ready", 200)
    for body in hostile.VALID:
        assert server.predict(body).status == 200
    assert [server.predict(body).status for body in (b"[", b"{}")] == [400, 422]
    return server


def test_amplification_is_bounded(fresh_server: Server, tell: Tell) -> None:
    (worker,) = fresh_server.workers()
    grown = {}
    for name, (body, status) in AMPLIFIERS.items():
        forget_peak(worker)
        before = peak_bytes(worker)
        start_time = time.perf_counter()
        answer = fresh_server.predict(body)
        milliseconds = (time.perf_counter() - start_time) * 1e3
        grown[name] = peak_bytes(worker) - before - len(body)
        tell(
            f"A5: {name} ({len(body) / 1e6:.1f} MB): {answer.status} in {milliseconds:.0f} ms, reply "
            f"{len(answer.body)} bytes, memory {grown[name] / 1e6:+.1f} MB beyond the body"
        )
        assert_is_our_refusal(answer)
        assert (name, answer.status) == (name, status)
    assert {name: size for name, size in grown.items() if size >= MEMORY_BYTES} == {}
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

    assert_is_our_refusal(answer)
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


def test_gzip_bomb_is_refused_unread(fast_server: Server) -> None:
    answer = fast_server.predict(b"\x1f\x8b\x08" + bytes(1_000_000), "", {"Content-Encoding": "gzip"})

    assert_is_our_refusal(answer)
    assert answer.status == 415


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
