"""Keeps what will be counted of rows that are answered one by one: numbers side by side, and no objects.

Objects of many calls, kept until they are counted, push out of the processor's caches what the next answer needs.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.monitor import Served

# way, began, wait, total, decode, predict, render; size of the set, class, its probability, novelty
NUMBERS = 11
_TIMES = slice(Served._fields.index("began"), Served._fields.index("render") + 1)


class Singles:
    """What is kept of each answered row; noted by any thread.

    Attributes:
        STAGES: which of the numbers are the times of the stages, in the order of the metric's.
        TOLD: which are what the answer told, in the order that `service.rows.Rows.count` takes.
    """

    STAGES, TOLD = [2, 4, 5, 6], slice(7, NUMBERS)

    def __init__(self, features: int, way_of: Callable[[Any], int]) -> None:
        """Begin with none.

        Args:
            features: d, of a row.
            way_of: protocol and route → number of an answered call.
        """
        self._way_of = way_of
        self._kept = bytearray()
        self._pack = Struct(f"={NUMBERS}d{4 * features}s").pack
        self._record = np.dtype([("numbers", np.float64, (NUMBERS,)), ("row", np.float32, (features,))])

    def note(self, call: Served) -> bool:
        """Keep a call, in a microsecond; says whether it is one row that was answered, and nothing else."""
        answers, instances = call.answers, call.instances
        if type(answers) is not list or len(answers) != 1:
            return False
        if instances is None or instances.failures or instances.conversions:
            return False
        prediction, probabilities, members, novelty, _ = answers[0]
        times: Any = call[_TIMES]
        # one call into C, so that no other thread comes between
        self._kept.extend(
            self._pack(
                self._way_of(call[:2]),
                *times,
                members.count(True),
                prediction,
                probabilities[prediction],
                novelty,
                instances.matrix.tobytes(),
            )
        )
        return True

    def take(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return what was kept since the last time: shape (`NUMBERS`, n), in that order, and rows, shape (n, d)."""
        kept: Any = self._kept
        end = len(kept)
        records = np.frombuffer(bytes(kept[:end]), self._record)
        del kept[:end]
        return np.ascontiguousarray(records["numbers"].T), records["row"]
