"""What one value of a feature may be."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from model.domain import (
    ConfusedUnit,
    Ordinary,
    Reading,
    Violation,
    check,
    number_text,
    one_hot,
    plausible_bounds,
    to_matrix,
    unit_message,
)
from tests.unit.model.toy import category, number

CM = ConfusedUnit(symbol="cm", name="centimeters", factor=10.0)
INCH = ConfusedUnit(symbol="in", name="inches", factor=25.4)
FAHRENHEIT = ConfusedUnit(symbol="degF", name="degrees Fahrenheit", factor=5 / 9, offset=-160 / 9)
SIZE = number(confused_units=(CM, INCH))
COLOUR = category("red", "green", "blue")


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [(CM, 3.9, 39.0), (INCH, 2.0, 50.8), (FAHRENHEIT, 212.0, 100.0), (FAHRENHEIT, 32.0, 0.0)],
    ids=["factor", "inches", "offset", "zero"],
)
def test_unit_is_converted_with_factor_and_offset(unit, value, expected):
    assert pytest.approx(expected, abs=1e-12) == unit.convert(value)


def test_a_conversion_too_small_for_a_float_keeps_its_sign():
    small = ConfusedUnit(symbol="mm", name="millimeters", factor=0.1)

    assert small.convert(-5e-324) < 0 < small.convert(5e-324)
    assert small.convert(0.0) == 0.0


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("bill_depth_mm", "mm", "bill depth in mm"),
        ("bill_depth", "mm", "bill depth in mm"),
        ("legs", "", "legs"),
        ("mm", "mm", "mm in mm"),
        ("mass_KG", "kg", "mass in kg"),
    ],
    ids=["unit in name", "unit not in name", "no unit", "only a unit", "other case"],
)
def test_feature_in_words(name, unit, expected):
    assert expected == number(name, unit=unit).words


@pytest.mark.parametrize("value", [10, 10.0, 39.1, 90, 0, 9.5, 120, 500], ids=lambda value: f"{value} is accepted")
def test_value_inside_the_hard_range_is_accepted(value):
    assert check(number(), value) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.5, "-0.5 is outside 0 to 500 mm"),
        (501, "501 is outside 0 to 500 mm"),
        (500.001, "500.001 is outside 0 to 500 mm"),
        (1e300, "1e+300 is outside 0 to 500 mm"),
    ],
    ids=["below", "above", "just above", "huge"],
)
def test_value_outside_the_hard_range_is_refused_with_the_range(value, message):
    assert Violation("range", message) == check(number(), value)


def test_range_without_unit_names_no_unit():
    assert Violation("range", "21 is outside 0 to 20") == check(number(unit="", hard=(0, 20), plausible=(0, 20)), 21)


def test_value_that_fits_one_confused_unit_is_a_unit_violation():
    found = check(SIZE, 3.0)

    assert found is not None
    assert (found.code, len(found.readings)) == ("unit", 2)
    assert (Reading(CM, 30.0), Reading(INCH, pytest.approx(76.2))) == found.readings
    assert (
        found.message
        == "3 is not a plausible size in mm; in centimeters it would be 30 mm or in inches it would be 76.2 mm"
    )


def test_confused_unit_that_does_not_help_leaves_the_value_as_it_is():
    assert check(SIZE, 200.0) is None
    assert Violation("range", "600 is outside 0 to 500 mm") == check(SIZE, 600.0)


def test_confused_unit_explains_a_value_outside_the_hard_range():
    kelvin = ConfusedUnit(symbol="K", name="kelvins", factor=1.0, offset=-273.15)
    feature = number("water", unit="degC", hard=(-2, 40), plausible=(0, 35), confused_units=(kelvin,))

    found = check(feature, 293.15)

    assert found is not None
    assert found.code == "unit"
    assert pytest.approx(20.0) == found.readings[0].value


def test_plausible_value_outside_the_hard_range_is_refused():
    assert Violation("range", "95 is outside 0 to 90 mm") == check(number(hard=(0, 90), plausible=(10, 100)), 95)


def test_category_value_of_the_list_is_accepted():
    assert check(COLOUR, "green") is None


@pytest.mark.parametrize("value", ["Green", "", " red", "violet"])
def test_category_value_not_in_the_list_is_refused(value):
    assert Violation("range", "must be one of red, green, blue") == check(COLOUR, value)


def test_long_list_of_values_is_cut_in_messages():
    found = check(category(*(f"v{i}" for i in range(12))), "x")

    assert found is not None
    assert found.message == "must be one of v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, … (12 in all)"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (39.0, "39"),
        (-0.0, "0"),
        (39.123456, "39.12"),
        (0.00012345, "0.0001234"),
        (12345.678, "12345.7"),
        (1e20, "1e+20"),
        (999999999999999, "999999999999999"),
    ],
)
def test_numbers_are_shown_as_people_write_them(value, expected):
    assert expected == number_text(value)


def test_unit_message_lists_readings_in_the_given_order():
    message = unit_message(SIZE, 3.0, (Reading(INCH, 76.2), Reading(CM, 30.0)))

    assert message.index("inches") < message.index("centimeters")


PLAIN = (number("a", confused_units=(CM,)), number("b"))
WHOLE = (number("a", dtype="int", hard=(-10, 1e18), plausible=(0, 10)),)
NULLABLE = (number("a", nullable=True), number("b", dtype="int", nullable=True))


@pytest.mark.parametrize(
    ("features", "rows", "expected"),
    [
        (PLAIN, [[10, 10], [90, 90]], [True, True]),
        (PLAIN, [[10, 10], [9.99, 10], [10, 9.99]], [True, False, True]),
        (PLAIN, [[90.1, 90], [10, 1e9], [10, -1e9]], [False, False, False]),
        (PLAIN, [[np.nan, 50], [50, np.nan]], [False, False]),
        (PLAIN, [[np.inf, 50], [50, -np.inf]], [False, False]),
        (PLAIN, np.empty((0, 2)), []),
        (WHOLE, [[7], [7.5], [-0.0], [1e17], [np.inf]], [True, False, True, True, False]),
    ],
    ids=["ends included", "outside plausible", "outside hard", "null", "infinite", "no rows", "whole"],
)
def test_ordinary_rows_need_no_closer_look(features, rows, expected):
    columns = np.array(rows, dtype=np.float64).T

    assert Ordinary(features).rows(columns).tolist() == expected
    assert (Ordinary(features).matrix(columns) is not None) == all(expected)


def test_null_is_ordinary_where_it_is_allowed_and_meant():
    columns = np.array([[np.nan, 50], [np.nan, np.nan], [np.nan, 7.5], [np.nan, np.inf]]).T

    assert Ordinary(NULLABLE, nan_is_null=True).rows(columns).tolist() == [True, True, False, False]
    assert not Ordinary(NULLABLE).rows(columns).any()
    assert not Ordinary(PLAIN, nan_is_null=True).rows(columns).any()


def test_ordinary_columns_are_laid_out_like_any_rows():
    rows = [[-0.0, 1 / 3], [2.0**24 + 1, 7.0]]
    features = (number("a", hard=(-1, 1e9)), number("b", hard=(0, 10)))

    assert Ordinary(features).matrix(np.array(rows).T).tobytes() == to_matrix(features, rows).tobytes()


def test_ordinary_rows_are_never_refused():
    features = [SIZE, number("b", hard=(0, 80), plausible=(10, 80))]
    rows = np.random.default_rng(3).uniform(-20, 120, size=(500, 2))
    found = Ordinary(features).rows(rows.T).tolist()

    assert {True, False} == set(found)
    for row, is_ordinary in zip(rows, found, strict=True):
        if is_ordinary:
            assert [check(f, float(v)) for f, v in zip(features, row, strict=True)] == [None, None]


def test_categories_have_no_plausible_bounds():
    lows, highs = plausible_bounds([number(), COLOUR])

    assert ([10.0, -np.inf], [90.0, np.inf]) == (lows.tolist(), highs.tolist())


def test_matrix_holds_codes_nans_and_no_negative_zero():
    matrix = to_matrix([number(), COLOUR], [[-0.0, "blue"], [None, "red"], [3, None]])

    np.testing.assert_array_equal([[0, 2], [np.nan, 0], [3, np.nan]], matrix)
    assert np.float32 == matrix.dtype
    assert not np.signbit(matrix[0, 0])


def test_matrix_of_no_rows_keeps_its_width():
    assert to_matrix([number(), COLOUR], []).shape == (0, 2)


def test_one_hot_of_numbers_is_the_same_array():
    matrix = np.ones((2, 1), dtype=np.float32)

    assert one_hot([number()], matrix) is matrix


def test_one_hot_puts_a_column_per_value_in_place():
    matrix = np.array([[2, 7, 0], [np.nan, np.nan, 1]], dtype=np.float32)

    found = one_hot([COLOUR, number(), category("no", "yes")], matrix)

    np.testing.assert_array_equal([[0, 0, 1, 7, 1, 0], [0, 0, 0, np.nan, 0, 1]], found)
    assert np.float32 == found.dtype
    assert found.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("null", "values", "text", "expected"),
    [
        (None, ("NA", "b"), "NA", False),
        (None, ("a", "b"), "NA", True),
        (None, (), "NA", True),
        (None, (), "", True),
        (None, (), "?", False),
        (("", "?"), ("a", "b"), "?", True),
        (("", "?"), ("a", "b"), "NA", False),
        ((), ("a", "b"), "", False),
    ],
    ids=["a value of an older bundle", "usual", "number", "empty", "another", "own", "usual is not own", "none"],
)
def test_words_for_missing(null, values, text, expected):
    feature = category(*values) if values else number()
    if null is not None:
        feature = replace(feature, null=null)

    assert feature.is_null_word(text) == expected
