"""A CSV that does not hold what the spec says is refused in one line that names file, line and column."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from model import dataset, spec
from model.dataset import Dataset
from model.domain import ConfusedUnit
from model.errors import DataError, SpecError
from tests.unit.model import toy


def load(folder: Path, change=None, raw=None, **options) -> Dataset:
    """Write the toy data, change its lines or bytes, and load it."""
    path = toy.write(folder, **options)
    csv = folder / "toy.csv"
    if change is not None:
        csv.write_text("\n".join(change(csv.read_text().splitlines())) + "\n")
    if raw is not None:
        csv.write_bytes(raw(csv.read_bytes()))
    return dataset.load(spec.load(path))


def cell(line: int, column: int, text: str):
    """Return a change of one cell; `line` counts from 1, the header."""

    def change(lines: list[str]) -> list[str]:
        cells = lines[line - 1].split(",")
        cells[column] = text
        lines[line - 1] = ",".join(cells)
        return lines

    return change


def column(index: int, text):
    """Return a change of a whole column, `text` being a word or a function of the row's number."""

    def change(lines: list[str]) -> list[str]:
        for row in range(1, len(lines)):
            cells = lines[row].split(",")
            cells[index] = text if isinstance(text, str) else text(row)
            lines[row] = ",".join(cells)
        return lines

    return change


def test_shipped_penguins_are_the_complete_ones(penguins_data: Dataset):
    assert penguins_data.matrix.shape == (342, 4)
    assert penguins_data.classes == ("Adelie", "Chinstrap", "Gentoo")
    assert penguins_data.dropped_lines == (5, 273)
    assert pytest.approx(penguins_data.matrix[0].tolist()) == [39.1, 18.7, 181, 3750]
    assert penguins_data.lines[:4].tolist() == [2, 3, 4, 6]
    assert np.bincount(penguins_data.labels).tolist() == [151, 68, 123]


def test_columns_are_found_by_name_and_others_ignored(tmp_path):
    found = load(tmp_path, names=("legs", "colour"))

    assert [feature.name for feature in found.features] == ["legs", "colour"]
    assert {0.0, 1.0, 2.0} == set(found.matrix[:, 1].tolist())
    assert "sha256:" + hashlib.sha256((tmp_path / "toy.csv").read_bytes()).hexdigest() == found.digest


def test_nulls_of_nullable_features_are_kept_and_rows_without_label_left_out(tmp_path):
    found = load(tmp_path, cell(9, -1, " "), nullable=True)

    assert np.isnan(found.matrix).any()
    assert found.dropped_lines == (9,)
    assert 149 == len(found.labels) == len(found.lines) == len(found.matrix)


def test_rows_without_a_value_that_must_be_given_are_left_out(tmp_path):
    found = load(tmp_path, lambda lines: cell(9, 0, "")(cell(20, 1, " NA ")(lines)))

    assert found.dropped_lines == (9, 20)
    assert not np.isnan(found.matrix).any()
    assert found.lines[6:8].tolist() == [8, 10]


@pytest.mark.parametrize(
    "raw",
    [
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.replace(b"\n", b"\n\n"),
        lambda raw: raw.replace(b",", b" , "),
        lambda raw: raw.replace(b"kind a", b'"kind a"'),
    ],
    ids=["byte order mark", "carriage returns", "empty lines", "spaces", "quotes"],
)
def test_ordinary_variants_of_csv_read_the_same(tmp_path, raw):
    (tmp_path / "plain").mkdir()
    (tmp_path / "variant").mkdir()

    expected, found = load(tmp_path / "plain"), load(tmp_path / "variant", raw=raw)

    np.testing.assert_array_equal(expected.matrix, found.matrix)
    np.testing.assert_array_equal(expected.labels, found.labels)
    assert expected.classes == found.classes


@pytest.mark.parametrize("mark", ["\u2028", "\x0b", "\x0c", "\x1c", "\x85"], ids=ascii)
def test_only_line_ends_end_lines(tmp_path, mark):
    found = load(tmp_path, raw=lambda raw: raw.replace(b"kind a", f"kind{mark}a".encode()))

    assert f"kind{mark}a" in found.classes
    assert len(found.labels) == 150


