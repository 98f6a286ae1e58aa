"""What the fake's monitoring knows, and how late: the request log, and each revision's own /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.fakes.cloudrun_resources import Resources
from tests.fakes.cloudrun_traffic import Served
from tests.fakes.cloudrun_wire import Refused, Reply, Request

SCRAPE_SECONDS = 0.5


@dataclass(frozen=True)
class Scrape:
    """The text of one revision's /metrics at one moment."""

    time: float
    service: str
    revision: str
    text: str


class Metrics:
    """Answers queries about what happened up to `delay_seconds` ago; with `is_missing` it knows nothing."""

    def __init__(self, resources: Resources, log: Sequence[Served], clock: Callable[[], float] = time.time) -> None:
        self.resources, self._log, self._clock = resources, log, clock
        self.delay_seconds = 0.0
        self.is_missing = False
        self.scrapes: list[Scrape] = []

    async def collect(self) -> None:
        """Read what every revision says of itself, until cancelled."""
        asked = Request("GET", "metrics", "/metrics", {}, "/metrics", {}, b"")
        while True:
            for revision in list(self.resources.revisions.values()):
                if revision.state == "ready":
                    with contextlib.suppress(ConnectionError):
                        reply = await revision.ask(asked)
                        text = reply.body.decode()
                        self.scrapes.append(Scrape(self._clock(), revision.service, revision.name, text))
            await asyncio.sleep(SCRAPE_SECONDS)

    def answer(self, request: Request) -> Reply:
        """Answer a query."""
        return Refused(404, f"no such route in the fake: {request.path}").reply()
