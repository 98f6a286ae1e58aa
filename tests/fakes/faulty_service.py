"""The real service with a bad model in it, for rehearsals: a candidate image runs `tests.fakes.faulty_service:asgi()`.

FAULT chooses: `errors`, `slow` and `shift` do their harm only to rows of the rehearsal's own traffic, so that golden
rows are answered rightly and the candidate gets traffic; `wrong` answers every row with another class.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from service import app
from service.loader import Ready
from service.server import Bridge

# grams that no measured penguin has: what rows of the rehearsal's traffic end in
MARK = 0.125
SLOW_SECONDS = 0.06


class Engine:
    """Stands before the real one."""

    def __init__(self, engine: Any, fault: str) -> None:
        self._engine, self._fault, self.name = engine, fault, engine.name

    def predict(self, matrix: Any) -> Any:
        return np.array([self.predict_one(row) for row in matrix.tolist()])

    def predict_one(self, row: Sequence[float]) -> Any:
        found = self._engine.predict_one(row)
        is_traffic = row[-1] % 1 == MARK
        if self._fault == "errors" and is_traffic:
            raise RuntimeError("a bad release")
        if self._fault == "slow" and is_traffic:
            threading.Event().wait(SLOW_SECONDS)
        if self._fault == "wrong" or (self._fault == "shift" and is_traffic):
            return type(found)(sorted(found) if self._fault == "shift" else [*found[1:], found[0]])
        return found


def asgi() -> Bridge:
    """Return what Gunicorn calls."""
    bridge = app.asgi()
    state = bridge.answerer.state
    if isinstance(state, Ready):
        state.predictor.engine = Engine(state.predictor.engine, os.environ["FAULT"])
    return bridge
