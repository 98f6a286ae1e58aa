"""A connection: plain predictions are answered on the spot, with the bytes that the long way gives."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import pytest
from gunicorn.asgi.protocol import ASGIProtocol
from hypothesis import given, note, settings
from hypothesis import strategies as st

from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.connection import Connection
from service.loader import NotReady
from service.memory import SMALL_BYTES, Hold
from service.native import QUICK_BYTES
from service.server import LOOP_BODY_BYTES, Bridge
from tests.faults import Case, fault
from tests.unit.service.bodies import write_body
from tests.unit.service.calls import ADELIE, ROWS, SETOSA, ask, encode
from tests.unit.service.failing import failing
from tests.unit.service.wire import Answer, Line, Transport, raw

# calls a model twice; raise it for a long run
EXAMPLES = 400

SETTINGS = Settings()
MODELS = ("penguins", "iris")
BODY = encode(ADELIE)
PLAIN = raw(BODY, [("X-Request-Id", "test-1"), ("Content-Type", "application/json")])

Bridges = dict[str, dict[bool, Bridge]]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One event loop for all conversations."""
    made = asyncio.new_event_loop()
    yield made
    made.run_until_complete(made.shutdown_asyncgens())
    made.close()


@pytest.fixture(scope="module", autouse=True)
def parser() -> Iterator[None]:
    """The C parser as the hook after the fork sets it up."""
    with pytest.MonkeyPatch.context() as patch:
        assert ASGIProtocol._check_h1c_protocol_available()
        limited = partial(ASGIProtocol._h1c_protocol_class, limit_remaining=SETTINGS.max_body_bytes + (128 << 10))
        patch.setattr(ASGIProtocol, "_h1c_protocol_class", limited)
        yield


@pytest.fixture(scope="module")
def bridges(answerers: dict[str, Answerer]) -> Iterator[Bridges]:
    """Bridges by model, with and without a short door."""
    small = {name: Answerer(answerers[name].state, replace(SETTINGS, max_instances=3)) for name in MODELS}
    small["failing"] = failing(answerers["penguins"], RuntimeError("inside"), SETTINGS)
    small["no model"] = Answerer(NotReady("hash_mismatch", "model.onnx is another"), SETTINGS)
    made = {
        name: {has: Bridge(create_app(SETTINGS, one), one, SETTINGS.max_body_bytes, has) for has in (True, False)}
        for name, one in small.items()
    }
    yield made
    for pair in made.values():
        for bridge in pair.values():
            bridge._thread.shutdown()


Talk = Callable[[Line], Awaitable[Any]]


@pytest.fixture
def talk(loop: asyncio.AbstractEventLoop, bridges: Bridges) -> Callable[..., Any]:
    """Run a conversation over a new connection and hang up."""

    def run(conversation: Talk, model: str = "penguins", has_short_door: bool = True, **options: float) -> Any:
        async def whole() -> Any:
            line = Line(bridges[model][has_short_door], **options)
            try:
                return await conversation(line)
            finally:
                await line.hang_up()
                assert (line.worker.nr_conns, line.worker.connections) == (0, set())

        return loop.run_until_complete(whole())

    return run


def _exchange(*parts: bytes, count: int = 1) -> Talk:
    async def conversation(line: Line) -> tuple[list[Answer], list[str], bool]:
        line.send(*parts)
        answers = await line.wait_for(count)
        await line.settle()
        return answers, line.spy.paths, line.transport.is_closed

    return conversation


def _codes(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def test_a_plain_prediction_is_answered_at_once_and_without_the_bridge(talk, answerer):
    async def conversation(line: Line) -> None:
        line.send(PLAIN)
        [answer] = line.answers
        assert (answer.status, answer.body) == (200, ask(answerer, ADELIE).body)
        assert (answer.header("x-request-id"), answer.header("x-model-digest")) == ("test-1", answerer.digest)
        await line.settle()
        assert (line.spy.paths, len(line.answers), line.transport.is_closed) == ([], 1, False)

    talk(conversation)


def test_without_a_short_door_it_goes_over_the_bridge(talk, answerer):
    answers, paths, is_closed = talk(_exchange(PLAIN), has_short_door=False)
    assert ([answer.body for answer in answers], paths, is_closed) == (
        [ask(answerer, ADELIE).body],
        ["/predict"],
        False,
    )


@pytest.mark.parametrize("model", [*MODELS, "no model"])
def test_every_answer_on_the_spot_counts_as_a_request(talk, model):
    async def conversation(line: Line) -> int:
        line.send(PLAIN, PLAIN, raw(b"{"))
        assert len(line.answers) == 3
        return line.worker.nr

    # a turn of the loop that is never too long, however slow the machine
    assert talk(conversation, model, slice_seconds=60.0) == 3


def test_without_a_model_the_door_refuses_as_the_bridge_does(talk):
    [short], _, _ = talk(_exchange(PLAIN), "no model")
    [long], _, _ = talk(_exchange(PLAIN), "no model", has_short_door=False)
    assert short.status == 503
    assert short.comparable(b"test-1") == long.comparable(b"test-1")


def _spell(random: Random, name: str) -> str:
    """Return a header name in one of the ways people write it."""
    return random.choice((name, name.lower(), name.upper(), name.swapcase()))


HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Type": (
        "",
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF8",
        "Application/JSON",
        "Application/JSON;charset=x",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        'application/json; charset="utf-8,utf-16"',
        "application/json,text/plain",
        "application/j\xe9son",
        "  application/json\t ",
        ";;=",
    ),
    "Accept": (
        "",
        "*/*",
        "application/json",
        "application/*",
        "text/html",
        "text/html;q=0.9, */*;q=0.1",
        "application/json;q=0, text/html",
        ";;,q=x",
        "\xff\xfe",
    ),
    "Content-Encoding": ("", "identity", "Identity", "gzip", "identity, br", "\xe4"),
    "X-Request-Id": ("", "given-1", "a.b_C-9", "x" * 128, "x" * 129, "two words", "b\xe4d", "{}", "<script>", "a;b"),
}
EXTRA = (
    ("User-Agent", "curl/8"),
    ("X-Forwarded-For", "10.1.2.3"),
    ("X-Forwarded-Proto", "https"),
    ("Forwarded", "for=10.1.2.3;proto=https"),
    ("Cookie", "a=b; c=\xe4"),
    ("Cookie", "d=e"),
    ("Authorization", "Bearer x"),
    ("Accept-Encoding", "gzip, br"),
    ("Connection", "keep-alive"),
    ("Keep-Alive", "timeout=5"),
    ("TE", "trailers"),
    ("Range", "bytes=0-1"),
    ("If-None-Match", "*"),
    ("X_Request_Id", "under-score"),
    ("Content_Type", "text/plain"),
    ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("Referer", "https://lab.example"),
    ("X-Empty", ""),
    ("Max-Forwards", "0"),
    ("Transfer-Encodings", "chunked"),
    ("SCRIPT_NAME", "/api"),
    ("PATH_INFO", "/model"),
)


