"""Between Gunicorn's event loop and the application: the bridge from ASGI to WSGI."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from service.admission import Admission, Lane, no_room_for_body, overloaded
from service.answer import Answerer, body_too_large, request_id_for
from service.config import Settings
from service.errors import OtherHttpError, ServiceError
from service.form import to_call
from service.hosts import LENGTH_DIGITS
from service.instances import DEFAULTS, wanted
from service.memory import Budget, Hold
from service.monitor import PREDICT, WAITED
from service.reply import Reply
from service.wsgi import Answer, call_wsgi, to_environ

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# larger bodies, and those with more rows, are answered in the worker thread, so that nobody waits behind them
LOOP_BODY_BYTES, LOOP_ROWS = 24 << 10, 256
# the same where every row has to be looked at whatever is wrong with it, or may have to be converted
LOOP_ROWS_WITH_OPTIONS = 16
RAW_TENSORS = "HTTP_INFERENCE_HEADER_CONTENT_LENGTH"

# batches and explanations take longer than single rows, and may wait for longer: this often the budget
LANE_BUDGETS = 4

# a body is collected in parts of at least this size
PART_BYTES = 64 << 10

# the loop waits so long for the worker thread to let it go on; Python's own 5 ms is as long as a whole slice of work
SWITCH_SECONDS = 0.0005


class Turn:
    """A request that waits in the bridge."""

    def __init__(self, work: Callable[[], Answer], answer: asyncio.Future[Answer | None]) -> None:
        """Do the work when it is its turn, within the slice of time that turns have, and leave the answer."""
        self._work, self._answer = work, answer

    def take_turn(self, has_expired: bool) -> None:
        """See `service.admission.Waiting`."""
        if self._answer.done():
            # the client has left
            return
        try:
            self._answer.set_result(None if has_expired else self._work())
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            self._answer.set_exception(error)
        finally:
            # the error, its traceback, this frame and the answer would hold each other, and the request with them
            del self


class Bridge:
    """ASGI application around a WSGI one: the whole request is there before the application is called.

    Slow clients therefore cost memory up to the body limit and nothing else. Small requests are answered in the event
    loop; large bodies and explanations in one worker thread.
    """

    def __init__(
        self,
        wsgi: WSGIApplication,
        answerer: Answerer,
        max_body_bytes: int,
        has_short_door: bool = False,
        listening: Callable[[], None] = lambda: None,
        admission: Admission | None = None,
        route_of: Callable[[str, str], str] = lambda method, path: "",  # noqa: ARG005 - names tell which is which
        ops_port: int | None = None,
        bodies: Budget | None = None,
    ) -> None:
        """Stand before a WSGI application.

        Args:
            wsgi: what answers.
            answerer: names the model in refusals of the bridge itself.
            max_body_bytes: larger bodies are refused unread.
            has_short_door: whether connections may answer plain predictions themselves.
            listening: called once, when the server takes connections.
            admission: the queue before the answers; None for one with the settings' defaults.
            route_of: method and path → the rule of the application that matches, empty if none.
            ops_port: where nothing is predicted; None if there is none.
            bodies: the memory for request bodies; None for the settings' default.
        """
        self._wsgi, self.answerer, self._max_body_bytes = wsgi, answerer, max_body_bytes
        self._listening, self._route_of = listening, route_of
        self.short_door, self._ops_port = answerer if has_short_door else None, str(ops_port)
        self.admission = admission or Admission(Settings.wait_seconds, Settings.most_waiting)
        self.bodies = bodies or Budget.of(None, 1, max_body_bytes)
        self.lane = Lane(LANE_BUDGETS * self.admission.budget_seconds, self.admission.most_waiting)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large")

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        if scope["type"] != "http":
            return
        environ = to_environ(scope)
        with Hold(self.bodies) as held:
            await self._serve(environ, receive, send, held)

    async def _serve(self, environ: dict[str, Any], receive: Receive, send: Send, held: Hold) -> None:
        """Receive the body, whose memory is held until the answer is out, and answer."""
        body = await self._receive_body(environ, receive, held)
        if isinstance(body, ServiceError):
            await send_and_close(self._refuse(body, environ), send)
            return
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        if environ["REQUEST_METHOD"] != "POST":
            # probes and pages wait for nobody
            answer: Answer | None = call_wsgi(self._wsgi, environ)
        else:
            kind = self._kind_beside(environ, body)
            answer = await (
                self._answer_in_turn(environ) if kind is None else self._answer_beside(environ, kind, len(body))
            )
        # from here on the answer is held instead, for as long as the client takes to read it
        del body
        environ.pop("wsgi.input", None)
        if answer is None:
            answer = _plain(self._refuse(overloaded(), environ))
        elif not held.resize(len(answer[2])):
            answer = _plain(self._refuse(no_room_for_body(), environ))
        status, headers, payload = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})

    def _kind_beside(self, environ: dict[str, Any], body: bytes) -> str | None:
        """Return the kind of a request that would hold up the loop, as the lane counts it; None if it would not."""
        options = wanted(environ["QUERY_STRING"])
        if options.explain:
            return "explanation"
        most = LOOP_ROWS if options == DEFAULTS else LOOP_ROWS_WITH_OPTIONS
        if len(body) > LOOP_BODY_BYTES or self.answerer.native.rows(body, is_raw=RAW_TENSORS in environ) > most:
            return "batch"
        # a small body may be a large one once it is unpacked
        return "packed" if "HTTP_CONTENT_ENCODING" in environ else None

    @property
    def in_flight(self) -> tuple[int, int]:
        """How many requests are whole and not answered, and how many of them wait."""
        waiting, beside = self.admission.waiting, self.lane.waiting
        return waiting + beside, waiting + max(0, beside - 1)

    def tick(self) -> None:
        """Let what was noted be counted soon, once a second, so that any worker tells what this one has done."""
        self.answerer.monitor.tick()

    def finish(self) -> None:
        """Let everything that was noted be counted now, as the process is about to end."""
        self.answerer.monitor.flush()

    def _refuse(self, error: ServiceError, environ: dict[str, Any]) -> Reply:
        """Refuse a request that the application never sees, and note it."""
        request_id = request_id_for(environ.get("HTTP_X_REQUEST_ID", ""))
        path = environ["PATH_INFO"]
        route, dialect = self._route_of(environ["REQUEST_METHOD"], path), self.answerer.dialects.of(path)
        self.answerer.monitor.note_refusal(
            error, request_id, route=route, protocol=dialect.protocol, wait=environ.get(WAITED, 0.0)
        )
        return dialect.refuse(error, request_id, self.answerer.headers)

    def _call(self, environ: dict[str, Any], arrived: float) -> Answer:
        """Answer a request that arrived at a moment of the monotonic clock: a plain prediction past the application."""
        environ[WAITED] = time.monotonic() - arrived
        if (
            self.short_door is not None
            and environ["REQUEST_METHOD"] == "POST"
            and environ["PATH_INFO"] == PREDICT
            and environ["SERVER_PORT"] != self._ops_port
            # a browser elsewhere wants to be told whether it may read the answer
            and "HTTP_ORIGIN" not in environ
        ):
            return _plain(self.short_door.answer(to_call(environ, environ["wsgi.input"].getvalue())))
        return call_wsgi(self._wsgi, environ)

    async def _answer_in_turn(self, environ: dict[str, Any]) -> Answer | None:
        """Answer in the event loop once it is this request's turn; None if that would take too long."""
        if self.admission.is_free():
            begin = time.monotonic()
            answer = call_wsgi(self._wsgi, environ)
            self.admission.took(time.monotonic() - begin)
            return answer
        later: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        arrived = time.monotonic()
        if not self.admission.enter(Turn(lambda: self._call(environ, arrived), later)):
            return None
        late = await later
        if late is None:
            environ[WAITED] = time.monotonic() - arrived
        return late

    async def _answer_beside(self, environ: dict[str, Any], kind: str, size_bytes: int) -> Answer | None:
        """Answer in the worker thread; None if it has too much to do already."""
        place = self.lane.enter(kind, size_bytes)
        if place is None:
            return None
        seconds: list[float] = []
        arrived = time.monotonic()

        def work() -> Answer | None:
            begin = time.monotonic()
            if self.lane.has_expired(place):
                environ[WAITED] = begin - arrived
                return None
            answer = self._call(environ, arrived)
            seconds.append(time.monotonic() - begin)
            return answer

        loop = asyncio.get_running_loop()
        under_way = self._thread.submit(work)

        def leave(_: object) -> None:
            # the loop may be closed; nobody counts any more then
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self.lane.leave, place, seconds[0] if seconds else None)

        # a client that leaves does not end the work, so the place is held until that is done
        under_way.add_done_callback(leave)
        return await asyncio.wrap_future(under_way)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Follow the server's life (ASGI lifespan): once it has been told to start, it begins to listen."""
        sys.setswitchinterval(SWITCH_SECONDS)
        loop = asyncio.get_running_loop()
        # nobody would call what is put off to a loop that has ended
        self.answerer.monitor.put_off(lambda flush: flush() if loop.is_closed() else loop.call_soon(flush))
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
            loop.call_soon(self._listening)

    async def _receive_body(self, environ: dict[str, Any], receive: Receive, held: Hold) -> bytes | ServiceError:
        """Collect the body, or say why it was not read to its end."""
        declared, expected = environ.get("CONTENT_LENGTH", ""), 0
        if declared.isdecimal():
            expected = int(declared) if len(declared) <= LENGTH_DIGITS else self._max_body_bytes + 1
        if expected > self._max_body_bytes:
            return body_too_large(self._max_body_bytes)
        if not held.resize(expected):
            return no_room_for_body()
        # a list of small chunks takes twenty times their size, and many large buffers that grow leave holes in the heap
        parts, last, size, more = list[bytes](), bytearray(), 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                # the client is gone, or sent nothing for too long and may still listen
                return OtherHttpError(408, "The request did not arrive in time")
            last += message["body"]
            size += len(message["body"])
            if size > self._max_body_bytes:
                return body_too_large(self._max_body_bytes)
            if size > held.size_bytes and not held.resize(size):
                return no_room_for_body()
            more = message["more_body"]
            if len(last) >= PART_BYTES or not more:
                parts.append(bytes(last))
                last.clear()
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _plain(reply: Reply) -> Answer:
    """Return a reply in the form `call_wsgi` gives."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers]
    return reply.status, [*headers, (b"content-length", str(len(reply.body)).encode())], reply.body


async def send_and_close(reply: Reply, send: Send) -> None:
    """Send a reply with `Connection: close`, after which the connection takes no other request."""
    status, headers, body = _plain(reply)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
