"""Types and ranges are guessed from the cells; what cannot be a feature says what to do."""

from __future__ import annotations

import re

import pytest

from model.columns import Column, guess, guess_label
from model.errors import DataError


def column(*cells: str, name: str = "x_mm") -> Column | str:
    return guess("a.csv", name, [(line, [cell]) for line, cell in enumerate(cells, 2)], 0)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("1.5", "3"), Column("x_mm", "float", "mm", (1.5, 3.0))),
        (("1", "3", "3"), Column("x_mm", "int", "mm", (1.0, 3.0))),
        (("-1e3", ".5", "NA", ""), Column("x_mm", "float", "mm", (-1000.0, 0.5), missing={"NA": 1, "": 1})),
        (("b", "a", "b", "?"), Column("x_mm", "category", values=("b", "a"), missing={"?": 1})),
        (("inf", "1e999", "inf"), Column("x_mm", "category", values=("inf", "1e999"))),
    ],
    ids=["float", "int", "nulls", "category", "not-finite"],
)
def test_the_type_is_guessed(cells, expected):
    assert column(*cells) == expected


@pytest.mark.parametrize(("cells", "reason"), [(("", "NA"), "empty"), (("4", "4"), "the same value in every row")])
def test_a_column_that_says_nothing_is_left_out(cells, reason):
    assert column(*cells) == reason


@pytest.mark.parametrize(
    ("name", "cells", "place", "said"),
    [
        ("bill length (mm)", ("1", "2"), None, "rename it, for example to bill_length_mm"),
        ("features", ("1", "2"), None, "rename it, for example to features_value"),
        ("a", (*map(str, range(8)), "12 mm"), 10, "is '12 mm' where most cells are numbers"),
        ("a", tuple(f"t{i}" for i in range(51)), None, "has 51 different texts"),
        ("id", tuple(map(str, range(100, 160))), None, "only numbers the rows; leave it out: --drop id"),
    ],
    ids=["name", "reserved", "mixed", "free-text", "identifier"],
)
def test_what_cannot_be_a_feature_says_what_to_do(name, cells, place, said):
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        column(*cells, name=name)
    assert (caught.value.line, caught.value.column) == (place, name)


@pytest.mark.parametrize(
    ("seen", "dtype", "plausible", "hard"),
    [
        ((32.1, 59.6), "float", (25, 67), (0, 670)),
        ((0.0, 3.0), "int", (0, 3.8), (0, 38)),
        ((0.0, 1.0), "int", (0, 1), (0, 1)),
        ((-4.0, 6.0), "float", (-6.5, 8.5), (-85, 85)),
        ((1e-9, 2e-9), "float", (7.5e-10, 2.3e-9), (0, 2.3e-8)),
    ],
)
def test_the_ranges_are_wider_than_what_was_seen(seen, dtype, plausible, hard):
    found = Column("x", dtype, seen=seen)
    assert (found.plausible, found.hard) == (pytest.approx(plausible), pytest.approx(hard))


@pytest.mark.parametrize(
    ("header", "label"), [(["a", "Species", "b"], "Species"), (["a", "b", "c"], "c"), (["target ", "b"], "target")]
)
def test_the_label_is_guessed(header, label):
    assert guess_label(header) == label
