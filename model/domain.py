"""What one value of a feature may be: the single definition that training, serving and batch scoring share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.errors import EngineError

Value = float | int | str | None
FloatMatrix = NDArray[np.float32]

# what stands for a missing value in a file unless the spec says otherwise
NULL_WORDS = ("", "NA")


class ConfusedUnit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A unit people commonly use by mistake, with the way back: `value_in_feature_unit = value * factor + offset`."""

    symbol: str
    name: str
    factor: float
    offset: float = 0.0

    def convert(self, value: float) -> float:
        """Return `value`, given in this unit, in the feature's own unit."""
        product = value * self.factor
        if value and not product:
            # too small for a float: its sign still tells which side of 0 it is on
            product = math.copysign(math.ulp(0.0), value * math.copysign(1.0, self.factor))
        return product + self.offset


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One input of the model, as the manifest describes it.

    `hard` and `plausible` are inclusive ranges in the feature's unit; outside `hard` a value is refused, outside
    `plausible` it is novel. A `category` has `values` instead: a closed list, in the order of its one-hot columns.
    `null` holds the words that stand for a missing value in a file; JSON has null.
    """

    name: str
    description: str
    dtype: Literal["float", "int", "category"]
    unit: str = ""
    hard: tuple[float, float] = (0.0, 0.0)
    plausible: tuple[float, float] = (0.0, 0.0)
    nullable: bool = False
    confused_units: tuple[ConfusedUnit, ...] = ()
    values: tuple[str, ...] = ()
    null: tuple[str, ...] = NULL_WORDS

    @property
    def is_category(self) -> bool:
        """Whether the feature is a text from a closed list."""
        return self.dtype == "category"

    @property
    def words(self) -> str:
        """The feature in words with its unit, for messages: `bill depth in mm`."""
        text = self.name.replace("_", " ")
        suffix = f" {self.unit.lower()}"
        if self.unit and text.lower().endswith(suffix):
            text = text[: -len(suffix)]
        return f"{text} in {self.unit}" if self.unit else text

    def is_null_word(self, text: str) -> bool:
        """Whether a text, without spaces around it, stands for a missing value in a file."""
        # bundles that say nothing about these words were trained before they were named: a value of the list is one
        return text in self.null and (self.null != NULL_WORDS or text not in self.values)

    def accepts_as_plausible(self, value: float) -> bool:
        """Whether a number lies in the plausible range (both ends included)."""
        return self.plausible[0] <= value <= self.plausible[1]


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to understand a value that makes no sense as given: the unit it was probably measured in."""

    unit: ConfusedUnit
    value: float


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a value of the right type is outside the domain.

    Attributes:
        code: `range`, or `unit` when a commonly confused unit explains the value.
        message: for people, without the position.
        readings: for `unit`, every explanation, in the order of the manifest; never empty then.
    """

    code: Literal["range", "unit"]
    message: str
    readings: tuple[Reading, ...] = ()


def number_text(value: float) -> str:
    """Return a number as people write it: up to 4 significant decimals, no exponent for ordinary sizes."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.6g}"


def check(feature: Feature, value: float | str) -> Violation | None:
    """Judge one value that already has the right type.

    Args:
        feature: the feature the value is for.
        value: a finite number in the feature's unit, or the text of a category.

    Returns:
        None if the value may go to the model (even if it is outside the plausible range), else why it may not.
    """
    if isinstance(value, str):
        if value in feature.values:
            return None
        return Violation("range", f"must be one of {_listed(feature.values)}")
    low, high = feature.hard
    if feature.accepts_as_plausible(value) and low <= value <= high:
        return None
    readings = tuple(
        Reading(unit, unit.convert(value))
        for unit in feature.confused_units
        if feature.accepts_as_plausible(unit.convert(value))
    )
    if readings:
        return Violation("unit", unit_message(feature, value, readings), readings)
    if low <= value <= high:
        return None
    unit = f" {feature.unit}" if feature.unit else ""
    shown = number_text(value)
    if low <= float(shown) <= high:
        # rounded, it would read as if it were inside
        shown = repr(value)
    return Violation("range", f"{shown} is outside {number_text(low)} to {number_text(high)}{unit}")


def unit_message(feature: Feature, value: float, readings: Sequence[Reading]) -> str:
    """Say that a value makes sense in another unit, the most likely reading first."""
    meant = " or ".join(f"in {r.unit.name} it would be {number_text(r.value)} {feature.unit}" for r in readings)
    return f"{number_text(value)} is not a plausible {feature.words}; {meant}"