def _choose_headers(random: Random) -> tuple[list[tuple[str, str]], bytes]:
    """Return headers of every kind, and the request id if there is exactly one."""
    pairs = []
    for name, values in HEADERS.items():
        if random.random() < 0.3:
            pairs.append((_spell(random, name), random.choice(values)))
        if random.random() < 0.02:
            pairs.append((_spell(random, name), random.choice(values)))
    pairs += [(_spell(random, name), value) for name, value in EXTRA if random.random() < 0.05]
    random.shuffle(pairs)
    ids = [value for name, value in pairs if name.lower() == "x-request-id"]
    return pairs, (ids[0].encode("latin-1") if len(ids) == 1 else b"")


@pytest.mark.parametrize("model", MODELS)
@given(seed=st.integers(0, 2**63))
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_the_short_door_and_the_long_way_give_the_same_bytes(talk_once, answerers, model, seed):
    random = Random(seed)
    body = write_body(answerers[model].require_model().predictor.manifest.features, seed)
    headers, given_id = _choose_headers(random)
    request = raw(body, headers)
    note(repr(request))
    short, _, short_closed = talk_once(_exchange(request), model, True)
    long, _, long_closed = talk_once(_exchange(request), model, False)
    assert [a.comparable(given_id) for a in short] == [a.comparable(given_id) for a in long]
    assert (short_closed, len(short)) == (long_closed, 1)
    assert short[0].status < 500


@pytest.fixture(scope="module")
def talk_once(loop: asyncio.AbstractEventLoop, bridges: Bridges) -> Callable[..., Any]:
    """Run a conversation, for tests that hold many."""

    def run(conversation: Talk, model: str, has_short_door: bool) -> Any:
        async def whole() -> Any:
            line = Line(bridges[model][has_short_door])
            try:
                return await conversation(line)
            finally:
                await line.hang_up()

        return loop.run_until_complete(whole())

    return run


def test_the_compared_requests_take_both_ways_and_have_every_status(talk, answerers):
    features = answerers["penguins"].require_model().predictor.manifest.features
    ways, statuses = set(), set()
    for seed in range(400):
        headers, _ = _choose_headers(Random(seed))
        [answer], paths, _ = talk(_exchange(raw(write_body(features, seed), headers)))
        ways.add(bool(paths))
        statuses.add(answer.status)
    assert (ways, statuses >= {200, 400, 406, 415, 422}) == ({True, False}, True)


IDENTIFIED = raw(BODY, [("X-Request-Id", "test-1")])
REFUSED = {
    "not JSON": (Case(IDENTIFIED, raw(b"{", [("X-Request-Id", "test-1")])), 400),
    "no body": (Case(IDENTIFIED, raw(b"", [("X-Request-Id", "test-1")])), 400),
    "another type": (fault(PLAIN, b"application/json", b"text/plain"), 415),
    "HTML wanted": (fault(PLAIN, b"\r\nX-Request-Id", b"\r\nAccept: text/html\r\nX-Request-Id"), 406),
    "four instances": (
        Case(*(raw(encode({"instances": [ADELIE] * count}), [("X-Request-Id", "test-1")]) for count in (3, 4))),
        413,
    ),
    "no feature": (Case(IDENTIFIED, raw(b"{}", [("X-Request-Id", "test-1")])), 422),
}