def test_line_numbers_count_lines_of_the_file_not_rows(tmp_path):
    found = load(
        tmp_path,
        lambda lines: [lines[0], "", *lines[1:3], '"2\n0"'.replace("\n", "") + ",300,2,red,long,kind a", *lines[3:]],
    )

    assert found.lines[:4].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("10", "9", "2"), ("2", "9", "10")),
        (("b", "a", "10"), ("10", "a", "b")),
        (("B", "a", "C"), ("B", "C", "a")),
        (("²", "1", "3"), ("1", "3", "²")),
    ],
    ids=["whole numbers by value", "mixed as text", "capitals first", "other digits as text"],
)
def test_classes_are_in_order(tmp_path, texts, expected):
    found = load(tmp_path, column(-1, lambda row: texts[row % 3]))

    assert expected == found.classes
    assert [expected.index(texts[row % 3]) for row in range(1, 151)] == found.labels.tolist()


LAST = -1
REFUSED = {
    "missing column": (cell(1, 0, "Size_mm"), 1, "size_mm", "is not in the header, which has: Size_mm, weight_g,"),
    "missing label": (cell(1, LAST, "species"), 1, "kind", "is not in the header"),
    "duplicate header": (cell(1, 3, "legs"), 1, "legs", "stands 2 times in the header"),
    "text in a number": (cell(42, 0, "large"), 42, "size_mm", "'large' is not a number"),
    "thousands separator": (cell(42, 1, "1_000"), 42, "weight_g", "'1_000' is not a number"),
    "infinity": (cell(42, 1, "inf"), 42, "weight_g", "'inf' is not a number"),
    "nan": (cell(42, 1, "nan"), 42, "weight_g", "'nan' is not a number"),
    "too large for a float": (cell(42, 1, "1e999"), 42, "weight_g", "'1e999' is beyond the range of a 64-bit float"),
    "long text is cut": (cell(42, 0, "y" * 200), 42, "size_mm", f"'{'y' * 40}' is not a number"),
    "not a whole number": (cell(42, 2, "2.5"), 42, "legs", "2.5 is not a whole number"),
    "outside the range": (cell(42, 0, "501"), 42, "size_mm", "501 is outside 0 to 500 mm"),
    "wrong unit": (
        cell(42, 0, "3.1"),
        42,
        "size_mm",
        "3.1 is not a plausible size in mm; in centimeters it would be 31",
    ),
    "unknown category": (cell(42, 3, "violet"), 42, "colour", "must be one of red, green, blue"),
    "ragged short": (
        lambda lines: [*lines[:9], lines[9].rpartition(",")[0], *lines[10:]],
        10,
        None,
        "has 5 cells, the header has 6",
    ),
    "ragged long": (
        lambda lines: [*lines[:9], lines[9] + ",x", *lines[10:]],
        10,
        None,
        "has 7 cells, the header has 6",
    ),
    "open quote": (lambda lines: [*lines[:9], '"' + lines[9], *lines[10:]], 10, None, "is not CSV"),
    "too few rows": (lambda lines: lines[:50], None, None, "has 49 usable rows, at least 50 are needed"),
    "no rows": (lambda lines: lines[:1], None, None, "has 0 usable rows"),
    "one class": (column(LAST, "same"), None, "kind", "has only one class, 'same'; two are needed"),
    "regression": (
        column(LAST, lambda row: f"{row * 0.37:.2f}"),
        None,
        "kind",
        "has 150 different numbers: regression is not supported, only classes",
    ),
    "rare class": (cell(42, LAST, "rare"), None, "kind", "class 'rare' has 1 rows, fewer than the 3 folds"),
    "constant number": (column(2, "4"), None, "legs", "has the same value in every row; remove it from the spec"),
    "constant category": (column(3, "red"), None, "colour", "has the same value in every row"),
}
NAMES = ("size_mm", "weight_g", "legs", "colour")


@pytest.mark.parametrize(("change", "line", "name", "reason"), REFUSED.values(), ids=REFUSED)
def test_wrong_data_is_refused_with_its_place(tmp_path, change, line, name, reason):
    with pytest.raises(DataError) as caught:
        load(tmp_path, change, names=NAMES)

    found = caught.value
    assert (line, name) == (found.line, found.column)
    assert reason in found.reason
    place = f"{tmp_path / 'toy.csv'}" + ("" if line is None else f":{line}")
    assert f"{place}: " + ("" if name is None else f'column "{name}": ') + found.reason == str(found)
    assert len(str(found).splitlines()) == 1


