"""The real application around an engine of a known speed, its queue watched: `tests.integration.slow:asgi()`.

SLOW_ENGINE_SECONDS is what a call of the engine takes; SLOW_ENGINE_RECORD is the file that tells what was seen of the
queue, each time that it got empty; with SLOW_ENGINE_REFUSES all predictions after the first few are refused.
Nothing in `service/` knows of this module, and no setting turns it on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service import app
from service.admission import Admission, Waiting
from service.loader import Ready
from service.server import Bridge

ARGUMENTS = ("tests.integration.slow:asgi()",)


class Engine:
    """Takes its time, then asks the real one."""

    def __init__(self, engine: Any, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds
        self.name = engine.name

    def predict(self, matrix: Any) -> Any:
        time.sleep(self._seconds)
        return self._engine.predict(matrix)

    def predict_one(self, row: Sequence[float]) -> Any:
        time.sleep(self._seconds)
        return self._engine.predict_one(row)


class Watched(Admission):
    """An admission that writes down how long the queue was, and who was answered too late."""

    def __init__(self, budget_seconds: float, most_waiting: int, record: Path) -> None:
        super().__init__(budget_seconds, most_waiting)
        self._record = record
        self.seen = {"most_waiting": 0, "late": 0, "expired": 0, "answered": 0, "twice": 0}

    def enter(self, request: Waiting) -> bool:
        entered = super().enter(_Ticket(request, self, time.monotonic()))
        self.seen["most_waiting"] = max(self.seen["most_waiting"], self.waiting)
        return entered

    def note(self, waited: float, has_expired: bool, is_first: bool) -> None:
        """Write down one end of waiting."""
        self.seen["twice"] += not is_first
        self.seen["expired"] += has_expired
        self.seen["answered"] += not has_expired
        # the queue judges a slice by its beginning
        self.seen["late"] += waited > self.budget_seconds + 0.01 and not has_expired
        if not self.waiting:
            self._record.write_text(json.dumps(self.seen))


class _Ticket:
    """A request that waits under watch."""

    def __init__(self, request: Waiting, watched: Watched, since: float) -> None:
        self._request, self._watched, self._since = request, watched, since
        self._has_turned = False

    def take_turn(self, has_expired: bool) -> None:
        self._watched.note(time.monotonic() - self._since, has_expired, not self._has_turned)
        self._has_turned = True
        self._request.take_turn(has_expired)


class Refusing(Admission):
    """An admission that has no time for anyone but those who check that the server is in order."""

    FIRST = 50

    def __init__(self, budget_seconds: float, most_waiting: int) -> None:
        super().__init__(budget_seconds, most_waiting)
        self._asked = 0

    def is_free(self) -> bool:
        self._asked += 1
        return self._asked <= self.FIRST

    def enter(self, request: Waiting) -> bool:
        return False


def asgi() -> Bridge:
    """Return what Gunicorn calls."""
    bridge = app.asgi()
    seconds = float(os.environ.get("SLOW_ENGINE_SECONDS", "0"))
    state = bridge.answerer.state
    if seconds and isinstance(state, Ready):
        state.predictor.engine = Engine(state.predictor.engine, seconds)
    record = os.environ.get("SLOW_ENGINE_RECORD")
    if record:
        former = bridge.admission
        bridge.admission = Watched(former.budget_seconds, former.most_waiting, Path(record))
    if os.environ.get("SLOW_ENGINE_REFUSES"):
        bridge.admission = Refusing(bridge.admission.budget_seconds, bridge.admission.most_waiting)
    return bridge
