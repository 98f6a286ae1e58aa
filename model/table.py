"""Reads CSV the same strict way for training and for scoring, and writes it whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TextIO

from model import cells
from model.cells import Record
from model.domain import Feature, Value, check
from model.errors import DataError

# a longer line is no table; without an end a whole device would be read into memory
MAX_LINE_CHARACTERS = 1 << 20
MAX_CHUNK_CHARACTERS = 1 << 22

# the name of stdin and stdout on a command line
STANDARD = "-"


class Table:
    """A CSV read as a stream: the header at once, the rows in chunks, in constant memory.

    Attributes:
        path: what messages call the file.
        header: the names as they stand in the file, with any spaces around them.
        header_line: 1-based line the header starts on; empty lines may stand before it.
    """

    def __init__(self, path: str, file: IO[str]) -> None:
        """Read the header.

        Args:
            path: what messages call the file.
            file: UTF-8 without a byte order mark, opened with `newline=""` and `errors="surrogateescape"`, so that
                bytes of another encoding in columns nobody asks for pass through as they are.

        Raises:
            DataError: the file is empty, cannot be read, or its header is not UTF-8 CSV.
        """
        self.path = path
        self._file = file
        self._characters = 0
        self._records = self._read()
        first = next(self._records, None)
        if first is None:
            raise DataError(path, None, None, "is empty; the first line must name the columns")
        self.header_line, self.header = first
        if any("\0" in name or not _is_unicode(name) for name in self.header):
            raise DataError(path, self.header_line, None, "is not UTF-8 text")

    def chunks(self, rows: int) -> Iterator[list[Record]]:
        """Yield the rows, each with the line it starts on, in lists of at most `rows`, fewer where lines are long.

        Raises:
            DataError: the file cannot be read, or is not CSV from some line on.
        """
        chunk: list[Record] = []
        end = self._characters + MAX_CHUNK_CHARACTERS
        for record in self._records:
            chunk.append(record)
            if len(chunk) == rows or self._characters >= end:
                yield chunk
                chunk = []
                end = self._characters + MAX_CHUNK_CHARACTERS
        if chunk:
            yield chunk

    def _read(self) -> Iterator[Record]:
        """Yield every record that is not an empty line."""
        try:
            yield from cells.records(self._lines())
        except cells.NotCsv as error:
            raise DataError(self.path, error.line, None, f"is not CSV: {error.reason}") from error
        except OSError as error:
            raise DataError(self.path, None, None, f"cannot be read: {error.strerror}") from error

    def _lines(self) -> Iterator[str]:
        """Yield the lines with their ends, refusing one that does not end."""
        number = 0
        while line := self._file.readline(MAX_LINE_CHARACTERS):
            number += 1
            self._characters += len(line)
            if len(line) == MAX_LINE_CHARACTERS:
                raise DataError(self.path, number, None, f"is longer than {MAX_LINE_CHARACTERS:,} characters")
            yield line


def locate(path: Path | str, line: int, header: Sequence[str], wanted: Sequence[str]) -> dict[str, int]:
    """Return the position of each column of a header by its name without spaces around it.

    Raises:
        DataError: a name stands there twice, or a wanted one does not.
    """
    names = [name.strip() for name in header]
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(str(path), line, name, f"stands {count} times in the header")
    for name in wanted:
        if name not in names:
            raise DataError(str(path), line, name, f"is not in the header, which has: {', '.join(names)}")
    return {name: index for index, name in enumerate(names)}


def parse(path: Path | str, line: int, feature: Feature, cell: str) -> Value:
    """Read one cell as a value of its feature that the model may be given.

    Returns:
        None for a null word, else a number or the text of a category.

    Raises:
        DataError: the cell holds something the model must not be given.
    """
    value = read_cell(path, line, feature, cell)
    violation = None if value is None else check(feature, value)
    if violation is not None:
        raise DataError(str(path), line, feature.name, violation.message)
    return value


def read_cell(path: Path | str, line: int, feature: Feature, cell: str) -> float | str | None:
    """Read one cell as a value of the right type; whether it is inside the domain is for `model.domain.check`.

    Returns:
        None for a null word, else a finite number or the text of a category.

    Raises:
        DataError: a number was wanted, and the cell holds something else.
    """
    try:
        value = cells.read(feature, cell)
    except (ValueError, OverflowError) as error:
        raise DataError(str(path), line, feature.name, str(error)) from error
    if feature.dtype == "int" and isinstance(value, float) and value != int(value):
        raise DataError(str(path), line, feature.name, f"{cell.strip()[:40]} is not a whole number")
    return value


@contextlib.contextmanager
def open_text(path: str) -> Iterator[TextIO]:
    """Open a CSV, or stdin for `-`, the way `Table` needs it.

    Raises:
        DataError: the file cannot be opened.
    """
    try:
        # utf-8-sig takes away the byte order mark that Excel writes
        file = open(  # noqa: SIM115 - closed below, outside of what is caught here
            0 if path == STANDARD else path,
            encoding="utf-8-sig",
            errors="surrogateescape",
            newline="",
            closefd=path != STANDARD,
        )
    except OSError as error:
        raise DataError(path, None, None, f"cannot be read: {error.strerror}") from error
    with file:
        yield file


@contextlib.contextmanager
def create(path: str) -> Iterator[IO[str]]:
    """Write a file that appears when the block ends without an error; until then nothing is at `path`, or the old file.

    `-` is stdout; stdout, pipes and devices are written as the text comes.

    Raises:
        OSError: the file cannot be opened, `filename` is then `path`, or cannot be written to its end.
    """
    target = Path(path).resolve()
    is_stream = path == STANDARD or (target.exists() and not target.is_file())
    part = target.with_name(f".predict-{secrets.token_hex(8)}.part")
    try:
        with _open_new(path, None if is_stream else part) as file:
            yield file
            file.flush()
            if not is_stream:
                os.fsync(file.fileno())
        if not is_stream:
            os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV lines that end in a line feed; a float is written so that reading it gives it back."""
    rows = list(rows)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    if "\r" in buffer.getvalue():
        # Python before 3.13 leaves a lone carriage return unquoted, which would end the line for a reader
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return buffer.getvalue()


def _open_new(path: str, part: Path | None) -> IO[str]:
    """Open what is written in place of `path`: a new file, or without one the device `path`, or stdout for `-`."""
    place: str | int | Path = part or (1 if path == STANDARD else path)
    mode = "x" if part else "w"
    try:
        return open(place, mode, encoding="utf-8", errors="surrogateescape", newline="", closefd=place != 1)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _is_unicode(text: str) -> bool:
    """Whether a text read with `surrogateescape` was UTF-8 in the file."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
