"""How a connection ends: the last answer, refusals in the form of the contract, and what still comes after them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from gunicorn.asgi import protocol
from gunicorn.asgi.protocol import ASGIProtocol

from service import sockets
from service.admission import no_room_for_body
from service.answer import Answerer, request_id_for
from service.errors import OtherHttpError, ServiceError, echo, internal_error, to_reply
from service.memory import Hold
from service.reply import Reply

# after the last answer, what still comes is read and dropped within these bounds, so that the answer can be read
# (RFC 9112, 9.6: closing with unread bytes resets the connection)
LINGER_SECONDS, LINGER_BYTES = 2.0, 32 << 20

# where a request is
HEAD, BODY, WHOLE = "head", "body", "whole"


class ClosingProtocol(ASGIProtocol):  # type: ignore[misc]
    """Gunicorn's connection, which takes no request after its last answer and lets the client read that answer."""

    _closed: bool
    _body_receiver: Any

    def __init__(self, worker: Any) -> None:
        """Belong to a worker whose application has a budget for `bodies`."""
        super().__init__(worker)
        self.app = self._call_app
        self._held = Hold(worker.asgi.bodies)
        self.active_at = time.monotonic()
        self._stage = HEAD
        # what has come of the body and is not handed over yet; since `feed` hands over every chunk on its own
        self._gathered = bytearray()
        # bytes behind a request that is being answered
        self._waiting = 0
        self._is_half_closed = self._has_refused = False
        # while the connection only lingers: until when, and how many bytes were dropped
        self._lingers_until: float | None = None
        self._dropped = 0

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.active_at = time.monotonic()
        if not self._closed:
            super().data_received(data)
            return
        self._dropped += len(data)
        if self._dropped > LINGER_BYTES:
            self.cut_off()

    @property
    def is_lingering(self) -> bool:
        """Whether the last answer is out and what still comes is dropped."""
        return self._lingers_until is not None

    async def _call_app(self, scope: dict[str, Any], receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        """Call the application, and close after an answer with `Connection: close` whatever has come of the body.

        Otherwise Gunicorn goes on once the body is whole, with a request that a wrong length may have hidden in it.
        """
        is_last = False

        async def send_and_close(message: dict[str, Any]) -> None:
            nonlocal is_last
            if message["type"] == "http.response.start":
                is_last = (b"connection", b"close") in message.get("headers", ())
            await send(message)
            if is_last and message["type"] == "http.response.body" and not message.get("more_body"):
                self._close_transport()

        await self.worker.asgi(scope, receive, send_and_close)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._held.resize(0)
        super().connection_lost(exc)

    def cut_off(self) -> None:
        """End the connection at once; what the client has not read is lost, and the kernel does not keep it either."""
        sockets.reset_when_closed(self.transport)
        self.transport.abort()

    def _close_transport(self) -> None:
        """Close, and let the connection's task end now instead of some seconds later.

        A client that may still be sending is read for a moment, or it would lose the answer.
        """
        may_send = self._has_refused or self._stage == BODY or self._waiting > 0
        if self._closed:
            pass
        elif (
            may_send and not self._is_half_closed and not self.transport.is_closing() and self.transport.can_write_eof()
        ):
            self._closed, self._lingers_until = True, time.monotonic() + LINGER_SECONDS
            self._held.resize(0)
            self._gathered, self._body_receiver = bytearray(), None
            self.transport.write_eof()
            self._resume_reading()
        else:
            super()._close_transport()
        if self._request_ready is not None:
            self._request_ready.set()

    def _refuse(self, status: int, text: str) -> bool:
        """Answer with a refusal and close; says that the connection does not go on."""
        self._send_error_response(status, text)
        self._close_transport()
        return False

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        """Send what Gunicorn refuses as a problem document."""
        if self._closed:
            # an answer is out or the client is gone; Gunicorn takes an application that could not answer for a failure
            return
        self._has_refused = True
        error: ServiceError
        if status == 503:
            error = no_room_for_body()
        elif status >= 500 and status != 501:
            error = internal_error()
        else:
            error = OtherHttpError(status, protocol._REASON_PHRASES.get(status, "Refused"))
            # the parser's words quote the request: what is not text becomes question marks
            error.detail = echo(message.encode("utf-8", "replace").decode())
        request_id = request_id_for(self._given_id())
        answerer: Answerer | None = getattr(self.worker.asgi, "answerer", None)
        if answerer is not None:
            answerer.monitor.note_refusal(error, request_id)
        reply = to_reply(error, request_id, () if answerer is None else answerer.headers)
        headers = (*reply.headers, *extra_headers, ("Connection", "close"))
        self._safe_write(to_bytes(Reply(reply.status, headers, reply.body)))

    def _given_id(self) -> str:
        """Return the request id that the client gave, empty if none or several."""
        # the C parser's headers of a head that it refused are not to be touched: the process would crash
        headers = () if self._stage == HEAD else getattr(self._callback_parser, "asgi_headers", None) or ()
        given = [value for name, value in headers if name == b"x-request-id"]
        return given[0].decode("latin-1") if len(given) == 1 else ""


def to_bytes(reply: Reply) -> bytes:
    """Return an answer as Gunicorn would send it, byte for byte."""
    lines = [f"{name.lower()}: {value}\r\n" for name, value in reply.headers]
    lines.append(f"content-length: {len(reply.body)}\r\n")
    first = protocol._get_cached_status_line((1, 1), reply.status)
    own = protocol._CACHED_SERVER_HEADER + protocol._get_cached_date_header()
    return b"".join((first, "".join(lines).encode("latin-1"), own, b"\r\n", reply.body))
