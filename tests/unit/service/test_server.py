"""The bridge, called as Gunicorn calls it."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from service.answer import Answerer
from service.config import Settings
from service.errors import Overloaded
from service.memory import SMALL_BYTES, Budget, Hold
from service.monitor import MOST_CALLS, Monitor, Served
from service.server import LOOP_BODY_BYTES, LOOP_ROWS, LOOP_ROWS_WITH_OPTIONS, Bridge
from service.wsgi import call_wsgi, to_environ
from tests.unit.service.calls import ADELIE, ask, encode

LIMIT = 200_000


def _scope(
    method: str = "POST", path: str = "/predict", query: bytes = b"", headers: Any = (), **more: Any
) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": list(headers),
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 8080),
        "client": ("10.0.0.9", 1234),
        **more,
    }


class Client:
    """Plays the server's side of one request: hands over messages, keeps what is sent."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        """Prepare what the bridge will receive."""
        self._messages = list(messages)
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        """Give the next message."""
        return self._messages.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        """Keep a message."""
        self.sent.append(message)

    @property
    def unread(self) -> int:
        """How many messages were not asked for."""
        return len(self._messages)

    def talk(self, app: Bridge, scope: dict[str, Any]) -> None:
        """Send the request."""
        asyncio.run(app(scope, self.receive, self.send))

    @property
    def status(self) -> int:
        """The status that was sent."""
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        """The headers that were sent, each name once."""
        pairs = self.sent[0]["headers"]
        assert len({name for name, _ in pairs}) == len(pairs)
        return {name.decode(): value.decode() for name, value in pairs}

    @property
    def body(self) -> bytes:
        """The body that was sent."""
        body: bytes = self.sent[1]["body"]
        return body


def _part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.fixture(scope="module")
def bridge(penguins_app, answerers: dict[str, Answerer]) -> Iterator[Bridge]:
    """The whole service, as Gunicorn has it."""
    made = Bridge(penguins_app, answerers["penguins"], LIMIT)
    yield made
    made._thread.shutdown()


def test_a_prediction_goes_through_the_bridge(bridge, answerer):
    client = Client(_part(encode(ADELIE)))
    client.talk(bridge, _scope(headers=[(b"x-request-id", b"test-1"), (b"content-type", b"application/json")]))
    assert (200, ask(answerer, ADELIE).body) == (client.status, client.body)
    assert ("test-1", answerer.digest, str(len(client.body))) == (
        client.headers["x-request-id"],
        client.headers["x-model-digest"],
        client.headers["content-length"],
    )
    assert [message["type"] for message in client.sent] == ["http.response.start", "http.response.body"]


def test_a_body_may_come_in_parts(bridge, answerer):
    raw = encode(ADELIE)
    client = Client(*(_part(raw[i : i + 7], more=True) for i in range(0, len(raw), 7)), _part(b""))
    client.talk(bridge, _scope())
    assert (200, ask(answerer, ADELIE).body) == (client.status, client.body)


def test_no_body_is_an_empty_body(bridge):
    client = Client(_part(b""))
    client.talk(bridge, _scope())
    assert (client.status, json.loads(client.body)["errors"][0]["code"]) == (400, "malformed")


def test_other_routes_go_through_the_bridge(bridge):
    client = Client(_part(b""))
    client.talk(bridge, _scope("GET", "/health/live"))
    assert (client.status, json.loads(client.body)) == (200, {"status": "live"})


@pytest.mark.parametrize("length", [LIMIT + 1, 40 << 20, "9" * 5000], ids=["one byte over", "40 MB", "5,000 digits"])
def test_a_declared_length_over_the_limit_is_refused_unread(bridge, answerer, length):
    client = Client(_part(b"x"))
    headers = [(b"content-length", str(length).encode()), (b"x-request-id", b"test-1")]
    client.talk(bridge, _scope(headers=headers))
    assert (client.status, client.unread, client.headers["connection"]) == (413, 1, "close")
    found = json.loads(client.body)
    assert (found["errors"][0]["code"], found["request_id"]) == ("body_too_large", "test-1")
    assert ("application/problem+json", str(len(client.body)), answerer.digest) == (
        client.headers["content-type"],
        client.headers["content-length"],
        client.headers["x-model-digest"],
    )
    control = Client(_part(encode(ADELIE).ljust(LIMIT)))
    control.talk(bridge, _sized(LIMIT))
    assert (200, ask(answerer, ADELIE).body) == (control.status, control.body)


def test_a_body_over_the_limit_is_refused_at_the_first_byte_over(bridge):
    first = _part(encode(ADELIE).ljust(LIMIT), more=True)
    client, control = Client(first, _part(b" ", more=True), _part(b" ", more=True)), Client(first, _part(b""))
    client.talk(bridge, _scope())
    control.talk(bridge, _scope())
    assert (client.status, client.unread, client.headers["connection"]) == (413, 1, "close")
    assert control.status == 200


