"""The numbers behind the metrics: float64 cells in this worker's place of the ledger, by family and series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.families import Family, Layout
from service.ledger import Place

FloatArray = NDArray[np.float64]


class Cells:
    """Counts in the cells of a layout; used by one thread at a time, read by anybody."""

    def __init__(self, layout: Layout, place: Place) -> None:
        """Take a place, and fill in what is known from the bundle.

        Raises:
            NoRoom: the layout is larger than a place.
        """
        self.layout = layout
        cells: FloatArray = np.asarray(place.lay_out(layout.names, *layout.sizes))
        self._of = {family.name: cells[layout.part(family.name)] for family in layout.families}
        self._families = {family.name: family for family in layout.families}
        self._bounds = {family.name: np.array(family.bounds) for family in layout.families}
        for family in layout.families:
            if family.constants:
                self._of[family.name][:] = family.constants

    def __contains__(self, name: str) -> bool:
        """Whether there is such a family."""
        return name in self._of

    def __getitem__(self, name: str) -> FloatArray:
        """Return the cells of a family, to be written to."""
        return self._of[name]

    def family(self, name: str) -> Family:
        """Return a family by its name."""
        return self._families[name]

    def count(self, name: str, series: Sequence[int] | NDArray[Any]) -> None:
        """Add 1 to a counter's series, as often as each is named."""
        cells = self._of[name]
        cells += np.bincount(series, minlength=len(cells))

    def observe(self, name: str, values: FloatArray, series: NDArray[np.intp] | None = None) -> None:
        """Put values into a histogram.

        Args:
            name: of the family.
            values: shape (n,).
            series: shape (n,), position of the series of each; None if there is but one.
        """
        bins, cells = self._bounds[name].searchsorted(values), self._of[name]
        if series is None:
            cells += np.bincount(bins, minlength=len(cells))
            cells[-1] += values.sum()
            return
        width = self._families[name].width
        begins = series * width
        cells += np.bincount(bins + begins, minlength=len(cells))
        # the sum of the values stands after the bins
        sums = cells[width - 1 :: width]
        sums += np.bincount(series, values, len(sums))
