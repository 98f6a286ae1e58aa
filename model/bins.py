"""Finds between which edges many values of several variables lie, and counts them, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Counts = NDArray[np.int64]

# equal parts that the range of a variable's edges is cut into
CELLS = 256
# with more edges in one part, or fewer values, binary searches are as fast
MOST_STEPS, FEW_VALUES = 4, 64


class Bins:
    """Counts many values of several variables in one go, each variable in bins of its own."""

    def __init__(self, variables: Sequence[tuple[FloatArray, NDArray[np.intp], int]]) -> None:
        """Lay the bins of all variables out behind each other.

        Args:
            variables: of each its inner edges, ascending and finite, shape (p - 1,); the bin of each of the p parts
                between them, a value on an edge being above it, and as the last one that of NaN, shape (p + 1,); and
                how many bins there are.
        """
        edges, places, sizes = zip(*variables, strict=True)
        self._grid = Grid(edges)
        self._ends = np.cumsum(sizes)
        self._places = np.concatenate(
            [each + end - size for each, end, size in zip(places, self._ends, sizes, strict=True)]
        )
        behind = np.cumsum([len(each) for each in places])
        self._firsts = behind - [len(each) for each in places]
        self._nulls = behind - 1

    def count(self, values: FloatArray) -> Counts:
        """Count values, shape (n, v), which NaN may be among; returns the counts of all bins, shape (b,)."""
        missing = np.isnan(values)
        if not missing.any():
            parts = self._grid.at_or_below(values) + self._firsts
        else:
            parts = self._grid.at_or_below(np.where(missing, 0, values)) + self._firsts
            parts = np.where(missing, self._nulls, parts)
        return np.bincount(self._places.take(parts).ravel(), minlength=self._ends[-1])

    def split(self, counts: Counts) -> list[Counts]:
        """Return the counts of each variable, shape (b,)."""
        return np.split(counts, self._ends[:-1])


class Grid:
    """Counts for each value how many edges of its variable are at or below it, as `numpy.searchsorted` does.

    A value's part of the range tells how many edges lie in the parts before, and comparing with the next edges the
    rest. Multiplying and cutting off never decrease as the value grows, whatever is rounded, so edges in parts before a
    value's are not above it, and those in parts behind are.

    Attributes:
        edges: shape (e,) for each of the v variables, ascending and finite.
    """

    def __init__(self, edges: Sequence[FloatArray]) -> None:
        """Prepare; see the class."""
        self.edges = [np.array(each, dtype=np.float64) for each in edges]
        widths = [float(each[-1] - each[0]) if len(each) > 1 else 1.0 for each in self.edges]
        self._lows = np.array([each[0] if len(each) else 0.0 for each in self.edges])
        with np.errstate(divide="ignore", over="ignore"):
            self._scales = CELLS / np.array(widths)
        self._steps = MOST_STEPS + 1
        if not np.isfinite(self._scales).all() or not all(map(np.isfinite, widths)):
            return
        before, following, self._steps = [], [], 0
        self._firsts = np.cumsum([0, *(len(each) + 1 for each in self.edges[:-1])])
        for position, each in enumerate(self.edges):
            counts = np.bincount(self._cells(each[:, None], position)[:, 0], minlength=CELLS + 1)
            before.append(np.concatenate([[0], counts.cumsum()[:-1]]) + self._firsts[position])
            # behind the last edge nothing is
            following.append(np.append(each, np.nan))
            self._steps = max(self._steps, int(counts.max()))
        self._before, self._next = np.concatenate(before), np.concatenate(following)
        self._rows = np.arange(len(self.edges)) * (CELLS + 1)

    def at_or_below(self, values: FloatArray) -> NDArray[np.intp]:
        """Return how many edges are at or below each value, both shape (n, v); NaN is above all."""
        if self._steps > MOST_STEPS or len(values) < FEW_VALUES or not values.max() < np.inf:
            columns = zip(self.edges, values.T, strict=True)
            return np.column_stack([edges.searchsorted(column, side="right") for edges, column in columns])
        places = self._before.take(self._cells(values) + self._rows)
        for _ in range(self._steps):
            places += values >= self._next.take(places)
        return np.asarray(places - self._firsts)

    def _cells(self, values: FloatArray, position: int | None = None) -> NDArray[np.intp]:
        """Return the part of its variable's range of each value, the outermost for what is outside."""
        one = slice(None) if position is None else slice(position, position + 1)
        return np.asarray(((values - self._lows[one]) * self._scales[one]).clip(0, CELLS).astype(np.intp))
