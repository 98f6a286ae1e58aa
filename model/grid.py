"""Finds between which edges many values of several variables lie, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# equal parts that the range of a variable's edges is cut into
CELLS = 256
# with more edges in one part, or fewer values, binary searches are as fast
MOST_STEPS, FEW_VALUES = 4, 64


class Grid:
    """Finds for each value how many edges of its variable are at or below it, as `numpy.searchsorted` does.

    A value's part of the range tells how many edges lie in the parts before, and comparing with the next edges the
    rest. Multiplying and cutting off never decrease as the value grows, whatever is rounded, so edges in parts before a
    value's are not above it, and those in parts behind are.

    Attributes:
        edges: shape (e,) for each of the v variables, ascending and finite.
        firsts: shape (v, 1), places of the variables before: one more than their edges.
    """

    def __init__(self, edges: Sequence[FloatArray]) -> None:
        """Prepare; see the class."""
        self.edges = [np.array(each, dtype=np.float64) for each in edges]
        self.firsts = np.cumsum([0, *(len(each) + 1 for each in self.edges[:-1])])[:, None]
        widths = [float(each[-1] - each[0]) if len(each) > 1 else 1.0 for each in self.edges]
        self._lows = np.array([[each[0] if len(each) else 0.0] for each in self.edges])
        with np.errstate(divide="ignore", over="ignore"):
            self._scales = CELLS / np.array(widths)[:, None]
        self._steps = MOST_STEPS + 1
        if not np.isfinite(self._scales).all() or not all(map(np.isfinite, widths)):
            return
        before, following, self._steps = [], [], 0
        for position, each in enumerate(self.edges):
            one = slice(position, position + 1)
            counts = np.bincount(self._cells(each[None], one)[0], minlength=CELLS + 1)
            before.append(np.concatenate([[0], counts.cumsum()[:-1]]) + self.firsts[position])
            # behind the last edge nothing is
            following.append(np.append(each, np.nan))
            self._steps = max(self._steps, int(counts.max()))
        self._before, self._next = np.concatenate(before), np.concatenate(following)
        self._rows = np.arange(len(self.edges))[:, None] * (CELLS + 1)

    def places(self, values: FloatArray) -> NDArray[np.intp]:
        """Return how many edges are at or below each value, plus `firsts`, both shape (v, n); NaN is above all."""
        if self._steps > MOST_STEPS or values.shape[1] < FEW_VALUES or not values.max() < np.inf:
            rows = zip(self.edges, values, strict=True)
            return np.asarray([edges.searchsorted(row, side="right") for edges, row in rows] + self.firsts)
        cells = self._cells(values)
        cells += self._rows
        places: NDArray[np.intp] = self._before.take(cells)
        for _ in range(self._steps):
            places += values >= self._next.take(places)
        return places

    def _cells(self, values: FloatArray, of: slice = slice(None)) -> NDArray[np.intp]:
        """Return the part of its variable's range of each value, the outermost for what is outside."""
        found = values - self._lows[of]
        found *= self._scales[of]
        return np.asarray(found.clip(0, CELLS, out=found).astype(np.intp))
