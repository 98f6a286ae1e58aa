"""Golden rows: few, acceptable, and through as much of the model as possible."""

from __future__ import annotations

import json

import numpy as np
import pytest

from model import golden
from model.domain import check
from model.manifest import Manifest
from model.verify import VerifiedBundle
from tests.unit.model import toy
from tests.unit.model.toy import category, number

ALL = {"xgboost": toy.XGBOOST, "scaled": toy.SCALED, "forest": toy.FOREST, "boosting": toy.BOOSTING}


@pytest.mark.parametrize("bundle", ["penguins", "iris", "toy_bundle"])
def test_golden_rows_of_a_bundle_would_be_answered_over_http(request, bundle):
    m: Manifest = request.getfixturevalue(bundle).manifest

    assert 200 <= len(m.golden.rows) <= 512
    for row in m.golden.rows:
        for feature, value in zip(m.features, row, strict=True):
            if value is None:
                assert feature.nullable
            elif feature.is_category:
                assert value in range(len(feature.values))
            else:
                assert check(feature, value) is None
                assert feature.dtype != "int" or float(value).is_integer()


@pytest.mark.parametrize("names", [toy.NUMBERS, toy.MIXED, toy.CATEGORIES], ids=["numbers", "mixed", "categories"])
@pytest.mark.parametrize("algorithm", ALL)
def test_share_of_leaves_is_counted_by_the_model_itself(tmp_path, algorithm, names):
    loaded, data, model = toy.fit(toy.write(tmp_path, algorithm=ALL[algorithm], names=names))

    rows, matrix, share = golden.choose(data.features, model, data.matrix, loaded.spec.seed)

    assert 200 <= len(rows) <= 512
    assert (np.float32, (len(rows), len(names))) == (matrix.dtype, matrix.shape)
    np.testing.assert_array_equal(np.array(rows, dtype=np.float32), matrix)
    if algorithm == "scaled":
        assert share is None
    else:
        visited = sum(len(set(tree)) for tree in model.leaves(matrix).T.tolist())
        assert round(visited / model.leaf_count(), 4) == share
        assert share >= 0.9


def test_choice_follows_the_seed(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path))

    same, other = (golden.choose(data.features, model, data.matrix, seed)[0] for seed in (1, 2))

    assert golden.choose(data.features, model, data.matrix, 1)[0] == same
    assert same != other


def test_both_sides_of_splits_are_among_them(penguins: VerifiedBundle):
    sizes = {np.float32(row[0]) for row in penguins.manifest.golden.rows}

    assert any(np.nextafter(size, np.float32(99)) in sizes for size in sizes)


def test_rows_survive_json_as_the_same_float32(penguins: VerifiedBundle):
    rows = penguins.manifest.golden.rows

    again = np.array(json.loads(json.dumps(rows)), dtype=np.float32)

    np.testing.assert_array_equal(np.array(rows, dtype=np.float32), again)
    assert max(len(str(value)) for row in rows for value in row) <= 12


@pytest.mark.parametrize(
    ("feature", "value", "expected"),
    [
        (number(), 50.0, True),
        (number(), 501.0, False),
        (number(), np.nan, False),
        (number(nullable=True), np.nan, True),
        (number(dtype="int"), 50.0, True),
        (number(dtype="int"), 50.5, False),
        (category("a", "b"), 1.0, True),
        (category("a", "b"), np.nan, False),
        (category("a", "b", nullable=True), np.nan, True),
    ],
)
def test_row_is_acceptable_if_the_service_would_answer_it(feature, value, expected):
    rows = np.array([[value]], dtype=np.float32)

    assert expected == (len(golden._acceptable([feature], rows)) == 1)


def test_training_row_that_float32_moves_out_of_range_is_not_golden(tmp_path):
    path = toy.write(tmp_path, names=("size_mm", "weight_g"))
    # the nearest float32 to 30.0000001 is 30, which is outside
    path.write_text(
        path.read_text().replace("hard = [0, 500]", "hard = [30.0000001, 500]").replace("[10, 90]", "[30.0000001, 90]")
    )
    csv = tmp_path / "toy.csv"
    lines = csv.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    for row in cells[1:]:
        row[0] = "30.0000001" if float(row[0]) < 31 else row[0]
    csv.write_text("\n".join(map(",".join, cells)) + "\n")
    loaded, data, model = toy.fit(path)
    assert (data.matrix[:, 0] == 30).any()

    rows, _, _ = golden.choose(data.features, model, data.matrix, loaded.spec.seed)

    assert all(check(f, v) is None for row in rows for f, v in zip(data.features, row, strict=True))


def test_cover_picks_what_visits_most_then_fills_up():
    leaves = np.array([[0, 0], [1, 1], [1, 0], [2, 0], [1, 1]])
    taken = np.array([[0, 0]])

    assert golden._cover(leaves, taken, 0, 9) == [1, 3]
    assert golden._cover(leaves, taken, 4, 9) == [1, 3, 0, 2]
    assert golden._cover(leaves, taken, 0, 1) == [1]
    assert golden._cover(leaves, leaves[:0], 0, 9) == [0, 1, 3]
