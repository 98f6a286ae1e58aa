"""The fast way in: accepts an ordinary valid body and leaves everything unusual to the schema."""

from __future__ import annotations

import math
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from model.domain import Feature, FloatMatrix, Ordinary, ordinary_range
from model.manifest import Manifest
from service.decode import count, has_endless_number
from service.instances import Instances
from service.typed import NAMED, POSITIONAL, Batches, to_array

Check = tuple[str, float, float, bool, dict[str, float] | None, bool]

NUMBERS = frozenset((int, float))

# up to so many features a look at each is faster than arrays
WIDE = 24


class Accept:
    """Plain checks compiled from the manifest; they say yes or nothing.

    Whenever they say yes, `decode.strict` and the schema would have said yes with the same matrix.
    """

    def __init__(self, manifest: Manifest, max_instances: int) -> None:
        """Compile the checks; `model.domain.ordinary_range` says which numbers are ordinary."""
        self._names = manifest.feature_names
        self._width = len(self._names)
        self._checks = [_check(feature) for feature in manifest.features]
        self._ordinary = Ordinary(manifest.features, nan_is_null=True)
        self._max_instances = max_instances
        self._is_plain = self._width > 1 and all(not f.is_category and not f.nullable for f in manifest.features)
        self._pick = itemgetter(*self._names)
        is_typed = self._is_plain and all(name.isidentifier() for name in self._names)
        self._batches = Batches(manifest.features) if is_typed else None

    def accept(self, body: bytes) -> Instances | None:
        """Decode and accept a body in one go.

        Args:
            body: already passed by `decode.refuse_excess`.

        Returns:
            The instances, or None if anything at all is unusual.
        """
        if self._batches is not None and body.startswith(NAMED + POSITIONAL):
            return self._typed_batch(self._batches, body)
        if self._batches is not None and self._width > WIDE and count(body, b":") == self._width:
            matrix = None if has_endless_number(body) else self._batches.decode_one(body)
            return None if matrix is None else Instances(matrix, is_single=True)
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if type(value) is not dict or has_endless_number(body):
            return None
        # a duplicate key disappears in decoding, its colon does not: equal counts prove that there was none
        colons = count(body, b":")
        if "instances" in value:
            return self._batch(value, colons)
        if colons != self._width:
            return None
        matrix = self._one(value)
        return None if matrix is None else Instances(matrix, is_single=True)

    def rows(self, rows: list[Any], names: list[str] | None = None) -> Instances | None:
        """Accept decoded rows that another protocol holds.

        Args:
            rows: at least one and not too many; objects, or arrays if there are names.
            names: of the columns, in any order.
        """
        if names is None:
            return self._named(rows)
        if len(names) != self._width or set(names) != set(self._names):
            return None
        return self._positional(rows, [names.index(name) for name in self._names])

    def numbers(self, columns: NDArray[np.float64]) -> Instances | None:
        """Accept rows of numbers that another protocol holds as an array.

        Args:
            columns: shape (n, d) in manifest order, NaN for null; no feature is a category.
        """
        matrix = self._ordinary.matrix(columns.T)
        return None if matrix is None else Instances(matrix, is_single=False)

    def lay_out(self, rows: list[Any], names: list[str] | None) -> tuple[FloatMatrix, list[int]]:
        """Lay out the rows of a batch that are ordinary, and leave the others out.

        Args:
            rows: decoded, of any kind; objects are expected, or arrays if there are names.
            names: of the columns, each feature once.

        Returns:
            float32, shape (n, d), NaN in rows that are not ordinary, and the positions of those.
        """
        found: list[list[float] | None]
        if names is None:
            found = [self._values(row) if type(row) is dict else None for row in rows]
        else:
            found = [
                self._values(dict(zip(names, row, strict=True)))
                if type(row) is list and len(row) == len(names)
                else None
                for row in rows
            ]
        unusual = [index for index, row in enumerate(found) if row is None]
        nothing = [math.nan] * self._width
        values = to_array(chain.from_iterable(row or nothing for row in found), len(found) * self._width)
        return values.reshape(-1, self._width).astype(np.float32), unusual

    def _typed_batch(self, batches: Batches, body: bytes) -> Instances | None:
        """Accept a batch of numbers that is written as nearly all are."""
        found = batches.decode(body)
        if found is None or has_endless_number(body):
            return None
        matrix, colons = found
        is_good = len(matrix) <= self._max_instances and count(body, b":") == colons
        return Instances(matrix, is_single=False) if is_good else None

    def _one(self, instance: dict[str, Any]) -> FloatMatrix | None:
        """Accept one instance given by name."""
        row = self._values(instance)
        return None if row is None else np.array([row], dtype=np.float32)

    def _values(self, instance: dict[str, Any]) -> list[float] | None:
        """Return the values of an ordinary instance in manifest order, as `to_matrix` lays them out."""
        if len(instance) != self._width:
            return None
        row = []
        for name, low, high, whole, codes, nullable in self._checks:
            value = instance.get(name)
            kind = type(value)
            if kind is float or kind is int:
                if codes is not None or not low <= value <= high:  # type: ignore[operator]
                    return None
                if whole and value % 1:  # type: ignore[operator]
                    return None
                row.append(value + 0.0)  # type: ignore[operator]
            elif kind is str:
                if codes is None or value not in codes:
                    return None
                row.append(codes[value])
            elif value is None and nullable and name in instance:
                row.append(math.nan)
            else:
                return None
        return row

    def _batch(self, body: dict[str, Any], colons: int) -> Instances | None:
        """Accept a batch whose rows are all ordinary and all of one kind."""
        rows, names = body["instances"], body.get("features")
        if type(rows) is not list or not 0 < len(rows) <= self._max_instances:
            return None
        if names is None:
            if len(body) != 1 or colons != len(rows) * self._width + 1:
                return None
            return self._named(rows)
        if len(body) != 2 or colons != 2 or type(names) is not list or set(map(type, names)) != {str}:
            return None
        if len(names) != self._width or set(names) != set(self._names):
            return None
        return self._positional(rows, [names.index(name) for name in self._names])

    def _named(self, rows: list[Any]) -> Instances | None:
        """Accept rows given as objects."""
        if set(map(type, rows)) != {dict}:
            return None
        if not self._is_plain:
            return self._one_by_one(rows)
        if set(map(len, rows)) != {self._width}:
            return None
        try:
            return self._plain(list(map(self._pick, rows)))
        except KeyError:
            return None

    def _positional(self, rows: list[Any], order: list[int]) -> Instances | None:
        """Accept rows given as arrays, columns in any order."""
        if set(map(type, rows)) != {list} or set(map(len, rows)) != {self._width}:
            return None
        if not self._is_plain:
            return self._one_by_one(
                [{name: row[i] for name, i in zip(self._names, order, strict=True)} for row in rows]
            )
        if order != sorted(order):
            pick = itemgetter(*order)
            rows = list(map(pick, rows))
        return self._plain(rows)

    def _plain(self, rows: list[Any]) -> Instances | None:
        """Accept rows of numbers, all at once."""
        values = list(chain.from_iterable(rows))
        if not set(map(type, values)) <= NUMBERS:
            return None
        return self.numbers(np.array(values, dtype=np.float64).reshape(len(rows), self._width))

    def _one_by_one(self, rows: list[dict[str, Any]]) -> Instances | None:
        """Accept rows that have categories or nulls."""
        matrix, unusual = self.lay_out(rows, None)
        return None if unusual else Instances(matrix, is_single=False)


def _check(feature: Feature) -> Check:
    """Compile one feature's check: name, lowest, highest, whole number, codes, nullable."""
    if feature.is_category:
        codes = {text: float(code) for code, text in enumerate(feature.values)}
        return feature.name, 0.0, 0.0, False, codes, feature.nullable
    return feature.name, *ordinary_range(feature), feature.dtype == "int", None, feature.nullable
