"""Tensors of the Open Inference Protocol: from JSON or raw bytes to arrays, and answers to tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from service.decode import json_type, too_many
from service.errors import InvalidInstance, Problem, echo
from service.protocols.intake import Column

# by datatype, little-endian as the protocol has them
NUMERIC = {
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
    "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
}  # fmt: skip
TEXT = "BYTES"
TAKEN = (*NUMERIC, TEXT)
LENGTH_BYTES = 4
MOST_DIMENSIONS = 2


class Tensor(NamedTuple):
    """One input tensor.

    Attributes:
        name: of a feature, or `instances`.
        shape: one or two whole numbers.
        column: its elements in row-major order.
    """

    name: str
    shape: tuple[int, ...]
    column: Column


class Reader:
    """Reads the tensors of one request, in order, and takes their raw bytes from what follows the JSON part."""

    def __init__(self, raw: bytes, max_instances: int) -> None:
        """Begin.

        Args:
            raw: what follows the JSON part; may be empty.
            max_instances: rows of a tensor; one with more is refused by its shape, whatever its elements are.
        """
        self._raw, self._at, self._max_instances = raw, 0, max_instances

    def read(self, value: object, place: str) -> Tensor:
        """Read one member of `inputs`.

        Raises:
            InvalidInstance: its shape, datatype, size or an element is not as the protocol has it.
            TooManyInstances: its shape has more rows than are taken.
        """
        if not isinstance(value, dict):
            _refuse(place, "type", f"must be an object, not {json_type(value)}")
        name, datatype = value.get("name"), value.get("datatype")
        if not isinstance(name, str):
            _refuse(f"{place}/name", "missing" if name is None else "type", "must be the name of a tensor")
        if not isinstance(datatype, str) or datatype not in TAKEN:
            _refuse(f"{place}/datatype", "type", f"must be one of {', '.join(TAKEN)}")
        shape = _shape(value.get("shape"), f"{place}/shape")
        size_bytes = _binary_size(value.get("parameters"), f"{place}/parameters")
        if size_bytes is None:
            flat = _elements(value.get("data"), shape, f"{place}/data")
            self._refuse_excess(shape)
            return Tensor(name, shape, _from_json(flat, datatype, f"{place}/data"))
        if "data" in value:
            _refuse(f"{place}/data", "ambiguous", "the tensor has both data and binary_data_size")
        return Tensor(name, shape, self._from_raw(size_bytes, shape, datatype, place))

    def finish(self) -> None:
        """Refuse raw bytes that no tensor names.

        Raises:
            InvalidInstance: there are some.
        """
        if self._at != len(self._raw):
            rest = len(self._raw) - self._at
            _refuse("/inputs", "unknown", f"{rest} raw bytes follow that no tensor's binary_data_size names")

    def _from_raw(self, size_bytes: int, shape: tuple[int, ...], datatype: str, place: str) -> Column:
        """Return the elements of a tensor from raw bytes."""
        raw = self._raw[self._at : self._at + size_bytes]
        if len(raw) != size_bytes:
            _refuse(f"{place}/parameters", "missing", f"binary_data_size is {size_bytes}, {len(raw)} bytes are there")
        self._at += size_bytes
        count = math.prod(shape)
        if datatype == TEXT:
            # each has a length, whatever else
            if count * LENGTH_BYTES > size_bytes:
                _refuse_texts(count, place)
            self._refuse_excess(shape)
            return _texts(raw, count, place)
        kind = np.dtype(NUMERIC[datatype])
        if size_bytes != count * kind.itemsize:
            message = f"{count} elements of {datatype} have {count * kind.itemsize} bytes, not {size_bytes}"
            _refuse(f"{place}/shape", "type", message)
        self._refuse_excess(shape)
        return np.frombuffer(raw, kind)

    def _refuse_excess(self, shape: tuple[int, ...]) -> None:
        """Refuse a tensor with too many rows, before its elements are looked at one by one."""
        if shape[0] > self._max_instances:
            raise too_many(self._max_instances)


def _shape(value: object, place: str) -> tuple[int, ...]:
    """Return a shape of one or two dimensions."""
    if value is None:
        _refuse(place, "missing", "required: one or two whole numbers")
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_DIMENSIONS:
        _refuse(place, "type", "must be one or two whole numbers")
    for size in value:
        if type(size) is not int or size < 0:
            _refuse(place, "type", "must be whole numbers, 0 or more")
    return tuple(value)


def _binary_size(parameters: object, place: str) -> int | None:
    """Return how many raw bytes a tensor has, None if it has its elements in JSON."""
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        _refuse(place, "type", f"must be an object, not {json_type(parameters)}")
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        _refuse(f"{place}/binary_data_size", "type", "must be a whole number, 0 or more")
    return size


def _elements(data: object, shape: tuple[int, ...], place: str) -> list[Any]:
    """Return the elements of a flat or nested array, as many as the shape has."""
    if data is None:
        _refuse(place, "missing", "required: the elements, in row-major order")
    if not isinstance(data, list):
        _refuse(place, "type", f"must be an array, not {json_type(data)}")
    flat = _flat(data, shape, place)
    if len(flat) != math.prod(shape):
        _refuse(place, "type", f"has {len(flat)} elements, the shape {list(shape)} has {math.prod(shape)}")
    return flat


def _from_json(flat: list[Any], datatype: str, place: str) -> Column:
    """Return the elements of a tensor as its datatype says."""
    kinds = set(map(type, flat))
    if datatype == TEXT:
        if not kinds <= {str, type(None)}:
            _refuse_element(flat, (str, type(None)), "a string", place)
        return flat
    is_whole = not datatype.startswith("FP")
    if not kinds <= {float, int, type(None)}:
        _refuse_element(flat, (float, int, type(None)), "a whole number" if is_whole else "a number", place)
    if is_whole and float in kinds:
        # in JSON 7.0 is a whole number
        for index, value in enumerate(flat):
            if type(value) is float and not value.is_integer():
                _refuse(f"{place}/{index}", "type", "must be a whole number, not a fraction")
    if type(None) in kinds:
        flat = [math.nan if value is None else value for value in flat]
    column = np.array(flat, dtype=np.float64)
    _refuse_overflow(column, datatype, place)
    return column


def _flat(data: list[Any], shape: tuple[int, ...], place: str) -> list[Any]:
    """Return the elements of a flat array as they are, those of a nested one in order; it must have the shape."""
    if list not in set(map(type, data)):
        return data
    inner = set(map(type, data)) == {list} and set(map(len, data))
    if len(shape) != MOST_DIMENSIONS or len(data) != shape[0] or inner != {shape[1]}:
        _refuse(place, "type", f"must be flat, or nested as the shape {list(shape)} says")
    return list(chain.from_iterable(data))


def _refuse_element(flat: Sequence[object], wanted: tuple[type, ...], words: str, place: str) -> NoReturn:
    """Name the first element of a wrong type."""
    index = next(index for index, value in enumerate(flat) if type(value) not in wanted)
    _refuse(f"{place}/{index}", "type", f"must be {words}, not {json_type(flat[index])}")


def _refuse_overflow(column: NDArray[np.float64], datatype: str, place: str) -> None:
    """Refuse numbers that the datatype they are said to have cannot hold."""
    kind = np.dtype(NUMERIC[datatype])
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    low, high = float(limits.min), float(limits.max)
    # the largest whole numbers of 64 bits are no float64: the next one is too large
    is_above = column > high if kind.kind == "f" or int(high) == limits.max else column >= high
    outside = (column < low) | is_above
    if outside.any():
        _refuse(f"{place}/{int(outside.argmax())}", "type", f"is beyond what {datatype} can hold")


def _texts(raw: bytes, count: int, place: str) -> list[str | None]:
    """Return the elements of a raw BYTES tensor: each its length in 4 bytes and its bytes."""
    found: list[str | None] = []
    at = 0
    while at < len(raw) and len(found) < count:
        size = int.from_bytes(raw[at : at + LENGTH_BYTES], "little")
        at += LENGTH_BYTES + size
        try:
            found.append(raw[at - size : at].decode())
        except UnicodeDecodeError:
            _refuse(place, "type", f"element {len(found)} is not UTF-8")
    if len(found) != count or at != len(raw):
        _refuse_texts(count, place)
    return found


def _refuse_texts(count: int, place: str) -> NoReturn:
    """Refuse raw bytes that are not so many texts."""
    _refuse(f"{place}/shape", "type", f"the raw bytes are not {count} elements of BYTES")


def to_raw_texts(texts: Sequence[str]) -> list[bytes]:
    """Return each text as an element of a raw BYTES tensor."""
    return [len(raw := text.encode()).to_bytes(LENGTH_BYTES, "little") + raw for text in texts]


def _refuse(place: str, code: str, message: str) -> NoReturn:
    """Raise the refusal."""
    raise InvalidInstance([Problem(echo(place), code, message)])
