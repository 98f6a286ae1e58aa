"""Bodies nobody should send: seeded mutations of valid ones, random JSON, and the known tricks."""

from __future__ import annotations

import gzip
import json
import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.faults import fault

ADELIE = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}
NAMES = list(ADELIE)

LIMIT_BYTES = 8 << 20

VALID = [
    json.dumps(ADELIE).encode(),
    json.dumps({"instances": [ADELIE, {**ADELIE, "body_mass_g": 4100.5}, ADELIE]}).encode(),
    json.dumps({"instances": [list(ADELIE.values())] * 3, "features": NAMES}).encode(),
]
QUERIES = ["", "", "", "?on_error=row", "?on_unit=convert", "?explain=true", "?on_error=row&on_unit=convert"]

TOKENS = re.compile(rb'"[^"]*"|[\[\]{}:,]|[^\s\[\]{}:,"]+')
NASTY = [
    *(b"null", b"true", b"false", b"NaN", b"-Infinity", b"1e999", b"-0", b"0", b"1e-400", b"3.91", b"-1", b"1E5"),
    *(b"9" * 400, b"1" + b"0" * 25, b"0.1e1", b"01", b"+1", b".5", b"5.", b"0x1F", b"1_000", b"--1"),
    *(b'"39.1"', b'""', b'"\\ud800"', b'"\\u0000"', b'"bill_length_mm"', b'"instances"', b'"features"', b'"\xff"'),
    *(b"[]", b"{}", b"[[[]]]", b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\x00", b"\xef\xbb\xbf", b"//"),
]

TRICKS = {
    "nothing": b"",
    "100 brackets": b"[" * 100,
    "1,000 brackets": b"[" * 1000,
    "100,000 brackets": b"[" * 100_000,
    "80,000 objects": b'{"a":' * 80_000,
    "100,000 brackets in a field": b'{"bill_length_mm": ' + b"[" * 100_000,
    "100,000 closing brackets": b"]" * 100_000,
    "1 MB of digits": b'{"bill_length_mm": ' + b"9" * 1_000_000 + b"}",
    "1 MB of fraction": b'{"bill_length_mm": 0.' + b"9" * 1_000_000 + b"}",
    "1 MB of exponent": b'{"bill_length_mm": 1e' + b"9" * 1_000_000 + b"}",
    "5,000 digits": b'{"bill_length_mm": ' + b"9" * 5_000 + b"}",
    "1 MB of quotes": b'"' * 1_000_000,
    "1 MB of backslashes": b'"' + b"\\" * 1_000_000,
    "1 MB of escapes": b'{"' + b"\\u0061" * 170_000 + b'": 1}',
    "1 MB of spaces": b" " * 1_000_000,
    "1 MB of commas": b"[" + b"," * 1_000_000,
    "1 MB key": b'{"' + b"k" * 1_000_000 + b'": 1}',
    "10,000 equal keys": b"{" + b'"a": 1, ' * 10_000 + b'"a": 1}',
    "UTF-16": VALID[0].decode().encode("utf-16"),
    "UTF-32": VALID[0].decode().encode("utf-32"),
    "byte order mark": b"\xef\xbb\xbf" + VALID[0],
    "overlong": VALID[0].replace(b"b", b"\xc1\xa2", 1),
    "NUL at the end": VALID[0] + b"\x00",
    "lone surrogate": b'{"\\ud800": 1}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
    "XML bomb": b'<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>',
    "prototype": b'{"__proto__": {"x": 1}, "constructor": 1, "__class__": 1}',
}


@dataclass(frozen=True)
class Refused:
    """A body that is refused, with a body that lacks its fault and is answered 200.

    Attributes:
        control: what is answered, in the same encoding.
        body: what is not.
        status: of the refusal.
        code: of the only problem that it names, empty if that is not looked at.
        encoding: the header Content-Encoding of both, empty for none.
    """

    control: bytes
    body: bytes
    status: int
    code: str = ""
    encoding: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that both are sent with."""
        encoding = {"Content-Encoding": self.encoding} if self.encoding else {}
        return {"Content-Type": "application/json", **encoding}


def ambiguous(body: bytes, control: bytes = VALID[0]) -> Refused:
    """Return a body that could be read in two ways, or in none."""
    return Refused(control, body, 400, "ambiguous")


def number(literal: bytes, status: int = 400, code: str = "ambiguous") -> Refused:
    """Return a body with something else in place of its last number."""
    case = fault(VALID[0], b": 3750}", b": " + literal + b"}")
    return Refused(case.control, case.fault, status, code)


def in_field(literal: bytes) -> Refused:
    """Return a body with something else in place of its first number, and without an end."""
    return ambiguous(VALID[0].partition(b"39.1")[0] + literal)


LONGEST = VALID[0].ljust(LIMIT_BYTES)
MOST_ROWS = json.dumps({"instances": [ADELIE] * 10_000}).encode()

# A2 is depth, A3 numbers, A4 ambiguity
REFUSED = {
    "100 brackets": ambiguous(TRICKS["100 brackets"], VALID[2]),
    "1,000 brackets": ambiguous(TRICKS["1,000 brackets"], VALID[2]),
    "100,000 brackets": ambiguous(TRICKS["100,000 brackets"], VALID[2]),
    "80,000 objects": ambiguous(TRICKS["80,000 objects"], VALID[1]),
    "100,000 brackets in a field": in_field(b"[" * 100_000),
    "number NaN": number(b"NaN"),
    "number Infinity": number(b"Infinity"),
    "number -Infinity": number(b"-Infinity"),
    "number 1e999": number(b"1e999"),
    "number of 400 digits": number(b"9" * 400),
    "number of 5,000 digits": number(b"9" * 5000),
    "number of 1 MB of digits": number(b"9" * 1_000_000),
    "number in words": number(b'"NaN"', 422, "type"),
    "number true": number(b"true", 422, "type"),
    "duplicate key": ambiguous(VALID[0][:-1] + b', "body_mass_g": 3750}'),
    "duplicate key with an escape": ambiguous(VALID[0][:-1] + b', "body\\u005fmass_g": 3750}'),
    "10,000 equal keys": ambiguous(
        b'{"instances": [{}' + b",{}" * 9_000 + b"]," + b'"a": 1, ' * 10_000 + b'"a": 1}', MOST_ROWS
    ),
    "UTF-16": ambiguous(TRICKS["UTF-16"]),
    "UTF-32": ambiguous(TRICKS["UTF-32"]),
    "byte order mark": ambiguous(TRICKS["byte order mark"]),
    "lone surrogate": ambiguous(VALID[0][:-1] + b', "\\udfff": 1}'),
    "NUL": ambiguous(TRICKS["NUL at the end"]),
}

AMPLIFIERS = {
    "300,000 empty rows": Refused(MOST_ROWS, b'{"instances": [{}' + b",{}" * 299_999 + b"]}", 413),
    "8 MiB of []": Refused(LONGEST, b'{"instances": [[]' + b",[]" * ((LIMIT_BYTES - 19) // 3) + b"]}", 413),
    "8 MiB of [ and ]": Refused(LONGEST, b"[]" * (LIMIT_BYTES // 2), 413),
    "60,000 unknown keys": Refused(MOST_ROWS, json.dumps({f"key{i}": i for i in range(60_000)}).encode(), 413),
    "8 MiB of commas": Refused(LONGEST, b"[" + b"," * (LIMIT_BYTES - 1), 413),
    "8 MiB of quotes": Refused(LONGEST, b'"' * LIMIT_BYTES, 413),
    "8 MiB of closing brackets": Refused(LONGEST, b"]" * LIMIT_BYTES, 400),
    "8 MiB of digits": Refused(LONGEST, b'{"body_mass_g": ' + b"9" * (LIMIT_BYTES - 17) + b"}", 400),
    "8 MiB of spaces": Refused(LONGEST, b" " * LIMIT_BYTES, 400),
}

BOMB = gzip.compress(bytes(256 << 20), 1)


def packed(body: bytes, status: int, control: bytes = LONGEST) -> Refused:
    """Return a body in gzip whose control is packed in the same form."""
    return Refused(gzip.compress(control), body, status, encoding="gzip")


def deflated(body: bytes, status: int, control: bytes = LONGEST) -> Refused:
    """Return a body in deflate whose control is packed in the same form."""
    return Refused(zlib.compress(control), body, status, encoding="deflate")


BOMBS = {
    "a gzip bomb of 256 MB": packed(BOMB, 413),
    "a deflate bomb of 64 MB": deflated(zlib.compress(bytes(64 << 20)), 413),
    "a gzip bomb of one byte over": packed(gzip.compress(LONGEST + b" "), 413),
    "8 MiB of [] as gzip": packed(gzip.compress(b"[]" * (LIMIT_BYTES // 2)), 413),
    "300,000 empty rows as deflate": deflated(zlib.compress(b"{}," * 300_000), 413, MOST_ROWS),
    "gzip in gzip": packed(gzip.compress(BOMB), 400),
    "8 MB after gzip": packed(gzip.compress(VALID[0]) + b"x" * 8_000_000, 400, VALID[0]),
    "8 MB that is not gzip": packed(b"x" * 8_000_000, 400),
    "8 MB of empty blocks": deflated(b"\x00\x00\x00\xff\xff" * 1_600_000, 400),
}


def bodies(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Return queries and bodies: every trick once, the rest in equal parts of each kind of mutation."""
    chance = random.Random(seed)
    for trick in TRICKS.values():
        yield chance.choice(QUERIES), trick
    kinds = [truncated, flipped, rewritten, random_body]
    for index in range(count - len(TRICKS)):
        yield chance.choice(QUERIES), kinds[index % len(kinds)](chance)


def truncated(chance: random.Random) -> bytes:
    """Cut a valid body at the end, at the start, or in the middle."""
    body = chance.choice(VALID)
    first, last = sorted(chance.sample(range(len(body) + 1), 2))
    return chance.choice([body[:first], body[last:], body[:first] + body[last:]])


def flipped(chance: random.Random) -> bytes:
    """Flip one to eight bits."""
    body = bytearray(chance.choice(VALID))
    for _ in range(chance.randint(1, 8)):
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return bytes(body)


def rewritten(chance: random.Random) -> bytes:
    """Remove, double, swap or replace one to three tokens."""
    tokens = TOKENS.findall(chance.choice(VALID))
    for _ in range(chance.randint(1, 3)):
        here, there = chance.randrange(len(tokens)), chance.randrange(len(tokens))
        deed = chance.randrange(4)
        if deed == 0 and len(tokens) > 1:
            del tokens[here]
        elif deed == 1:
            tokens.insert(here, tokens[there])
        elif deed == 2:
            tokens[here], tokens[there] = tokens[there], tokens[here]
        else:
            tokens[here] = chance.choice(NASTY)
    return b" ".join(tokens)


def random_body(chance: random.Random) -> bytes:
    """Return well-formed JSON, half of the time with the right names and wrong values."""
    if chance.random() < 0.5:
        value: Any = {name: random_value(chance, 3) for name in NAMES}
        if chance.random() < 0.5:
            value = {"instances": [value, ADELIE]}
    else:
        value = random_value(chance, 0)
    return json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")


def random_value(chance: random.Random, depth: int) -> Any:
    """Return a random JSON value; the deeper, the simpler."""
    kind = chance.randrange(8 if depth < 4 else 6)
    if kind == 0:
        return chance.choice([None, True, False])
    if kind == 1:
        return chance.randint(-(10 ** chance.randint(0, 40)), 10 ** chance.randint(0, 40))
    if kind in (2, 3):
        return chance.choice([1, -1]) * 10 ** chance.uniform(-320, 308)
    if kind == 4:
        return chance.uniform(0, 300)
    if kind == 5:
        return "".join(chr(chance.choice([chance.randrange(128), chance.randrange(0x3000)])) for _ in range(4))
    if kind == 6:
        return [random_value(chance, depth + 1) for _ in range(chance.randrange(5))]
    names = [*NAMES, "instances", "features", "x"]
    return {chance.choice(names): random_value(chance, depth + 1) for _ in range(chance.randrange(5))}
