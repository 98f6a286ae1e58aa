"""Guesses what the columns of an unknown CSV are: numbers, whole numbers, categories, and what cannot be used."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from model import cells as readers
from model.cells import Record
from model.errors import DataError
from model.spec import FEATURE_NAME, RESERVED, USUAL_NULL_WORDS

LABELS = ("label", "class", "target", "species", "outcome", "kind", "y")
MOST_VALUES = 50
# of a column's cells, the share from which on it is meant to be numbers
MOSTLY = 0.8

# the end of a column's name → the unit it says
UNITS = {
    "mm": "mm", "cm": "cm", "m": "m", "km": "km", "in": "in", "ft": "ft", "g": "g", "kg": "kg", "mg": "mg", "lb": "lb",
    "s": "s", "ms": "ms", "min": "min", "h": "h", "c": "degC", "degc": "degC", "f": "degF", "degf": "degF", "k": "K",
    "pa": "Pa", "kpa": "kPa", "bar": "bar", "psi": "psi", "v": "V", "a": "A", "w": "W", "kw": "kW", "hz": "Hz",
    "rpm": "rpm", "l": "l", "ml": "ml", "pct": "%", "percent": "%",
}  # fmt: skip
# units that people write by mistake for one
CONFUSED = {
    "mm": ("cm", "in"), "cm": ("mm", "in"), "m": ("cm", "ft"), "km": ("mi",), "g": ("kg", "lb"), "kg": ("g", "lb"),
    "degC": ("degF",), "degF": ("degC",), "bar": ("psi", "kPa"), "kPa": ("bar", "psi"), "psi": ("bar", "kPa"),
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """What one column seems to be.

    Attributes:
        name: as in the header.
        dtype: as in a spec.
        unit: what the name says, or empty.
        seen: the lowest and the highest number; None for categories.
        values: of a category, the most frequent first.
        missing: word taken for a missing value → how many cells hold it.
    """

    name: str
    dtype: Literal["float", "int", "category"]
    unit: str = ""
    seen: tuple[float, float] | None = None
    values: tuple[str, ...] = ()
    missing: Mapping[str, int] = field(default_factory=dict)

    @property
    def nulls(self) -> int:
        """The number of rows without a value."""
        return sum(self.missing.values())

    @property
    def missing_text(self) -> str:
        """How many cells hold which word, for people: `30 "?", 10 empty`."""
        return ", ".join(f"{count} {readers.named(word)}" for word, count in self.missing.items())

    @property
    def plausible(self) -> tuple[float, float]:
        """The range seen and a quarter of it on either side, rounded outwards; nothing below 0 if none was seen."""
        low, high = self.seen or (0.0, 1.0)
        if self.dtype == "int" and low >= 0 and high <= 1:
            return 0.0, 1.0
        margin = (high - low) / 4
        return _outwards(low - margin if low < 0 else max(0.0, low - margin), -1), _outwards(high + margin, 1)

    @property
    def hard(self) -> tuple[float, float]:
        """Ten times as far as plausible; nothing below 0 if none was seen."""
        low, high = self.plausible
        if self.dtype == "int" and (low, high) == (0.0, 1.0):
            return low, high
        far = _outwards(10 * max(abs(low), abs(high)), 1)
        return (0.0 if low >= 0 else -far), far


def guess_label(header: Sequence[str]) -> str:
    """Return the column that is probably to be predicted: one that is called so, else the last."""
    names = [name.strip() for name in header]
    return next((name for name in names if name.lower() in LABELS), names[-1])


def guess(path: str, name: str, records: Sequence[Record], position: int) -> Column | str:
    """Say what a column is.

    Args:
        path: what messages call the file.
        name: of the column.
        records: line and cells of every row.
        position: of the column in a row.

    Returns:
        The column, or why it says nothing and is left out.

    Raises:
        DataError: it cannot be a feature as it is; says what to do.
    """
    if not FEATURE_NAME.fullmatch(name) or name in RESERVED:
        better = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "column"
        better = f"{better}_value" if name in RESERVED else better
        raise DataError(path, None, name, f"cannot be a name in a request; rename it, for example to {better}")
    cells = [(line, cells[position].strip()) for line, cells in records]
    given = [(line, cell) for line, cell in cells if cell not in USUAL_NULL_WORDS]
    counts = Counter(cell for _, cell in given)
    if len(counts) < 2:
        return "empty" if not counts else "the same value in every row"
    numbers = [number for _, cell in given if (number := to_number(cell)) is not None]
    missing = dict(Counter(cell for _, cell in cells if cell in USUAL_NULL_WORDS).most_common())
    if len(numbers) == len(given):
        return _numeric(path, name, numbers, missing)
    if len(numbers) >= MOSTLY * len(given):
        line, cell = next((line, cell) for line, cell in given if to_number(cell) is None)
        raise DataError(path, line, name, f"is {cell[:40]!r} where most cells are numbers; mend it, or leave it empty")
    if len(counts) > MOST_VALUES:
        reason = f"has {len(counts)} different texts, more than a closed list should have; leave it out: --drop {name}"
        raise DataError(path, None, name, reason)
    return Column(name, "category", values=tuple(value for value, _ in counts.most_common()), missing=missing)


def to_number(cell: str) -> float | None:
    """Return a cell as a finite decimal number, or None if it is something else."""
    try:
        return readers.number(cell)
    except (ValueError, OverflowError):
        return None


def _numeric(path: str, name: str, numbers: list[float], missing: Mapping[str, int]) -> Column:
    """Describe a column of numbers, unless it only counts the rows."""
    is_whole = all(number.is_integer() for number in numbers)
    if is_whole and len(set(numbers)) == len(numbers) and max(numbers) - min(numbers) == len(numbers) - 1:
        raise DataError(path, None, name, f"only numbers the rows; leave it out: --drop {name}")
    unit = UNITS.get(name.lower().rpartition("_")[2], "") if "_" in name else ""
    return Column(name, "int" if is_whole else "float", unit, (min(numbers), max(numbers)), missing=missing)


def _outwards(value: float, direction: int) -> float:
    """Round to two significant digits, away from the range."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    rounded = math.ceil(value / step) if direction > 0 else math.floor(value / step)
    return float(f"{rounded * step:.6g}")
