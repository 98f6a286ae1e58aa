"""Strict decoding: what could be read in two ways is refused, and refused before it costs anything."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.domain import Feature
from service.decode import (
    MAX_DEPTH,
    SLICE_BYTES,
    VECTOR_BYTES,
    Limits,
    count,
    has_endless_number,
    has_long_text,
    read,
    refuse_excess,
    strict,
)
from service.errors import AmbiguousBody, BodyTooLarge, MalformedBody, TooManyInstances
from tests.unit.service.bodies import write_mixed

# values; raise it for a long run
EXAMPLES = 150

NUMBER = Feature(name="size", description="", dtype="float", hard=(0, 9), plausible=(1, 8))
TEXT = Feature(name="soil", description="", dtype="category", values=('the "rich", {dark} [one]', "clay"))
LIMITS = Limits.of([NUMBER] * 4, 10_000)

AMBIGUOUS = {
    "a key twice": b'{"a": 1, "a": 1}',
    "a key twice, once with an escape": b'{"bill": 1, "\\u0062ill": 1}',
    "a key twice, inside": b'{"instances": [{"a": 1, "b": 2, "a": 3}]}',
    "a long key twice": b'{"%s": 1, "%s": 2}' % (b"k" * 10_000, b"k" * 10_000),
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "-Infinity": b'{"a": -Infinity}',
    "1e999": b'{"a": 1e999}',
    "-1e999": b'{"a": -1e999}',
    "400 digits": b"9" * 400,
    "401 digits": b"9" * 401,
    "5,000 digits": b"9" * 5000,
    "1 MB of digits": b"9" * (1 << 20),
    "1 MB of digits after the point": b'{"a": 39.' + b"1" * (1 << 20) + b"}",
    "400 digits after the point": b"39." + b"1" * 400,
    "UTF-8 with a byte order mark": '{"a": 1}'.encode("utf-8-sig"),
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 little-endian": '{"a": 1}'.encode("utf-16-le"),
    "UTF-16 big-endian": '{"a": 1}'.encode("utf-16-be"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "UTF-32 big-endian": '{"a": 1}'.encode("utf-32-be"),
    "Latin-1": '{"ä": 1}'.encode("latin-1"),
    "an overlong slash": b'{"\xc0\xaf": 1}',
    "a surrogate in UTF-8": b'{"\xed\xa0\x80": 1}',
    "a lone surrogate": b'{"a": "\\ud800"}',
    "a lone surrogate as a key": b'{"\\udfff": 1}',
    "surrogates the wrong way round": b'{"a": "\\udc00\\ud800"}',
    "a NUL byte": b'{"a": 1}\x00',
    "a NUL byte in a string": b'{"a": "\x00"}',
    "nested too deep": b"[" * 9 + b"]" * 9,
    "100 brackets": b"[" * 100,
    "1,000 brackets": b"[" * 1_000,
    "nested inside a field": b'{"a": ' + b"[" * 9_000,
    "nested after strings with brackets and quotes": b'{"]\\"]": "]]\\\\", "b": ' + b"[" * 8 + b"]" * 8 + b"}",
}

MALFORMED = {
    "half an object": b'{"a": 1',
    "a single quote": b"{'a': 1}",
    "a comma at the end": b'{"a": 1,}',
    "two values": b'{"a": 1} {"a": 1}',
    "a comment": b'{"a": 1} // one',
    "a leading zero": b'{"a": 01}',
    "a plus sign": b'{"a": +1}',
    "a bare fraction": b'{"a": .5}',
    "a hexadecimal number": b'{"a": 0x10}',
    "words": b"bill_length_mm=39.1",
    "a control character in a string": b'{"a": "\x01"}',
    "an unknown escape": b'{"a": "\\x41"}',
    "a string that does not end": b'{"a": "',
    "only white space": b" \n",
    "odd white space": '{"a":\u00a01}'.encode(),
    "closing brackets": b"]" * 1000,
    "closing brackets before deep nesting": b"]" + b"[" * 1000,
}


@pytest.mark.parametrize("body", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguity_is_refused(body):
    with pytest.raises(AmbiguousBody) as refused:
        strict(body)
    assert [(p.pointer, p.code) for p in refused.value.problems] == [("", "ambiguous")]
    assert len(refused.value.problems[0].message) < 200


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_not_json_is_refused(body):
    with pytest.raises(MalformedBody) as refused:
        strict(body)
    assert [(p.pointer, p.code) for p in refused.value.problems] == [("", "malformed")]


def test_the_place_of_a_syntax_error_is_said():
    with pytest.raises(MalformedBody) as refused:
        strict(b'{"a": 1,\n "b": }')
    assert refused.value.problems[0].message == "expecting value at line 2, column 7"


def test_the_key_that_stands_twice_is_named():
    with pytest.raises(AmbiguousBody) as refused:
        strict(b'{"a": 1, "b": 1, "\\u0062": 2, "a": 2}')
    assert refused.value.problems[0].message == 'the key "a" stands twice in one object'


VALUES = {
    "every JSON type": (b'{"a": [1, 2.5, "x", true, false, null, {}]}', {"a": [1, 2.5, "x", True, False, None, {}]}),
    "the deepest nesting": (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, [[[[[[[[]]]]]]]]),
    "brackets in strings": (b'{"[[[[[[[[[": "{{{{{{{{{\\"["}', {"[[[[[[[[[": '{{{{{{{{{"['}),
    "a pair of surrogates": (b'"\\ud83d\\udc27"', "\N{PENGUIN}"),
    "the same key in two objects": (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
    "the largest exact whole number": (b"9007199254740992", 2**53),
    "a number too small": (b"1e-400", 0.0),
    "white space": (b' {\t"a"\r\n:1} ', {"a": 1}),
}


@pytest.mark.parametrize(("body", "value"), VALUES.values(), ids=VALUES.keys())
def test_unambiguous_json_is_read(body, value):
    assert value == strict(body)


@pytest.mark.parametrize("text", ["36893488147419103232", "9" * 300, "-" + "9" * 300, str(2**60 + 1)])
def test_a_large_whole_number_becomes_the_float_the_model_would_get(text):
    value = strict(text.encode())
    assert (float, float(text)) == (type(value), value)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )
)
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_what_is_read_is_what_was_written(value):
    depth = _depth(value)
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        if depth <= MAX_DEPTH and "\x00" not in text:
            assert value == strict(text.encode())


EXACT = {
    "8 levels": (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH),
    "9 levels": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)),
    "9 levels with a value": (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1)),
    "the largest exact whole number": str(2**53 - 1).encode(),
    "a whole number that may be rounded": str(2**53).encode(),
    "the same in an array": b"[1.0, %d]" % (2**53 + 1),
    "the same in an object": b'{"a": -%d}' % (2**53 + 1),
    "the same in a row": b'{"instances": [{"a": 1}, {"a": %d}]}' % (2**64 - 1),
    "beside it": b'{"instances": [[%d, "%d", 1.%d]]}' % (2**53 - 1, 2**60, 2**60),
    "a colon in a string": b'{"a": ":"}',
    "a key twice": b'{"a": {"b": 1, "b": 1}}',
    "zeros": b"[-0, -0.0, 0e0, -0E5]",
}


def _read(way: Callable[[bytes], object], body: bytes) -> str:
    try:
        return repr(way(body))
    except (MalformedBody, AmbiguousBody) as error:
        return repr(error.problems)


@pytest.mark.parametrize("body", EXACT.values(), ids=EXACT.keys())
def test_the_fast_way_to_read_is_exact(body):
    assert _read(strict, body) == _read(read, body)


@pytest.mark.parametrize("seed", range(5))
def test_the_fast_way_reads_any_body_as_the_strict_way_does(seed):
    for each in range(EXAMPLES):
        body = write_mixed([NUMBER, TEXT], seed * EXAMPLES + each, 9)
        assert _read(strict, body) == _read(read, body), body


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0dea19. \x00\ufeff', max_size=40).map(str.encode))
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_no_bytes_raise_anything_but_a_refusal(body):
    with suppress(MalformedBody, AmbiguousBody):
        refuse_excess(body, LIMITS)
        strict(body)


def _depth_by_hand(body: bytes) -> int | None:
    """Read byte by byte; None where a backslash outside a string comes first, which no JSON has."""
    depth = deepest = place = 0
    inside = False
    while place < len(body) and depth >= 0:
        sign = body[place : place + 1]
        if inside and sign == b"\\":
            place += 1
        elif sign == b'"':
            inside = not inside
        elif sign == b"\\":
            return deepest if deepest > MAX_DEPTH else None
        elif not inside:
            depth += (sign in b"{[") - (sign in b"}]")
            deepest = max(deepest, depth)
        place += 1
    return deepest


@given(
    st.lists(
        st.sampled_from([b"[", b"{", b"[[[", b"]", b"}", b'"', b'""', b'"\\"', b'"a[\\\\"', b'"]\\\\\\"}"', b",", b"a"])
    )
)
@settings(max_examples=20 * EXAMPLES, derandomize=True, deadline=None)
def test_depth_is_that_of_reading_byte_by_byte(parts):
    body = b"".join(parts)
    try:
        strict(body)
        refused = ""
    except (MalformedBody, AmbiguousBody) as error:
        refused = error.problems[0].message
    depth = _depth_by_hand(body)
    assert depth is None or ("deeper" in refused) == (depth > MAX_DEPTH)


COUNTED = [0, 1, VECTOR_BYTES - 1, VECTOR_BYTES, SLICE_BYTES - 1, SLICE_BYTES, SLICE_BYTES + 1, 3 * SLICE_BYTES + 5]


@pytest.mark.parametrize("size", COUNTED)
@pytest.mark.parametrize("sign", [b"{", b"[", b'"', b",", b"\xff"])
def test_counting_counts(size, sign):
    body = Random(size).randbytes(size)
    assert body.count(sign) == count(body, sign)
    assert size == count(sign * size, sign)


@pytest.mark.parametrize("around", [b"", b" ", b"1" * 399 + b".", b"-", b"e" * 9999, b"\xb2" * 9])
def test_only_digits_in_a_row_are_endless(around):
    digits = b"0123456789" * 40
    assert has_endless_number(around + digits + around)
    assert not has_endless_number(around + b" " + digits[:-1] + b" " + around)
    assert not has_endless_number(around + b" " + digits[:200] + b"_" + digits[201:])


def _many(text: bytes, count: int) -> bytes:
    return b",".join([text] * count)


EXCESS = {
    "an empty body": (b"", MalformedBody),
    "300,000 empty rows": (b'{"instances": [' + _many(b"{}", 300_000) + b"]}", TooManyInstances),
    "8 MiB of empty arrays": (b"[" + _many(b"[]", (8 << 20) // 3 - 1) + b"]", TooManyInstances),
    "60,000 unknown keys": (b"{" + _many(b'"k":1', 60_000) + b"}", BodyTooLarge),
    "unknown keys with brackets": (b"{" + _many(b'"k":[]', 9_000) + _many(b'"k":1', 60_000) + b"}", BodyTooLarge),
    "4,000,000 numbers": (b'{"instances": [' + _many(b"1", 4_000_000) + b"]}", BodyTooLarge),
    "8 MiB of quotes": (b'"' * (8 << 20), BodyTooLarge),
    "100,000 brackets": (b"[" * 100_000, AmbiguousBody),
    "80,000 objects in each other": (b'{"a":' * 80_000, AmbiguousBody),
    "deep nesting before many quotes": (b"[" * 9 + b'"' * 5_000, AmbiguousBody),
}


@pytest.mark.parametrize(("body", "refusal"), EXCESS.values(), ids=EXCESS.keys())
def test_excess_is_refused_before_anything_is_built(body, refusal):
    tracemalloc.start()
    try:
        with pytest.raises(refusal):
            refuse_excess(body, LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_the_limit_of_a_batch_is_said():
    with pytest.raises(TooManyInstances) as refused:
        refuse_excess(b"{}" * 40, Limits.of([NUMBER], 7))
    assert refused.value.problems[0].message == "at most 7 instances are taken at once"


@pytest.mark.parametrize("features", [[NUMBER], [NUMBER] * 300, [NUMBER, TEXT], [TEXT] * 3], ids=len)
@pytest.mark.parametrize("shape", ["one", "batch", "table"])
@pytest.mark.parametrize("count", [1, 50])
def test_the_largest_valid_body_keeps_the_limits(features, shape, count):
    named = [Feature(name=f"f{i}", description="", dtype=f.dtype, values=f.values) for i, f in enumerate(features)]
    row = {f.name: f.values[0] if f.values else 1.5 for f in named}
    body = {
        "one": row,
        "batch": {"instances": [row] * count},
        "table": {"instances": [list(row.values())] * count, "features": list(row)},
    }[shape]
    raw = json.dumps(body).encode()
    assert refuse_excess(raw, Limits.of(named, count)) is None
    assert body == strict(raw)


SLOW = {
    "closing brackets": b"]" * (2 << 20),
    "closing brackets after an object": b'{"a": 1' + b"]" * (2 << 20),
    "escapes": b'"' + b"\\\\" * (1 << 20),
    "escapes in a key": b'{"' + b"\\n" * (1 << 20) + b'": }',
}


@pytest.mark.parametrize("body", SLOW.values(), ids=SLOW.keys())
def test_the_memory_of_a_body_that_cannot_be_read_stays_near_its_size(body):
    tracemalloc.start()
    try:
        with pytest.raises(MalformedBody):
            strict(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(body)


QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
LETTERS = st.text(st.sampled_from('a"\\\u00e9\n {:,[') | st.characters(codec="utf-8"), max_size=40)
VALUES = st.recursive(
    LETTERS | st.integers() | st.floats(allow_nan=False) | st.none(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(LETTERS, inner, max_size=5),
    max_leaves=20,
)


@given(value=VALUES, most=st.integers(2, 60), is_ascii=st.booleans(), indent=st.none() | st.integers(0, 60))
def test_a_long_text_is_found_exactly_where_there_is_one(value, most, is_ascii, indent):
    body = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode()
    longest = max((len(text) - 2 for text in QUOTED.findall(body)), default=0)
    assert has_long_text(body, most) is (longest > most)


AS_LONG = b"a" * LIMITS.text_bytes
LONG = {
    "a value": b'{"x": "%b%b"}',
    "a key": b'{"%b%b": 1}',
    "after many": b'{"x": [' + b'"y", ' * 300 + b'"%b%b"]}',
    "after escapes": b'{"x\\"\\\\": "%b%b"}',
    "after much space": b"{" + b" " * 100_000 + b'"x": "%b%b"}',
    "without an end": b'{"x": "%b%b',
}


@pytest.mark.parametrize("form", LONG.values(), ids=LONG.keys())
def test_a_text_longer_than_any_name_or_value_is_refused_before_it_is_read(form):
    assert refuse_excess(form % (AS_LONG, b""), LIMITS) is None
    with pytest.raises(BodyTooLarge) as refused:
        refuse_excess(form % (AS_LONG, b"a"), LIMITS)
    assert [(p.pointer, p.code) for p in refused.value.problems] == [("", "body_too_large")]


@pytest.mark.parametrize("letter", ["a", "\N{PENGUIN}", "\u00e9"])
def test_the_longest_value_of_a_model_may_be_spelt_with_escapes(letter):
    value = letter * 30_000
    limits = Limits.of([Feature(name="x", description="", dtype="category", values=(value,))], 10)
    body = '{"x": "' + "".join(f"\\u{unit:04x}" for unit in memoryview(value.encode("utf-16-le")).cast("H")) + '"}'
    assert refuse_excess(body.encode(), limits) is None
    assert strict(body.encode()) == {"x": value}
    with pytest.raises(BodyTooLarge):
        refuse_excess(body.encode().replace(b'"}', b'\\u0061"}'), limits)


def test_protocols_take_longer_texts_as_some_are_the_caller_s_own():
    limits = Limits.of_columns([NUMBER] * 4, 10_000)
    assert refuse_excess(b'{"id": "%b"}' % (b"a" * (64 << 10)), limits) is None
    with pytest.raises(BodyTooLarge):
        refuse_excess(b'{"id": "%b"}' % (b"a" * ((64 << 10) + 1)), limits)
