"""Ordinary batches of numbers, decoded straight into the columns of the model: no object of JSON in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from struct import pack
from typing import Any

import msgspec
import numpy as np

from model.domain import Feature, FloatMatrix, Ordinary
from model.reference import FloatArray

# how bodies begin that are decoded here; any other way to write the same goes the general way
NAMED = b'{"instances":[{', b'{"instances": [{'
POSITIONAL = b'{"instances":[[', b'{"instances": [['


class Batches:
    """Decoders made from the features: what they take is well-formed, and every value an ordinary number.

    Keys are all there and none is unknown, but a key that stands twice is not seen: the caller counts colons.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        """Compile for d features, all of them numbers that are never null, named by identifiers."""
        self._names, self._ordinary = [feature.name for feature in features], Ordinary(features)
        # field names are our own, so that no feature's name can be one that Python or msgspec keeps for itself
        fields = [f"f{position}" for position in range(len(features))]
        renamed = dict(zip(fields, self._names, strict=True))
        row: Any = msgspec.defstruct(
            "Row", [(name, float) for name in fields], rename=renamed, forbid_unknown_fields=True, gc=False
        )
        self._getters = [attrgetter(name) for name in fields]
        self._one = msgspec.json.Decoder(row)
        named = msgspec.defstruct("Named", [("instances", list[row])], forbid_unknown_fields=True)
        table = msgspec.defstruct(
            "Table",
            [("instances", list[tuple[(float,) * len(features)]]), ("features", list[str])],  # type: ignore[misc]
            forbid_unknown_fields=True,
        )
        self._named, self._table = msgspec.json.Decoder(named), msgspec.json.Decoder(table)

    def decode(self, body: bytes) -> tuple[FloatMatrix, int] | None:
        """Decode a batch.

        Args:
            body: UTF-8, as it came.

        Returns:
            float32, shape (n, d), as `model.domain.to_matrix` lays it out, and the number of colons of a body in which
            no key stands twice; None if anything is unusual.
        """
        try:
            if body.startswith(NAMED):
                named: Any = self._named.decode(body)
                rows, names = named.instances, self._names
                values = chain.from_iterable(map(getter, rows) for getter in self._getters)
                columns = to_array(values, len(rows) * len(names)).reshape(len(names), -1)
                colons = len(rows) * len(names) + 1
            else:
                given: Any = self._table.decode(body)
                rows, names = given.instances, given.features
                if sorted(names) != sorted(self._names):
                    return None
                table = to_array(chain.from_iterable(rows), len(rows) * len(names)).reshape(-1, len(names))
                columns = table[:, list(map(names.index, self._names))].T
                colons = 2
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        matrix = self._ordinary.matrix(columns)
        return None if matrix is None else (matrix, colons)

    def decode_one(self, body: bytes) -> FloatMatrix | None:
        """Decode one instance of which all values are looked at together, as `decode` does; it has d colons."""
        try:
            row = msgspec.structs.astuple(self._one.decode(body))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return self._ordinary.matrix(np.array(row)[:, None])


def to_array(values: Iterable[float], count: int) -> FloatArray:
    """Return so many Python numbers as an array, shape (count,); in half of the time that numpy takes."""
    return np.frombuffer(pack(f"{count}d", *values))


def to_columns(*columns: Sequence[float]) -> FloatArray:
    """Return columns of n numbers each, shape (columns, n)."""
    count = len(columns[0])
    return to_array(chain.from_iterable(columns), len(columns) * count).reshape(-1, count)
