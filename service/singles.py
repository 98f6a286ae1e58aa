"""Keeps what will be counted of rows that are answered one by one: numbers side by side, and no objects.

Objects of many calls, kept until they are counted, push out of the processor's caches what the next answer needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import rows
from service.cells import FloatArray
from service.monitor import Served, taken
from service.typed import to_columns

# way, began, wait, total, decode, predict, render; size of the set, class, its probability, novelty
NUMBERS = 11


class Singles:
    """What is kept of each answered row; noted and taken by any thread.

    Attributes:
        STAGES: which of the numbers are the times of the stages, in the order of the metric's.
        TOLD: which are what the answer told, in the order of `service.rows.told`.
    """

    STAGES, TOLD = [2, 4, 5, 6], slice(7, NUMBERS)

    def __init__(self, features: int, way_of: Callable[[Any], int]) -> None:
        """Begin with none.

        Args:
            features: d, of a row.
            way_of: protocol and route → number of an answered call.
        """
        self._features, self._way_of = features, way_of
        # of some calls each their numbers and their rows
        self._kept: list[tuple[FloatArray, bytes]] = []

    def note(self, calls: Sequence[Served]) -> Sequence[Served]:
        """Keep those calls that are one row that was answered, and nothing else; return the others."""
        singles: list[Served] = []
        others: list[Served] = []
        for call in calls:
            (singles if _is_single(call) else others).append(call)
        if singles:
            self._keep(singles)
        return others

    def _keep(self, singles: Sequence[Served]) -> None:
        """Pack the numbers of some such calls, and their rows."""
        columns: Any = zip(*singles, strict=True)
        protocols, routes, _, _, _, began, wait, total, decode, predict, render, instances, answers, *_ = columns
        ways = [*map(self._way_of, zip(protocols, routes, strict=True))]
        told = rows.told([answer for (answer,) in answers])
        numbers = to_columns(ways, began, wait, total, decode, predict, render, *told)
        # both at once, so that no other thread comes between
        self._kept.append((numbers, b"".join([one.matrix for one in instances])))

    def take(self) -> tuple[FloatArray, NDArray[np.float32]]:
        """Return what was kept since the last time: shape (`NUMBERS`, n), in that order, and rows, shape (n, d)."""
        numbers, matrices = [np.empty((NUMBERS, 0))], [b""]
        for some, their_rows in taken(self._kept):
            numbers.append(some)
            matrices.append(their_rows)
        return np.concatenate(numbers, axis=1), np.frombuffer(b"".join(matrices), np.float32).reshape(
            -1, self._features
        )


def _is_single(call: Served) -> bool:
    """Whether a call is one row that was answered, and nothing else is to be said about it."""
    answers, instances = call.answers, call.instances
    return (
        type(answers) is list
        and len(answers) == 1
        and instances is not None
        and not (instances.failures or instances.conversions)
    )
