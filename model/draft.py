"""A spec for an unknown CSV, before it is written: every column guessed, every guess marked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from model import columns
from model.cells import Record, named
from model.columns import CONFUSED, Column
from model.domain import NULL_WORDS
from model.errors import DataError, ModelError
from model.spec import USUAL_NULL_WORDS
from model.table import Table, locate, open_text

FOLDS = 5

Ask = Callable[[str], str]


@dataclass(frozen=True)
class Draft:
    """A spec before it is written.

    Attributes:
        name: of the model.
        label: the column to be predicted.
        classes: its values with their rows, the most frequent first.
        unlabelled: words for a missing label with their rows, which are left out.
        label_null: words, besides the empty cell, that were said to stand for a missing label.
        features: the columns that are used.
        left_out: the others, with the reason.
        null: words for a value that is not there.
        folds: of cross-validation, no more than the rarest class has rows.
    """

    name: str
    label: str
    classes: Mapping[str, int]
    unlabelled: Mapping[str, int]
    label_null: tuple[str, ...]
    features: tuple[Column, ...]
    left_out: dict[str, str]
    null: tuple[str, ...]
    folds: int

    @property
    def doubtful_classes(self) -> dict[str, int]:
        """Classes with their rows whose name often stands for a missing value."""
        return {name: rows for name, rows in self.classes.items() if name in USUAL_NULL_WORDS}


def draft(path: Path, name: str, label: str | None, dropped: Iterable[str], label_null: Sequence[str] = ()) -> Draft:
    """Read a CSV and guess what it holds.

    Args:
        path: the file.
        name: of the model.
        label: the column to be predicted; None guesses it.
        dropped: columns to leave out.
        label_null: words that stand for a missing label; the empty cell always does.

    Raises:
        DataError: the file, or the label, cannot be used.
        Refused: columns cannot be used, every one with its reason.
    """
    with open_text(str(path)) as file:
        table = Table(str(path), file)
        records = [record for chunk in table.chunks(4096) for record in chunk]
    wanted = label or columns.guess_label(table.header)
    given = dict.fromkeys(dropped, "as you said")
    places = locate(path, table.header_line, table.header, [wanted, *given])
    _refuse_ragged(path, len(table.header), records)
    found, left_out, problems = [], dict(given), []
    for column, position in places.items():
        if column in given or column == wanted:
            continue
        try:
            one = columns.guess(str(path), column, records, position)
        except DataError as error:
            problems.append(error)
            continue
        if isinstance(one, Column):
            found.append(one)
        else:
            left_out[column] = one
    if problems:
        raise Refused(problems)
    if not found:
        raise DataError(str(path), None, None, f"has no column that says anything about {wanted}")
    labels = Counter(cells[places[wanted]].strip() for _, cells in records)
    unlabelled = {word: labels.pop(word) for word in ("", *label_null) if word in labels}
    used = set().union(*(column.missing for column in found))
    null = (*NULL_WORDS, *(word for word in USUAL_NULL_WORDS if word in used - set(NULL_WORDS)))
    folds = max(2, min(FOLDS, min(labels.values(), default=2)))
    classes = dict(labels.most_common())
    return Draft(name, wanted, classes, unlabelled, tuple(label_null), tuple(found), left_out, null, folds)


class Refused(ModelError):
    """Columns that cannot be used, every one with its reason."""

    def __init__(self, problems: Sequence[DataError]) -> None:
        """Keep the problems."""
        super().__init__("\n".join(map(str, problems)))


def with_units(found: Draft, given: dict[str, str], ask: Ask | None) -> Draft:
    """Put in the units that were given, and ask about the others of numbers.

    Raises:
        DataError: a unit is given for a column that is no number.
    """
    numbers = {column.name for column in found.features if column.dtype != "category"}
    for name in given:
        if name not in numbers:
            raise DataError("--unit", None, name, f"is no number of the file; numbers are {', '.join(sorted(numbers))}")

    def settled(column: Column) -> Column:
        if column.name not in numbers:
            return column
        unit = given.get(column.name, column.unit)
        if ask is not None and column.name not in given:
            low, high = column.seen or (0, 0)
            answer = ask(f"{column.name}, {low:g} to {high:g}: unit [{unit or 'none'}]? ").strip()
            unit = answer or unit
        return replace(column, unit=unit)

    features = tuple(settled(column) for column in found.features)
    return replace(found, features=features)


def to_toml(found: Draft, data: str) -> str:
    """Return the spec's text; `data` is the path of the CSV from the spec's folder."""
    left_out = "".join(f"# left out: {name}, {reason}\n" for name, reason in found.left_out.items())
    label = _text(found.label)
    if found.label_null:
        label = f"{{name = {label}, null = [{', '.join(map(_text, found.label_null))}]}}"
    lines = [
        "# Written by `python -m model.init`. What is marked with (guess) comes from the data alone: look at it.",
        f"name = {_text(found.name)}",
        'version = "1"',
        "serial = 1  # only ever grows",
        f"title = {_text(f'{_words(found.label).capitalize()} from {len(found.features)} measurements')}  # (guess)",
        f"label = {label}  # {', '.join(list(found.classes)[:6])}",
        *(f"# (guess) {note}" for note in label_notes(found)),
        "seed = 1",
        'intended_use = "Not written down yet: say who may use this model, and for what."',
        'limits = ["Not written down yet: say where the data are from, and what they lack."]',
        "",
        "[data]",
        f"path = {_text(data)}",
        'source = "Not written down yet."',
        'licence = "Not written down yet."',
        f"null = [{', '.join(map(_text, found.null))}]  # (guess) stands for a missing value",
        "",
        "[split]",
        f"folds = {found.folds}",
        "repeats = 1  # 5 for narrower intervals",
        "",
        "[algorithm]",
        'name = "xgboost"',
        "rounds = 100",
        "",
        "[algorithm.params]",
        "max_depth = 3",
        "learning_rate = 0.1",
        "subsample = 0.8",
        "",
    ]
    return "\n".join(lines) + left_out + "".join(map(_feature, found.features))


def label_notes(found: Draft) -> list[str]:
    """Say which rows have no label, and which class may be a word for a missing one."""
    rows = [f"{count} rows are left out: {found.label} is {named(word)}" for word, count in found.unlabelled.items()]
    return rows + [
        f'{count} rows are of a class called "{name}"; if it stands for a missing label: --label-null "{name}"'
        for name, count in found.doubtful_classes.items()
    ]


def _feature(column: Column) -> str:
    """Return one `[[features]]` table."""
    lines = [
        "",
        "[[features]]",
        f"name = {_text(column.name)}",
        f"description = {_text(_described(column))}  # (guess)",
    ]
    if column.dtype == "category":
        lines += ['dtype = "category"', f"values = [{', '.join(map(_text, column.values))}]"]
    else:
        low, high = column.seen or (0, 0)
        if column.dtype == "int":
            lines.append('dtype = "int"')
        lines += [
            f"unit = {_text(column.unit)}" + ("" if column.unit else "  # which?"),
            f"hard = {_range(column.hard)}  # (guess) outside it a value is refused",
            f"plausible = {_range(column.plausible)}  # (guess) seen: {low:g} to {high:g}",
        ]
        confused = CONFUSED.get(column.unit)
        if confused:
            lines.append(f"# confused_with = {json.dumps(list(confused))}  # once `plausible` is what the field knows")
    if column.nulls:
        lines.append(f"nullable = true  # (guess) missing: {column.missing_text}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """Write a TOML string."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _range(pair: tuple[float, float]) -> str:
    """Write a range."""
    return f"[{pair[0]:g}, {pair[1]:g}]"


def _words(name: str) -> str:
    """Write a column's name as words."""
    return name.replace("_", " ").strip()


def _described(column: Column) -> str:
    """Describe a column by its name without the unit."""
    end = f"_{column.name.rpartition('_')[2]}"
    known = columns.UNITS.get(end[1:].lower()) == column.unit and column.unit and "_" in column.name
    return _words(column.name.removesuffix(end) if known else column.name).capitalize()


def _refuse_ragged(path: Path, width: int, records: Sequence[Record]) -> None:
    """Refuse a row that is longer or shorter than the header."""
    for line, cells in records:
        if len(cells) != width:
            raise DataError(str(path), line, None, f"has {len(cells)} cells, the header has {width}")
