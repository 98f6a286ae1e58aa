"""Bytes to values, strictly: what could be read in two ways is not read at all."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import orjson

from model.domain import Feature
from service.errors import AmbiguousBody, BodyTooLarge, MalformedBody, Problem, TooManyInstances, echo

MAX_DEPTH = 8
PREFIX_BYTES = 64 << 10

# of a body, all that tells its depth: every bracket as if it were a square one, and quotation marks
AS_SQUARE = bytes.maketrans(b"{}", b"[]")
NO_MARKS = bytes(set(range(256)) - set(b'"[]{}'))
STRING = re.compile(rb'"[^"]*+"?+')
OPENING = ord("[")

LONGEST_NUMBER = 400
ENDLESS_NUMBER = b"0" * LONGEST_NUMBER
SAMPLED_BYTES = 40
SAMPLED_NUMBER = b"0" * (LONGEST_NUMBER // SAMPLED_BYTES)
AS_ZEROS = bytes(ord("0" if chr(byte).isdecimal() else " ") for byte in range(128)).ljust(256)
EXACT_BITS = 53
# digits of the smallest whole number that a float may round
LONG_INTEGER = b"0" * len(str(1 << EXACT_BITS))
CONTAINERS = frozenset((dict, list))

# quotes and commas that a body may have beyond those of its rows: column names, and room for a useful refusal
SLACK = 1024
# from here on numpy counts faster than bytes do, in slices that stay in the processor's cache
VECTOR_BYTES, SLICE_BYTES = 8 << 10, 128 << 10
# a text so long is decoded whatever it is, as a slip gets a refusal of its own; protocols have texts of the caller's
TEXT_BYTES, FREE_TEXT_BYTES = 16 << 10, 64 << 10
BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a body may have before it is decoded.

    Attributes:
        instances: rows in a batch.
        marks: opening brackets.
        row_quotes: quotation marks of one row.
        row_commas: commas of one row.
        text_bytes: longest text, as it is spelt.
        least_rows: rows that quotes and commas are counted for however few brackets there are.
    """

    instances: int
    marks: int
    row_quotes: int
    row_commas: int
    text_bytes: int
    least_rows: int = 1

    @property
    def harmless_bytes(self) -> int:
        """A body so short is under every limit."""
        return min(self.marks, SLACK)

    @classmethod
    def of(cls, features: Sequence[Feature], max_instances: int) -> Limits:
        """Return the limits that every valid body of a model keeps: 4 quotes a feature allow names and text values."""
        brackets = sum(max((v.count("{") + v.count("[") for v in f.values), default=0) for f in features)
        quotes = sum(4 + max((v.count('"') for v in f.values), default=0) for f in features)
        commas = sum(1 + max((v.count(",") for v in f.values), default=0) for f in features)
        return cls(max_instances, max_instances * (1 + brackets) + 32, quotes, commas, _longest(features, TEXT_BYTES))

    @classmethod
    def of_columns(cls, features: Sequence[Feature], max_instances: int) -> Limits:
        """Return the limits of bodies that may hold columns, each value as an array of its own, and as many others."""
        rows = cls.of(features, max_instances)
        marks = rows.marks + (max_instances + 8) * len(features)
        text_bytes = _longest(features, FREE_TEXT_BYTES)
        quotes, commas = 2 * rows.row_quotes + 16, 2 * rows.row_commas + 8
        return cls(max_instances, marks, quotes, commas, text_bytes, max_instances)


def _longest(features: Sequence[Feature], least: int) -> int:
    """Return how many bytes the longest name or value has, every letter spelt as one escape or two; `least` if more."""
    texts = (text for feature in features for text in (feature.name, *feature.values))
    return max(least, *(len(r"\u0000") * (len(text) + sum(letter > "\uffff" for letter in text)) for text in texts))


