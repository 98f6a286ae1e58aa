"""Gunicorn's HTTP/1.1 with deadlines, a strict reading of the head, and refusals in the form of the contract."""

from __future__ import annotations

import time
from typing import Any

from gunicorn.asgi import protocol
from gunicorn.asgi.parser import ParseError, UnsupportedTransferCoding

from service import sockets
from service.closing import BODY, HEAD, WHOLE, ClosingProtocol
from service.deadlines import Deadlines, Window
from service.errors import echo
from service.hosts import LENGTH_DIGITS, is_host

# request line and headers together, as at Google's front ends; more is refused however slowly it comes
HEAD_BYTES = 64 << 10

# chunk sizes, extensions and trailers may take so much, and beyond it as much as the body that they frame
FRAMING_BYTES = 64 << 10

# a body with more framing than this, and than an eighth of itself, is parsed with this part of the loop's time at most
PATIENT_BYTES, FRAMING_SHARE = 8 << 10, 0.2

# fed to the parser at once: it moves what it has not parsed yet after every chunk, which costs the square of this
PIECE_BYTES = 4 << 10

# what may wait behind a request that is being answered before the client is no longer listened to
WAITING_BYTES = 256 << 10

# connections that hold no more than this are not counted in the budget for bodies
UNCOUNTED_BYTES = 1 << 10

# a head that was just judged and is judged again with the next request
SHORT_HEAD_BYTES = 1024