def ordinary_range(feature: Feature) -> tuple[float, float]:
    """Return the range, both ends included, in which `check` passes any number without a thought about its unit."""
    if not feature.confused_units:
        return feature.hard
    return max(feature.hard[0], feature.plausible[0]), min(feature.hard[1], feature.plausible[1])


class Ordinary:
    """Judges many numbers at once: which rows need no closer look, as `check` would pass all of their values."""

    def __init__(self, features: Sequence[Feature], *, nan_is_null: bool = False) -> None:
        """Compile what is asked of numbers.

        Args:
            features: d numeric features.
            nan_is_null: NaN stands for null, and is ordinary where that is allowed.
        """
        ranges = np.array([ordinary_range(feature) for feature in features]).reshape(-1, 2, 1)
        self._lows, self._highs = ranges[:, 0], ranges[:, 1]
        self._whole = [position for position, feature in enumerate(features) if feature.dtype == "int"]
        self._nullable = [position for position, feature in enumerate(features) if feature.nullable and nan_is_null]

    def rows(self, columns: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return of each row whether all its numbers are in range, and whole where they have to be.

        Args:
            columns: shape (d, n), in the features' units.

        Returns:
            Shape (n,). False says nothing but that a closer look is needed.
        """
        is_good = (columns >= self._lows) & (columns <= self._highs)
        for position in self._whole:
            is_good[position] &= np.floor(columns[position]) == columns[position]
        for position in self._nullable:
            is_good[position] |= np.isnan(columns[position])
        return np.asarray(is_good.all(axis=0))

    def matrix(self, columns: NDArray[np.float64]) -> FloatMatrix | None:
        """Lay columns out as `to_matrix` does, None if any row needs a closer look."""
        if not self.rows(columns).all():
            return None
        matrix = np.empty(columns.shape[::-1], dtype=np.float32)
        # no negative zero
        return np.add(columns.T, 0.0, out=matrix, casting="same_kind")


def plausible_bounds(features: Sequence[Feature]) -> tuple[FloatMatrix, FloatMatrix]:
    """Return the plausible range of each feature as two float32 arrays of shape (d,); infinite for categories."""
    lows = [-np.inf if f.is_category else f.plausible[0] for f in features]
    highs = [np.inf if f.is_category else f.plausible[1] for f in features]
    return np.array(lows, dtype=np.float32), np.array(highs, dtype=np.float32)


def to_matrix(features: Sequence[Feature], rows: Sequence[Sequence[Value]]) -> FloatMatrix:
    """Lay accepted instances out the way the model was trained.

    Args:
        features: d features in manifest order.
        rows: n rows of d values in the same order, already judged by `check`; None is null.

    Returns:
        float32, shape (n, d): NaN for null, the position in `values` for a category, and no negative zero.
    """
    matrix = np.empty((len(rows), len(features)), dtype=np.float64)
    for column, feature in enumerate(features):
        if feature.is_category:
            code = {text: index for index, text in enumerate(feature.values)}
            matrix[:, column] = [np.nan if row[column] is None else code[str(row[column])] for row in rows]
        else:
            matrix[:, column] = [np.nan if row[column] is None else float(row[column]) for row in rows]  # type: ignore[arg-type]
    return (matrix + 0.0).astype(np.float32)


def check_matrix(matrix: FloatMatrix, width: int) -> None:
    """Refuse a matrix of the wrong shape: XGBoost would answer short rows, and wrongly."""
    if matrix.ndim != 2 or matrix.shape[1] != width or matrix.dtype != np.float32:
        raise EngineError(f"needs a float32 matrix of {width} columns, got {matrix.dtype} {matrix.shape}")


def one_hot(features: Sequence[Feature], matrix: FloatMatrix) -> FloatMatrix:
    """Replace each category column by one 0/1 column per value; null becomes all zeros.

    Args:
        features: d features in manifest order.
        matrix: shape (n, d), as `to_matrix` returns it.

    Returns:
        float32, shape (n, m), m = numbers + all values of all categories; the same array when there is no category.
    """
    if not any(feature.is_category for feature in features):
        return matrix
    parts: list[FloatMatrix] = []
    for column, feature in enumerate(features):
        values = matrix[:, column : column + 1]
        if feature.is_category:
            parts.append((values == np.arange(len(feature.values), dtype=np.float32)).astype(np.float32))
        else:
            parts.append(values)
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def _listed(values: Sequence[str], limit: int = 10) -> str:
    """Return up to `limit` values for a message."""
    shown = ", ".join(values[:limit])
    return shown if len(values) <= limit else f"{shown}, … ({len(values)} in all)"
