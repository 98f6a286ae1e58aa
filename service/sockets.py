"""What is asked of the kernel about one client's socket."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

# SO_LINGER, on, for 0 seconds: closing resets the connection
RESET = struct.pack("ii", 1, 0)

# of Linux alone; it holds for what has come, not for what will come
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


def reset_when_closed(transport: Any) -> None:
    """Let closing end the connection at once, with whatever is still to be sent."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def acknowledge(transport: Any) -> None:
    """Tell the client at once what has come: one that sends head and body apart (Nagle) waits 40 ms for it."""
    sock = transport.get_extra_info("socket")
    if sock is not None and QUICKACK is not None:
        # a client that has left needs none
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