def test_column_of_nulls_only_is_refused(tmp_path):
    with pytest.raises(DataError, match='column "legs": has the same value in every row'):
        load(tmp_path, column(2, ""), nullable=True)


def test_many_classes_with_names_are_no_regression(tmp_path):
    found = load(tmp_path, column(-1, lambda row: f"group {row % 25}"))

    assert len(found.classes) == 25


def test_many_rows_of_few_numbers_are_no_regression(tmp_path):
    found = load(tmp_path, column(-1, lambda row: str(row % 15)))

    assert tuple(map(str, range(15))) == found.classes


@pytest.mark.parametrize(
    ("raw", "line"), [(lambda raw: raw.replace(b"red", b"r\xe9d", 1), None), (lambda raw: b"\xff" + raw, 1)]
)
def test_what_is_not_utf_8_is_refused(tmp_path, raw, line):
    with pytest.raises(DataError, match="is not UTF-8 text") as caught:
        load(tmp_path, raw=raw)

    assert caught.value.line is not None
    assert caught.value.line >= 1
    assert line in (None, caught.value.line)


@pytest.mark.parametrize("raw", [b"", b"\n\n"], ids=["nothing", "empty lines"])
def test_empty_file_is_refused(tmp_path, raw):
    with pytest.raises(DataError, match="is empty; the first line must name the columns"):
        load(tmp_path, raw=lambda _: raw)


def test_missing_file_is_refused(tmp_path):
    path = toy.write(tmp_path)
    (tmp_path / "toy.csv").unlink()

    with pytest.raises(DataError, match=r"toy\.csv: cannot be read: No such file or directory$"):
        dataset.load(spec.load(path))


def units(folder: Path, unit: str, symbols: list[str]) -> tuple[ConfusedUnit, ...]:
    path = toy.write(folder)
    text = path.read_text().replace('unit = "mm"', f"unit = '{unit}'")
    path.write_text(text.replace('confused_with = ["cm", "in"]', f"confused_with = {symbols!r}"))
    return dataset.resolve_units(spec.load(path), 0).confused_units


@pytest.mark.parametrize(
    ("unit", "symbol", "expected"),
    [
        ("mm", "cm", ConfusedUnit("cm", "centimeters", 10.0)),
        ("mm", "in", ConfusedUnit("in", "inches", 25.4)),
        ("mm", "ft", ConfusedUnit("ft", "feet", 304.8)),
        ("g", "lb", ConfusedUnit("lb", "pounds", 453.59237)),
        ("degC", "degF", ConfusedUnit("degF", "degrees Fahrenheit", 0.555555555556, -17.7777777778)),
        ("degF", "degC", ConfusedUnit("degC", "degrees Celsius", 1.8, 32.0)),
        ("degC", "K", ConfusedUnit("K", "kelvins", 1.0, -273.15)),
        ("km/h", "m/s", ConfusedUnit("m/s", "meter / seconds", 3.6)),
    ],
    ids=["cm", "in", "ft", "lb", "degF", "degC", "K", "m/s"],
)
def test_confused_units_are_converted_by_their_definition(tmp_path, unit, symbol, expected):
    assert (expected,) == units(tmp_path, unit, [symbol])


@pytest.mark.parametrize(
    ("unit", "symbol", "reason"),
    [
        ("mm", "foo", "'foo' cannot be converted to 'mm': 'foo' is not defined"),
        ("foo", "mm", "'mm' cannot be converted to 'foo'"),
        ("mm", "kg", "'kg' cannot be converted to 'mm': Cannot convert from 'kilogram'"),
        ("mm", "", "'' cannot be converted to 'mm'"),
        ("mm", "cm *", "'cm *' cannot be converted to 'mm'"),
        ("mm", "1/0", "'1/0' cannot be converted to 'mm'"),
        ("mm", "((", "'((' cannot be converted to 'mm'"),
        ("mW", "dBm", "'dBm' is not a linear scale of 'mW'"),
    ],
    ids=["unknown", "unknown own unit", "another kind", "empty", "half", "division by zero", "brackets", "decibel"],
)
def test_unit_that_cannot_be_converted_is_refused_at_its_line(tmp_path, unit, symbol, reason):
    with pytest.raises(SpecError) as caught:
        units(tmp_path, unit, ["cm", symbol] if unit == "mm" else [symbol])

    assert reason in caught.value.reason
    assert caught.value.reason.startswith("`size_mm`: ")
    assert (tmp_path / "toy.toml").read_text().splitlines()[caught.value.line - 1].startswith("confused_with")
    assert len(str(caught.value).splitlines()) == 1