@pytest.mark.parametrize(("case", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_on_the_spot_has_the_bytes_of_the_long_way(talk, case, status):
    [short], paths, _ = talk(_exchange(case.fault))
    [long], _, _ = talk(_exchange(case.fault), has_short_door=False)
    assert (short.status, paths) == (status, [])
    assert short.comparable(b"test-1") == long.comparable(b"test-1")
    assert _codes(talk(_exchange(case.control))[0]) == [200]


def test_a_request_may_be_split_anywhere(talk, answerer):
    expected = ask(answerer, ADELIE).body
    for place in range(1, len(PLAIN)):
        [answer], paths, is_closed = talk(_exchange(PLAIN[:place], PLAIN[place:]))
        assert (answer.status, answer.body, paths, is_closed) == (200, expected, [], False), place


def test_a_request_may_come_byte_by_byte(talk, answerer):
    [answer], paths, _ = talk(_exchange(*(PLAIN[i : i + 1] for i in range(len(PLAIN)))))
    assert (answer.body, paths) == (ask(answerer, ADELIE).body, [])


def _with_id(number: int, body: bytes = BODY, line: str = "POST /predict HTTP/1.1", extra: Any = ()) -> bytes:
    return raw(body, [("X-Request-Id", f"n-{number}"), *extra], line)


KINDS: dict[str, Callable[[int], bytes]] = {
    "plain": _with_id,
    "refused": lambda n: _with_id(n, b"{"),
    "other": lambda n: _with_id(n, b"", "GET /health/live HTTP/1.1"),
    "explain": lambda n: _with_id(n, BODY, "POST /predict?explain=true HTTP/1.1"),
    "large": lambda n: _with_id(n, BODY + b" " * LOOP_BODY_BYTES),
    "browser": lambda n: _with_id(n, BODY, extra=[("Origin", "https://lab.example")]),
    "chunked": lambda n: raw(
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
        [("X-Request-Id", f"n-{n}"), ("Transfer-Encoding", "chunked")],
        length=None,
    ),
}
TRAINS = [(a, b) for a in KINDS for b in KINDS] + [
    ("plain", "plain", "plain"),
    ("plain", "other", "plain"),
    ("other", "plain", "other"),
    ("large", "plain", "plain"),
    ("plain", "explain", "refused", "plain", "other", "plain"),
    ("chunked", "plain", "large", "plain"),
]


@pytest.mark.parametrize("train", TRAINS, ids="-".join)
@pytest.mark.parametrize("cut", ["whole", "by request", "in odd parts"])
def test_pipelined_requests_are_answered_in_order_and_none_is_lost(talk, train, cut):
    requests = [KINDS[kind](number) for number, kind in enumerate(train)]
    joined = b"".join(requests)
    parts = {
        "whole": [joined],
        "by request": requests,
        "in odd parts": [joined[i : i + 97] for i in range(0, len(joined), 97)],
    }[cut]
    answers, paths, is_closed = talk(_exchange(*parts, count=len(train)))
    assert [f"n-{number}" for number in range(len(train))] == [answer.header("x-request-id") for answer in answers]
    assert [400 if kind == "refused" else 200 for kind in train] == _codes(answers)
    assert not is_closed
    assert len(paths) >= sum(kind not in ("plain", "refused") for kind in train)


@given(data=st.data())
@settings(max_examples=60, derandomize=True, deadline=None)
def test_trains_cut_anywhere_are_answered_in_order(talk_once, data):
    train = data.draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=6))
    joined = b"".join(KINDS[kind](number) for number, kind in enumerate(train))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(joined) - 1), max_size=6)))
    parts = [joined[a:b] for a, b in zip([0, *cuts], [*cuts, len(joined)], strict=True)]
    answers, _, is_closed = talk_once(_exchange(*parts, count=len(train)), "penguins", True)
    assert [f"n-{number}" for number in range(len(train))] == [answer.header("x-request-id") for answer in answers]
    assert not is_closed


def test_a_request_behind_one_under_way_waits_for_it(talk):
    async def conversation(line: Line) -> None:
        line.send(KINDS["explain"](0))
        line.send(KINDS["plain"](1))
        assert line.answers == []
        assert [a.header("x-request-id") for a in await line.wait_for(2)] == ["n-0", "n-1"]

    talk(conversation)


ELSEWHERE = {
    "another method": (raw(BODY, line="PUT /predict HTTP/1.1"), 405),
    "another path": (raw(BODY, line="POST /predict/ HTTP/1.1"), 200),
    "an escaped path": (raw(BODY, line="POST /%70redict HTTP/1.1"), 200),
    "a query": (raw(BODY, line="POST /predict?explain=true HTTP/1.1"), 200),
    "an empty query": (raw(BODY, line="POST /predict? HTTP/1.1"), 200),
    "a browser": (raw(BODY, [("Origin", "https://lab.example")]), 200),
    "an expectation": (raw(BODY, [("Expect", "100-continue")]), 200),
    "an upgrade": (raw(BODY, [("Connection", "upgrade"), ("Upgrade", "h2c")]), 200),
    "a body in chunks": (KINDS["chunked"](0), 200),
    "a body over the limit of the loop": (raw(BODY + b" " * (LOOP_BODY_BYTES - len(BODY) + 1)), 200),
    "no length": (raw(b"", length=None), 400),
    "two types": (raw(BODY, [("Accept", "*/*"), ("accept", "application/json")]), 200),
    "two encodings": (raw(BODY, [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]), 415),
    "two ids": (raw(BODY, [("X-Request-Id", "a"), ("X-Request-Id", "b")]), 200),
}


