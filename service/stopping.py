"""Whether this process has been told to stop: it still answers for a moment, and says that no more should come."""

from __future__ import annotations

import threading
from typing import ClassVar

from service.errors import ServiceError
from service.reply import Headers

# set once, by the worker's signal handler; read by whoever tells whether the service is ready
told = threading.Event()


class Stopping(ServiceError):
    """The process is about to end."""

    status: ClassVar[int] = 503
    slug: ClassVar[str] = "stopping"
    title: ClassVar[str] = "The service is stopping"


def refuse_if_told(headers: Headers = (("Retry-After", "1"),)) -> None:
    """Refuse to be called ready once the process has been told to stop.

    Raises:
        Stopping: it has been told.
    """
    if told.is_set():
        raise Stopping(detail="This instance is stopping; another one answers.", headers=headers, reason="stopping")
