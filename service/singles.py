"""Keeps what will be counted of rows that are answered one by one: numbers side by side, and no objects.

Objects of many calls, kept until they are counted, push out of the processor's caches what the next answer needs.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.predictor import Answer
from service.monitor import Served

# way, began, wait, total, decode, predict, render; size of the set, class, its probability, novelty
NUMBERS = 11
_TIMES = slice(Served._fields.index("began"), Served._fields.index("render") + 1)


class Singles:
    """What is kept of each answered row; noted by any thread."""

    def __init__(self, features: int) -> None:
        """Begin with none.

        Args:
            features: d, of a row.
        """
        self._kept = bytearray()
        self._pack = Struct(f"={NUMBERS}d").pack
        self._record = np.dtype([("numbers", np.float64, (NUMBERS,)), ("row", np.float32, (features,))])

    def note(self, way: int, call: Served, answer: Answer, row: NDArray[np.float32]) -> None:
        """Keep a row.

        Args:
            way: number of what came of the call.
            call: its times are kept.
            answer: to the row.
            row: float32, contiguous, d numbers.
        """
        prediction, probabilities, members, novelty, _ = answer
        times: Any = call[_TIMES]
        numbers = self._pack(way, *times, members.count(True), prediction, probabilities[prediction], novelty)
        # one call into C, so that no other thread comes between
        self._kept.extend(numbers + row.tobytes())

    def take(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return what was kept since the last time: shape (`NUMBERS`, n), in that order, and rows, shape (n, d)."""
        kept: Any = self._kept
        end = len(kept)
        records = np.frombuffer(bytes(kept[:end]), self._record)
        del kept[:end]
        return np.ascontiguousarray(records["numbers"].T), records["row"]
