"""Which rows of a table the model may be given: numbers, whole numbers, categories, nulls and mixed-up units."""

from __future__ import annotations

import csv
import io
import random

import numpy as np
import pytest

from model import dataset, predictor, spec, train, verify
from model.judge import Judge
from model.table import Table
from tests.conftest import NO_BAR, ROOT, quick_spec

MORE = """
[[features]]
name = "sex"
description = "Sex"
dtype = "category"
values = ["female", "male"]
nullable = true

[[features]]
name = "year"
description = "Year of the field season"
dtype = "int"
hard = [1900, 2100]
plausible = [2000, 2030]
nullable = true
"""
HEADER = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex", "year"]
GOOD = ["39.1", "18.7", "181", "3750", "male", "2007"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A predictor of penguins that also takes sex (category) and year (int), both nullable."""
    root = tmp_path_factory.mktemp("wide")
    path = quick_spec("penguins", root)
    path.write_text(path.read_text().replace("rounds = 100", "rounds = 5") + MORE)
    loaded = spec.load(path)
    folder = train.train(loaded, dataset.load(loaded), NO_BAR, root, quiet=True).folder
    return predictor.load(verify.read(folder))


def judge(model, rows, null=("", "NA"), is_converting=False, header=HEADER):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    found = Table("in.csv", io.StringIO(text.getvalue(), newline=""))
    return Judge(model, found, null, is_converting).judge([row for rows in found.chunks(10_000) for row in rows])


def changed(**cells):
    return [cells.get(name, cell) for name, cell in zip(HEADER, GOOD, strict=True)]


def reasons(verdicts):
    return [str(problem) for problems in verdicts.problems.values() for problem in problems]


def test_ordinary_rows_become_the_matrix(wide):
    found = judge(wide, [GOOD, changed(sex="female", year="2009.0")])

    assert found.problems == {}
    np.testing.assert_array_equal(
        found.matrix, np.array([[39.1, 18.7, 181, 3750, 1, 2007], [39.1, 18.7, 181, 3750, 0, 2009]], dtype=np.float32)
    )


def test_nulls_of_nullable_features_become_nan(wide):
    found = judge(wide, [changed(sex="NA", year="")])

    np.testing.assert_array_equal(found.matrix[0, 4:], [np.nan, np.nan])


def test_values_outside_the_plausible_range_are_accepted(wide):
    assert judge(wide, [changed(year="1950", body_mass_g="9999")]).problems == {}


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        pytest.param({"bill_depth_mm": "deep"}, "'deep' is not a number", id="text"),
        pytest.param({"body_mass_g": "3_750"}, "'3_750' is not a number", id="underscore"),
        pytest.param({"bill_depth_mm": "nan"}, "'nan' is not a number", id="nan"),
        pytest.param({"bill_depth_mm": ""}, "required: bill depth in mm", id="missing"),
        pytest.param({"flipper_length_mm": "501"}, "501 is outside 50 to 500 mm", id="range"),
        pytest.param({"sex": "Male"}, "must be one of female, male", id="category"),
        pytest.param({"year": "2007.5"}, "2007.5 is not a whole number", id="fraction"),
        pytest.param(
            {"bill_depth_mm": "1.87"},
            "1.87 is not a plausible bill depth in mm; in centimeters it would be 18.7 mm",
            id="unit",
        ),
    ],
)
def test_a_bad_cell_makes_its_row_bad(wide, cells, reason):
    found = judge(wide, [GOOD, changed(**cells), GOOD])

    assert reasons(found) == [f'in.csv:3: column "{next(iter(cells))}": {reason}']
    assert list(found.problems) == [1]
    assert len(found.matrix) == 2


def test_every_problem_of_a_row_is_named_in_order(wide):
    found = judge(wide, [changed(bill_length_mm="long", bill_depth_mm="1.87", year="3000")])

    assert reasons(found) == [
        "in.csv:2: column \"bill_length_mm\": 'long' is not a number",
        'in.csv:2: column "year": 3000 is outside 1900 to 2100',
        'in.csv:2: column "bill_depth_mm": 1.87 is not a plausible bill depth in mm; '
        "in centimeters it would be 18.7 mm",
    ]


@pytest.mark.parametrize("row", [GOOD[:-1], [*GOOD, "x"]], ids=["short", "long"])
def test_a_row_with_another_number_of_cells_is_bad(wide, row):
    assert reasons(judge(wide, [GOOD, row])) == [f"in.csv:3: has {len(row)} cells, the header has 6"]


def test_the_most_likely_unit_is_named_first(wide):
    [reason] = reasons(judge(wide, [changed(body_mass_g="8.3")]))

    assert reason.index("in pounds") < reason.index("in kilograms")


def test_a_certain_unit_is_converted_where_wanted(wide):
    found = judge(wide, [changed(bill_depth_mm="1.87")], is_converting=True)

    assert found.problems == {}
    np.testing.assert_array_equal(found.matrix, judge(wide, [GOOD]).matrix)
    assert [str(c) for c in found.conversions[0]] == ['in.csv:2: column "bill_depth_mm": 1.87 cm was read as 18.7 mm']


def test_an_uncertain_unit_is_never_converted(wide):
    found = judge(wide, [changed(body_mass_g="7.1", bill_length_mm="69", bill_depth_mm="10")], is_converting=True)

    assert len(found.matrix) == 0
    assert found.conversions == {}
    assert reasons(found)[0].endswith("; not certain enough to convert")


def test_a_null_word_that_looks_like_a_number_is_null(wide):
    found = judge(wide, [changed(year="2007"), changed(year="2008")], null=("2007",))

    np.testing.assert_array_equal(found.matrix[:, 5], [np.nan, 2008])


def test_a_null_word_that_is_a_category_is_null(wide):
    found = judge(wide, [changed(sex="male"), changed(sex="female")], null=("male",))

    np.testing.assert_array_equal(found.matrix[:, 4], [np.nan, 0])


def test_a_number_no_feature_takes_as_null_word_keeps_ordinary_rows_ordinary(wide):
    found = judge(wide, [GOOD, changed(year="-999")], null=("-999",))

    np.testing.assert_array_equal(found.matrix[:, 5], [2007, np.nan])


def test_columns_may_stand_in_any_order_among_others(wide):
    header, row = [*reversed(HEADER), "note"], [*reversed(GOOD), "seen twice"]

    np.testing.assert_array_equal(judge(wide, [row], header=header).matrix, judge(wide, [GOOD]).matrix)


def test_rows_judged_together_equal_rows_judged_alone(wide):
    pick = random.Random(7)
    strange = ["", "NA", "x", "1_0", "-0", "0", " 5 ", "1e3", "inf", "4.1", "19.5", "3750", "male", "female ", "2008"]
    rows = [[pick.choice([cell, cell, cell, pick.choice(strange)]) for cell in GOOD] for _ in range(400)]
    together = judge(wide, rows, is_converting=True)

    alone = [judge(wide, [row], is_converting=True) for row in rows]

    assert list(together.problems) == [index for index, one in enumerate(alone) if one.problems]
    np.testing.assert_array_equal(together.matrix, np.concatenate([one.matrix for one in alone]))


def test_ordinary_rows_equal_rows_that_need_a_closer_look(wide, penguins_data):
    cells = [[repr(float(value)) for value in row] + GOOD[4:] for row in penguins_data.matrix]

    fast = judge(wide, cells)
    slow = judge(wide, [*cells, GOOD[:-1]])

    np.testing.assert_array_equal(fast.matrix, slow.matrix)
    np.testing.assert_array_equal(fast.matrix[:, :4], penguins_data.matrix)


def test_real_data_reads_like_training(penguins_predictor, penguins_data):
    with (ROOT / "model/data/penguins.csv").open(newline="") as file:
        found = Table("penguins.csv", file)
        [rows] = found.chunks(1000)
        verdicts = Judge(penguins_predictor, found, ("", "NA"), False).judge(rows)

    np.testing.assert_array_equal(verdicts.matrix, penguins_data.matrix)
    assert [rows[index][0] for index in verdicts.problems] == list(penguins_data.dropped_lines)
