"""Scores a CSV of any size offline: `python -m model.predict BUNDLE in.csv out.csv`."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TextIO

from tqdm import tqdm

from model import predictor as predictors
from model import verify
from model.command_line import Parser
from model.domain import FloatMatrix
from model.errors import DataError, ModelError
from model.judge import Judge, Verdicts
from model.predictor import Predictor
from model.table import STANDARD, Table, create, csv_text, open_text

CHUNK_ROWS = 4096
SHOWN_MESSAGES = 20

ANSWERED, SOME_BAD, REFUSED, INTERRUPTED = 0, 1, 2, 130

HELP_END = """\
output columns: every input column, then prediction, label, one probability_<class> per class, prediction_set (classes
joined by ;), novelty, is_novel, converted, error. A bad row has its problems in error and no answer; converted names
the values that were read in another unit. Numbers are written so that reading them back gives the same float64.

exit status: 0 every row was answered; 1 some rows were bad; 2 wrong usage, bundle, header or file, no file was written;
130 or 143 interrupted, no file was written.

example: python -m model.predict bundles/penguins/$(cat bundles/penguins/current) in.csv out.csv
"""


class Notices:
    """Prints the first messages of one kind, and counts all."""

    def __init__(self, path: str, noun: str) -> None:
        """Begin with none; `noun` is what they are called in the count."""
        self._path, self._noun, self.count = path, noun, 0

    def show(self, message: DataError) -> None:
        """Print a message as `file:line: column "name": reason` if not too many have been printed."""
        self.count += 1
        if self.count <= SHOWN_MESSAGES:
            tqdm.write(str(message), file=sys.stderr)

    def close(self) -> None:
        """Say how many were not printed."""
        if self.count > SHOWN_MESSAGES:
            print(f"{self._path}: {self.count - SHOWN_MESSAGES} more {self._noun}", file=sys.stderr)


class Scoring:
    """One run over one table."""

    def __init__(self, predictor: Predictor, table: Table, judge: Judge) -> None:
        """Check that input and output columns can stand side by side.

        Raises:
            DataError: an input column has the name of an output column.
        """
        self._predictor, self._table, self._judge = predictor, table, judge
        self._classes = predictor.manifest.classes
        probabilities = [f"probability_{name}" for name in self._classes]
        self.columns = [
            "prediction",
            "label",
            *probabilities,
            "prediction_set",
            "novelty",
            "is_novel",
            "converted",
            "error",
        ]
        for name in table.header:
            if name.strip() in self.columns:
                reason = "is the name of an output column, too; rename it in the input"
                raise DataError(table.path, table.header_line, name.strip(), reason)
        self._problems = Notices(table.path, "problems")
        self._conversions = Notices(table.path, "converted values")
        self.answered = self.bad = 0

    def run(self, output: IO[str], bad_rows: IO[str] | None, advance: Callable[[int], object]) -> None:
        """Answer every row.

        Args:
            output: gets the answers.
            bad_rows: gets the bad rows as they came.
            advance: told the number of rows after each chunk.

        Raises:
            DataError: the input cannot be read to its end.
        """
        header, width = self._table.header, len(self._table.header)
        output.write(csv_text([[*header, *self.columns]]))
        if bad_rows is not None:
            bad_rows.write(csv_text([header]))
        nothing = [""] * (len(self.columns) - 1)
        for rows in self._table.chunks(CHUNK_ROWS):
            verdicts = self._judge.judge(rows)
            answers = self._answers(verdicts.matrix)
            written: list[list[object]] = []
            for index, (_, cells) in enumerate(rows):
                if index in verdicts.problems:
                    padded = (cells + [""] * width)[:width]
                    written.append([*padded, *nothing, _in_one_cell(verdicts.problems[index])])
                else:
                    converted = _in_one_cell(verdicts.conversions.get(index, ()))
                    written.append([*cells, *next(answers), converted, ""])
            output.write(csv_text(written))
            if bad_rows is not None:
                bad_rows.write(csv_text(rows[index][1] for index in verdicts.problems))
            self._tell(verdicts)
            self.answered += len(verdicts.matrix)
            self.bad += len(verdicts.problems)
            advance(len(rows))
        self._problems.close()
        self._conversions.close()

    @property
    def summary(self) -> str:
        """What became of the rows."""
        converted = f", {self._conversions.count:,} values converted" if self._conversions.count else ""
        return f"{self.answered:,} rows answered, {self.bad:,} bad{converted}"

    @property
    def counts(self) -> dict[str, int]:
        """The same for a program."""
        return {"answered": self.answered, "bad": self.bad, "converted_values": self._conversions.count}

    def _answers(self, matrix: FloatMatrix) -> Iterator[list[object]]:
        """Yield what is answered of each row of a matrix; the engine runs when the first one is asked for."""
        found = self._predictor.predict(matrix)
        columns = (found.classes, found.probabilities, found.sets, found.novelty, found.is_novel)
        for top, probabilities, members, novelty, is_novel in zip(*(c.tolist() for c in columns), strict=True):
            together = ";".join(itertools.compress(self._classes, members))
            novel = "true" if is_novel else "false"
            yield [top, self._classes[top], *probabilities, together, novelty, novel]

    def _tell(self, verdicts: Verdicts) -> None:
        """Report one chunk's problems and conversions."""
        for problem in itertools.chain.from_iterable(verdicts.problems.values()):
            self._problems.show(problem)
        for conversion in itertools.chain.from_iterable(verdicts.conversions.values()):
            self._conversions.show(conversion)