class TimedProtocol(ClosingProtocol):
    """Speaks HTTP/1.1 with one client as Gunicorn does, but not for ever and not every dialect of it.

    The hot path notes the time and where the request is; the judging is done by `judge`, which the worker calls for
    every connection once a second.
    """

    # of the whole process: until when no body in many small chunks is read on
    _framing_until = 0.0

    def __init__(self, worker: Any) -> None:
        """Belong to a worker that has `deadlines`, and whose application has a budget for `bodies`."""
        super().__init__(worker)
        self._deadlines: Deadlines = worker.deadlines
        self._since = time.monotonic()
        # what has come of a head that is not whole yet, and the last whole one that was in order
        self._raw = self._good_head = b""
        # bytes: after the head; of these, the body itself
        self._received = self._carried = 0
        self._count = 0
        self._body_window: Window | None = None
        self._write_window: Window | None = None
        self._drained = 0

    # --- what comes

    def eof_received(self) -> bool:
        """Let a client that has said all it wanted wait for its answer."""
        self._is_half_closed = True
        return not self._closed and not self.is_waiting and self._stage == WHOLE

    def _parse(self, data: bytes) -> bool:
        """Parse what came, and refuse what never ends; says whether the connection goes on."""
        if self._closed:
            # the last answer is out: nothing that follows is a request
            return False
        if self._stage == WHOLE and not self._callback_parser.is_complete:
            # the answer is out, and Gunicorn has set the parser back
            self._begin_again()
            self.active_at = time.monotonic()
        if self._stage == HEAD:
            if not self._raw:
                self._since, self._raw = self.active_at, data
            else:
                self._raw += data
        elif self._stage == BODY:
            self._received += len(data)
        else:
            self._waiting += len(data)
            if self._waiting > WAITING_BYTES:
                self._pause_reading()
        if not self._feed(data):
            return False
        self._hand_over()
        if not self._hold():
            return False
        if self._stage == HEAD and len(self._raw) > HEAD_BYTES:
            return self._refuse(431, f"request line and headers are longer than {HEAD_BYTES} bytes")
        return self._stage != BODY or self._bound_framing()

    def _bound_framing(self) -> bool:
        """Refuse a body that is mostly framing, and read one in many small chunks later; says whether it goes on."""
        if self._received > FRAMING_BYTES + 2 * self._carried:
            return self._refuse(400, f"chunk sizes, extensions and trailers take more than {FRAMING_BYTES} bytes")
        sockets.acknowledge(self.transport)
        if self._received - self._carried > max(PATIENT_BYTES, self._carried // 8):
            self._read_later(time.monotonic() - self.active_at)
        return True

    def _read_later(self, seconds: float) -> None:
        """Pause reading, in turn with all other bodies in small chunks, after parsing for this many seconds."""
        now = time.monotonic()
        until = max(now, TimedProtocol._framing_until) + seconds / FRAMING_SHARE
        TimedProtocol._framing_until = until
        self.transport.pause_reading()
        self.worker.loop.call_later(until - now, self.transport.resume_reading)

    def _feed(self, data: bytes) -> bool:
        """Feed the parser in pieces; says whether the connection goes on."""
        start = 0
        while start < len(data):
            # what follows a whole request is only stored
            end = len(data) if self._stage == WHOLE else start + PIECE_BYTES
            if not super()._feed_callback_parser(data[start:end]):
                return False
            start = end
        return True

    def _begin_again(self) -> None:
        """Expect the next request."""
        self._stage, self._received, self._carried, self._waiting = HEAD, 0, 0, 0
        self._held.resize(0)

    def _hold(self) -> bool:
        """Count what this connection holds; says whether the connection goes on."""
        size_bytes = len(self._raw) + len(self._gathered) + self._received - self._carried + self._waiting
        if size_bytes <= UNCOUNTED_BYTES:
            size_bytes = 0
        if self._held.size_bytes == size_bytes or self._held.resize(size_bytes):
            return True
        if self._stage == WHOLE:
            # an answer is under way, before which no refusal can be sent
            self.cut_off()
            return False
        return self._refuse(503, "")

    def _feed_callback_parser(self, data: bytes) -> bool:
        """Parse; says whether the connection goes on."""
        return self._parse(data)

    def _on_headers_complete(self) -> bool:
        """Refuse a head that another server might read differently; else begin with the body."""
        self._check_head()
        if self._takes_over():
            return False
        self._check_headers()
        return bool(super()._on_headers_complete())

    def _takes_over(self) -> bool:
        """Whether the request whose head is there is not Gunicorn's to answer."""
        return False

    def _check_head(self) -> None:
        """Judge the bytes of a head that the parser takes, and count the request.

        Raises:
            ParseError: a line ends without CR or is folded, which the C parser lets pass.
        """
        raw, self._raw = self._raw, b""
        end = raw.find(b"\r\n\r\n")
        head = raw[:end]
        if head != self._good_head:
            if end < 0 or head.count(b"\n") != head.count(b"\r\n"):
                raise ParseError("a line of the head ends with LF alone; end it with CR LF")
            if b"\n " in head or b"\n\t" in head:
                raise ParseError("a header is folded over two lines, which HTTP/1.1 forbids")
            self._good_head = head if end < SHORT_HEAD_BYTES else b""
        self._stage, self._since = BODY, self.active_at
        self._count += 1
        self._received, self._carried, self._waiting = len(raw) - end - 4, 0, 0
        self._body_window = None

    def _check_headers(self) -> None:
        """Judge the headers of a request that is Gunicorn's to answer; the short door takes none that fail here.

        Raises:
            ParseError: HTTP/1.1 without Host, or one that is none; a second one is refused by the parser; a length of
                more than 20 digits.
            UnsupportedTransferCoding: a body that is not just in chunks, which the C parser lets pass.
        """
        parser = self._callback_parser
        given = getattr(parser, "asgi_headers", None) or parser.headers
        headers = {name.lower(): value for name, value in given}
        if parser.http_version >= (1, 1) and b"host" not in headers:
            raise ParseError("the header Host is missing")
        if not is_host(headers.get(b"host", b"")):
            raise ParseError("the header Host is not a host with an optional port up to 65535")
        if len(headers.get(b"content-length", b"")) > LENGTH_DIGITS:
            raise ParseError(f"the header Content-Length has more than {LENGTH_DIGITS} digits")
        if any(name.lower() == b"transfer-encoding" and value.lower() != b"chunked" for name, value in given):
            raise UnsupportedTransferCoding("the only transfer coding taken is chunked")

    def _on_body(self, chunk: bytes) -> None:
        """Add a chunk to what is gathered of the body: joined, small chunks take no more memory than their bytes."""
        self._gathered += chunk
        self._carried += len(chunk)

    def _hand_over(self) -> None:
        """Give what is gathered of the body to the request that is Gunicorn's to answer, if there is one."""
        if self._gathered and self._current_request is not None:
            body, self._gathered = bytes(self._gathered), bytearray()
            super()._on_body(body)

    def _on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._hand_over()
        self._stage = WHOLE
        super()._on_message_complete()

    # --- what is judged once a second

    @property
    def is_waiting(self) -> bool:
        """Whether nothing has come of the next request."""
        # between a request and the turn of the connection's task both flags are set
        return self._awaiting_request and not self._request_ready.is_set() and self._is_between

    @property
    def _is_between(self) -> bool:
        """Whether everything that came has been answered or is being answered by Gunicorn."""
        return self._stage != BODY and not self._raw

    @property
    def has_asked(self) -> bool:
        """Whether a request has come over this connection."""
        return self._count > 0

    def judge(self, now: float) -> str | None:
        """Close the connection if its client has taken too long; says what for, None if it goes on."""
        if self._is_reader_slow(now):
            self.cut_off()
            return "write"
        if self._lingers_until is not None and now > self._lingers_until:
            self.transport.close()
        if self._closed or self._write_window is not None:
            return None
        if self._is_half_closed and (self._stage == BODY or self._raw or self.is_waiting):
            self._close_transport()
            return None
        deadlines = self._deadlines
        if self._stage == BODY:
            return self._judge_body(now)
        if self._raw:
            if now - self._since > deadlines.head_seconds:
                self._refuse(408, "the headers did not arrive in time")
                return "head"
        elif self.is_waiting:
            if not self._count and now - self._since > deadlines.head_seconds:
                self._close_transport()
                return "silent"
            if self._count and now - self.active_at > deadlines.idle_seconds:
                self._close_transport()
                return "idle"
        return None

    def _judge_body(self, now: float) -> str | None:
        """Refuse a body that does not move."""
        deadlines = self._deadlines
        if self._body_window is None:
            self._body_window = Window(self._since, 0, deadlines.body_seconds)
        if now - self.active_at > deadlines.body_seconds or self._body_window.is_too_slow(
            now, self._received, deadlines.min_rate
        ):
            self.expire_body()
            return "body"
        return None

    def expire_body(self) -> None:
        """Answer 408 to a request whose body does not come: through the application if that has the request."""
        receiver = self._body_receiver
        if receiver is None:
            self._refuse(408, "the body did not arrive in time")
        else:
            receiver._body_wait_expired = True
            receiver._wake_waiter()

    def _is_reader_slow(self, now: float) -> bool:
        """Whether what was written is not being read."""
        held = self.transport.get_write_buffer_size()
        if not held:
            if self._write_window is not None:
                # the answer is out only now: the time between two requests begins
                self._write_window, self.active_at = None, now
            return False
        if self._write_window is None:
            self._write_window, self._drained = Window(now, -held, self._deadlines.write_seconds), 0
        return self._write_window.is_too_slow(now, self._drained - held, self._deadlines.min_rate)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`: the client has read most of what was held for it."""
        self._drained += protocol.HIGH_WATER_LIMIT // 2
        super().resume_writing()

    def close_if_waiting(self) -> None:
        """Close the connection if nothing of a request has come and nothing is on its way out."""
        if self.is_waiting and not self._closed:
            self._close_transport()

    # --- the end

    def _arm_keepalive_timer(self) -> None:
        """Begin to wait for the next request; the worker looks after all connections, so no timer is set."""
        self.active_at = time.monotonic()
        if self._is_half_closed and self._is_between:
            self._close_transport()

    def _route(self) -> str:
        """Return the path that was asked for, cut to 64 characters."""
        request = self._current_request
        return "" if request is None else echo(request.path)

    def unfinished(self, now: float) -> dict[str, Any] | None:
        """Return what there is to say in the log about a request under way, None if there is none."""
        if self.is_waiting or self._closed:
            return None
        return {
            "request_id": self._given_id() or None,
            "route": self._route() or None,
            "stage": {WHOLE: "answer"}.get(self._stage, self._stage),
            "seconds": round(now - self._since, 1),
        }
