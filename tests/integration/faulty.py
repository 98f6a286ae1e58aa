"""The real application around an engine that fails on demand, for Gunicorn: `tests.integration.faulty:asgi()`.

A body mass chooses what happens; every other row is answered as always.
Nothing in `service/` knows of this module, and no setting turns it on.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

from service import app
from service.loader import Ready
from service.server import Bridge

# body masses in grams, not among those of the data
HANG, SPIN, HOLD, SEGFAULT, GROW, NO_EXPLANATION = 4101.5, 4102.5, 4103.5, 4104.5, 4105.5, 4106.5
GROWTH_BYTES = 32 << 20
ARGUMENTS = ("tests.integration.faulty:asgi()",)

_kept: list[bytearray] = []


class Engine:
    """Stands before the real one."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.name = engine.name

    def predict(self, matrix: Any) -> Any:
        for value in matrix[:, -1].tolist():
            _fail(value)
        return self._engine.predict(matrix)

    def predict_one(self, row: Sequence[float]) -> Any:
        _fail(row[-1])
        return self._engine.predict_one(row)


def _fail(value: float) -> None:
    if value == HANG:
        threading.Event().wait()
    elif value == SPIN:
        while True:
            pass
    elif value == HOLD:
        sum(range(10**15))
    elif value == SEGFAULT:
        ctypes.string_at(0)
    elif value == GROW:
        # zeros would not be given any memory
        _kept.append(bytearray(os.urandom(1 << 20) * (GROWTH_BYTES >> 20)))


def _no_explanation(*_: object) -> NoReturn:
    raise RuntimeError("no explanation today: " + "x" * 1_000)


def asgi() -> Bridge:
    """Return what Gunicorn calls; only the bundle in FAULTY_DIGEST fails, if that is set."""
    bridge = app.asgi()
    state = bridge.short_door.state
    if isinstance(state, Ready) and os.environ.get("FAULTY_DIGEST", state.digest) == state.digest:
        predictor = state.predictor
        predictor.engine = Engine(predictor.engine)
        explain = predictor.explain
        predictor.explain = lambda matrix, classes: (
            _no_explanation() if NO_EXPLANATION in matrix[:, -1] else explain(matrix, classes)
        )
    return bridge
