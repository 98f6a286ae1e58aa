"""Writes request bodies of every kind for a model: ordinary ones, odd spellings, and one with each kind of fault."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from random import Random

from model.domain import Feature

SPACES = ("", "", "", " ", "\n", "\t \r\n")
ODD_SPACES = ("\u00a0", "\x0b", "\ufeff", "\u2028", "/**/", ",")
WRONG = (
    '"39.1"',
    "true",
    "null",
    "[]",
    "{}",
    '{"a:b": ":"}',
    "NaN",
    "-Infinity",
    "1e999",
    "01",
    "+1",
    ".5",
    "1.",
    '"\\ud800"',
)
LARGE = ("9007199254740993", str(2**63), str(2**64), str(10**30), "9" * 310, "9" * 401, "123456789e300", "1E-400")
HEAD = re.compile(r'^\s*\{\s*"instances"\s*:\s*\[\s*([\[{])')
NUL_LETTER = "\\u0000"


class Writer:
    """Writes one body; the same random numbers give the same body."""

    def __init__(self, features: Sequence[Feature], random: Random, fault_share: float | None = None) -> None:
        """Choose once whether this body is faultless, so that many are."""
        self._features, self._random = features, random
        self._fault_share = random.choice((0.0, 0.0, 0.02, 0.1)) if fault_share is None else fault_share

    def body(self) -> bytes:
        """Return a body: one instance, a batch of objects, or a batch of arrays."""
        kind = self._random.choice((self._one, self._named, self._positional, self._mixed))
        text = self._space() + kind() + self._space()
        if self._random.random() < 0.5:
            # as nearly everybody writes it, which has a way of its own
            text = HEAD.sub(self._random.choice((r'{"instances":[\1', r'{"instances": [\1')), text)
        raw = text.encode("utf-8", errors="surrogatepass")
        if self._is_faulty(0.3):
            raw = self._damage(raw)
        return raw

    def row(self, *, is_table: bool) -> str:
        """Return one row of a batch, as an array or an object."""
        return self._array(self._features) if is_table else self._one()

    def batch(self, rows: Sequence[str], names: Sequence[str] | None) -> bytes:
        """Return a batch of rows that are written already."""
        return self._envelope(rows, names).encode("utf-8", errors="surrogatepass")

    def _is_faulty(self, weight: float = 1.0) -> bool:
        """Whether a fault happens here."""
        return self._random.random() < self._fault_share * weight

    def _damage(self, raw: bytes) -> bytes:
        """Cut, flip a bit, or encode in another way."""
        place = self._random.randrange(len(raw))
        flipped = raw[:place] + bytes([raw[place] ^ 1 << self._random.randrange(8)]) + raw[place + 1 :]
        utf16 = raw.decode("utf-8", errors="replace").encode("utf-16")
        return self._random.choice((raw[:place], flipped, utf16, b"\xef\xbb\xbf" + raw, raw + b"\x00", raw + b"]"))

    def _space(self) -> str:
        """Return whitespace, sometimes of a kind JSON does not have."""
        return self._random.choice(ODD_SPACES if self._is_faulty(0.2) else SPACES)

    def _one(self) -> str:
        """Return an instance given by name, keys in any order."""
        members = [(feature.name, self._value(feature)) for feature in self._features]
        self._random.shuffle(members)
        if self._is_faulty():
            del members[-1]
        if self._is_faulty():
            members.append(
                (self._random.choice(("island", "a:b", "", "instances", NUL_LETTER)), self._random.choice(WRONG))
            )
        if self._is_faulty():
            members.append(
                (members[0][0] if members else "x", self._random.choice(("1", members[0][1] if members else "1")))
            )
        return self._object(members)

    def _object(self, members: Sequence[tuple[str, str]]) -> str:
        """Return an object with odd spaces, its keys sometimes written with escapes."""
        parts = [f"{self._space()}{self._key(name)}{self._space()}:{self._space()}{text}" for name, text in members]
        return "{" + f"{self._space()},".join(parts) + self._space() + "}"

    def _key(self, name: str) -> str:
        """Return a key as JSON, one letter in ten of them escaped."""
        if name and name != NUL_LETTER and self._random.random() < 0.1:
            place = self._random.randrange(len(name))
            return f'"{name[:place]}\\u{ord(name[place]):04x}{name[place + 1 :]}"'
        return f'"{name}"'

    def _named(self) -> str:
        """Return a batch of objects."""
        return self._envelope([self._one() for _ in range(self._random.randrange(1, 4))])

    def _positional(self) -> str:
        """Return a batch of arrays with columns in any order."""
        columns = list(self._features)
        if self._random.random() < 0.7:
            self._random.shuffle(columns)
        rows = [self._array(columns) for _ in range(self._random.randrange(1, 4))]
        names = [feature.name for feature in columns]
        if self._is_faulty():
            names[self._random.randrange(len(names))] = self._random.choice(("island", names[0]))
        if self._is_faulty():
            del names[-1]
        return self._envelope(rows, names)

    def _array(self, columns: Sequence[Feature]) -> str:
        """Return a row as an array, sometimes of the wrong length."""
        values = [self._value(feature) for feature in columns]
        if self._is_faulty():
            values = self._random.choice((values[:-1], [*values, "1"], []))
        return "[" + ",".join(f"{self._space()}{value}" for value in values) + "]"

    def _mixed(self) -> str:
        """Return a batch whose rows are not all of one kind, if this body may have a fault at all."""
        if self._fault_share == 0:
            return self._named()
        rows = [self._one(), self._array(self._features), self._random.choice(WRONG)]
        return self._envelope(rows[: self._random.randrange(4)], self._random.choice((None, ["x"])))

    def _envelope(self, rows: Sequence[str], names: Sequence[str] | None = None) -> str:
        """Return what is around the rows."""
        members = [("instances", "[" + f"{self._space()},".join(rows) + self._space() + "]")]
        if names is not None:
            members.append(("features", json.dumps(names)))
        if self._is_faulty():
            extra = ("instances", "[]"), ("features", "null"), ("signature", '"a:b"'), ("features", json.dumps([":"]))
            members.append(self._random.choice(extra))
        self._random.shuffle(members)
        return self._object(members)

    def _value(self, feature: Feature) -> str:
        """Return a value of a feature as JSON."""
        if self._is_faulty():
            return self._random.choice((*WRONG, *LARGE))
        if feature.nullable and self._random.random() < 0.3:
            return "null"
        if feature.is_category:
            return json.dumps("peat" if self._is_faulty() else self._random.choice(feature.values))
        return self._number(feature)

    def _number(self, feature: Feature) -> str:
        """Return a number: mostly plausible, sometimes just outside, sometimes in another unit."""
        low, high = feature.plausible
        value = self._random.uniform(low, high)
        if self._is_faulty():
            factors = [1 / unit.factor for unit in feature.confused_units] or [1e3]
            edges = (*feature.hard, feature.hard[0] - 1, feature.hard[1] + 1, low - 0.001, high + 0.001)
            value = self._random.choice((*edges, value * self._random.choice(factors)))
        elif self._random.random() < 0.1:
            value = self._random.choice((low, high))
        if feature.dtype == "int" and not self._is_faulty():
            value = float(round(value))
        return self._spell(float(value))

    def _spell(self, value: float) -> str:
        """Return one of the ways to write a number."""
        if value == 0:
            return self._random.choice(("0", "-0", "0.0", "-0.0", "0e0", "0E+5"))
        spellings = [repr(value), f"{value:.17g}", f"{value:.20e}", f"{value:.5E}", f"{value:.1f}"]
        if value.is_integer():
            spellings += [str(int(value)), f"{int(value)}.0", f"{int(value)}.000e0", f"{int(value)}e0"]
        else:
            spellings.append(repr(value) + "0" if "e" not in repr(value) else repr(value))
        return self._random.choice(spellings)


def write_mixed(features: Sequence[Feature], seed: int, most_rows: int) -> bytes:
    """Return a batch in which unusual rows stand among ordinary ones."""
    random = Random(seed)
    ordinary, odd = (Writer(features, random, share) for share in (0.0, 0.15))
    is_table = random.random() < 0.5
    rows = [
        writer.row(is_table=is_table)
        for writer in random.choices((ordinary, odd), (3, 1), k=random.randint(1, most_rows))
    ]
    return ordinary.batch(rows, [feature.name for feature in features] if is_table else None)


def write_body(features: Sequence[Feature], seed: int) -> bytes:
    """Return the body of a seed."""
    return Writer(features, Random(seed)).body()
