"""A balancer of connections, as a cluster's service is one: the next connection goes to the next instance."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from load.servers import HOST, free_port

CHUNK_BYTES = 1 << 18


@contextmanager
def balancing(ports: Sequence[int]) -> Iterator[int]:
    """Spread connections over ports on loopback until the block ends; yields the port to connect to.

    Args:
        ports: in turn; who holds the list may add to it meanwhile.
    """
    port = free_port()
    stop = threading.Event()
    with socket.create_server((HOST, port), backlog=256) as listener:
        thread = threading.Thread(target=_relay, args=(listener, ports, stop), daemon=True)
        thread.start()
        try:
            yield port
        finally:
            stop.set()
            thread.join()


def _relay(listener: socket.socket, ports: Sequence[int], stop: threading.Event) -> None:
    """Carry bytes both ways until told to stop; a side that ends ends the other."""
    other: dict[socket.socket, socket.socket] = {}
    number = count()
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while not stop.is_set():
            for key, _ in selector.select(0.1):
                if key.fileobj is listener:
                    pair = (listener.accept()[0], socket.create_connection((HOST, ports[next(number) % len(ports)])))
                    for side, far in (pair, pair[::-1]):
                        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        other[side] = far
                        selector.register(side, selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in other:
                    _carry(key.fileobj, other, selector)
        for side in other:
            side.close()


def _carry(side: socket.socket, other: dict[socket.socket, socket.socket], selector: selectors.BaseSelector) -> None:
    """Carry what has arrived on one side to the other."""
    far = other[side]
    try:
        chunk = side.recv(CHUNK_BYTES)
        far.sendall(chunk)
    except OSError:
        chunk = b""
    if not chunk:
        for end in (side, far):
            selector.unregister(end)
            del other[end]
            end.close()
