"""What a caller asked for: options of the request, and the instances that may go to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from model.domain import FloatMatrix
from service.errors import InvalidParameter, Problem, ServiceError, echo, pointer


@dataclass(frozen=True, slots=True)
class Options:
    """The query parameters of a prediction.

    Attributes:
        explain: add contributions.
        row_errors: answer good rows although others are bad.
        convert_units: convert a recognised unit mix-up instead of refusing it.
    """

    explain: bool = False
    row_errors: bool = False
    convert_units: bool = False


DEFAULTS = Options()
NONE: Mapping[int, Any] = MappingProxyType({})
PARAMETERS = {
    "explain": {"true": True, "false": False},
    "on_error": {"row": True, "refuse": False},
    "on_unit": {"convert": True, "refuse": False},
}
# a query with more is not read; all that there are can be refused one by one
MOST_PARAMETERS = 20


def parse_options(query: str) -> Options:
    """Read a query string.

    Raises:
        InvalidParameter: a parameter is unknown, stands twice, or has an unknown value.
    """
    if not query:
        return DEFAULTS
    if query.count("&") >= MOST_PARAMETERS:
        message = f"more than {MOST_PARAMETERS} parameters; known: {', '.join(PARAMETERS)}"
        raise InvalidParameter([Problem("", "unknown", message)])
    chosen: dict[str, bool] = {}
    problems = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in PARAMETERS:
            problems.append(
                Problem("", "unknown", f"parameter {echo(name)!r} is not known; known: {', '.join(PARAMETERS)}")
            )
        elif name in chosen:
            problems.append(Problem("", "ambiguous", f"parameter {name!r} stands twice"))
        elif value not in PARAMETERS[name]:
            problems.append(Problem("", "type", f"parameter {name!r} must be one of {', '.join(PARAMETERS[name])}"))
        else:
            chosen[name] = PARAMETERS[name][value]
    if problems:
        raise InvalidParameter(problems)
    return Options(chosen.get("explain", False), chosen.get("on_error", False), chosen.get("on_unit", False))


def wanted(query: str) -> Options:
    """Return the options that a query asks for, and the defaults where `parse_options` refuses it."""
    try:
        return parse_options(query)
    except InvalidParameter:
        return DEFAULTS


@dataclass(frozen=True, slots=True)
class Conversion:
    """A value that was given in another unit and converted, because the caller asked for that.

    Attributes:
        feature: name of the feature.
        unit: symbol of the unit it was given in.
        given: the value as given.
        value: the value in the feature's own unit, as the model got it.
    """

    feature: str
    unit: str
    given: float
    value: float


class Instances(msgspec.Struct, frozen=True):
    """Instances that may go to the model.

    Attributes:
        matrix: float32, shape (n, d), the good rows in the order of the request.
        is_single: whether the body was one instance and not a batch.
        failures: position in the request → why that row is not answered; its rows are not in the matrix.
        conversions: position in the request → values that were converted.
    """

    matrix: FloatMatrix
    is_single: bool
    failures: Mapping[int, ServiceError] = NONE
    conversions: Mapping[int, tuple[Conversion, ...]] = NONE

    def __len__(self) -> int:
        """Return how many instances the request held."""
        return len(self.matrix) + len(self.failures)


def row_pointer(index: int | None, *steps: str | int) -> str:
    """Return the pointer to a part of an instance; None is the single instance at the root."""
    return pointer(*steps) if index is None else pointer("instances", index, *steps)
