"""One client's connection: Gunicorn's own, with deadlines and a short door for plain predictions."""

from __future__ import annotations

import functools
import time
from typing import Any, cast

from gunicorn.asgi import protocol
from gunicorn.asgi.protocol import ASGIProtocol

from service.admission import Admission, overloaded
from service.answer import Answerer, request_id_for
from service.closing import WHOLE, to_bytes
from service.form import Call
from service.hosts import LENGTH_DIGITS, is_host
from service.monitor import PREDICT
from service.protocol import TimedProtocol
from service.server import LOOP_BODY_BYTES

# what the short door reads; each may stand once
READ = frozenset(
    (
        *(b"host", b"connection", b"content-type", b"accept", b"x-request-id"),
        *(b"x-forwarded-for", b"traceparent", b"x-cloud-trace-context"),
    )
)
# what asks for more than a plain answer
SPECIAL = frozenset((b"origin", b"expect", b"upgrade", b"transfer-encoding", b"content-encoding"))
# stands for the request id in a prepared answer; well-formed, and in nothing else
MARK = "0-request-id-0"

Head = dict[bytes, bytes]

_OVERLOADED = overloaded()


class Connection(TimedProtocol):
    """Speaks HTTP/1.1 with one client.

    A plain `POST /predict` that arrives while nothing else is under way is answered on the spot: no task, no scope, no
    environ. The parser, the order of answers and everything unusual stay Gunicorn's.
    """

    def __init__(self, worker: Any) -> None:
        """Belong to a worker whose application says whether there is a short door."""
        super().__init__(worker)
        # Python's own parser, in place where the C parser is missing, keeps its headers otherwise
        has_door = ASGIProtocol._check_h1c_protocol_available()
        self._answerer: Answerer | None = worker.asgi.short_door if has_door else None
        self._head: Head | None = None
        self._peer = ""
        self._is_whole = self._is_waiting = False
        self._waits_since = 0.0
        self._admission: Admission = worker.asgi.admission

    def connection_made(self, transport: Any) -> None:
        """Take the client, unless there are too many."""
        if self.worker.has_room():
            self.worker.connections.add(self)
            self._admission.connected()
            peername = transport.get_extra_info("peername")
            self._peer = str(peername[0]) if isinstance(peername, tuple) else ""
            if self.worker.ops_port is not None and transport.get_extra_info("sockname")[1] == self.worker.ops_port:
                # nothing is predicted there
                self._answerer = None
            super().connection_made(transport)
        else:
            self._closed = self._conn_lost_handled = True
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.worker.connections.discard(self)
        super().connection_lost(exc)

    def _feed_callback_parser(self, data: bytes) -> bool:
        """Parse, and answer the plain predictions that are whole; says whether the connection goes on."""
        goes_on = self._parse(data)
        return goes_on and self._answer_what_is_whole()

    def _answer_what_is_whole(self) -> bool:
        """Answer on the spot, or let the request wait for its turn; says whether the connection goes on."""
        goes_on = True
        while goes_on and self._is_whole and not self._is_waiting:
            if self._admission.is_free():
                begin = time.monotonic()
                goes_on = self._answer(has_expired=False)
                self._admission.took(time.monotonic() - begin)
            elif self._admission.enter(self):
                # what comes meanwhile is kept, up to a bound, and read after the answer
                self._is_waiting, self._waits_since = True, time.monotonic()
            else:
                goes_on = self._answer(has_expired=True)
        return goes_on

    def take_turn(self, has_expired: bool) -> None:
        """See `service.admission.Waiting`."""
        self._is_waiting = False
        waited = time.monotonic() - self._waits_since
        if (
            not self._closed
            and self._answer(has_expired, waited)
            and self._answer_what_is_whole()
            and not self._is_waiting
        ):
            self._resume_reading()

    def _takes_over(self) -> bool:
        """Take a plain prediction for the short door; leave anything else to Gunicorn."""
        worker = self.worker
        if (
            self._answerer is not None
            # nothing is being answered, so an answer on the spot keeps the order
            and self._current_request is None
            # the last answers are Gunicorn's, which tells the client that they are
            and worker.alive
            and worker.nr + 1 < worker.max_requests
            and not self._is_stuck()
        ):
            self._head = _plain_head(self._callback_parser, min(self._answerer.native.quick_bytes, LOOP_BODY_BYTES))
        return self._head is not None

    def _on_message_complete(self) -> None:
        """Note that the request is whole; the parser must not be touched from within its own callback."""
        if self._head is None:
            super()._on_message_complete()
        else:
            self._stage, self._is_whole = WHOLE, True

    def _is_stuck(self) -> bool:
        """Whether the client does not read its answers: Gunicorn waits for it, the short door never waits."""
        return self._flow_control is not None and self._flow_control.write_paused

    @property
    def _is_between(self) -> bool:
        """Whether everything that came has been answered or is being answered by Gunicorn."""
        return super()._is_between and not self._is_whole

    def _given_id(self) -> str:
        """Return the request id that the client gave, empty if none or several."""
        if self._head is None:
            return super()._given_id()
        return self._head.get(b"x-request-id", b"").decode("latin-1")

    def _route(self) -> str:
        """Return the path that was asked for, cut to 64 characters."""
        return super()._route() if self._head is None else "/predict"

    def _answer(self, has_expired: bool, wait_seconds: float = 0.0) -> bool:
        """Answer the request that is whole, and parse what was sent after it; says whether the connection goes on.

        Args:
            has_expired: it waited, or would wait, for too long: say so instead.
            wait_seconds: how long it waited.
        """
        answerer, head = cast("Answerer", self._answerer), cast("Head", self._head)
        body = bytes(self._gathered)
        self._head, self._is_whole, self._gathered = None, False, bytearray()
        parser = self._callback_parser
        is_cut, following = parser.remaining_truncated, parser.remaining()
        parser.reset()
        self._begin_again()
        self.worker.nr += 1
        if has_expired:
            request_id = request_id_for(head.get(b"x-request-id", b"").decode("latin-1"))
            answerer.monitor.note_refusal(_OVERLOADED, request_id, route=PREDICT, wait=wait_seconds)
            self._safe_write(_refusal(answerer).to_bytes(request_id))
        else:
            self._safe_write(to_bytes(answerer.answer(_to_call(head, body, self._peer, wait_seconds))))
        if is_cut:
            self._close_transport()
            return False
        return not following or self._parse(following)


