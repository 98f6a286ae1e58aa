"""Gunicorn's event-loop worker with our connections."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from gunicorn.workers import gasgi

if TYPE_CHECKING:
    from service.connection import Connection


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    """Serves `service.connection.Connection`s and closes those that wait for nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what Gunicorn gives."""
        super().__init__(*args, **kwargs)
        self.connections: set[Connection] = set()

    def load_wsgi(self) -> None:
        """Load the application, and with it the connections that know its answers."""
        super().load_wsgi()
        from service.connection import Connection

        # the worker names its protocol as a global of its module and offers no other way to choose it
        gasgi.ASGIProtocol = Connection

    async def _shutdown(self) -> None:
        """End in good order; who waits for nothing is not waited for."""
        for connection in list(self.connections):
            connection.close_if_idle(math.inf)
        await super()._shutdown()

    def notify(self) -> None:
        """Tell the parent that the loop is alive, once a second, and look after the connections."""
        super().notify()
        now = time.monotonic()
        for connection in list(self.connections):
            connection.close_if_idle(now)
