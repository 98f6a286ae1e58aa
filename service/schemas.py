"""What the schema says about a decoded body: which instances are valid, and the words of a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np
from marshmallow import RAISE, ValidationError, missing

from model import units
from model.domain import FloatMatrix, Value, Violation, number_text, to_matrix, unit_message
from model.predictor import Predictor
from service.decode import json_type, too_many
from service.errors import MAX_PROBLEMS, ImplausibleValue, InvalidInstance, Problem, ServiceError, pointer
from service.instance_schema import UNKNOWN, Fault, instance_schema
from service.instances import DEFAULTS, NONE, Conversion, Instances, Options, row_pointer

# rows of a batch, and the names of their columns if they are arrays → float32, shape (n, d), and the positions of those
# rows that were left out
LayOut = Callable[[list[Any], list[str] | None], tuple[FloatMatrix, Sequence[int]]]

# a refusal counts its problems up to here, and names fewer
MOST_COUNTED = 50
MOST_PROBLEMS = MOST_COUNTED + 1
# of the bad rows that are answered one by one, so many problems are named in all; the other rows have type and status
MOST_ROW_PROBLEMS = 1_000
# rows of a batch whose units are converted; more are refused as if nobody had asked for it
MOST_CONVERTED = 1_000

UNNAMED = {True: InvalidInstance(), False: ImplausibleValue()}


class Finding(NamedTuple):
    """What one instance is.

    Attributes:
        values: in manifest order; empty if anything is wrong.
        conversions: values that were given in another unit and converted.
        problems: what is wrong, up to as many as were asked for.
        is_invalid: whether anything is wrong with shape or type, also beyond those problems.
    """

    values: Sequence[Value] = ()
    conversions: tuple[Conversion, ...] = ()
    problems: Sequence[Problem] = ()
    is_invalid: bool = False


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
        self._fields: dict[str, Any] = instance_schema(self._features)(unknown=RAISE).fields
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
            found = self._row(body, None, options)
            if found.problems:
                raise _refusal(found.problems, found.is_invalid)
            matrix = to_matrix(self._features, [found.values])
            return Instances(matrix, is_single=True, conversions={0: found.conversions} if found.conversions else {})
        return self._batch_by_row(body, options) if options.row_errors else self._batch(body, options)

    def _batch(self, body: dict[str, Any], options: Options) -> Instances:
        """Judge the unusual rows of a batch, all or nothing.

        Once there are more problems than a refusal counts, the other rows are asked for nothing but whether their
        shape and types are right, and only until one is not: 422 wins over 400.
        """
        rows, columns = self._envelope(body)
        matrix, unusual = self._lay_out(rows, columns)
        good: dict[int, Finding] = {}
        problems: list[Problem] = []
        is_invalid = False
        for index in unusual:
            if len(problems) < MOST_PROBLEMS:
                asked = options if len(good) < MOST_CONVERTED else DEFAULTS
                found = self._row(rows[index], index, asked, columns, is_named=len(problems) < MAX_PROBLEMS)
                problems += found.problems
                is_invalid = is_invalid or found.is_invalid
                if not found.problems:
                    good[index] = found
            elif is_invalid:
                break
            else:
                is_invalid = self._is_misfit(rows[index], columns)
        if problems:
            raise _refusal(problems, is_invalid)
        return self._fill(matrix, good)

    def _batch_by_row(self, body: dict[str, Any], options: Options) -> Instances:
        """Judge all unusual rows of a batch, each for itself; how much is said about bad ones is bounded."""
        rows, columns = self._envelope(body)
        matrix, unusual = self._lay_out(rows, columns)
        good: dict[int, Finding] = {}
        failures: dict[int, ServiceError] = {}
        left = MOST_ROW_PROBLEMS
        for index in unusual:
            asked = options if len(good) < MOST_CONVERTED else DEFAULTS
            found = self._row(rows[index], index, asked, columns, MOST_PROBLEMS if left > 0 else 1)
            if not found.problems:
                good[index] = found
            elif left > 0:
                failures[index] = _refusal(found.problems, found.is_invalid)
                left -= len(found.problems)
            else:
                failures[index] = UNNAMED[found.is_invalid]
        return self._fill(matrix, good, failures)

    def _fill(
        self, matrix: FloatMatrix, good: Mapping[int, Finding], failures: Mapping[int, ServiceError] = NONE
    ) -> Instances:
        """Put the rows that were found good into their places, and take out those that failed."""
        if good:
            matrix[list(good)] = to_matrix(self._features, [found.values for found in good.values()])
        if failures:
            matrix = np.delete(matrix, list(failures), axis=0)
        converted = {index: found.conversions for index, found in good.items() if found.conversions}
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
        self,
        row: object,
        index: int | None,
        options: Options,
        columns: list[str] | None = None,
        most: int = MOST_PROBLEMS,
        *,
        is_named: bool = True,
    ) -> Finding:
        """Judge one instance, until so many problems are found; which units were meant is asked if they are named."""
        instance: Any = row
        if columns is not None:
            problem = _misshapen(row, index, columns)
            if problem is not None:
                return Finding(problems=[problem], is_invalid=True)
            instance = dict(zip(columns, instance, strict=True))
        elif not isinstance(row, dict):
            problem = Problem(row_pointer(index), "type", f"must be an object, not {json_type(row)}")
            return Finding(problems=[problem], is_invalid=True)
        # a row is converted only as a whole
        limit = len(self._names) + 1 if options.convert_units else most
        values, faults = self._load(instance, limit)
        if not faults:
            return Finding(values)
        mixed_up = {name: f.violation for name, f in faults.items() if f.violation is not None and f.code == "unit"}
        is_asked = is_named or options.convert_units
        resolution = self._resolve(instance, mixed_up) if is_asked and len(mixed_up) == len(faults) < limit else None
        if resolution is not None and options.convert_units and resolution.is_certain:
            return Finding(*self._convert(instance, resolution))
        place = {name: position for position, name in enumerate(columns or ())}
        problems = [
            self._problem(row_pointer(index, place.get(name, name)), name, fault, instance, resolution)
            for name, fault in islice(faults.items(), most)
        ]
        is_cut = len(faults) >= min(most, limit)
        return Finding((), (), problems, is_invalid(problems) or (is_cut and self._is_misfit(row, columns)))

    def _load(self, instance: Mapping[str, Any], most: int) -> tuple[list[Value], dict[str, Fault]]:
        """Let the schema's fields judge an instance as `Schema.load` would, until so many faults are found.

        An error of `Schema.load` and the frame that raises it refer to each other, and that frame holds the instance:
        what was refused would stay in memory until the garbage collector runs.

        Returns:
            the values in manifest order, and the faults by name: first the features', then those of other names.
        """
        values: list[Value] = []
        faults: dict[str, Fault] = {}
        known = 0
        for name, field in self._fields.items():
            value = instance.get(name, missing)
            known += value is not missing
            try:
                values.append(field.deserialize(value, name, instance))
            except ValidationError as error:
                faults[name] = cast("Fault", error.messages[0])
                if len(faults) >= most:
                    return values, faults
        if known < len(instance):
            others = (name for name in instance if name not in self._fields)
            faults.update(dict.fromkeys(islice(others, most - len(faults)), UNKNOWN))
        return values, faults

    def _is_misfit(self, row: object, columns: list[str] | None) -> bool:
        """Whether anything is wrong with the shape or a type of a row, told without words."""
        instance: Any = row
        if columns is not None:
            if not isinstance(row, list) or len(row) != len(columns):
                return True
            instance = dict(zip(columns, row, strict=True))
        elif not isinstance(row, dict):
            return True
        if instance.keys() != self._fields.keys():
            return True
        values = ((instance[name], field) for name, field in self._fields.items())
        return any(
            not field.allow_none if value is None else field.type_fault(value) is not None for value, field in values
        )

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


def _refusal(problems: Sequence[Problem], is_invalid: bool) -> ServiceError:
    """Return the refusal for problems: 422 if anything is wrong with shape or type, else 400."""
    detail = f"more than {MOST_COUNTED} problems" if len(problems) > MOST_COUNTED else None
    return (InvalidInstance if is_invalid else ImplausibleValue)(problems, detail)


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
