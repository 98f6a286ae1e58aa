"""Reads CSV records and their cells: the one reading that training, batch scoring and the service share."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator

from model.domain import Feature

# more digits than any float64 needs; reading them takes time that grows with their number
MAX_NUMBER_CHARACTERS = 400

# Python's own reading of a number also takes 1_000, digits of other scripts, nan and infinity
DECIMAL = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)

Record = tuple[int, list[str]]


def records(lines: Iterable[str]) -> Iterator[Record]:
    """Yield the records of a CSV (RFC 4180), each with the line it starts on; empty lines are none.

    Args:
        lines: the file's lines with their ends as they stand there.

    Raises:
        NotCsv: it is not CSV.
    """
    reader = csv.reader(lines, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise NotCsv(line, str(error)) from error


class NotCsv(Exception):
    """Text that is not CSV from some line on."""

    def __init__(self, line: int, reason: str) -> None:
        """Say from which line on, and why."""
        super().__init__(reason)
        self.line, self.reason = line, reason


def read(feature: Feature, cell: str) -> float | str | None:
    """Read one cell as a value of its feature; spaces around it do not count, quotation marks make no difference.

    Returns:
        None for a word that stands for missing, else a finite number or the text of a category. Whether it is whole
        or inside the domain is for `model.domain.check` and the schema.

    Raises:
        ValueError: a number was wanted, and the cell holds something else.
        OverflowError: the number is beyond the range of a 64-bit float.
    """
    text = cell.strip()
    if feature.is_null_word(text):
        return None
    return text if feature.is_category else number(text)


def named(word: str) -> str:
    """Return a word for a missing value as messages write it."""
    return f'"{word}"' if word else "empty"


def number(text: str) -> float:
    """Read a decimal number in ASCII digits: `12`, `+5`, `.5`, `5.`, `1e5`.

    Raises:
        ValueError: it is something else.
        OverflowError: it is beyond the range of a 64-bit float.
    """
    if len(text) > MAX_NUMBER_CHARACTERS or DECIMAL.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is not a number")
    value = float(text)
    if not math.isfinite(value):
        raise OverflowError(f"{text[:40]!r} is beyond the range of a 64-bit float")
    return value
