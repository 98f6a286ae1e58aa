"""CSV read the same strict way for training and for scoring."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path

import pytest

from model import table
from model.domain import Feature
from model.errors import DataError
from model.table import Table

LENGTH = Feature("length", "a length", "float", "mm", (0, 100), (1, 50), nullable=True)
COUNT = Feature("count", "a count", "int", "", (0, 100), (0, 100))
SEX = Feature("sex", "the sex", "category", values=("female", "male"))


def opened(content: bytes, tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    return table.open_text(str(path))


def read(content: bytes, tmp_path, rows: int = 100):
    with opened(content, tmp_path) as file:
        found = Table("in.csv", file)
        return found.header, list(found.chunks(rows))


@pytest.mark.parametrize(
    ("feature", "cell", "value"),
    [
        pytest.param(LENGTH, "12.5", 12.5, id="number"),
        pytest.param(LENGTH, " 12.5\t", 12.5, id="spaces around"),
        pytest.param(LENGTH, "1e1", 10.0, id="exponent"),
        pytest.param(LENGTH, "NA", None, id="null word"),
        pytest.param(LENGTH, "  ", None, id="blank"),
        pytest.param(COUNT, "3.0", 3.0, id="whole number with a point"),
        pytest.param(SEX, " male", "male", id="category"),
    ],
)
def test_a_good_cell_is_a_value(feature, cell, value):
    assert table.parse("a.csv", 2, feature, cell) == value


@pytest.mark.parametrize(
    ("feature", "cell", "reason"),
    [
        pytest.param(LENGTH, "long", "'long' is not a number", id="text"),
        pytest.param(LENGTH, "1_0", "'1_0' is not a number", id="underscore"),
        pytest.param(LENGTH, "1,5", "'1,5' is not a number", id="decimal comma"),
        pytest.param(LENGTH, "nan", "'nan' is not a number", id="nan"),
        pytest.param(LENGTH, "-inf", "'-inf' is not a number", id="infinity"),
        pytest.param(LENGTH, "1e999", "'1e999' is beyond the range of a 64-bit float", id="beyond float64"),
        pytest.param(LENGTH, "x" * 90, f"'{'x' * 40}' is not a number", id="long text is cut"),
        pytest.param(LENGTH, "100.5", "100.5 is outside 0 to 100 mm", id="range"),
        pytest.param(COUNT, "3.5", "3.5 is not a whole number", id="fraction"),
        pytest.param(SEX, "Male", "must be one of female, male", id="category"),
    ],
)
def test_a_bad_cell_is_refused_with_its_place(feature, cell, reason):
    with pytest.raises(DataError) as caught:
        table.parse("a.csv", 7, feature, cell)

    assert str(caught.value) == f'a.csv:7: column "{feature.name}": {reason}'


def test_columns_are_found_by_name_without_spaces():
    assert table.locate("a.csv", 1, [" b", "a ", "c"], ["a", "b"]) == {"b": 0, "a": 1, "c": 2}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["a", "c"], 'a.csv:3: column "b": is not in the header, which has: a, c'),
        (["a", "b", "b "], 'a.csv:3: column "b": stands 2 times in the header'),
    ],
    ids=["missing", "duplicate"],
)
def test_a_header_that_does_not_fit_is_refused(header, message):
    with pytest.raises(DataError) as caught:
        table.locate("a.csv", 3, header, ["a", "b"])

    assert str(caught.value) == message


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no BOM", "BOM"])
def test_line_ends_and_byte_order_mark_make_no_difference(end, mark, tmp_path):
    content = mark + end.join([b"a,b", b"1,2", b"", b"3,4"])

    assert read(content, tmp_path) == (["a", "b"], [[(2, ["1", "2"]), (4, ["3", "4"])]])


def test_a_record_has_the_line_it_starts_on(tmp_path):
    content = b'\na,b\n1,"two\nlines"\n\n3,"x\r\n\r\ny"\n5,6\n'

    _, chunks = read(content, tmp_path)

    assert chunks == [[(3, ["1", "two\nlines"]), (6, ["3", "x\r\n\r\ny"]), (9, ["5", "6"])]]


def test_rows_come_in_chunks(tmp_path):
    _, chunks = read(b"a\n" + b"1\n" * 7, tmp_path, rows=3)

    assert [len(chunk) for chunk in chunks] == [3, 3, 1]


def test_chunks_of_long_lines_have_fewer_rows(tmp_path):
    cells = ",".join(["x" * 100_000] * 9)
    _, chunks = read(b"a,b,c,d,e,f,g,h,i\n" + f"{cells}\n".encode() * 11, tmp_path)

    assert [len(chunk) for chunk in chunks] == [5, 5, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "in.csv: is empty; the first line must name the columns", id="empty"),
        pytest.param(b"\n\n", "in.csv: is empty; the first line must name the columns", id="only empty lines"),
        pytest.param("größe\n".encode("latin-1"), "in.csv:1: is not UTF-8 text", id="latin-1 header"),
        pytest.param("\na,b\n".encode("utf-16"), "in.csv:1: is not UTF-8 text", id="utf-16"),
        pytest.param(b'a\n"1"2\n', "in.csv:2: is not CSV: ',' expected after '\"'", id="quoting"),
        pytest.param(b'a\n1\n"2\n3\n', "in.csv:3: is not CSV: unexpected end of data", id="open quote"),
        pytest.param(b"a\n" + b"x" * (1 << 20), "in.csv:2: is longer than 1,048,576 characters", id="endless line"),
        pytest.param(
            b"a\n" + b"x" * 200_000, "in.csv:2: is not CSV: field larger than field limit (131072)", id="cell"
        ),
    ],
)
def test_what_is_no_table_is_refused(content, message, tmp_path):
    with pytest.raises(DataError) as caught:
        read(content, tmp_path)

    assert str(caught.value) == message


def test_other_encodings_pass_through_byte_for_byte(tmp_path):
    name = "Größe".encode("latin-1")
    header, [[(_, cells)]] = read(b"a,b\n" + name + b",2\n", tmp_path)

    with table.create(str(tmp_path / "out.csv")) as file:
        file.write(table.csv_text([header, cells]))

    assert (tmp_path / "out.csv").read_bytes() == b"a,b\n" + name + b",2\n"


@pytest.mark.parametrize("name", ["missing.csv", "."], ids=["missing", "folder"])
def test_a_file_that_cannot_be_opened_is_refused(name, tmp_path):
    with pytest.raises(DataError, match="cannot be read: "), table.open_text(str(tmp_path / name)):
        pass


def test_a_file_that_breaks_off_is_refused():
    class Broken(io.StringIO):
        def readline(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(DataError, match=r"^in\.csv: cannot be read: Input/output error$"):
        Table("in.csv", Broken())


def test_a_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "out.csv"
    target.write_text("old")

    with table.create(str(target)) as file:
        file.write("new")
        file.flush()
        assert target.read_text() == "old"

    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_a_file_that_fails_leaves_nothing(tmp_path):
    def fail():
        with table.create(str(tmp_path / "out.csv")) as file:
            file.write("half" * 100_000)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert os.listdir(tmp_path) == []


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "out.csv"
    link.symlink_to(tmp_path / "real" / "out.csv")

    with table.create(str(link)) as file:
        file.write("new")

    assert link.is_symlink()
    assert (tmp_path / "real" / "out.csv").read_text() == "new"


def test_a_device_is_written_not_replaced():
    with table.create("/dev/null") as file:
        file.write("gone")

    assert Path("/dev/null").is_char_device()


def test_what_cannot_be_written_names_the_target(tmp_path):
    target = str(tmp_path / "nowhere" / "out.csv")

    with pytest.raises(OSError, match="No such file") as caught, table.create(target):
        pass

    assert caught.value.filename == target


def test_cells_come_back_as_they_were_written():
    rows = [["a\rb", 'quote "', "two\nlines", "c,d", ""], ["1", "2", "3", "4", "5"]]

    assert list(csv.reader(io.StringIO(table.csv_text(rows), newline=""))) == rows


def test_floats_come_back_as_they_were_written():
    values = [0.1 + 0.2, 1e-300, 5e-324, math.pi, 1.0]

    assert [float(cell) for cell in table.csv_text([values]).split(",")] == values
