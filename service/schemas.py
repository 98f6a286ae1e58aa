"""The marshmallow schema built from the manifest: the one definition of what is valid, and the words of a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from marshmallow import RAISE, Schema, ValidationError, fields

from model import units
from model.domain import Feature, FloatMatrix, Value, Violation, check, number_text, to_matrix, unit_message
from model.predictor import Predictor
from service.decode import json_type, too_many
from service.errors import ImplausibleValue, InvalidInstance, Problem, ServiceError, echo, pointer
from service.instances import Conversion, Instances, Options, row_pointer

# rows of a batch, and the names of their columns if they are arrays → float32, shape (n, d), and the positions of those
# rows that were left out
LayOut = Callable[[list[Any], list[str] | None], tuple[FloatMatrix, Sequence[int]]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem of one field, before its place in the body is known."""

    code: str
    message: str
    violation: Violation | None = None


class FeatureField(fields.Field[Any]):
    """One feature: strict about the type, then judged by `model.domain.check`."""

    def __init__(self, feature: Feature) -> None:
        """Build the field and its messages from the manifest's feature."""
        words = feature.words + (" (null if not measured)" if feature.nullable else "")
        super().__init__(
            required=True,
            allow_none=feature.nullable,
            error_messages={
                "required": [Fault("missing", f"required: {words}")],
                "null": [Fault("null", f"must not be null: {words}")],
            },
            metadata={"description": feature.description},
        )
        self.feature = feature

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        """Return the value as it is, or say what is wrong with it."""
        fault = self._word_fault(value) or self._type_fault(value)
        if fault is not None:
            raise ValidationError([fault])
        violation = check(self.feature, value)
        if violation is not None:
            raise ValidationError([Fault(violation.code, violation.message, violation)])
        return value

    def _word_fault(self, value: object) -> Fault | None:
        """Refuse a word that stands for a missing value in files, and say what JSON has for it."""
        if not (self.feature.nullable and isinstance(value, str) and self.feature.is_null_word(value.strip())):
            return None
        return Fault("type", f'"{echo(value.strip())}" stands for missing in files; send null')

    def _type_fault(self, value: object) -> Fault | None:
        """Judge the JSON type alone."""
        if self.feature.is_category:
            return None if isinstance(value, str) else Fault("type", f"must be a string, not {json_type(value)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return Fault("type", f"must be a number, not {json_type(value)}")
        if self.feature.dtype == "int" and isinstance(value, float) and not value.is_integer():
            return Fault("type", "must be a whole number")
        return None


def instance_schema(features: Sequence[Feature]) -> type[Schema]:
    """Return the schema of one instance; every feature is required, nothing else is allowed."""
    members: dict[str, Any] = {feature.name: FeatureField(feature) for feature in features}
    schema = Schema.from_dict(members, name="Instance")
    schema.error_messages = {"unknown": Fault("unknown", "is not a feature of this model")}  # type: ignore[dict-item]
    return schema


class Judge:
    """Decides about a decoded body and words the refusal."""

    def __init__(self, predictor: Predictor, max_instances: int, lay_out: LayOut | None = None) -> None:
        """Build the schema of the predictor's manifest.

        Args:
            predictor: the model, which says what is novel.
            max_instances: rows in a batch.
            lay_out: see `service.accept.Accept.lay_out`; only rows of a batch that it leaves out are looked at here.
        """
        self._features = predictor.manifest.features
        self._names = predictor.manifest.feature_names
        self._schema = instance_schema(self._features)(unknown=RAISE)
        self._predictor = predictor
        self._max_instances = max_instances
        self._lay_out = lay_out or self._leave_out

    def judge(self, body: object, options: Options) -> Instances:
        """Turn a decoded body into instances.

        Raises:
            InvalidInstance: a field is missing, unknown, null or of the wrong type (whatever else is wrong too).
            ImplausibleValue: everything is well-typed, but a value is outside the domain.
            TooManyInstances: the batch is over the limit.
        """
        if not isinstance(body, dict):
            raise InvalidInstance([Problem("", "type", f"must be an object, not {json_type(body)}")])
        if "instances" not in body:
            values, conversions, problems = self._row(body, None, options)
            if problems:
                raise refusal(problems)
            matrix = to_matrix(self._features, [values])
            return Instances(matrix, is_single=True, conversions={0: conversions} if conversions else {})
        return self._batch(body, options)

    def _batch(self, body: dict[str, Any], options: Options) -> Instances:
        """Judge every unusual row of a batch; all of them are looked at, so that 422 can win over 400."""
        rows, columns = self._envelope(body)
        matrix, unusual = self._lay_out(rows, columns)
        good: dict[int, Sequence[Value]] = {}
        failures: dict[int, ServiceError] = {}
        converted: dict[int, tuple[Conversion, ...]] = {}
        problems: list[Problem] = []
        invalid = False
        for index in unusual:
            values, conversions, found = self._row(rows[index], index, options, columns)
            if not found:
                good[index] = values
                if conversions:
                    converted[index] = conversions
            elif options.row_errors:
                failures[index] = refusal(found)
            else:
                problems += found
                invalid = invalid or is_invalid(found)
        if problems:
            raise (InvalidInstance if invalid else ImplausibleValue)(problems)
        if good:
            matrix[list(good)] = to_matrix(self._features, list(good.values()))
        if failures:
            matrix = np.delete(matrix, list(failures), axis=0)
        return Instances(matrix, is_single=False, failures=failures, conversions=converted)

    def _leave_out(self, rows: list[Any], columns: list[str] | None) -> tuple[FloatMatrix, Sequence[int]]:
        """Lay no row out: the schema judges all of them."""
        return np.empty((len(rows), len(self._features)), dtype=np.float32), range(len(rows))

    def _envelope(self, body: dict[str, Any]) -> tuple[list[Any], list[str] | None]:
        """Check what is around the rows; returns them and, for rows given as arrays, their column names."""
        rows, problems = body["instances"], []
        problems += [
            Problem(pointer(key), "unknown", "is not part of a batch; known: instances, features")
            for key in body
            if key not in ("instances", "features")
        ]
        if not isinstance(rows, list):
            problems.append(Problem("/instances", "type", f"must be an array, not {json_type(rows)}"))
        elif not rows:
            problems.append(Problem("/instances", "missing", "at least one instance is required"))
        elif len(rows) > self._max_instances:
            raise too_many(self._max_instances)
        columns = None
        if "features" in body:
            columns, faults = self._columns(body["features"])
            problems += faults
        if problems:
            raise InvalidInstance(problems)
        return rows, columns

    def _columns(self, names: object) -> tuple[list[str], list[Problem]]:
        """Check the column names of rows given as arrays."""
        if not isinstance(names, list):
            return [], [Problem("/features", "type", f"must be an array of names, not {json_type(names)}")]
        problems = []
        for index, name in enumerate(names):
            if not isinstance(name, str):
                problems.append(Problem(f"/features/{index}", "type", f"must be a string, not {json_type(name)}"))
            elif name not in self._names:
                problems.append(Problem(f"/features/{index}", "unknown", "is not a feature of this model"))
            elif name in names[:index]:
                problems.append(Problem(f"/features/{index}", "ambiguous", "stands twice"))
        problems += [
            Problem("/features", "missing", f"required: {feature.words}")
            for feature in self._features
            if feature.name not in names
        ]
        return names, problems

    def _row(
        self, row: object, index: int | None, options: Options, columns: list[str] | None = None
    ) -> tuple[Sequence[Value], tuple[Conversion, ...], list[Problem]]:
        """Judge one instance; returns its values in manifest order, what was converted, and what is wrong."""
        instance: Any = row
        if columns is not None:
            problem = _misshapen(row, index, columns)
            if problem is not None:
                return (), (), [problem]
            instance = dict(zip(columns, instance, strict=True))
        elif not isinstance(row, dict):
            return (), (), [Problem(row_pointer(index), "type", f"must be an object, not {json_type(row)}")]
        try:
            loaded = self._schema.load(instance)
        except ValidationError as error:
            faults: dict[str, Fault] = {name: found[0] for name, found in error.messages_dict.items()}
            mixed_up = {name: f.violation for name, f in faults.items() if f.violation is not None and f.code == "unit"}
            resolution = self._resolve(instance, mixed_up) if len(mixed_up) == len(faults) else None
            if resolution is not None and options.convert_units and resolution.is_certain:
                values, conversions = self._convert(instance, resolution)
                return values, conversions, []
            place = {name: position for position, name in enumerate(columns or ())}
            problems = [
                self._problem(row_pointer(index, place.get(name, name)), name, faults[name], instance, resolution)
                for name in [*(n for n in self._names if n in faults), *(n for n in instance if n not in self._names)]
            ]
            return (), (), problems
        return [loaded[name] for name in self._names], (), []

    def _resolve(self, instance: dict[str, Any], mixed_up: Mapping[str, Violation]) -> units.Resolution:
        """Find the units of a row in which nothing but units is wrong."""
        values = [instance[name] for name in self._names]
        positions = {self._names.index(name): violation for name, violation in mixed_up.items()}
        ordered = dict(sorted(positions.items()))
        return units.resolve(self._features, values, ordered, self._predictor.distances, self._predictor.novel_distance)

    def _convert(
        self, instance: dict[str, Any], resolution: units.Resolution
    ) -> tuple[Sequence[Value], tuple[Conversion, ...]]:
        """Return the row with its mixed-up values converted."""
        values: list[Value] = [instance[name] for name in self._names]
        conversions = []
        for position, readings in resolution.readings.items():
            given, reading = cast("float", values[position]), readings[0]
            # the model gets float32: that is the value that is named
            value = float(str(np.float32(reading.value)))
            values[position] = value
            conversions.append(Conversion(self._names[position], reading.unit.symbol, float(given), value))
        return values, tuple(conversions)

    def _problem(
        self, place: str, name: str, fault: Fault, instance: dict[str, Any], resolution: units.Resolution | None
    ) -> Problem:
        """Place a fault in the body; a unit mix-up gets its likeliest reading as a suggestion."""
        if fault.violation is None or fault.code != "unit":
            return Problem(place, fault.code, fault.message)
        readings = fault.violation.readings
        message = fault.message
        if resolution is not None:
            position = self._names.index(name)
            readings = resolution.readings[position]
            message = unit_message(self._features[position], instance[name], readings)
        best = readings[0]
        return Problem(place, "unit", message, (best.unit.symbol, float(number_text(best.value))), name)


def refusal(problems: Sequence[Problem]) -> ServiceError:
    """Return the refusal for one row's problems: 422 if any is about shape or type, else 400."""
    return (InvalidInstance if is_invalid(problems) else ImplausibleValue)(problems)


def is_invalid(problems: Sequence[Problem]) -> bool:
    """Whether any problem is about shape or type rather than about the domain."""
    return any(problem.code not in ("range", "unit") for problem in problems)


def _misshapen(row: object, index: int | None, columns: list[str]) -> Problem | None:
    """Say what is wrong with the shape of a row given as an array."""
    if not isinstance(row, list):
        return Problem(row_pointer(index), "type", f"must be an array, not {json_type(row)}")
    if len(row) != len(columns):
        code = "missing" if len(row) < len(columns) else "unknown"
        return Problem(row_pointer(index), code, f"has {len(row)} values for {len(columns)} features")
    return None
