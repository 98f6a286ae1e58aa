"""Bodies nobody should send: seeded mutations of valid ones, random JSON, and the known tricks."""

from __future__ import annotations

import gzip
import json
import random
import re
import zlib
from collections.abc import Iterator
from typing import Any

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


# A2 is depth, A3 numbers, A4 ambiguity
REFUSED = {
    "100 brackets": (TRICKS["100 brackets"], "ambiguous"),
    "1,000 brackets": (TRICKS["1,000 brackets"], "ambiguous"),
    "100,000 brackets": (TRICKS["100,000 brackets"], "ambiguous"),
    "80,000 objects": (TRICKS["80,000 objects"], "ambiguous"),
    "100,000 brackets in a field": (TRICKS["100,000 brackets in a field"], "ambiguous"),
    **{
        f"number {name}": (json.dumps({**ADELIE, "body_mass_g": "@"}).encode().replace(b'"@"', literal), code)
        for name, literal, code in [
            ("NaN", b"NaN", "ambiguous"),
            ("Infinity", b"Infinity", "ambiguous"),
            ("-Infinity", b"-Infinity", "ambiguous"),
            ("1e999", b"1e999", "ambiguous"),
            ("of 400 digits", b"9" * 400, "ambiguous"),
            ("of 5,000 digits", b"9" * 5000, "ambiguous"),
            ("of 1 MB of digits", b"9" * 1_000_000, "ambiguous"),
            ("in words", b'"NaN"', "type"),
            ("true", b"true", "type"),
        ]
    },
    "duplicate key": (VALID[0][:-1] + b', "body_mass_g": 3750}', "ambiguous"),
    "duplicate key with an escape": (VALID[0][:-1] + b', "body\\u005fmass_g": 3750}', "ambiguous"),
    "10,000 equal keys": (
        b'{"instances": [{}' + b",{}" * 9_000 + b"]," + b'"a": 1, ' * 10_000 + b'"a": 1}',
        "ambiguous",
    ),
    "UTF-16": (TRICKS["UTF-16"], "ambiguous"),
    "UTF-32": (TRICKS["UTF-32"], "ambiguous"),
    "byte order mark": (TRICKS["byte order mark"], "ambiguous"),
    "lone surrogate": (VALID[0][:-1] + b', "\\udfff": 1}', "ambiguous"),
    "NUL": (TRICKS["NUL at the end"], "ambiguous"),
}

AMPLIFIERS = {
    "300,000 empty rows": (b'{"instances": [{}' + b",{}" * 299_999 + b"]}", 413),
    "8 MiB of []": (b'{"instances": [[]' + b",[]" * ((LIMIT_BYTES - 19) // 3) + b"]}", 413),
    "8 MiB of [ and ]": (b"[]" * (LIMIT_BYTES // 2), 413),
    "60,000 unknown keys": (json.dumps({f"key{i}": i for i in range(60_000)}).encode(), 413),
    "8 MiB of commas": (b"[" + b"," * (LIMIT_BYTES - 1), 413),
    "8 MiB of quotes": (b'"' * LIMIT_BYTES, 413),
    "8 MiB of closing brackets": (b"]" * LIMIT_BYTES, 400),
    "8 MiB of digits": (b'{"body_mass_g": ' + b"9" * (LIMIT_BYTES - 17) + b"}", 400),
    "8 MiB of spaces": (b" " * LIMIT_BYTES, 400),
}

BOMB = gzip.compress(bytes(256 << 20), 1)
BOMBS = {
    "a gzip bomb of 256 MB": ("gzip", BOMB, 413),
    "a deflate bomb of 64 MB": ("deflate", zlib.compress(bytes(64 << 20)), 413),
    "a gzip bomb of one byte over": ("gzip", gzip.compress(b" " * (LIMIT_BYTES + 1)), 413),
    "8 MiB of [] as gzip": ("gzip", gzip.compress(b"[]" * (LIMIT_BYTES // 2)), 413),
    "300,000 empty rows as deflate": ("deflate", zlib.compress(b"{}," * 300_000), 413),
    "gzip in gzip": ("gzip", gzip.compress(BOMB), 400),
    "8 MB after gzip": ("gzip", gzip.compress(b"{}") + b"x" * 8_000_000, 400),
    "8 MB that is not gzip": ("gzip", b"x" * 8_000_000, 400),
    "8 MB of empty blocks": ("deflate", b"\x00\x00\x00\xff\xff" * 1_600_000, 400),
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