class Refusal:
    """The bytes of the short door's 503, ready but for request id and date: they must cost little when all is slow."""

    def __init__(self, answerer: Answerer) -> None:
        """Cut what the answerer would say around the request id."""
        reply = answerer.refuse(overloaded(), Call(b"", request_id=MARK))
        head, _, body = to_bytes(reply).partition(b"\r\n\r\n")
        self._body, self._body_end = body.split(MARK.encode())
        # length and date, which differ, stand last
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"content-length:", b"date:"))]
        self._head, self._head_end = (b"\r\n".join(lines) + b"\r\ncontent-length: ").split(MARK.encode())
        self._rest_bytes = len(self._body) + len(self._body_end)

    def to_bytes(self, call_id: str) -> bytes:
        """Return the whole answer to the call with this id."""
        request_id = call_id.encode()
        length = b"%d\r\n" % (self._rest_bytes + len(request_id))
        date = protocol._get_cached_date_header()
        return b"".join(
            (
                self._head, request_id, self._head_end, length, date, b"\r\n",
                self._body, request_id, self._body_end,
            )
        )  # fmt: skip


@functools.cache
def _refusal(answerer: Answerer) -> Refusal:
    """Return the refusal of an answerer; a process has one."""
    return Refusal(answerer)


def _plain_head(parser: Any, most_bytes: float) -> Head | None:
    """Return the headers that matter of a plain `POST /predict` with a body of so many bytes at most, or None."""
    if (
        parser.path != b"/predict"
        or parser.method != b"POST"
        or parser.http_version != (1, 1)
        or not parser.should_keep_alive
        or not 0 <= (-1 if parser.content_length is None else parser.content_length) <= most_bytes
    ):
        return None
    head: Head = {}
    for name, value in parser.asgi_headers:
        if name in READ:
            if name in head:
                return None
            head[name] = value
        elif name in SPECIAL or (name == b"content-length" and len(value) > LENGTH_DIGITS):
            return None
    return head if is_host(head.get(b"host", b"?")) else None


def _to_call(head: Head, body: bytes, peer: str, wait_seconds: float) -> Call:
    """Return the call that Flask's door would make of the same request."""
    texts = {name: value.decode("latin-1") for name, value in head.items()}
    return Call(
        body,
        query="",
        content_type=texts.get(b"content-type", ""),
        accept=texts.get(b"accept", ""),
        request_id=texts.get(b"x-request-id", ""),
        forwarded=texts.get(b"x-forwarded-for", ""),
        peer=peer,
        traceparent=texts.get(b"traceparent", ""),
        cloud_trace=texts.get(b"x-cloud-trace-context", ""),
        wait_seconds=wait_seconds,
    )
