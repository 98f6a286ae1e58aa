"""Counts many values of several variables, each in bins of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
# inner edges of a variable's parts, the bin of each part and of NaN, and how many bins there are
Edged = tuple[NDArray[np.floating], NDArray[np.intp], int]


class Bins:
    """Counts many values of several variables, in bins that lie behind each other.

    Values are sorted first, and the edges looked up among them: numpy sorts a thousand numbers in the time of a few
    simple steps over them, and there are fewer edges than values.
    """

    def __init__(self, variables: Sequence[Edged]) -> None:
        """Lay the bins of all variables out behind each other.

        Args:
            variables: of each its inner edges, ascending and finite, shape (p - 1,); the bin of each of the p parts
                between them, a value on an edge being above it, and as the last one that of NaN, shape (p + 1,); and
                how many bins there are.
        """
        edges, places, sizes = zip(*variables, strict=True)
        # NaN is above all numbers; edges stay as long as they are, as values of another length have to be converted
        self._edges = [np.append(each, each.dtype.type(np.nan)) for each in edges]
        self._ends = np.cumsum(sizes)
        end = int(self._ends[-1])
        # of every part its bin; what has none is in the one behind the last
        self._bins = np.concatenate(
            [
                np.where(each < size, each + last - size, end)
                for each, last, size in zip(places, self._ends, sizes, strict=True)
            ]
        )
        # of every variable its last part, which is NaN's
        self._lasts = np.cumsum([len(each) for each in places]) - 1
        self._others = np.delete(np.arange(len(self._bins)), self._lasts)

    def count(self, columns: Sequence[NDArray[np.floating]]) -> Counts:
        """Count values.

        Args:
            columns: of each of the v variables its values, ascending and NaN last, all of the same shape (n,).

        Returns:
            The counts of all bins, shape (b,).
        """
        rows = len(columns[0])
        # how many values are in a part or in those of its variable before
        until = np.full(len(self._bins), rows)
        until[self._others] = np.concatenate(
            [column.searchsorted(edges) for edges, column in zip(self._edges, columns, strict=True)]
        )
        in_parts = np.diff(until, prepend=0)
        in_parts[self._lasts[:-1] + 1] += rows
        return np.bincount(self._bins, in_parts, self._ends[-1] + 1)[:-1].astype(np.int64)

    def split(self, counts: Counts) -> list[Counts]:
        """Return the counts of each variable, shape (b,)."""
        return np.split(counts, self._ends[:-1])