def _sized(size: int) -> dict[str, Any]:
    return _scope(headers=[(b"content-length", str(size).encode())])


def test_a_body_for_which_there_is_no_memory_is_refused_unread(answerer, penguins_app):
    app = Bridge(penguins_app, answerer, LIMIT, bodies=Budget(2 * LIMIT))
    raw = encode(ADELIE).ljust(LIMIT // 2)
    found = []
    with Hold(app.bodies) as others:
        for held in (LIMIT, LIMIT + 1):
            assert others.resize(held)
            client = Client(_part(raw))
            client.talk(app, _sized(len(raw)))
            found.append((client.status, client.unread, client.headers.get("connection")))
            assert app.bodies.held_bytes == held
    app._thread.shutdown()
    assert found == [(200, 0, None), (503, 1, "close")]
    assert (client.headers["retry-after"], json.loads(client.body)["errors"][0]["code"]) == ("1", "overloaded")


def test_a_body_that_outgrows_the_memory_is_refused_when_it_does(answerer, penguins_app):
    app = Bridge(penguins_app, answerer, LIMIT, bodies=Budget(2 * LIMIT))
    found = []
    with Hold(app.bodies) as others:
        for held in (LIMIT, LIMIT + 2):
            assert others.resize(held)
            client = Client(*[_part(b" " * (LIMIT // 4), more=True)] * 2, _part(b""))
            client.talk(app, _scope())
            found.append((client.status, client.unread))
    app._thread.shutdown()
    # what came is no JSON
    assert found == [(400, 0), (503, 1)]


@pytest.mark.parametrize(("size", "status"), [(SMALL_BYTES, 200), (LIMIT, 200), (2 * LIMIT, 503)])
def test_an_answer_counts_while_it_is_read(answerer, size, status):
    def wsgi(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b" " * size]

    app = Bridge(wsgi, answerer, LIMIT, bodies=Budget(2 * LIMIT))
    held: list[int] = []

    class Reader(Client):
        async def send(self, message: dict[str, Any]) -> None:
            await super().send(message)
            held.append(app.bodies.held_bytes)

    client = Reader(_part(b"{}"))
    client.talk(app, _scope("GET", "/x"))
    assert (client.status, app.bodies.held_bytes) == (status, 0)
    # the body of two bytes is held if there is no room for the answer
    assert held == [size if status == 200 else 2] * 2


def test_a_caller_who_goes_away_or_falls_silent_is_told_408(bridge):
    first = _part(encode(ADELIE), more=True)
    client, control = Client(first, {"type": "http.disconnect"}), Client(first, _part(b""))
    client.talk(bridge, _scope(headers=[(b"x-request-id", b"test-1")]))
    control.talk(bridge, _scope())
    assert control.status == 200
    assert (
        client.status,
        client.headers["connection"],
        json.loads(client.body)["request_id"],
    ) == (408, "close", "test-1")


def test_what_is_not_http_is_left_alone(bridge):
    client = Client()
    client.talk(bridge, {"type": "websocket"})
    assert client.sent == []


def _record_threads(answerers: dict[str, Answerer], seen: list[str]) -> Bridge:
    def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.append(threading.current_thread().name)
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    return Bridge(wsgi, answerers["penguins"], LIMIT)


PLACES = {
    "a small body": (b" " * LOOP_BODY_BYTES, b"", "MainThread"),
    "a large body": (b" " * (LOOP_BODY_BYTES + 1), b"", "large_0"),
    "an explanation": (b"{}", b"explain=true", "large_0"),
    "another parameter": (b"{}", b"on_error=row", "MainThread"),
    "an explanation in escapes": (b"{}", b"%65xplain=t%72ue", "large_0"),
    "no explanation": (b"{}", b"explain=false", "MainThread"),
    "a word that is no parameter": (b"{}", b"x=explain", "MainThread"),
    "some rows": (b"[" + b"{}," * (LOOP_ROWS - 1), b"", "MainThread"),
    "many rows": (b"[" + b"{}," * LOOP_ROWS, b"", "large_0"),
    "many rows given as arrays": (b"[" + b"[]," * LOOP_ROWS, b"", "large_0"),
    "many values in columns": (b"1," * (4 * LOOP_ROWS + 4), b"", "large_0"),
    "many lines": (b"1\n" * (LOOP_ROWS + 1), b"", "large_0"),
    "many lines of old": (b"1\r" * (LOOP_ROWS + 1), b"", "large_0"),
    "some rows, each for itself": (b"[" + b"{}," * (LOOP_ROWS_WITH_OPTIONS - 1), b"on_error=row", "MainThread"),
    "many rows, each for itself": (b"[" + b"{}," * LOOP_ROWS_WITH_OPTIONS, b"on%5Ferror=row", "large_0"),
    "many rows to convert": (b"[" + b"{}," * LOOP_ROWS_WITH_OPTIONS, b"on_unit=convert", "large_0"),
}


@pytest.mark.parametrize(("body", "query", "thread"), PLACES.values(), ids=PLACES.keys())
def test_large_work_is_done_beside_the_loop(answerers, body, query, thread):
    seen: list[str] = []
    app = _record_threads(answerers, seen)
    client = Client(_part(body))
    client.talk(app, _scope(query=query))
    app._thread.shutdown()
    assert ([thread], 200, body) == (seen, client.status, client.body)


@pytest.mark.parametrize(("raw_bytes", "thread"), [(0, "MainThread"), (16 * LOOP_ROWS + 16, "large_0")])
def test_tensors_are_weighed_by_their_bytes(answerers, raw_bytes, thread):
    seen: list[str] = []
    app = _record_threads(answerers, seen)
    client = Client(_part(b"{}" + b"\0" * raw_bytes))
    client.talk(app, _scope(path="/v2/models/x/infer", headers=[(b"inference-header-content-length", b"2")]))
    app._thread.shutdown()
    assert (seen, client.status) == ([thread], 200)


def test_an_environ_follows_pep_3333():
    scope = _scope(
        "GET",
        "/gr\u00fc\u00dfe/\N{PENGUIN}",
        b"a=%20&b=\xff",
        [
            (b"host", b"a.example"),
            (b"content-type", b"text/x"),
            (b"content-length", b"3"),
            (b"x-multiple", b"1"),
            (b"X-Multiple", b"2"),
            (b"x-latin", b"\xe4"),
        ],
    )
    found = to_environ(scope)
    found.pop("wsgi.errors")
    assert {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/gr\u00fc\u00dfe/\N{PENGUIN}".encode().decode("latin-1"),
        "QUERY_STRING": "a=%20&b=\xff",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "10.0.0.9",
        "HTTP_HOST": "a.example",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "3",
        "HTTP_X_MULTIPLE": "1,2",
        "HTTP_X_LATIN": "\xe4",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    } == found


def test_a_socket_without_addresses_has_an_environ_too():
    found = to_environ(_scope(server=None, client=None, root_path="/api"))
    assert tuple(found[name] for name in ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "SCRIPT_NAME")) == (
        "localhost",
        "80",
        "",
        "/api",
    )


def test_a_length_given_twice_is_not_believed(bridge):
    client = Client(_part(encode(ADELIE)))
    client.talk(bridge, _scope(headers=[(b"content-length", b"5"), (b"content_length", b"9")]))
    assert client.status == 200


class Chunks:
    """A WSGI body that must be closed."""

    def __init__(self, error: Exception | None = None) -> None:
        """Fail on reading if there is an error."""
        self.is_closed, self._error = False, error

    def __iter__(self) -> Iterator[bytes]:
        """Give the body in parts."""
        yield b"a"
        if self._error is not None:
            raise self._error
        yield b"b"

    def close(self) -> None:
        """Note that it was closed."""
        self.is_closed = True


def test_a_wsgi_body_is_joined_and_closed():
    chunks = Chunks()

    def wsgi(_: Any, start_response: Any) -> Chunks:
        start_response("201 Created", [("X-Name", "\xe4")])
        return chunks

    assert call_wsgi(wsgi, {}) == (201, [(b"x-name", b"\xe4")], b"ab")
    assert chunks.is_closed


def test_the_body_of_a_request_is_let_go_once_it_is_answered():
    def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # as frameworks do: what is left waits for the garbage collector
        environ["itself"] = environ
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    body = io.BytesIO(b"x" * 100)
    assert call_wsgi(wsgi, {"wsgi.input": body})[2] == b"x" * 100
    assert body.closed


def test_a_wsgi_body_that_fails_is_closed():
    chunks = Chunks(OSError("gone"))

    def wsgi(_: Any, start_response: Any) -> Chunks:
        start_response("200 OK", [])
        return chunks

    with pytest.raises(OSError, match="gone"):
        call_wsgi(wsgi, {})
    assert chunks.is_closed


def test_the_last_status_counts():
    def wsgi(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("A", "1")])
        start_response("500 Internal Server Error", [("B", "2")], (None, None, None))
        return []

    assert call_wsgi(wsgi, {}) == (500, [(b"b", b"2")], b"")


def test_the_obsolete_write_callable_is_refused():
    def wsgi(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"text")
        return []

    with pytest.raises(NotImplementedError):
        call_wsgi(wsgi, {})


def test_only_a_bridge_with_a_short_door_shows_its_answerer(answerer):
    doors = [Bridge(lambda *_: [], answerer, LIMIT, has_short_door=has).short_door for has in (True, False)]
    assert doors == [answerer, None]


BATCH = encode({"instances": [ADELIE] * 300})
OTHERS_PORT = 8081
# what belongs to the application, although it looks like a plain prediction
ITS_OWN = {
    "another method": _scope("PUT"),
    "another path": _scope(path="/predict/"),
    "a browser elsewhere": _scope(headers=[(b"origin", b"https://lab.example")]),
    "the port for operations": _scope(server=("127.0.0.1", OTHERS_PORT)),
}


@pytest.mark.parametrize("scope", ITS_OWN.values(), ids=ITS_OWN)
def test_the_short_door_is_for_plain_predictions_alone(answerer, scope):
    app = Bridge(call_me_teapot, answerer, LIMIT, has_short_door=True, ops_port=OTHERS_PORT)
    client, control = Client(_part(BATCH)), Client(_part(BATCH))
    client.talk(app, scope)
    control.talk(app, _scope())
    app._thread.shutdown()
    assert (client.status, control.status) == (418, 200)


def call_me_teapot(_: Any, start_response: Any) -> Iterable[bytes]:
    """An application that is told from the answerer."""
    start_response("418 I'M A TEAPOT", [])
    return []


def test_a_batch_is_answered_past_the_application_as_through_it(bridge, answerer):
    short = Bridge(call_me_teapot, answerer, LIMIT, has_short_door=True)
    scope = _scope(
        query=b"on_error=row", headers=[(b"x-request-id", b"test-1"), (b"content-type", b"application/json")]
    )
    told = []
    for app in (short, bridge):
        client = Client(_part(BATCH))
        client.talk(app, scope)
        told.append((client.status, list(client.headers), client.headers["x-request-id"], client.body))
    short._thread.shutdown()
    assert told[0] == told[1]
    assert told[0][0] == 200


def test_a_bridge_has_no_short_door_unless_asked(bridge):
    assert bridge.short_door is None


def _lifespan(listening: Any, answerer: Answerer, *kinds: str) -> Client:
    client = Client(*({"type": f"lifespan.{kind}"} for kind in kinds))
    client.talk(Bridge(lambda *_: [], answerer, LIMIT, listening=listening), {"type": "lifespan"})
    return client


def test_the_bridge_follows_the_server_s_life_and_says_once_that_it_listens(answerer):
    heard: list[str] = []
    client = _lifespan(lambda: heard.append("listening"), answerer, "startup", "shutdown")
    assert [message["type"] for message in client.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (heard, client.unread) == (["listening"], 0)


def test_it_listens_only_after_the_server_knows_that_the_start_is_complete(answerer):
    order: list[str] = []

    class Server(Client):
        async def send(self, message: dict[str, Any]) -> None:
            order.append(message["type"])

    server = Server({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    bridge = Bridge(lambda *_: [], answerer, LIMIT, listening=lambda: order.append("listening"))
    server.talk(bridge, {"type": "lifespan"})
    assert order.index("lifespan.startup.complete") < order.index("listening")


def test_a_server_that_ends_before_it_began_is_followed_too(answerer):
    heard: list[str] = []
    client = _lifespan(lambda: heard.append("listening"), answerer, "shutdown")
    assert ([message["type"] for message in client.sent], heard) == (["lifespan.shutdown.complete"], [])


def test_nobody_needs_to_hear_that_it_listens(answerer):
    client = Client({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    client.talk(Bridge(lambda *_: [], answerer, LIMIT), {"type": "lifespan"})
    assert len(client.sent) == 2


def test_what_is_neither_http_nor_a_life_is_left_alone(answerer):
    client = Client({"type": "websocket.connect"})
    client.talk(Bridge(lambda *_: [], answerer, LIMIT), {"type": "websocket"})
    assert (client.sent, client.unread) == ([], 1)


def test_what_is_noted_after_the_loop_has_ended_is_handed_on(answerer):
    noted: list[Served] = []
    handed: list[int] = []

    class Reader:
        def note(self, calls: Sequence[Served]) -> None:
            noted.extend(calls)

        def work(self) -> None:
            handed.append(len(noted))

    monitor = Monitor([Reader()])
    _lifespan(lambda: None, Answerer(answerer.state, Settings(), monitor), "startup", "shutdown")
    for _ in range(MOST_CALLS):
        monitor.note_refusal(Overloaded(), "")
    assert handed == [MOST_CALLS]
