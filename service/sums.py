"""Adds up what all workers of an instance have counted, those that have ended included."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from service.cells import FloatArray
from service.families import Family, Labels, Layout, read_names
from service.ledger import Counted, Ledger

REDUCE = {"sum": np.add, "max": np.maximum, "min": np.minimum}


@dataclass(frozen=True)
class Total:
    """What is known about one metric: labels → cells of the series, shape (width,)."""

    family: Family
    series: dict[Labels, FloatArray] = field(default_factory=dict)

    def add(self, labels: Labels, cells: FloatArray) -> None:
        """Take a series of workers that serve another bundle than those before."""
        before = self.series.get(labels)
        if before is not None and self.family.kind != "kept":
            merge = self.family.merge if self.family.kind == "gauge" else "sum"
            cells = REDUCE[merge](before, cells)
        self.series[labels] = cells


def totals(ledger: Ledger) -> dict[str, Total]:
    """Return everything that was counted, by the metric's name; series that are 0 and need not be shown are left out.

    Workers with the same bundle have the same cells, so however many there are, each cell is named once.
    """
    alike: dict[bytes, list[Counted]] = defaultdict(list)
    found = ledger.read()
    for one in found:
        alike[one.names].append(one)
    kept = _earliest(found)
    totals: dict[str, Total] = {}
    for names, counted in alike.items():
        layout = _layout(names)
        parts = (_reduced(layout, counted), kept, _gauges(layout, counted))
        cells = np.concatenate([part for part in parts if part is not None])
        for family in layout.families:
            part = layout.part(family.name)
            if part.stop <= len(cells):
                total = totals.setdefault(family.name, Total(family))
                _add(total, family, cells[part].reshape(-1, family.width))
    return totals


@lru_cache(maxsize=8)
def _layout(names: bytes) -> Layout:
    return read_names(names)


def _add(total: Total, family: Family, rows: FloatArray) -> None:
    """Add the series that are worth showing."""
    is_zero = (rows == 0).all(axis=1)
    is_zero[: family.shown] = False
    for index in np.flatnonzero(~is_zero).tolist():
        total.add(family.values[index], rows[index])


def _reduced(layout: Layout, counted: Sequence[Counted]) -> FloatArray:
    """Add up the cells that add up."""
    size = layout.sizes[0]
    return sum((np.frombuffer(one.sums, dtype=np.float64)[:size] for one in counted), np.zeros(size))


def _earliest(counted: Sequence[Counted]) -> FloatArray | None:
    """Return what is kept of the earliest worker: the first cell tells when, 0 that it is not known."""
    kept = [cells for one in counted if len(cells := np.frombuffer(one.kept, dtype=np.float64))]
    known = [cells for cells in kept if cells[0] > 0]
    return min(known or kept, key=lambda cells: float(cells[0]), default=None)


def _gauges(layout: Layout, counted: Sequence[Counted]) -> FloatArray | None:
    """Merge the gauges of workers that live; None if all have ended."""
    living = [cells for one in counted if len(cells := np.frombuffer(one.gauges, dtype=np.float64))]
    if not living:
        return None
    rows, merged = np.array(living), []
    begin = sum(layout.sizes[:2])
    for family in layout.families:
        if family.kind == "gauge":
            part = layout.part(family.name)
            merged.append(REDUCE[family.merge].reduce(rows[:, part.start - begin : part.stop - begin], axis=0))
    return np.concatenate(merged)