def _in_one_cell(problems: Sequence[DataError]) -> str:
    """Return the problems of a row without their place."""
    return "; ".join(p.reason if p.column is None else f'column "{p.column}": {p.reason}' for p in problems)


def _parser() -> Parser:
    """Describe the command line."""
    parser = Parser(
        prog="python -m model.predict",
        description="Answer every row of a CSV with a verified bundle, proven on its golden rows before the first row.",
        epilog=HELP_END,
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the bundle folder")
    parser.add_argument("input", metavar="in.csv", help="UTF-8 CSV with a header, columns in any order; - is stdin")
    parser.add_argument("output", metavar="out.csv", help="written whole or not at all; - is stdout, written at once")
    parser.add_argument("--digest", metavar="sha256:...", help="refuse any other bundle than this one")
    parser.add_argument("--engine", choices=["tables", "onnx", "xgboost"], help="default: what the manifest says")
    parser.add_argument(
        "--on-unit",
        choices=["refuse", "convert"],
        default="refuse",
        help="a value that makes sense only in another unit makes its row bad (refuse, the default), or is converted "
        "where only one reading of the row is possible, and reported on stderr",
    )
    parser.add_argument(
        "--null",
        metavar="WORD",
        action="append",
        type=str.strip,
        help='a cell that means "not given"; may be repeated (default: what the model was trained with)',
    )
    parser.add_argument(
        "--bad-rows", metavar="PATH", help="write the bad rows as they came, under the input's header, to be mended"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout, instead of on stderr")
    return parser


def _refuse_same_file(given: argparse.Namespace) -> None:
    """Raise DataError where two of input, output, bad rows and summary are the same file, or all stdout."""
    written = [path for path in (given.output, given.bad_rows) if path is not None]
    if given.json and STANDARD in written:
        raise DataError("--json", None, None, "prints to stdout, where the rows go; give them a file")
    real = [path if path == STANDARD else os.path.realpath(path) for path in written]
    if len(set(real)) < len(real):
        raise DataError(given.bad_rows, None, None, "is the output; the bad rows need a file of their own")
    if given.input != STANDARD and os.path.realpath(given.input) in real:
        raise DataError(given.input, None, None, "is the input; it is not written over")


def _run(given: argparse.Namespace, clock: Callable[[], float]) -> int:
    """Do what the arguments say; returns the exit status."""
    _refuse_same_file(given)
    bundle = verify.read(given.bundle, given.digest)
    predictor = predictors.load(bundle, given.engine)
    null = None if given.null is None else tuple(given.null)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_text(given.input))
        table = Table("stdin" if given.input == STANDARD else given.input, file)
        scoring = Scoring(predictor, table, Judge(predictor, table, null, given.on_unit == "convert"))
        output = stack.enter_context(create(given.output))
        bad_rows = None if given.bad_rows is None else stack.enter_context(create(given.bad_rows))
        start_seconds = clock()
        with _progress(file) as advance:
            scoring.run(output, bad_rows, advance)
    seconds = clock() - start_seconds
    if given.json:
        named = {"input": given.input, "output": given.output, "bad_rows": given.bad_rows}
        print(json.dumps({**named, "digest": bundle.digest, **scoring.counts, "seconds": round(seconds, 3)}))
    else:
        rate = (scoring.answered + scoring.bad) / max(seconds, 1e-9)
        print(f"{table.path}: {scoring.summary}, {seconds:.2f} s, {rate:,.0f} rows/s", file=sys.stderr)
    return SOME_BAD if scoring.bad else ANSWERED


@contextlib.contextmanager
def _progress(file: TextIO) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal: bytes of a file, rows of a stream; gives what is to be called with rows done."""
    status = os.fstat(file.fileno())
    is_quiet = not sys.stderr.isatty()
    if not stat.S_ISREG(status.st_mode):
        with tqdm(unit="row", unit_scale=True, disable=is_quiet) as bar:
            yield bar.update
        return
    with tqdm(total=status.st_size, unit="B", unit_scale=True, disable=is_quiet) as bar:
        yield lambda _: bar.update(file.buffer.tell() - bar.n)


def main(arguments: Sequence[str] | None = None, clock: Callable[[], float] = time.monotonic) -> int:
    """Run the command; returns the exit status, see `HELP_END`."""
    given = _parser().parse_args(arguments)
    try:
        return _run(given, clock)
    except ModelError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or 'the output'} cannot be written: {error.strerror}"
    except KeyboardInterrupt:
        return _interrupted()
    except RuntimeError as error:
        # a signal while the progress bar takes its lock ends in a complaint about the lock
        if isinstance(error.__context__, SystemExit):
            raise error.__context__ from None
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        return _interrupted()
    print(f"error: {message}", file=sys.stderr)
    return REFUSED


def _interrupted() -> int:
    """Say that a person ended it."""
    print("error: interrupted, no file was written", file=sys.stderr)
    return INTERRUPTED


if __name__ == "__main__":
    # a container is told to stop by SIGTERM: leave through the blocks that take away what is half written
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