def refuse_excess(body: bytes, limits: Limits) -> None:
    """Refuse a body by counting, before anything is built from it.

    Raises:
        MalformedBody: it is empty.
        AmbiguousBody: it is over a limit and deeper than 8.
        TooManyInstances: it has more brackets than any valid body.
        BodyTooLarge: it has more strings or values than any valid body with as many brackets, or a longer text.
    """
    if not body:
        raise MalformedBody([Problem("", "malformed", "the body is empty; send a JSON object")])
    if len(body) <= limits.harmless_bytes:
        return
    marks = count(body, b"{") + count(body, b"[")
    if marks > limits.marks:
        _refuse_depth(body[:PREFIX_BYTES])
        raise too_many(limits.instances)
    # every row has a bracket of its own
    rows = max(min(marks, limits.instances), limits.least_rows)
    for name, sign, most in (("quotation marks", b'"', limits.row_quotes), ("commas", b",", limits.row_commas)):
        found = count(body, sign)
        if found > rows * most + SLACK:
            _refuse_depth(body[:PREFIX_BYTES])
            message = f"holds {found} {name}, more than any valid body with as many rows"
            raise BodyTooLarge([Problem("", "body_too_large", message)])
    if has_long_text(body, limits.text_bytes):
        _refuse_depth(body[:PREFIX_BYTES])
        message = f"holds a text of more than {limits.text_bytes} bytes, longer than any that is read"
        raise BodyTooLarge([Problem("", "body_too_large", message)])


def has_long_text(body: bytes, most: int) -> bool:
    """Whether a string of a JSON body has more than so many bytes, looked for from quotation mark to quotation mark."""
    if len(body) <= most:
        return False
    if b"\\" in body:
        # neither ends a string, and both are as long as before
        body = body.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    counted = at = marks = 0
    while len(body) - at > most:
        last = body.rfind(b'"', at, at + most + 1)
        if last >= 0:
            at = last + 1
            continue
        # so many bytes without a mark: a string if an odd number of marks stands before
        marks += body.count(b'"', counted, at)
        if marks % 2:
            return True
        counted, at = at, body.find(b'"', at) + 1
        if not at:
            return False
    return False


def has_endless_number(body: bytes) -> bool:
    """Whether somewhere stand so many digits in a row that no float64 can mean them."""
    if len(body) < LONGEST_NUMBER:
        return False
    # so many digits in a row are met several times by looking at every so manyth byte; anything else hardly ever is
    if SAMPLED_NUMBER not in body[::SAMPLED_BYTES].translate(AS_ZEROS):
        return False
    return ENDLESS_NUMBER in body.translate(AS_ZEROS)


def count(body: bytes, sign: bytes) -> int:
    """Return how often one byte stands in a body."""
    if len(body) < VECTOR_BYTES:
        return body.count(sign)
    found, values = 0, np.frombuffer(body, np.uint8)
    for start in range(0, len(body), SLICE_BYTES):
        found += int(np.count_nonzero(values[start : start + SLICE_BYTES] == sign[0]))
    return found


def too_many(limit: int) -> TooManyInstances:
    """Return the refusal of a batch over the limit."""
    return TooManyInstances([Problem("", "too_many_instances", f"at most {limit} instances are taken at once")])


def read(body: bytes, *, nan_is_null: bool = False) -> object:
    """Decode as `strict` does, faster where nothing is unusual.

    Args:
        body: already passed by `refuse_excess`.
        nan_is_null: see `strict`.
    """
    if not has_endless_number(body):
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return strict(body, nan_is_null=nan_is_null)
        if _is_exact(body, value):
            return value
    return strict(body, nan_is_null=nan_is_null)


def _is_exact(body: bytes, value: object) -> bool:
    """Whether `strict` would have read the same: no key twice, not deeper than 8, no whole number that is rounded."""
    may_round = LONG_INTEGER in body.translate(AS_ZEROS)
    keys, level = 0, [value]
    for _ in range(MAX_DEPTH + 1):
        if may_round and any(type(item) is int and item.bit_length() > EXACT_BITS for item in level):
            return False
        containers = [item for item in level if type(item) in CONTAINERS]
        if not containers:
            # a duplicate key disappears in decoding, its colon does not: equal counts prove that there was none
            return keys == count(body, b":")
        level = []
        for item in containers:
            if type(item) is dict:
                keys += len(item)
                level += item.values()
            elif may_round or not CONTAINERS.isdisjoint(map(type, item)):  # type: ignore[call-overload]
                level += item  # type: ignore[arg-type]
    return False


