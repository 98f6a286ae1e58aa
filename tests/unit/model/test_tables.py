"""Lookup tables answer what XGBoost itself answers, on both sides of every split."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
import xgboost

from model import compiling
from model.compiling import random_rows
from model.domain import Feature, FloatMatrix, one_hot
from model.engines import XGBoostEngine
from model.errors import EngineError
from model.learners import BoostedTrees
from model.tables import TablesEngine
from tests.unit.model.toy import category, number

HUGE = np.finfo(np.float32).max


def numbers(count: int, **changes: object) -> list[Feature]:
    return [number(f"n{index}", **changes) for index in range(count)]


MIXED = [
    number("a", nullable=True),
    category("x", "y", "z"),
    number("b", dtype="int", plausible=(0, 4), hard=(0, 6)),
    category("p", "q", "r", "s", name="other", nullable=True),
]
# features, XGBoost's parameters
CASES: dict[str, tuple[list[Feature], dict[str, object]]] = {
    "stumps": (numbers(4), {"max_depth": 1}),
    "pairs": (numbers(4), {}),
    "six features": (numbers(6), {"colsample_bytree": 0.7}),
    "one feature twice on a path": (numbers(1), {}),
    "one feature four times on a path": (numbers(1), {"max_depth": 4}),
    "nulls, stumps": (numbers(2, nullable=True), {"max_depth": 1}),
    "nulls, pairs": (numbers(3, nullable=True), {}),
    "whole numbers": (numbers(3, dtype="int", plausible=(-2, 3), hard=(-4, 5)), {}),
    "tiny numbers": (numbers(2, plausible=(-1e-38, 1e-38), hard=(-1e-37, 1e-37)), {}),
    "categories among numbers": (MIXED, {}),
    "categories, stumps": (MIXED, {"max_depth": 1}),
    "categories alone": (MIXED[1::2], {}),
    "a category, each value a split": (MIXED[3:], {"max_depth": 4}),
    "deep over two numbers": (numbers(2, nullable=True), {"max_depth": 3}),
    "deep over a number and a category": (MIXED[:2], {"max_depth": 4}),
    "base score": (numbers(3), {"base_score": 0.9}),
    "pruned": (numbers(3), {"tree_method": "exact", "min_split_loss": 1.0}),
    "single leaves": (numbers(3), {"min_split_loss": 1e6}),
    "parallel trees": (numbers(3), {"num_parallel_tree": 3, "subsample": 0.5}),
    "lossguide": (numbers(2), {"grow_policy": "lossguide", "max_leaves": 6, "max_depth": 0}),
}


def trained(
    features: Sequence[Feature], classes: int, seed: int = 1, rounds: int = 6, **params: object
) -> BoostedTrees:
    """Return trees trained on random rows, of which the first feature tells the class half of the time."""
    random = np.random.default_rng(seed)
    matrix = random_rows(features, 120, seed)
    told = np.nan_to_num(matrix[:, 0]).astype(np.int64) % classes
    labels = np.where(random.random(120) < 0.5, told, random.integers(classes, size=120))
    objective: dict[str, object] = {"objective": "multi:softprob", "num_class": classes}
    if classes == 2:
        objective = {"objective": "binary:logistic"}
    settings = {"max_depth": 2, "learning_rate": 0.5, "seed": seed, "nthread": 1, **objective, **params}
    data = xgboost.DMatrix(one_hot(features, matrix), label=labels, nthread=1)
    return BoostedTrees(xgboost.train(settings, data, num_boost_round=rounds), features)


def probing_rows(features: Sequence[Feature], model: BoostedTrees, seed: int = 1) -> FloatMatrix:
    """Return random rows, rows on both sides of every split, and every extreme beside ordinary values."""
    rows = random_rows(features, 400, seed + 100)
    extremes = []
    for column, feature in enumerate(features):
        strange = [np.nan] if feature.is_category else [np.nan, -HUGE, HUGE, -0.0, 0.0, 1e-45, -1e-45]
        part = np.repeat(rows[:8], len(strange), axis=0)
        part[:, column] = np.tile(np.array(strange, dtype=np.float32), 8)
        extremes.append(part)
    empty = np.full((1, len(features)), np.nan, dtype=np.float32)
    return np.concatenate([rows, compiling.threshold_rows(features, rows, model.splits(), seed), *extremes, empty])


def forest(model: BoostedTrees) -> list[dict]:
    return json.loads(model.payload())["learner"]["gradient_booster"]["model"]["trees"]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("features", "params"), CASES.values(), ids=CASES)
def test_answers_are_those_of_xgboost(features, params, classes, seed):
    model = trained(features, classes, seed, **params)
    engine, rows = TablesEngine(model.payload(), features, classes), probing_rows(features, model, seed)

    found = engine.predict(rows)

    assert (np.float64, (len(rows), classes)) == (found.dtype, found.shape)
    np.testing.assert_allclose(model.probabilities(rows), found, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.ones(len(rows)), found.sum(axis=1), rtol=0, atol=1e-15)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("features", "params"), CASES.values(), ids=CASES)
def test_answer_of_a_row_never_depends_on_its_batch(features, params, classes):
    model = trained(features, classes, **params)
    engine, rows = TablesEngine(model.payload(), features, classes), probing_rows(features, model)

    together = engine.predict(rows)

    assert together.tolist() == [engine.predict_one(row) for row in rows.tolist()]
    for size in (1, 7, 64):
        parts = np.concatenate([engine.predict(rows[start : start + size]) for start in range(0, len(rows), size)])
        np.testing.assert_array_equal(together, parts)
    np.testing.assert_array_equal(together[::-1], engine.predict(rows[::-1]))
    assert engine.predict(rows[:0]).shape == (0, classes)


def test_cases_are_what_their_names_say():
    made = {name: forest(trained(features, 2, **params)) for name, (features, params) in CASES.items()}

    assert all(len(tree["left_children"]) == 1 for tree in made["single leaves"])
    assert any(int(tree["tree_param"]["num_deleted"]) > 0 for tree in made["pruned"])
    assert {0, 1} == {
        way
        for tree in made["nulls, pairs"]
        for way, left in zip(tree["default_left"], tree["left_children"], strict=True)
        if left != -1
    }
    for name in CASES.keys() - {"single leaves"}:
        assert max(len(tree["left_children"]) for tree in made[name]) > 1, name


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("temperature", [1e-4, 30.0], ids=["steep", "flat"])
def test_large_and_small_margins_do_not_overflow(classes, temperature):
    model = trained(numbers(3), classes, base_score=0.5).scaled(temperature)
    engine, rows = TablesEngine(model.payload(), numbers(3), classes), random_rows(numbers(3), 500, 9)

    found = engine.predict(rows)

    margins = np.abs(XGBoostEngine(model.payload(), numbers(3), classes).margins(rows)).max()
    assert margins > 1000 if temperature < 1 else margins < 1
    assert found.argmax(axis=1).tolist() == model.probabilities(rows).argmax(axis=1).tolist()
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(np.ones(500), found.sum(axis=1), rtol=0, atol=1e-15)
    assert found.tolist() == [engine.predict_one(row) for row in rows.tolist()]


@pytest.mark.parametrize("classes", [2, 3])
def test_leaf_of_three_features_is_refused(classes):
    model = trained(numbers(3), classes, max_depth=3)

    with pytest.raises(EngineError, match=r"^a leaf depends on more than two features$"):
        TablesEngine(model.payload(), numbers(3), classes)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["pairs", "stumps", "one feature twice on a path", "categories, stumps"])
def test_too_many_cells_are_refused(name, classes):
    features, params = CASES[name]
    payload = trained(features, classes, **params).payload()
    built = TablesEngine(payload, features, classes)._tables
    cells = sum(table.size for table in built.pairs.values())

    TablesEngine(payload, features, classes, max_cells=cells)
    with pytest.raises(EngineError, match=f"the tables would have more than {cells - 1} cells"):
        TablesEngine(payload, features, classes, max_cells=cells - 1)


DAMAGED = {
    "empty": lambda raw: b"",
    "junk": lambda raw: b"junk",
    "nothing in it": lambda raw: b"{}",
    "cut": lambda raw: raw[:-100],
    "foreign byte": lambda raw: raw + b"\n",
    "foreign key": lambda raw: raw.replace(b'"base_weights":', b'"other":', 1),
    "key twice": lambda raw: raw.replace(b'"id":0,', b'"id":0,"id":0,', 1),
    "text for a number": lambda raw: raw.replace(b'"id":0', b'"id":"0"', 1),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_model_is_refused(damage):
    raw = trained(numbers(2), 2).payload()
    damaged = damage(raw)
    assert raw != damaged

    with pytest.raises(EngineError, match=r"^model\.json: "):
        TablesEngine(damaged, numbers(2), 2)


@pytest.mark.parametrize("features", [numbers(1), numbers(3), [*numbers(1), category("x", "y")]])
def test_model_of_other_columns_is_refused(features):
    with pytest.raises(EngineError, match=r"model\.json takes other columns than the manifest has"):
        TablesEngine(trained(numbers(2), 2).payload(), features, 2)


@pytest.mark.parametrize(("classes", "taken_for"), [(2, 3), (3, 2), (3, 4), (4, 3)])
@pytest.mark.parametrize("name", ["pairs", "single leaves"])
def test_model_of_another_number_of_classes_is_refused(name, classes, taken_for):
    features, params = CASES[name]

    with pytest.raises(EngineError):
        TablesEngine(trained(features, classes, **params).payload(), features, taken_for)


@pytest.mark.parametrize("matrix", [np.zeros((2, 3), np.float32), np.zeros(4, np.float32), np.zeros((2, 4))])
def test_matrix_of_the_wrong_shape_or_type_is_refused(matrix):
    engine = TablesEngine(trained(numbers(4), 3).payload(), numbers(4), 3)

    with pytest.raises(EngineError, match="needs a float32 matrix of 4 columns, got "):
        engine.predict(matrix)


def nudged(model: BoostedTrees, features: Sequence[Feature], classes: int, place: float, by: float) -> TablesEngine:
    """Return tables of which one cell is a little off: the one at `place`, from 0 to 1, of those for numbers."""
    engine = TablesEngine(model.payload(), features, classes)
    [table] = engine._tables.pairs.values()
    rows, columns = table.shape[0] - 1, table.shape[1] - 1
    cell = round(place * (rows * columns - 1))
    table[cell // columns, cell % columns, 0] += by
    return engine


@pytest.mark.parametrize("place", np.linspace(0, 1, 6))
@pytest.mark.parametrize("by", [0.0, 1e-5])
def test_one_cell_a_little_off_is_not_proven(place, by):
    features = numbers(2)
    model = trained(features, 2, rounds=2, learning_rate=0.1)
    training = random_rows(features, 120, 1)
    original = XGBoostEngine(model.payload(), features, 2)
    engine = nudged(model, features, 2, place, by)

    parity, note = compiling.prove_engine(model, original, engine, "double", features, training, 7)

    assert (by == 0, by == 0) == (parity.proven, note is None)
    assert by == 0 or (1e-6 < parity.largest_difference < 1e-5 and note.startswith("largest difference "))
