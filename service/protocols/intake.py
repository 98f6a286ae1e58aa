"""The one way from what a protocol holds to instances: the same checks and the same schema as `POST /predict`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.config import Settings
from service.decode import Limits, too_many
from service.errors import AmbiguousBody, InvalidInstance, Problem
from service.instances import DEFAULTS, Instances
from service.loader import Ready
from service.native import Native

Column = NDArray[Any] | list[str | None]


class Intake:
    """Judges rows, whatever protocol brought them."""

    def __init__(self, ready: Ready, native: Native, settings: Settings) -> None:
        """Share the checks, the schema and the renderer of the native form."""
        self.manifest = ready.predictor.manifest
        self.features = self.manifest.features
        self.names = list(self.manifest.feature_names)
        self.renderer = native.renderer
        self.max_instances = settings.max_instances
        self.limits = Limits.of_columns(self.features, settings.max_instances)
        self.has_texts = any(feature.is_category for feature in self.features)
        self._native, self._accept = native, native.accept
        self._is_positional = settings.positional

    def rows(self, rows: object, names: list[str] | None = None) -> Instances:
        """Judge decoded rows.

        Args:
            rows: objects, or arrays if there are names.
            names: of the columns.

        Raises:
            ServiceError: pointers are those of a native batch, `/instances/0/…`.
        """
        if self._accept is not None and type(rows) is list and 0 < len(rows) <= self.max_instances:
            found = self._accept.rows(rows, names)
            if found is not None:
                return found
        body = {"instances": rows} if names is None else {"instances": rows, "features": names}
        return self._native.judge.judge(body, DEFAULTS)

    def objects_or_arrays(self, rows: object) -> Instances:
        """Judge rows that are objects, or arrays in the order of the manifest.

        Raises:
            ServiceError: see `rows`.
        """
        if isinstance(rows, list) and any(isinstance(row, list) for row in rows):
            self.refuse_positional("/instances")
            return self.rows(rows, self.names)
        return self.rows(rows)

    def refuse_positional(self, place: str) -> None:
        """Refuse values that only their position names, where that is not wanted.

        Raises:
            InvalidInstance: it is not.
        """
        if not self._is_positional:
            message = "values must be named by feature here: ROOKERY_POSITIONAL is false"
            raise InvalidInstance([Problem(place, "type", message)])

    def columns(self, columns: list[Column]) -> Instances:
        """Judge columns in the order of the manifest, all of the same length.

        Args:
            columns: numbers of any datatype with NaN for null, or texts with None for null.

        Raises:
            ServiceError: see `rows`; a value of row i and column j is at `/instances/i/j`.
        """
        count = len(columns[0])
        if count > self.max_instances:
            raise too_many(self.max_instances)
        if self._accept is not None and count and not any(isinstance(column, list) for column in columns):
            found = self._accept.numbers(np.column_stack([np.asarray(c, dtype=np.float64) for c in columns]))
            if found is not None:
                return found
        values = [column if isinstance(column, list) else _to_json(column) for column in columns]
        return self.rows([list(row) for row in zip(*values, strict=True)], self.names)

    def matrix(self, values: NDArray[Any]) -> Instances:
        """Judge an array of numbers in the order of the manifest.

        Args:
            values: shape (n, d), any numeric datatype, NaN for null; no feature is a category.

        Raises:
            ServiceError: see `columns`.
        """
        if len(values) > self.max_instances:
            raise too_many(self.max_instances)
        if self._accept is not None and len(values):
            found = self._accept.numbers(values.astype(np.float64))
            if found is not None:
                return found
        return self.columns([values[:, column] for column in range(values.shape[1])])


def _to_json(column: NDArray[Any]) -> list[Any]:
    """Return numbers as JSON would hold them: what narrow floats mean is the shortest decimal that gives them.

    Raises:
        AmbiguousBody: one is infinite, which JSON cannot say.
    """
    if column.dtype.kind != "f":
        return [float(value) for value in column.tolist()]
    if np.isinf(column).any():
        row = int(np.isinf(column).argmax())
        raise AmbiguousBody([Problem(f"/instances/{row}", "ambiguous", "an infinite number is none")])
    numbers = column.tolist() if column.dtype.itemsize == 8 else [float(str(value)) for value in column]
    return [None if number != number else number for number in numbers]
