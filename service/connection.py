"""One client's connection: Gunicorn's own, with a short door for plain predictions."""

from __future__ import annotations

import time
from typing import Any, cast

from gunicorn.asgi import protocol
from gunicorn.asgi.protocol import ASGIProtocol

from service.admission import Admission, overloaded
from service.answer import Answerer, Call
from service.reply import Reply
from service.server import LOOP_BODY_BYTES

# what the short door reads; each may stand once
READ = frozenset((b"host", b"content-type", b"content-encoding", b"accept", b"x-request-id"))
# what asks for more than a plain answer
SPECIAL = frozenset((b"origin", b"expect", b"upgrade", b"transfer-encoding"))

Head = dict[bytes, bytes]


class Connection(ASGIProtocol):  # type: ignore[misc]
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
        self._body: list[bytes] = []
        self._is_whole = self._is_waiting = False
        self._admission: Admission = worker.asgi.admission
        self.active_at = time.monotonic()

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        self.worker.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.worker.connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.active_at = time.monotonic()
        super().data_received(data)

    def close_if_idle(self, now: float) -> None:
        """Close a connection that has been waiting for its next request too long."""
        if self._awaiting_request and self._head is None and now - self.active_at > self._keepalive:
            self._keepalive_timeout()

    def _feed_callback_parser(self, data: bytes) -> bool:
        """Parse, and answer the plain predictions that are whole; says whether the connection goes on."""
        goes_on = bool(super()._feed_callback_parser(data))
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
                self._is_waiting = True
            else:
                goes_on = self._answer(has_expired=True)
        return goes_on

    def take_turn(self, has_expired: bool) -> None:
        """See `service.admission.Waiting`."""
        self._is_waiting = False
        if not self._closed and self._answer(has_expired):
            self._answer_what_is_whole()

    def _on_headers_complete(self) -> bool:
        """Take a plain prediction for the short door; leave anything else to Gunicorn."""
        # nothing is being answered, so an answer on the spot keeps the order
        if self._answerer is not None and self._current_request is None and self.worker.alive and not self._is_stuck():
            self._head = _plain_head(self._callback_parser)
            if self._head is not None:
                return False
        return bool(super()._on_headers_complete())

    def _on_body(self, chunk: bytes) -> None:
        """Keep a piece of the body."""
        if self._head is None:
            super()._on_body(chunk)
        else:
            self._body.append(chunk)

    def _on_message_complete(self) -> None:
        """Note that the request is whole; the parser must not be touched from within its own callback."""
        if self._head is None:
            super()._on_message_complete()
        else:
            self._is_whole = True

    def _arm_keepalive_timer(self) -> None:
        """Set no timer: the worker looks after all connections once a second."""

    def _is_stuck(self) -> bool:
        """Whether the client does not read its answers: Gunicorn waits for it, the short door never waits."""
        return self._flow_control is not None and self._flow_control.write_paused

    def _answer(self, has_expired: bool) -> bool:
        """Answer the request that is whole, and parse what was sent after it; says whether the connection goes on.

        Args:
            has_expired: it waited, or would wait, for too long: say so instead.
        """
        answerer, head = cast("Answerer", self._answerer), cast("Head", self._head)
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._head, self._is_whole, self._body = None, False, []
        parser = self._callback_parser
        is_cut, following = parser.remaining_truncated, parser.remaining()
        parser.reset()
        self.worker.nr += 1
        call = _to_call(head, body)
        self._safe_write(_to_bytes(answerer.refuse(overloaded(), call) if has_expired else answerer.answer(call)))
        if is_cut:
            self._close_transport()
            return False
        return not following or bool(super()._feed_callback_parser(following))


def _plain_head(parser: Any) -> Head | None:
    """Return the headers that matter of a small, plain `POST /predict`, or None."""
    if (
        parser.path != b"/predict"
        or parser.method != b"POST"
        or parser.http_version != (1, 1)
        or not parser.should_keep_alive
        or not 0 <= (-1 if parser.content_length is None else parser.content_length) <= LOOP_BODY_BYTES
    ):
        return None
    head: Head = {}
    for name, value in parser.asgi_headers:
        if name in READ:
            if name in head:
                return None
            head[name] = value
        elif name in SPECIAL:
            return None
    return head if b"host" in head else None


def _to_call(head: Head, body: bytes) -> Call:
    """Return the call that Flask's door would make of the same request."""
    texts = {name: value.decode("latin-1") for name, value in head.items()}
    return Call(
        body,
        query="",
        content_type=texts.get(b"content-type", ""),
        content_encoding=texts.get(b"content-encoding", ""),
        accept=texts.get(b"accept", ""),
        request_id=texts.get(b"x-request-id", ""),
    )


def _to_bytes(reply: Reply) -> bytes:
    """Return an answer as Gunicorn would send it, byte for byte."""
    lines = [f"{name.lower()}: {value}\r\n" for name, value in reply.headers]
    lines.append(f"content-length: {len(reply.body)}\r\n")
    first = protocol._get_cached_status_line((1, 1), reply.status)
    own = protocol._CACHED_SERVER_HEADER + protocol._get_cached_date_header()
    return b"".join((first, "".join(lines).encode("latin-1"), own, b"\r\n", reply.body))
