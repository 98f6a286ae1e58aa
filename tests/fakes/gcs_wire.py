"""The sockets under the fake Cloud Storage: a threaded HTTP/1.1 server on loopback, replies sent badly on demand."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from tests.fakes.gcs_faults import Fault
from tests.fakes.gcs_routes import Reply, Request

Exchange = Callable[[Request], tuple[Reply | None, Fault | None]]

LOOK_SECONDS = 0.05  # how often a waiting thread looks whether its client is still there
SLOW_SECONDS = 0.05
FILLER = bytes(64 * 1024)
_RST = struct.pack("ii", 1, 0)


class Gone(ConnectionError):
    """The client left, or the fake stops: nothing more to say on this connection."""


class Server(HTTPServer):
    """Serves each connection in a thread of its own and leaves neither threads nor sockets behind."""

    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, port: int, exchange: Exchange) -> None:
        """Listen on 127.0.0.1; port 0 lets the system choose."""
        super().__init__(("127.0.0.1", port), Handler)
        self.exchange = exchange
        self.stopping = threading.Event()
        self.crashes: list[BaseException] = []
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._aborted: set[socket.socket] = set()
        self._acceptor = threading.Thread(target=self.serve_forever, args=(0.02,), name="fake-gcs", daemon=True)

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def start(self) -> None:
        """Begin to accept."""
        self._acceptor.start()

    def stop(self) -> None:
        """End every connection, waiting threads included, and join all threads."""
        self.stopping.set()
        self.shutdown()
        self._acceptor.join()
        with self._lock:
            still_open = dict(self._open)
        for connection in still_open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in still_open.values():
            thread.join()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread."""
        thread = threading.Thread(target=self._serve, args=(request, client_address), name="fake-gcs", daemon=True)
        with self._lock:
            self._open[request] = thread
        thread.start()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # clients may leave whenever they like
        except Exception as crash:  # noqa: BLE001 - raised again where the fake is left
            self.crashes.append(crash)
        finally:
            self.shutdown_request(request)
            with self._lock:
                del self._open[request]

    def abort(self, request: socket.socket) -> None:
        """Have this connection end with RST once its handler returns."""
        self._aborted.add(request)

    def shutdown_request(self, request: Any) -> None:
        """Close with FIN, or with RST where that was asked for (then without the FIN that shutdown would send)."""
        if request in self._aborted:
            self._aborted.discard(request)
            with contextlib.suppress(OSError):
                request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            self.close_request(request)
        else:
            super().shutdown_request(request)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Stay quiet; the fake keeps its own log."""

    def _answer(self) -> None:
        """Read a request, have it answered, send the reply."""
        body = self._read_body()
        if body is None:
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply, fault = self.server.exchange(Request.read(self.command, self.path, headers, body))
        if reply is None:
            self._reset()
        else:
            self._deliver(reply, fault or Fault("slow-start", seconds=0))

    def do_DELETE(self) -> None:
        """Answer a DELETE."""
        self._answer()

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer()

    def do_PATCH(self) -> None:
        """Answer a PATCH."""
        self._answer()

    def do_POST(self) -> None:
        """Answer a POST."""
        self._answer()

    def do_PUT(self) -> None:
        """Answer a PUT."""
        self._answer()

    def _read_body(self) -> bytes | None:
        """Read the request's body, None when the client left before its end: half an upload is never stored."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks()
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _read_chunks(self) -> bytes | None:
        parts: list[bytes] = []
        while line := self.rfile.readline().strip():
            size = int(line.split(b";")[0], 16)
            part = self.rfile.read(size)
            if len(part) < size or self.rfile.readline() != b"\r\n":
                return None
            if size == 0:
                return b"".join(parts)
            parts.append(part)
        return None

    def _deliver(self, reply: Reply, fault: Fault) -> None:
        """Send a reply the way a fault wants it; `Fault("slow-start", seconds=0)` is no fault."""
        at = fault.at or 0
        pause = fault.seconds if fault.seconds is not None else SLOW_SECONDS
        if fault.kind == "slow-start":
            self._wait(pause)
        wire = _Wire(self, reply, fault)
        if fault.kind == "reset":
            wire.send(reply.body[:at])
            self._reset()
            return
        if fault.kind == "truncate":
            wire.send(reply.body[:at])
        elif fault.kind == "stall":
            wire.send(reply.body[:at])
            self._wait(fault.seconds)
            wire.send(reply.body[at:])
        elif fault.kind == "drip":
            wire.send(reply.body[:at])
            for index in range(at, len(reply.body)):
                self._wait(pause)
                wire.send(reply.body[index : index + 1])
        else:
            wire.send(reply.body)
            while fault.kind == "endless":
                wire.send(FILLER)
                self._wait(0)
        wire.finish()

    def _reset(self) -> None:
        self.server.abort(self.connection)
        self.close_connection = True

    def _wait(self, seconds: float | None) -> None:
        """Let time pass; None is for ever.

        Raises:
            Gone: the client left or the fake stops before the time is up.
        """
        left = float("inf") if seconds is None else seconds
        while True:
            step = min(left, LOOK_SECONDS)
            if self.server.stopping.wait(step) or self._client_left():
                raise Gone
            left -= step
            if left <= 0:
                return

    def _client_left(self) -> bool:
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False


class _Wire:
    """Sends one reply: its head at once, its body as it comes, and remembers whether the framing still holds."""

    def __init__(self, handler: Handler, reply: Reply, fault: Fault) -> None:
        self._handler = handler
        self._bodiless = reply.status in (204, 304)
        self._chunked = fault.chunked and not self._bodiless
        declared = fault.declared if fault.kind != "size" else None
        told = len(reply.body) if declared is None else declared
        if fault.kind == "endless" and declared is None:
            told = -1  # no Content-Length: the body lasts as long as the connection
        self._left = told
        handler.send_response(reply.status)
        for name, value in reply.headers:
            handler.send_header(name, value)
        if self._chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        elif told < 0:
            handler.send_header("Connection", "close")
        elif not self._bodiless:
            handler.send_header("Content-Length", str(told))
        handler.end_headers()

    def send(self, part: bytes) -> None:
        """Send a part of the body."""
        if not part or self._bodiless:
            return
        self._left -= len(part)
        if self._chunked:
            part = f"{len(part):x}\r\n".encode() + part + b"\r\n"
        self._handler.wfile.write(part)

    def finish(self) -> None:
        """End the body; where it is not as long as told, end the connection too."""
        if self._chunked:
            self._handler.wfile.write(b"0\r\n\r\n")
        elif self._left != 0 and not self._bodiless:
            self._handler.close_connection = True