def test_units_are_resolved_before_the_data_is_read(tmp_path):
    path = toy.write(tmp_path)
    path.write_text(path.read_text().replace('["cm", "in"]', '["foo"]'))
    (tmp_path / "toy.csv").unlink()

    with pytest.raises(SpecError, match="'foo' cannot be converted"):
        dataset.load(spec.load(path))


WORDS = ["None", "NA", "nan", "null", "-", "?", "N/A"]


@pytest.mark.parametrize("word", WORDS)
def test_a_class_may_be_called_like_a_missing_value(tmp_path, word):
    found = load(tmp_path, column(-1, lambda row: [word, "low", "high"][row % 3]), rows=120)

    assert set(found.classes) == {word, "low", "high"}
    assert (len(found.labels), found.dropped) == (120, {})
    assert int((found.labels == found.classes.index(word)).sum()) == 40


@pytest.mark.parametrize("word", WORDS)
def test_words_for_a_missing_label_are_said_and_counted(tmp_path, word):
    path = toy.write(tmp_path, rows=120)
    text = path.read_text().replace('label = "kind"', f'label = {{name = "kind", null = [" {word}"]}}')
    path.write_text(text)
    csv = tmp_path / "toy.csv"
    change = column(-1, lambda row: ["" if row == 3 else f" {word} ", "low", "high"][row % 3])
    csv.write_text("\n".join(change(csv.read_text().splitlines())) + "\n")

    found = dataset.load(spec.load(path))

    assert found.classes == ("high", "low")
    assert {reason: len(lines) for reason, lines in found.dropped.items()} == {
        "kind, the label, is empty": 1,
        f'kind, the label, is "{word}"': 39,
    }
    assert len(found.dropped_lines) == 40


def test_a_rare_class_called_like_a_missing_value_says_how_to_leave_it_out(tmp_path):
    with pytest.raises(DataError, match=r"class 'NA' has 1 rows.* add \[label\] null = \[\"NA\"\]"):
        load(tmp_path, cell(9, -1, "NA"))
    with pytest.raises(DataError, match=r"class 'x' has 1 rows, fewer than the 3 folds$"):
        load(tmp_path, cell(9, -1, "x"))


def test_every_missing_cell_is_counted_by_its_word(tmp_path):
    path = toy.write(tmp_path, names=("size_mm", "colour", "legs"))
    path.write_text(
        path.read_text()
        .replace('licence = "CC0-1.0"', 'licence = "CC0-1.0"\nnull = ["", " ?", "-999"]')
        .replace('values = ["red", "green", "blue"]', 'values = ["red", "green", "blue"]\nnullable = true')
    )
    csv = tmp_path / "toy.csv"
    lines = csv.read_text().splitlines()
    for change in (cell(4, 3, "?"), cell(5, 3, " ? "), cell(6, 3, ""), cell(7, 0, "-999"), cell(8, 2, "?")):
        lines = change(lines)
    csv.write_text("\n".join(lines) + "\n")

    found = dataset.load(spec.load(path))

    assert found.missing == {"colour": {"?": 2, "": 1}}
    assert found.dropped == {'size_mm is "-999"': (7,), 'legs is "?"': (8,)}
    assert int(np.isnan(found.matrix).sum()) == 3
    assert {feature.null for feature in found.features} == {("", "-999", "?")}


def test_a_feature_may_have_words_of_its_own(tmp_path):
    path = toy.write(tmp_path, names=("size_mm", "colour"))
    text = path.read_text().replace('values = ["red", "green", "blue"]', 'values = ["red", "green", "NA"]\nnull = [""]')
    path.write_text(text)
    csv = tmp_path / "toy.csv"
    csv.write_text(csv.read_text().replace("blue", "NA"))

    found = dataset.load(spec.load(path))

    assert (found.dropped, found.missing) == ({}, {})
    assert [feature.null for feature in found.features] == [("", "NA"), ("",)]
    assert 2.0 in found.matrix[:, 1]