@pytest.mark.parametrize(("request_bytes", "status"), ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_everything_but_a_plain_prediction_goes_over_the_bridge(talk, request_bytes, status):
    answers, paths, is_closed = talk(_exchange(request_bytes))
    assert (_codes(answers), len(paths), is_closed) == ([status], 1, False)


@pytest.mark.parametrize(("more", "paths"), [(0, []), (1, ["/predict"])], ids=["the limit", "one byte more"])
def test_a_body_that_is_soon_answered_whatever_it_holds_is_answered_on_the_spot(talk, more, paths):
    answers, found, _ = talk(_exchange(raw(BODY + b" " * (QUICK_BYTES + more - len(BODY)))))
    assert (_codes(answers), found) == ([200], paths)


ENDS = {
    "HTTP/1.0": raw(BODY, line="POST /predict HTTP/1.0"),
    "HTTP/1.0 without a host": raw(BODY, line="POST /predict HTTP/1.0", host=None),
    "close": raw(BODY, [("Connection", "close")]),
    "close among others": raw(BODY, [("Connection", "keep-alive, close")]),
    "close, and another header that says otherwise": raw(BODY, [("Connection", "close"), ("Connection", "keep-alive")]),
    "close in capitals": raw(BODY, [("CONNECTION", "CLOSE")]),
}


@pytest.mark.parametrize("request_bytes", ENDS.values(), ids=ENDS.keys())
def test_who_wants_no_more_is_answered_and_let_go_as_ever(talk, request_bytes):
    found = []
    for has_short_door in (True, False):
        answers, paths, is_closed = talk(_exchange(request_bytes), has_short_door=has_short_door)
        found.append(([answer.comparable() for answer in answers], paths, is_closed))
    assert found[0] == found[1]
    assert found[0][1:] == (["/predict"], True)


def test_a_worker_that_ends_says_so_and_closes(talk):
    async def conversation(line: Line) -> tuple[list[int], str | None, list[str]]:
        line.worker.alive = False
        line.send(PLAIN)
        [answer] = await line.wait_for(1)
        await line.until(lambda: line.transport.is_closed)
        return [answer.status], answer.header("connection"), line.spy.paths

    assert talk(conversation) == ([200], "close", ["/predict"])


def test_a_client_who_does_not_read_is_waited_for(talk):
    async def conversation(line: Line) -> None:
        line.connection.pause_writing()
        line.send(KINDS["plain"](0), KINDS["plain"](1), KINDS["plain"](2))
        await line.settle()
        assert (len(line.answers), line.spy.paths) == (1, ["/predict"])
        line.connection.resume_writing()
        assert [a.header("x-request-id") for a in await line.wait_for(3)] == ["n-0", "n-1", "n-2"]

    talk(conversation)


HOST = b"Host: localhost\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
END = b"\r\n\r\n"
ACCEPTING = raw(BODY, [("X-Request-Id", "test-1"), ("Accept", "*/*")])
ACCEPT = b"Accept: */*\r\n"
OTHER = raw(line="GET /model HTTP/1.1", headers=[("X-A", "b")])

MALFORMED = {
    "no HTTP": Case(PLAIN, b"hello\r\n\r\n"),
    "two hosts": fault(PLAIN, HOST, HOST + b"Host: b.example\r\n"),
    "a host that is none": fault(PLAIN, b"localhost", b"local host"),
    "a port that is none": fault(PLAIN, b"localhost", b"localhost:65536"),
    "two content types": fault(PLAIN, LENGTH, b"Content-Type: text/plain\r\n" + LENGTH),
    "two lengths": fault(PLAIN, LENGTH, LENGTH + b"Content-Length: 3\r\n"),
    "a length and chunks": fault(PLAIN, LENGTH, LENGTH + b"Transfer-Encoding: chunked\r\n"),
    "a negative length": fault(PLAIN, b"Length: ", b"Length: -"),
    "a length with a sign": fault(PLAIN, b"Length: ", b"Length: +"),
    "a length that is no number": fault(PLAIN, LENGTH, b"Content-Length: abc\r\n"),
    "a length of 21 digits": fault(PLAIN, LENGTH, b"Content-Length: %021d\r\n" % len(BODY)),
    "a length beyond 64 bits": fault(PLAIN, LENGTH, b"Content-Length: %d\r\n" % (2**64 + len(BODY))),
    "a space before the colon": fault(ACCEPTING, b"Accept:", b"Accept :"),
    "a NUL in a header": fault(PLAIN, b"test-1", b"a\x00b"),
    "a bad target": fault(PLAIN, b"/predict", b"/pre dict"),
    "HTTP/3.7": fault(PLAIN, b"HTTP/1.1", b"HTTP/3.7"),
}


# the C parser takes these
TOLERATED = {
    "no host": fault(PLAIN, HOST, b""),
    "a folded header": fault(ACCEPTING, ACCEPT, b"Accept: */*\r\n folded\r\n"),
    "a header folded with a tab": fault(ACCEPTING, ACCEPT, b"Accept: */*\r\n\tfolded\r\n"),
    "a folded request line": fault(PLAIN, b" HTTP/1.1\r\n", b" HTTP/1.1\r\n X-A: b\r\n"),
    "a bare LF": Case(PLAIN, PLAIN.replace(b"\r\n", b"\n", 3)),
    "a bare LF before the end of the head": fault(PLAIN, END, b"\n\r\n"),
    "a bare LF at the end of the head": fault(PLAIN, END, b"\r\n\n"),
    "two bare LFs at the end of the head": fault(PLAIN, END, b"\n\n"),
    "two bare LFs, and a whole end in the body": Case(PLAIN, PLAIN.replace(END, b"\n\n") + END),
    "a bare LF before the request line": fault(PLAIN, b"POST", b"\nPOST"),
    "a long way, folded": fault(OTHER, b"X-A: b\r\n", b"X-A: b\r\n c\r\n"),
    "a long way without a host": fault(OTHER, HOST, b""),
}
REFUSED_HEADS = {**MALFORMED, **TOLERATED}

malformed = pytest.mark.parametrize("case", REFUSED_HEADS.values(), ids=REFUSED_HEADS.keys())


@malformed
def test_malformed_requests_are_refused_alike_with_and_without_the_short_door(talk, case):
    [short], _, _ = talk(_exchange(case.fault))
    [long], _, _ = talk(_exchange(case.fault), has_short_door=False)
    assert short.comparable(b"test-1" if b"test-1" in short.body else b"") == long.comparable(
        b"test-1" if b"test-1" in long.body else b""
    )
    for has_short_door in (True, False):
        assert _codes(talk(_exchange(case.control), has_short_door=has_short_door)[0]) == [200]


@malformed
def test_malformed_requests_are_refused_however_they_arrive(talk, case):
    for size in (1, 7, 50):
        for request_bytes, expected in ((case.control, ([200], False)), (case.fault, ([400], True))):
            parts = [request_bytes[i : i + size] for i in range(0, len(request_bytes), size)]
            answers, paths, is_closed = talk(_exchange(*parts))
            assert (_codes(answers), is_closed) == expected, size
        assert paths == []


@malformed
def test_malformed_requests_behind_good_ones_are_refused(talk, case):
    for first in (PLAIN, KINDS["other"](0)):
        for second, expected in ((case.control, ([200, 200], False)), (case.fault, ([200, 400], True))):
            answers, _, is_closed = talk(_exchange(first + second, count=2))
            assert (_codes(answers), is_closed) == expected


@malformed
def test_a_malformed_request_is_refused_in_the_form_of_the_contract(talk, answerer, case):
    [refusal], _, _ = talk(_exchange(case.fault))
    [answer], _, _ = talk(_exchange(case.control))
    body = json.loads(refusal.body)
    assert (answer.status, answer.header("connection")) == (200, None)
    assert (refusal.header("content-type"), refusal.header("connection")) == ("application/problem+json", "close")
    assert (body["type"], body["status"]) == ("urn:rookery:problem:http", 400)
    assert body["request_id"] == refusal.header("x-request-id")
    assert refusal.header("x-model-digest") == answerer.digest
    assert 0 < len(body["detail"]) <= 64


GENEROUS = {
    "line feeds in the body": raw(b" \n\n \n\t" + BODY + b"\n\n"),
    "an empty line in the body": raw(b"\r\n\r\n \n" + BODY),
    "a CR LF before the request": b"\r\n" + PLAIN,
    "a space after a comma": raw(BODY, [("Accept", "*/*,\t application/json")]),
    "a long head": raw(BODY, [(f"X-{i}", "a" * 100) for i in range(50)]),
}


@pytest.mark.parametrize("request_bytes", GENEROUS.values(), ids=GENEROUS.keys())
@pytest.mark.parametrize("size", [1, 13, 10_000])
def test_only_the_head_is_judged(talk, request_bytes, size):
    parts = [request_bytes[i : i + size] for i in range(0, len(request_bytes), size)]
    answers, paths, is_closed = talk(_exchange(*parts, *parts, count=2))
    assert (_codes(answers), paths, is_closed) == ([200, 200], [], False)


CHUNKED = KINDS["chunked"](0)
LAST = b"\r\n0\r\n"
LIMITS = {
    "a target that is too long": (fault(PLAIN, b"/predict", b"/" + b"a" * 5000), 414),
    "a header that is too long": (fault(ACCEPTING, b"Accept: ", b"Accept: " + b"a" * 9000), 431),
    "too many headers": (fault(PLAIN, HOST, HOST + b"X-A: a\r\n" * 101), 431),
    "an unknown transfer coding": (fault(CHUNKED, b"chunked", b"gzip, chunked"), 501),
    "a head without an end": (
        fault(OTHER, b"b\r\nContent-Length: 0\r\n\r\n", b"a" * (64 << 10)),
        431,
    ),
    "a chunk extension without an end": (
        fault(CHUNKED, END + b"%x\r\n" % len(BODY), END + b"1;" + b"a" * (66 << 10)),
        400,
    ),
    "trailers without an end": (fault(CHUNKED, LAST, LAST + b"X-A: a\r\n" * (9 << 10)), 431),
    "chunks that are all framing": (
        fault(CHUNKED, LAST, b"\r\n" + b"1;%s\r\n \r\n" % (b"a" * 1000) * 70 + LAST.lstrip()),
        400,
    ),
    "many chunks of one byte": (
        fault(CHUNKED, LAST, b"\r\n" + b"1\r\n \r\n" * 20_000 + LAST.lstrip()),
        400,
    ),
}


@pytest.mark.parametrize(("case", "status"), LIMITS.values(), ids=LIMITS.keys())
def test_what_is_too_long_or_unknown_is_refused_in_the_form_of_the_contract(talk, case, status):
    parts = [case.fault[i : i + 1000] for i in range(0, len(case.fault), 1000)]
    [refusal], _, is_closed = talk(_exchange(*parts))
    assert (refusal.status, refusal.header("content-type"), is_closed) == (status, "application/problem+json", True)
    assert len(refusal.body) < 400
    assert _codes(talk(_exchange(case.control))[0]) == [200]


@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests_end_the_connection(talk, case):
    answers, paths, is_closed = talk(_exchange(case.fault, PLAIN))
    assert (_codes(answers), paths, is_closed) == ([400], [], True)
    answers, _, is_closed = talk(_exchange(case.control, PLAIN, count=2))
    assert (_codes(answers), is_closed) == ([200, 200], False)


def test_what_is_malformed_behind_a_prediction_does_not_spoil_it(talk):
    answers, paths, is_closed = talk(_exchange(PLAIN + b"hello\r\n\r\n" + PLAIN, count=3))
    assert (_codes(answers), paths, is_closed) == ([200, 400], [], True)


def test_an_idle_connection_is_closed_after_its_time(talk):
    async def conversation(line: Line) -> None:
        line.send(PLAIN)
        await line.settle()
        assert line.connection.judge(line.connection.active_at + 5) is None
        assert not line.transport.is_closed
        assert line.connection.judge(line.connection.active_at + 5.001) == "idle"
        assert line.transport.is_closed
        await line.settle()
        assert line.connection._task.done()

    talk(conversation)


def test_every_sign_of_life_counts(talk):
    async def conversation(line: Line) -> None:
        line.send(PLAIN)
        await line.settle()
        line.connection.active_at -= 100
        before = line.connection.active_at
        line.send(PLAIN)
        assert line.connection.active_at > before + 99

    talk(conversation)


def test_a_connection_is_not_idle_while_its_request_is_answered(talk):
    async def conversation(line: Line) -> None:
        line.send(KINDS["explain"](0))
        while not line.spy.paths:
            await asyncio.sleep(0)
        assert line.connection.judge(line.connection.active_at + 1e6) is None
        line.connection.close_if_waiting()
        assert [a.status for a in await line.wait_for(1)] == [200]
        assert not line.transport.is_closed

    talk(conversation)


def test_a_connection_is_not_idle_while_a_body_is_on_its_way(talk):
    async def conversation(line: Line) -> None:
        line.send(PLAIN[:-5])
        await line.settle()
        assert line.connection.judge(line.connection.active_at + 6) is None
        assert not line.transport.is_closed
        line.send(PLAIN[-5:])
        assert [a.status for a in line.answers] == [200]

    talk(conversation)


UNENDING = {
    "plain": (Case(PLAIN, PLAIN[:-5]), []),
    "over the bridge": (Case(KINDS["explain"](0), KINDS["explain"](0)[:-5]), ["/predict"]),
    "in chunks": (Case(KINDS["chunked"](0), KINDS["chunked"](0)[:-5]), ["/predict"]),
}


@pytest.mark.parametrize(("case", "paths"), UNENDING.values(), ids=UNENDING.keys())
def test_a_body_that_stands_still_is_refused_and_its_connection_closed(talk, answerer, case, paths):
    async def conversation(line: Line) -> None:
        line.send(case.fault)
        await line.settle()
        assert line.connection.judge(line.connection.active_at + 7.9) is None
        assert line.connection.judge(line.connection.active_at + 8.1) == "body"
        await line.until(lambda: line.transport.is_closed)
        [refusal] = line.answers
        assert (refusal.status, refusal.header("connection"), line.spy.paths) == (408, "close", paths)
        assert refusal.header("x-request-id") in ("test-1", "n-0")
        assert refusal.header("x-model-digest") == answerer.digest
        await line.settle()
        assert line.connection._task.done()

    talk(conversation)
    assert _codes(talk(_exchange(case.control))[0]) == [200]


@pytest.mark.parametrize("request_bytes", [raw(BODY, length="20000"), raw(BODY, length="2000000")], ids=["door", "way"])
@pytest.mark.parametrize(("step_bytes", "end_seconds"), [(1, 8), (1000, 8), (1200, None)], ids=["drip", "slow", "ok"])
def test_a_body_must_move(talk, request_bytes, step_bytes, end_seconds):
    async def conversation(line: Line) -> int | None:
        line.send(request_bytes)
        start = line.connection._since
        for second in range(1, 18):
            if line.connection.judge(start + second) is not None:
                return second
            line.send(b" " * step_bytes)
            # as if the clock had moved on
            line.connection.active_at = start + second
        return None

    assert talk(conversation) == end_seconds


def test_a_head_must_be_whole_in_time(talk):
    async def conversation(line: Line) -> None:
        line.send(PLAIN[:20])
        await line.settle()
        start = line.connection.active_at
        line.send(PLAIN[20:30])
        line.connection.active_at += 100
        assert line.connection.judge(start + 5) is None
        assert line.connection.judge(start + 5.1) == "head"
        [refusal] = line.answers
        assert (refusal.status, line.transport.is_closed) == (408, True)

    talk(conversation)


def test_who_says_nothing_is_let_go_without_a_word(talk):
    async def conversation(line: Line) -> None:
        await line.settle()
        assert line.connection.judge(line.connection.active_at + 5) is None
        assert line.connection.judge(line.connection.active_at + 5.1) == "silent"
        assert (line.answers, line.transport.is_closed) == ([], True)

    talk(conversation)


@pytest.mark.parametrize(
    ("read_bytes", "end_seconds"), [(0, 7), (1000, 7), (1100, None)], ids=["nothing", "slowly", "ok"]
)
def test_an_answer_must_be_read(talk, read_bytes, end_seconds):
    async def conversation(line: Line) -> int | None:
        line.send(PLAIN)
        start, line.transport.unread_bytes = line.connection.active_at, 100_000
        for second in range(18):
            if line.connection.judge(start + second) is not None:
                assert line.transport.is_aborted
                return second
            line.transport.unread_bytes -= read_bytes
        return None

    assert talk(conversation) == end_seconds


def test_the_time_between_two_requests_begins_when_the_answer_is_read(talk):
    async def conversation(line: Line) -> None:
        line.send(PLAIN)
        await line.settle()
        start, line.transport.unread_bytes = line.connection.active_at, 10_000
        assert line.connection.judge(start + 1) is None
        line.transport.unread_bytes = 0
        assert line.connection.judge(start + 6) is None
        assert line.connection.judge(start + 10) is None
        assert line.connection.judge(start + 11.1) == "idle"

    talk(conversation)


def test_who_reads_large_answers_again_and_again_is_not_too_slow(talk):
    async def conversation(line: Line) -> None:
        line.send(PLAIN)
        start, line.transport.unread_bytes = line.connection.active_at, 70_000
        for second in range(20):
            assert line.connection.judge(start + second) is None
            # read, and filled again by the next answer
            line.connection.pause_writing()
            line.connection.resume_writing()

    talk(conversation)


def test_a_closed_connection_that_is_not_read_does_not_stay(talk):
    async def conversation(line: Line) -> None:
        line.transport.unread_bytes = 5000
        line.connection._closed = True
        start = line.connection.active_at
        assert [line.connection.judge(start + second) for second in (0, 4, 8)] == [None, None, "write"]
        assert line.transport.is_aborted

    talk(conversation)


HALF_CLOSED = {kind: KINDS[kind](0) for kind in KINDS} | {
    "a train": PLAIN * 100 + KINDS["other"](0) + PLAIN * 100 + KINDS["large"](0),
}


@pytest.mark.parametrize("request_bytes", HALF_CLOSED.values(), ids=HALF_CLOSED.keys())
@pytest.mark.parametrize("has_short_door", [True, False])
def test_who_has_said_everything_still_gets_the_answers(talk, request_bytes, has_short_door):
    async def conversation(line: Line) -> list[int]:
        line.send(request_bytes)
        if not line.connection.eof_received():
            line.transport.close()
        await line.until(lambda: line.transport.is_closed)
        return _codes(line.answers)

    found = talk(conversation, has_short_door=has_short_door)
    assert found == [400 if request_bytes == HALF_CLOSED["refused"] else 200] * (
        202 if request_bytes == HALF_CLOSED["a train"] else 1
    )


@pytest.mark.parametrize("request_bytes", [b"", PLAIN[:10], PLAIN[:-1], KINDS["explain"](0)[:-1]])
def test_who_leaves_before_the_end_of_a_request_is_let_go(talk, request_bytes):
    async def conversation(line: Line) -> None:
        line.send(request_bytes)
        await line.settle()
        assert not line.connection.eof_received()

    talk(conversation)


@pytest.mark.parametrize("request_bytes", [PLAIN[:10], PLAIN[:-1], KINDS["explain"](0)[:-1]])
def test_a_request_cut_off_behind_another_one_ends_the_connection(talk, request_bytes):
    async def conversation(line: Line) -> None:
        line.send(KINDS["other"](0) + request_bytes)
        assert line.connection.eof_received()
        await line.wait_for(1)
        await line.settle()
        line.connection.judge(line.connection.active_at)
        await line.until(lambda: line.transport.is_closed)
        assert _codes(line.answers)[0] == 200

    talk(conversation)


def test_a_long_train_gives_the_others_a_turn(talk):
    async def conversation(line: Line) -> list[int]:
        counts = [0]
        line.send(PLAIN * 200)
        while len(line.answers) < 200:
            counts.append(len(line.answers))
            await asyncio.sleep(0)
        assert line.transport.is_reading
        return [b - a for a, b in itertools.pairwise(counts)]

    # no time is left in any turn after the first answer
    found = talk(conversation, slice_seconds=0.0)
    assert (max(found), len(found) >= 199) == (1, True)


def test_what_arrives_while_others_have_their_turn_keeps_its_place(talk):
    async def conversation(line: Line) -> None:
        line.send(*[_with_id(n) for n in range(10)], b"".join(_with_id(n) for n in range(10, 100)))
        line.send(_with_id(100)[:50])
        line.send(_with_id(100)[50:] + _with_id(101))
        answers = await line.wait_for(102)
        assert [f"n-{n}" for n in range(102)] == [answer.header("x-request-id") for answer in answers]

    talk(conversation)


def test_who_goes_away_during_the_others_turn_is_forgotten(talk):
    async def conversation(line: Line) -> None:
        line.send(PLAIN * 100)
        await line.hang_up()
        await line.settle()
        assert line.worker.nr == 1

    talk(conversation, slice_seconds=0.0)


def test_the_last_request_before_a_restart_says_so(talk):
    async def conversation(line: Line) -> None:
        line.worker.max_requests = 3
        line.send(PLAIN * 4)
        await line.until(lambda: line.transport.is_closed)
        assert (_codes(line.answers), line.worker.nr, line.worker.alive) == ([200] * 3, 3, False)
        assert [answer.header("connection") for answer in line.answers] == [None, None, "close"]

    talk(conversation)


def test_a_worker_without_room_takes_nobody(talk, bridges):
    async def conversation(line: Line) -> None:
        line.worker.max_connections = 1
        second, transport = Connection(line.worker), Transport(line.worker.loop)
        transport.connection = second
        second.connection_made(transport)
        await line.settle()
        assert (transport.is_aborted, line.worker.nr_conns, line.worker.connections) == (True, 1, {line.connection})

    talk(conversation)


def test_who_sends_without_waiting_is_not_listened_to_for_ever(talk):
    async def conversation(line: Line) -> None:
        line.send(KINDS["explain"](0), *[b"x" * 100_000] * 3)
        assert not line.transport.is_reading
        answers = await line.wait_for(2)
        assert _codes(answers) == [200, 414]

    talk(conversation)


STAGES = {
    "waiting": (b"", None),
    "answered": (PLAIN, None),
    "head": (PLAIN[:30], (None, None, "head")),
    "body": (PLAIN[:-1], ("test-1", "/predict", "body")),
    "body over the bridge": (KINDS["explain"](0)[:-1], ("n-0", "/predict", "body")),
    "answer": (KINDS["explain"](0), ("n-0", "/predict", "answer")),
}


@pytest.mark.parametrize(("request_bytes", "expected"), STAGES.values(), ids=STAGES.keys())
def test_a_request_under_way_is_known_by_its_id_and_route(talk, request_bytes, expected):
    async def conversation(line: Line) -> Any:
        await line.settle()
        line.send(request_bytes)
        found = line.connection.unfinished(line.connection.active_at + 2.04)
        line.connection.close_if_waiting()
        assert line.transport.is_closed == (found is None)
        return found

    found = talk(conversation)
    assert (found and tuple(found[name] for name in ("request_id", "route", "stage"))) == expected
    assert found is None or found["seconds"] == 2.0


def test_a_body_behind_another_answer_is_not_cut_off_by_the_keepalive_of_that_answer(talk):
    async def conversation(line: Line) -> None:
        line.send(KINDS["other"](0) + PLAIN[:-5])
        await line.wait_for(1)
        await line.settle()
        assert line.connection._keepalive_handle is None

    talk(conversation)


def test_who_goes_away_in_the_middle_of_a_body_is_forgotten(talk):
    async def conversation(line: Line) -> None:
        line.send(PLAIN[:-5])
        await line.hang_up()
        await line.settle()
        assert (line.answers, line.spy.paths, line.worker.nr) == ([], [], 0)

    talk(conversation)


def test_a_half_request_behind_an_answer_waits_for_its_end(talk):
    async def conversation(line: Line) -> None:
        line.send(PLAIN + PLAIN[:30])
        await line.settle()
        assert len(line.answers) == 1
        line.send(PLAIN[30:])
        assert [a.status for a in line.answers] == [200, 200]

    talk(conversation)


def test_each_connection_keeps_its_own_body(bridges, loop, answerers):
    async def conversation() -> list[bytes]:
        lines = [Line(bridges[name][True]) for name in MODELS]
        requests = [raw(encode(ROWS[name])) for name in MODELS]
        for place in range(max(map(len, requests))):
            for line, request in zip(lines, requests, strict=True):
                line.send(request[place : place + 1])
        bodies = [line.answers[0].body for line in lines]
        for line in lines:
            await line.hang_up()
        return bodies

    expected = [ask(answerers[name], row).body for name, row in (("penguins", ADELIE), ("iris", SETOSA))]
    assert loop.run_until_complete(conversation()) == expected


def test_a_failure_inside_is_a_500_and_the_connection_goes_on(talk, caplog):
    answers, paths, is_closed = talk(_exchange(PLAIN, PLAIN, count=2), "failing")
    assert (_codes(answers), paths, is_closed) == ([500, 500], [], False)
    assert json.loads(answers[0].body)["request_id"] == "test-1"
    assert [record.message for record in caplog.records] == ["request.failed"] * 2


def test_an_application_without_a_short_door_has_none(loop, bridges):
    async def conversation() -> None:
        line = Line(bridges["penguins"][False])
        assert isinstance(line.connection, Connection)
        assert line.connection._answerer is None
        await line.hang_up()

    loop.run_until_complete(conversation())


@pytest.mark.parametrize("path", ["/predict", "/v2/models/penguins/infer"])
def test_a_head_that_comes_before_its_body_is_acknowledged_at_once(talk, path):
    async def speak(line: Line) -> list[list[Any]]:
        head, _, body = raw(BODY, line=f"POST {path} HTTP/1.1").partition(b"\r\n\r\n")
        seen = []
        # in one piece, and as clients send it who hold the body back until the head is acknowledged (Nagle)
        for parts in ([head + b"\r\n\r\n" + body], [head + b"\r\n\r\n", body[:5], body[5:]]):
            line.transport.options.clear()
            count = len(line.answers)
            line.send(*parts)
            seen.append(list(line.transport.options))
            await line.wait_for(count + 1)
            await line.settle()
        return seen

    acknowledged = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    assert talk(speak) == [[], [acknowledged] * 2]


UNFINISHED = {
    "a head": (b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"X-A: %s\r\n" % (b"a" * 600) * 80, b"\r\n"),
    "a plain body": (raw(BODY.ljust(LOOP_BODY_BYTES))[:-1], b" "),
}


@pytest.mark.parametrize(("begin", "end"), UNFINISHED.values(), ids=UNFINISHED.keys())
def test_what_a_connection_holds_counts_and_is_refused_when_there_is_no_more(talk, bridges, begin, end):
    budget = bridges["penguins"][True].bodies

    async def conversation(line: Line) -> tuple[int, list[int]]:
        line.send(begin)
        await line.settle()
        held_bytes = budget.held_bytes
        line.send(end)
        return held_bytes, _codes(await line.wait_for(1))

    held_bytes, codes = talk(conversation)
    assert (codes, budget.held_bytes) == ([200], 0)
    assert len(begin) - 1024 < held_bytes <= len(begin)
    with Hold(budget) as others:
        assert others.resize(budget.limit_bytes * 3 // 4)
        small = [Hold(budget) for _ in range(budget.limit_bytes // 4 // SMALL_BYTES)]
        assert all(one.resize(SMALL_BYTES) for one in small)
        [refusal], _, is_closed = talk(_exchange(begin))
        for one in small:
            one.resize(0)
    assert (refusal.status, refusal.header("retry-after"), is_closed) == (503, "1", True)
    assert budget.held_bytes == 0


def test_what_waits_behind_an_answer_counts_and_ends_the_connection_when_there_is_no_more(talk, bridges):
    budget = bridges["penguins"][True].bodies

    async def conversation(line: Line) -> tuple[int, bool]:
        line.send(KINDS["explain"](0), PLAIN * 300)
        return budget.held_bytes, line.transport.is_aborted

    held_bytes, is_aborted = talk(conversation)
    assert (held_bytes > 290 * len(PLAIN), is_aborted, budget.held_bytes) == (True, False, 0)
    with Hold(budget) as others:
        assert others.resize(budget.limit_bytes * 3 // 4)
        assert talk(conversation)[1]
    assert budget.held_bytes == 0


def test_an_answer_with_connection_close_is_the_last_one(talk, answerers):
    def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        is_last = environ["QUERY_STRING"] == "last"
        start_response("200 OK", [("Content-Length", "2"), *([("Connection", "close")] if is_last else [])])
        return [b"ok"]

    bridge = Bridge(wsgi, answerers["penguins"], SETTINGS.max_body_bytes)

    async def conversation(line: Line, query: str) -> tuple[list[int], bool]:
        line.send(raw(BODY, line=f"POST /predict{query} HTTP/1.1") + raw(BODY) + raw(BODY))
        answers = await line.wait_for(3)
        await line.settle()
        return _codes(answers), line.transport.is_closed

    async def both() -> list[tuple[list[int], bool]]:
        found = []
        for query in ("?last", "?other"):
            line = Line(bridge)
            found.append(await conversation(line, query))
            await line.hang_up()
        return found

    assert asyncio.run(both()) == [([200], True), ([200, 200, 200], False)]
    bridge._thread.shutdown()
