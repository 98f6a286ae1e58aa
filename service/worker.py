"""Gunicorn's event-loop worker with our connections: it bounds them, looks after them, and ends in good order."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from gunicorn.workers import gasgi

from service import fleet, stopping, underway
from service.config import Settings
from service.deadlines import Deadlines

if TYPE_CHECKING:
    from service.connection import Connection

log = logging.getLogger(__name__)

# descriptors that are not connections: files, the loop, the store, threads
OTHER_DESCRIPTORS = 64
MAX_CONNECTIONS = 8192

# this part of the connections is kept free by closing those that wait for a request
EVICTED_SHARE = 0.1

# what the kernel may hold of an answer that the client does not fetch; the rest waits where it is seen
UNSENT_BYTES = 16 << 10

# Gunicorn's master kills at graceful_timeout: what is left is named and cut off before
MARGIN_SECONDS = 1.0
TURN_SECONDS = 0.05

# the connections are looked at once a second, unless the process did not run
STOPPED_SECONDS = 2.5


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    """Serves `service.connection.Connection`s and closes those that take too long."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what Gunicorn gives."""
        super().__init__(*args, **kwargs)
        self.connections: set[Connection] = set()
        self.deadlines = Deadlines()
        self.max_connections = connection_limit(None)
        self.ops_port: int | None = None
        self._lame_duck_seconds = 1.0
        self._told_at: float | None = None
        self._ended: Counter[str] = Counter()
        self._is_evicting = False
        self._swept_at = time.monotonic()

    def load_wsgi(self) -> None:
        """Load the application, and with it the connections that know its answers."""
        super().load_wsgi()
        from service.connection import Connection

        settings = Settings.from_env()
        self.deadlines = Deadlines.of(settings)
        self.max_connections = connection_limit(settings.max_connections)
        self._lame_duck_seconds, self.ops_port = settings.lame_duck_seconds, settings.ops_port
        for listener in self.sockets:
            if listener.sock.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_NOTSENT_LOWAT"):
                # inherited by every connection
                listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        # the worker names its protocol as a global of its module and offers no other way to choose it
        gasgi.ASGIProtocol = Connection

    # --- while it serves

    def has_room(self) -> bool:
        """Whether one more connection may be taken; before there is none, those that have waited longest are closed."""
        count = len(self.connections)
        if count >= self.max_connections * (1 - EVICTED_SHARE) and not self._is_evicting:
            self._evict(int(self.max_connections * EVICTED_SHARE) + 1)
        if count < self.max_connections:
            return True
        self._ended["refused"] += 1
        return False

    def _evict(self, count: int) -> None:
        """Close some of the connections that are done or wait for a request, of these the silent ones first."""
        waiting = [one for one in self.connections if one.is_lingering or one.is_waiting]
        waiting.sort(key=lambda one: (not one.is_lingering, one.has_asked, one.active_at))
        for connection in waiting[:count]:
            connection.cut_off()
        self._ended["evicted"] += len(waiting[:count])
        # the descriptors are free, and the connections forgotten, after this turn of the loop
        self._is_evicting = True
        self.loop.call_soon(self._end_eviction)

    def _end_eviction(self) -> None:
        """Allow the next eviction."""
        self._is_evicting = False

    def notify(self) -> None:
        """Tell the parent that the loop is alive, once a second, and look after the connections."""
        super().notify()
        self.tick()
        self.sweep(time.monotonic())

    def tick(self) -> None:
        """Let what was noted be counted, between answers; end if this worker is to be replaced."""
        self._tell("tick")
        if underway.current.is_dismissed and self._told_at is None:
            self.handle_exit_signal()

    def finish(self) -> None:
        """Let what was noted be counted before the process ends."""
        self._tell("finish")

    def _tell(self, name: str) -> None:
        """Call a method of the application; one that could not be loaded has noted nothing."""
        method = getattr(getattr(self, "asgi", None), name, None)
        if method is not None:
            method()

    def sweep(self, now: float) -> None:
        """Close the connections that have taken too long; one line in the log tells how many, and why.

        A process that was stopped for a while first reads what has come meanwhile: its clients were not slow.
        """
        was_stopped, self._swept_at = now - self._swept_at > STOPPED_SECONDS, now
        if was_stopped:
            return
        for connection in list(self.connections):
            reason = connection.judge(now)
            if reason not in (None, "idle"):
                self._ended[str(reason)] += 1
        if self._ended:
            log.info("connections.closed", extra=dict(self._ended))
            self._ended.clear()

    # --- the end

    def handle_exit_signal(self) -> None:
        """Begin to end on SIGTERM: not ready any more, and every answer is the last of its connection."""
        if self._told_at is None:
            self._told_at = time.monotonic()
            stopping.told.set()
            fleet.say(fleet.LEAVING)
        super().handle_exit_signal()

    async def _shutdown(self) -> None:
        """End in good order: answer who still comes for a moment, then whoever is there, and name who is cut off."""
        if not self._quick_shutdown:
            await self._be_lame_duck()
            await self._drain()
        await super()._shutdown()

    async def _be_lame_duck(self) -> None:
        """Go on taking connections for a moment: whoever sends requests here needs it to notice."""
        if self._told_at is not None:
            await self._until(self._told_at + self._lame_duck_seconds)
        for server in self.servers:
            server.close()
        # what has been accepted or sent already is read first
        await self._until(time.monotonic() + TURN_SECONDS)

    async def _drain(self) -> None:
        """Wait for the requests under way, and cut off those that do not end in time."""
        told_at = time.monotonic() if self._told_at is None else self._told_at
        end = told_at + self.cfg.graceful_timeout - MARGIN_SECONDS
        while self.connections and time.monotonic() < end and not self._quick_shutdown:
            for connection in list(self.connections):
                connection.close_if_waiting()
            self.sweep(time.monotonic())
            await asyncio.sleep(TURN_SECONDS)
        for connection in list(self.connections):
            unfinished = connection.unfinished(time.monotonic())
            if unfinished is not None:
                log.warning("request.abandoned", extra=unfinished)
            connection.cut_off()

    async def _until(self, moment: float) -> None:
        """Serve until a moment of the monotonic clock, or until there is a hurry."""
        while time.monotonic() < moment and not self._quick_shutdown:
            self.sweep(time.monotonic())
            await asyncio.sleep(min(TURN_SECONDS, max(0.0, moment - time.monotonic())))


def connection_limit(wanted: int | None) -> int:
    """Return how many connections there may be: what is wanted, within what the descriptors allow.

    Args:
        wanted: from the settings; None for as many as there are descriptors for, up to 8,192.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, soft - OTHER_DESCRIPTORS)
    return min(possible, MAX_CONNECTIONS if wanted is None else wanted)