def strict(body: bytes, *, nan_is_null: bool = False) -> object:
    """Decode JSON that has exactly one meaning (RFC 8259 within I-JSON, RFC 7493).

    Args:
        body: already passed by `refuse_excess`.
        nan_is_null: the literal NaN, which JSON does not have, stands for null as data frames write it.

    Returns:
        dict, list, str, int, float, bool or None; every number is finite as a float.

    Raises:
        MalformedBody: not JSON.
        AmbiguousBody: not UTF-8, a byte order mark, a duplicate key, NaN or Infinity, a number beyond float64 or
            endless, a lone surrogate, or deeper than 8.
    """
    if body.startswith(BYTE_ORDER_MARKS) or b"\x00" in body:
        _ambiguous("starts with a byte order mark or holds NUL bytes; send plain UTF-8")
    _refuse_depth(body)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        _ambiguous(f"is not UTF-8 at byte {error.start}")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_nan_or_constant if nan_is_null else _constant,
            parse_float=_float,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        message = f"{error.msg.lower()} at line {error.lineno}, column {error.colno}"
        raise MalformedBody([Problem("", "malformed", message)]) from error
    try:
        # of a body with NaN in it only what was read can be tried
        orjson.dumps(value) if nan_is_null else orjson.loads(body)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        # all that the standard library takes and orjson does not, after the checks above
        _ambiguous("holds a lone surrogate or a control character in a string")
    return value


def _ambiguous(message: str, pointer: str = "") -> NoReturn:
    """Raise the refusal."""
    raise AmbiguousBody([Problem(pointer, "ambiguous", message)])


def _refuse_depth(body: bytes) -> None:
    """Refuse nesting deeper than 8, without recursion."""
    if b"\\" in body:
        # a backslash that stands for itself, then a quotation mark that ends nothing
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # strings without brackets vanish, those that touch each other become one
    marks = body.translate(AS_SQUARE, NO_MARKS).replace(b'""', b"")
    depth = 0
    for mark in STRING.sub(b"", marks):
        if mark == OPENING:
            depth += 1
            if depth > MAX_DEPTH:
                _ambiguous(f"is nested deeper than {MAX_DEPTH}")
        else:
            depth -= 1
            if depth < 0:
                # not JSON, as the decoder will say; the rest may be megabytes of closing brackets
                return


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a key that stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        _ambiguous(f"the key {json.dumps(echo(twice))} stands twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which JSON does not have."""
    _ambiguous(f"{name} is not JSON; leave the value out or send null where it is allowed")


def _nan_or_constant(name: str) -> None:
    """Read NaN as null, and refuse the others."""
    if name != "NaN":
        _constant(name)


def _float(text: str) -> float:
    """Read a number with a fraction or an exponent."""
    if has_endless_number(text.encode()):
        _ambiguous(f"a number has {LONGEST_NUMBER} digits in a row, more than a 64-bit float can mean")
    value = float(text)
    if not math.isfinite(value):
        _ambiguous("a number is beyond the range of a 64-bit float")
    return value


def _integer(text: str) -> int | float:
    """Read a whole number; one too large to be exact in a float becomes the float that the model would get."""
    if len(text) > LONGEST_NUMBER:
        _ambiguous("a number is beyond the range of a 64-bit float")
    value = int(text)
    if value.bit_length() > EXACT_BITS:
        return _float(text)
    return value


def json_type(value: object) -> str:
    """Return what JSON calls a value, with its article."""
    names: list[tuple[type, str]] = [
        (bool, "a boolean"),
        (str, "a string"),
        (dict, "an object"),
        (list, "an array"),
        (type(None), "null"),
    ]
    return next((name for kind, name in names if isinstance(value, kind)), "a number")
