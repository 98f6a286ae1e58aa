"""Keep-alive connections for load: plain non-blocking sockets, one request under way on each."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Sequence

RECEIVE_BYTES = 1 << 18
READ = select.EPOLLIN
READ_AND_WRITE = select.EPOLLIN | select.EPOLLOUT


def request_bytes(host: str, path: str, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return the exact bytes of a POST of JSON."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + body


def parse_reply(buffer: bytes) -> tuple[int, int, bool] | None:
    """Read one reply with a declared length.

    Returns:
        Its status, its size in bytes, and whether the server closes afterwards; None while it is not complete.

    Raises:
        ValueError: it declares no length.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = buffer[: end + 2].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError(f"a reply without Content-Length: {head[:200]!r}")
    size = end + 4 + int(head[at + 17 : head.find(b"\r\n", at + 2)])
    if len(buffer) < size:
        return None
    return int(head[9:12]), size, b"\r\nconnection: close" in head


class Connection:
    """A connection that is made, or made again, without waiting.

    Attributes:
        is_connected: whether it can be used.
        is_busy: whether a request is under way.
        due: when that request was due.
        freed: since when it has had nothing to do.
        body: of the last reply.
    """

    __slots__ = (
        "_address",
        "_buffer",
        "_epoll",
        "_socket",
        "_unsent",
        "body",
        "due",
        "fileno",
        "freed",
        "is_busy",
        "is_connected",
    )

    def __init__(self, address: tuple[str, int], epoll: select.epoll) -> None:
        """Begin to connect."""
        self._address, self._epoll = address, epoll
        self.due = self.freed = 0.0
        self.body = b""
        self._open()

    def _open(self) -> None:
        """Begin to connect; epoll tells when it can be written to."""
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = self._unsent = b""
        self.is_busy = self.is_connected = False
        self.fileno = self._socket.fileno()
        self._epoll.register(self.fileno, READ_AND_WRITE)
        self._socket.connect_ex(self._address)

    def reopen(self) -> None:
        """Give the connection up and begin to connect anew."""
        self.close()
        self._open()

    def close(self) -> None:
        """Close; what is under way is lost."""
        self.is_busy = self.is_connected = False
        if self._socket.fileno() >= 0:
            self._epoll.unregister(self.fileno)
            self._socket.close()

    def finish_connecting(self) -> None:
        """Use the connection, now that epoll says that it can be written to.

        Raises:
            OSError: nobody listens.
        """
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "cannot connect")
        self._epoll.modify(self.fileno, READ)
        self.is_connected = True

    def send(self, payload: bytes, due: float) -> None:
        """Begin a request.

        Raises:
            OSError: the connection is broken.
        """
        self.is_busy, self.due = True, due
        sent = self._socket.send(payload)
        if sent < len(payload):
            self._unsent = payload[sent:]
            self._epoll.modify(self.fileno, READ_AND_WRITE)

    def send_rest(self) -> None:
        """Send more of a large request.

        Raises:
            OSError: the connection is broken.
        """
        self._unsent = self._unsent[self._socket.send(self._unsent) :]
        if not self._unsent:
            self._epoll.modify(self.fileno, READ)

    def receive(self) -> tuple[int, bool] | None:
        """Take what has arrived.

        Returns:
            Status of the reply and whether the server closes afterwards; None while it is not complete.

        Raises:
            OSError: the connection has ended.
            ValueError: it is not a reply this client reads.
        """
        chunk = self._socket.recv(RECEIVE_BYTES)
        if not chunk:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the server")
        self._buffer = self._buffer + chunk if self._buffer else chunk
        found = parse_reply(self._buffer)
        if found is None:
            return None
        status, size, closes = found
        if len(self._buffer) > size or not self.is_busy:
            raise ValueError("more than one reply to one request")
        self.body = self._buffer[self._buffer.find(b"\r\n\r\n") + 4 :]
        self._buffer = b""
        self.is_busy = False
        return status, closes
