"""Decides which rows of a table the model may be given, by the rules of `model.domain` and `model.units`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace

from model.cells import MAX_NUMBER_CHARACTERS, Record
from model.domain import Feature, FloatMatrix, Ordinary, Value, Violation, check, number_text, to_matrix, unit_message
from model.errors import DataError
from model.predictor import Predictor
from model.table import Table, locate, read_cell
from model.units import resolve


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What may be done with n rows.

    Attributes:
        matrix: float32, shape (m, d), the m ≤ n rows that may be answered, in order.
        problems: position of every other row → why not, at least one reason.
        conversions: position of a row → the values that were read in another unit than the feature's.
    """

    matrix: FloatMatrix
    problems: Mapping[int, list[DataError]] = field(default_factory=dict)
    conversions: Mapping[int, list[DataError]] = field(default_factory=dict)


class Judge:
    """Judges the rows of one table for one model."""

    def __init__(self, predictor: Predictor, table: Table, null: tuple[str, ...] | None, is_converting: bool) -> None:
        """Find the features in the header.

        Args:
            predictor: for the features, and for how novel a reading of mixed-up units would be.
            table: the input.
            null: the texts that mean "not given"; None for those that the model was trained with.
            is_converting: whether a value that is certainly in a confused unit is converted rather than refused.

        Raises:
            DataError: a column is missing, or stands there twice.
        """
        self._predictor, self._path, self._width = predictor, table.path, len(table.header)
        features = predictor.manifest.features
        self._features = features if null is None else tuple(replace(feature, null=null) for feature in features)
        columns = locate(table.path, table.header_line, table.header, predictor.manifest.feature_names)
        self._columns = [(feature, columns[feature.name]) for feature in self._features]
        self._is_converting = is_converting
        self._ordinary = Ordinary([feature for feature in self._features if not feature.is_category])
        # a text that `read_cell` returns as it stands, and `check` knows
        self._ordinary_texts = {
            f.name: {text for text in f.values if text == text.strip() and not f.is_null_word(text)}
            for f in self._features
        }
        self._has_ordinary_null = any(
            _is_ordinary(feature, word)
            for feature in self._features
            if not feature.is_category
            for word in feature.null
        )

    def judge(self, rows: Sequence[Record]) -> Verdicts:
        """Judge n rows: all at once if nothing about them is unusual, else one by one."""
        ordinary_values = self._read_ordinary([cells for _, cells in rows])
        if ordinary_values is not None:
            return Verdicts(to_matrix(self._features, ordinary_values))
        good: list[list[Value]] = []
        problems: dict[int, list[DataError]] = {}
        conversions: dict[int, list[DataError]] = {}
        for index, (line, cells) in enumerate(rows):
            if len(cells) != self._width:
                reason = f"has {len(cells)} cells, the header has {self._width}"
                problems[index] = [DataError(self._path, line, None, reason)]
                continue
            values, wrong, mixed = self._read(line, cells)
            if mixed:
                wrong, converted = self._resolve(line, values, wrong, mixed)
                if converted:
                    conversions[index] = converted
            if wrong:
                problems[index] = wrong
            else:
                good.append(values)
        return Verdicts(to_matrix(self._features, good), problems, conversions)

    def _read_ordinary(self, rows: Sequence[list[str]]) -> list[tuple[Value, ...]] | None:
        """Return all values if every cell is good without a closer look; None says nothing about any single one."""
        if self._has_ordinary_null or any(len(cells) != self._width for cells in rows):
            return None
        columns: list[list[float] | list[str]] = []
        numbers: list[list[float]] = []
        for feature, column in self._columns:
            texts = [cells[column] for cells in rows]
            if feature.is_category:
                if not self._ordinary_texts[feature.name].issuperset(texts):
                    return None
                columns.append(texts)
                continue
            try:
                values = list(map(float, texts))
            except ValueError:
                return None
            # Python reads 1_000 and digits of other scripts as numbers
            joined = "".join(texts)
            if "_" in joined or not joined.isascii() or max(map(len, texts), default=0) > MAX_NUMBER_CHARACTERS:
                return None
            columns.append(values)
            numbers.append(values)
        if numbers and not self._ordinary.rows(np.array(numbers)).all():
            return None
        return list(zip(*columns, strict=True))

    def _read(self, line: int, cells: Sequence[str]) -> tuple[list[Value], list[DataError], dict[int, Violation]]:
        """Return the d values of a row, the problems, and by position the values that seem to be in another unit."""
        values: list[Value] = []
        problems: list[DataError] = []
        mixed: dict[int, Violation] = {}
        for position, (feature, column) in enumerate(self._columns):
            value = violation = None
            try:
                value = read_cell(self._path, line, feature, cells[column])
                if value is not None:
                    violation = check(feature, value)
                elif not feature.nullable:
                    problems.append(DataError(self._path, line, feature.name, f"required: {feature.words}"))
            except DataError as problem:
                problems.append(problem)
            if violation is not None and violation.code == "unit":
                mixed[position] = violation
            elif violation is not None:
                problems.append(DataError(self._path, line, feature.name, violation.message))
            values.append(value)
        return values, problems, mixed

    def _resolve(
        self, line: int, values: list[Value], problems: list[DataError], mixed: Mapping[int, Violation]
    ) -> tuple[list[DataError], list[DataError]]:
        """Convert the mixed-up values in place if that is wanted and certain; return all problems and conversions."""
        if problems:
            # a row that is not whole says nothing about its units
            named = [(self._features[position].name, violation.message) for position, violation in mixed.items()]
            return problems + [DataError(self._path, line, name, reason) for name, reason in named], []
        distances, novel_distance = self._predictor.distances, self._predictor.novel_distance
        resolution = resolve(self._features, values, mixed, distances, novel_distance)
        is_converted = self._is_converting and resolution.is_certain
        found = []
        for position, readings in resolution.readings.items():
            feature, value, first = self._features[position], values[position], readings[0]
            if is_converted:
                reason = f"{value} {first.unit.symbol} was read as {number_text(first.value)} {feature.unit}"
                values[position] = first.value
            else:
                reason = unit_message(feature, float(value), readings)  # type: ignore[arg-type]
                reason += "; not certain enough to convert" if self._is_converting else ""
            found.append(DataError(self._path, line, feature.name, reason))
        return ([], found) if is_converted else (found, [])


def _is_ordinary(feature: Feature, text: str) -> bool:
    """Whether a text is read as a number that is ordinary for a feature."""
    try:
        return bool(Ordinary([feature]).rows(np.array([[float(text)]])).all())
    except ValueError:
        return False
