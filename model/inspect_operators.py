"""The operators our compiler emits, each with the attributes it gives them and the shapes they make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.inspect_proto import BOOL, DOUBLE, FLOAT, INT32, INT64

# the number of rows, known only when predicting
ROWS: Final = -1

_REAL = (FLOAT, DOUBLE)


@dataclass(frozen=True)
class Value:
    """What is known about one name of a graph.

    Attributes:
        kind: its type, as `TensorProto.DataType` numbers them.
        dims: its shape, ROWS for the number of rows.
        constant: its numbers, or None if they are computed.
        below: for positions, what all of them are smaller than; else 0.
    """

    kind: int
    dims: tuple[int, ...]
    constant: NDArray[Any] | None = None
    below: int = 0

    @property
    def is_matrix(self) -> bool:
        """Whether it holds real numbers, one row for each instance."""
        return len(self.dims) == 2 and self.dims[0] == ROWS and self.kind in _REAL

    @property
    def width(self) -> int:
        """The number of columns of a matrix."""
        return self.dims[1]

    def is_constant(self, kind: int, *dims: int) -> bool:
        """Whether it is a constant of this type and shape."""
        return self.constant is not None and self.kind == kind and self.dims == dims


Rule = Callable[[list[Value], Mapping[bytes, int]], "list[Value]"]


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        inputs: how many it takes; None for one or more.
        options: its attributes, all of them, with the values they may have.
        rule: from inputs and options to outputs; none if the inputs do not fit.
    """

    inputs: int | None
    options: Mapping[bytes, Collection[int]]
    rule: Rule


def _each(x: list[Value], _: Mapping[bytes, int]) -> list[Value]:
    """Work on each number, or on each row, by itself."""
    return x if x[0].is_matrix else []


def _paired(x: list[Value], _: Mapping[bytes, int]) -> list[Value]:
    """Pair a matrix with one constant, one for each column, or a matrix of one column."""
    a, b = x
    if not a.is_matrix or a.kind != b.kind:
        return []
    shapes: set[tuple[int, ...]] = {(ROWS, 1)}
    if b.constant is not None:
        shapes = {(), (a.width,), (1, a.width)}
    return [a] if b.dims in shapes else []


def _split(x: list[Value], options: Mapping[bytes, int]) -> list[Value]:
    """Take a matrix apart into its columns."""
    count = options[b"num_outputs"]
    return [Value(x[0].kind, (ROWS, 1))] * count if x[0].is_matrix and x[0].width == count else []


def _equal(x: list[Value], _: Mapping[bytes, int]) -> list[Value]:
    """Compare a column with the codes of a category."""
    column, codes = x
    good = column.is_matrix and column.width == 1 and codes.constant is not None and len(codes.dims) == 1
    return [Value(BOOL, (ROWS, codes.dims[0]))] if good and column.kind == codes.kind else []


def _cast(x: list[Value], options: Mapping[bytes, int]) -> list[Value]:
    """Change the type."""
    return [Value(options[b"to"], x[0].dims)]


def _concat(x: list[Value], _: Mapping[bytes, int]) -> list[Value]:
    """Put columns side by side."""
    if not all(value.is_matrix and value.kind == x[0].kind for value in x):
        return []
    return [Value(x[0].kind, (ROWS, sum(value.width for value in x)))]


def _multiplied(x: list[Value], _: Mapping[bytes, int]) -> list[Value]:
    """Multiply a matrix with constant coefficients."""
    a, b = x
    fits = a.is_matrix and len(b.dims) == 2 and b.is_constant(a.kind, a.width, b.dims[1])
    return [Value(a.kind, (ROWS, b.dims[1]))] if fits else []


def _summed(x: list[Value], _: Mapping[bytes, int]) -> list[Value]:
    """Add up the columns of a matrix."""
    a, axis = x
    good = a.is_matrix and axis.is_constant(INT64, 1) and np.array_equal(axis.constant, [1])  # type: ignore[arg-type]
    return [Value(a.kind, (ROWS, 1))] if good else []


def _largest(x: list[Value], _: Mapping[bytes, int]) -> list[Value]:
    """Find the column of the largest number: below the width, which `_taken` relies on."""
    return [Value(INT64, (ROWS, 1), None, x[0].width)] if x[0].is_matrix else []


def _taken(x: list[Value], _: Mapping[bytes, int]) -> list[Value]:
    """Take from constant class numbers by position."""
    labels, positions = x
    good = positions.below > 0 and labels.is_constant(INT32, positions.below)
    return [Value(INT32, (1, ROWS))] if good else []


def _flattened(x: list[Value], _: Mapping[bytes, int]) -> list[Value]:
    """Make one row, or one column, a vector."""
    a, shape = x
    good = a.dims == (1, ROWS) and shape.is_constant(INT64, 1) and np.array_equal(shape.constant, [-1])  # type: ignore[arg-type]
    return [Value(a.kind, (ROWS,))] if good else []


_AXIS = {b"axis": {1}}

OPERATORS: Mapping[tuple[bytes, bytes], Operator] = {
    (b"", b"Abs"): Operator(1, {}, _each),
    (b"", b"Add"): Operator(2, {}, _paired),
    (b"", b"ArgMax"): Operator(1, _AXIS, _largest),
    (b"", b"Cast"): Operator(1, {b"to": {FLOAT, DOUBLE, INT64}}, _cast),
    (b"", b"Concat"): Operator(None, _AXIS, _concat),
    (b"", b"Div"): Operator(2, {}, _paired),
    (b"", b"Equal"): Operator(2, {}, _equal),
    (b"", b"Identity"): Operator(1, {}, _each),
    (b"", b"Log"): Operator(1, {}, _each),
    (b"", b"MatMul"): Operator(2, {}, _multiplied),
    (b"", b"Max"): Operator(2, {}, _paired),
    (b"", b"ReduceSum"): Operator(2, {b"keepdims": {1}}, _summed),
    (b"", b"Reshape"): Operator(2, {}, _flattened),
    (b"", b"Sigmoid"): Operator(1, {}, _each),
    (b"", b"Softmax"): Operator(1, {b"axis": {1, -1}}, _each),
    (b"", b"Split"): Operator(1, {b"axis": {1}, b"num_outputs": range(1, 100_000)}, _split),
    (b"", b"Sub"): Operator(2, {}, _paired),
    (b"ai.onnx.ml", b"ArrayFeatureExtractor"): Operator(2, {}, _taken),
}
