"""The door to XGBoost and ONNX Runtime: what they refuse, and that a row's answer is its own."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from model import compiling, engines
from model.dataset import Dataset
from model.engines import OnnxEngine, XGBoostEngine
from model.errors import EngineError
from model.verify import VerifiedBundle
from tests.unit.model import toy
from tests.unit.model.toy import number


def load(bundle: VerifiedBundle, name: str) -> OnnxEngine | XGBoostEngine:
    return engines.load(name, bundle.files, bundle.manifest.features, len(bundle.manifest.classes))


def random_rows(bundle: VerifiedBundle, count: int = 700) -> np.ndarray:
    return compiling.random_rows(bundle.manifest.features, count, 5)


@pytest.mark.parametrize("name", ["tables", "onnx", "xgboost"])
@pytest.mark.parametrize("bundle", ["penguins", "toy_bundle"])
def test_probabilities_are_one_row_each_and_add_up_to_one(request, bundle, name):
    bundle = request.getfixturevalue(bundle)
    engine = load(bundle, name)

    found = engine.predict(random_rows(bundle))

    assert name == engine.name
    assert (np.float64, (700, 3)) == (found.dtype, found.shape)
    np.testing.assert_allclose(np.ones(700), found.sum(axis=1), atol=1e-6)


@pytest.mark.parametrize("name", ["tables", "onnx", "xgboost"])
@pytest.mark.parametrize("bundle", ["penguins", "toy_bundle"])
def test_all_engines_give_the_same_answers(request, bundle, name):
    bundle = request.getfixturevalue(bundle)
    rows = random_rows(bundle)

    np.testing.assert_allclose(load(bundle, "xgboost").predict(rows), load(bundle, name).predict(rows), atol=1e-6)


@pytest.mark.parametrize(
    ("bundle", "name"),
    [
        ("penguins", "tables"),
        ("penguins", "onnx"),
        ("penguins", "xgboost"),
        ("iris", "onnx"),
        ("toy_bundle", "tables"),
        ("toy_bundle", "onnx"),
        ("toy_bundle", "xgboost"),
    ],
)
def test_answer_never_depends_on_the_batch(request, bundle, name):
    bundle = request.getfixturevalue(bundle)
    engine, rows = load(bundle, name), random_rows(bundle)

    together = engine.predict(rows)

    for size in (1, 3, 8, 13, 512):
        parts = np.concatenate([engine.predict(rows[start : start + size]) for start in range(0, len(rows), size)])
        np.testing.assert_array_equal(together, parts)
    np.testing.assert_array_equal(together[::-1], engine.predict(np.ascontiguousarray(rows[::-1])))


@pytest.mark.parametrize("name", ["tables", "onnx", "xgboost"])
@pytest.mark.parametrize("bundle", ["penguins", "toy_bundle"])
def test_one_row_is_answered_as_in_a_matrix_bit_for_bit(request, bundle, name):
    bundle = request.getfixturevalue(bundle)
    engine, rows = load(bundle, name), random_rows(bundle)

    alone = [engine.predict_one(row) for row in rows.tolist()]

    assert engine.predict(rows).tolist() == alone


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_answer_of_a_linear_model_in_double_never_depends_on_the_batch(tmp_path, classes):
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=toy.SCALED, classes=classes))
    payload, precision = compiling.compile_model(model, data.features, "toy")
    engine, rows = OnnxEngine(payload, 3), compiling.random_rows(data.features, 600, 1)

    together = engine.predict(rows)

    assert precision == "double"
    for size in (1, 2, 7, 9, 64):
        parts = np.concatenate([engine.predict(rows[start : start + size]) for start in range(0, len(rows), size)])
        np.testing.assert_array_equal(together, parts)


@pytest.mark.parametrize(
    ("bundle", "name"), [("penguins", "tables"), ("penguins", "onnx"), ("penguins", "xgboost"), ("iris", "onnx")]
)
def test_no_rows_get_no_answers(request, bundle, name):
    assert load(request.getfixturevalue(bundle), name).predict(np.empty((0, 4), dtype=np.float32)).shape == (0, 3)


WRONG_SHAPES = {
    "too narrow": np.zeros((2, 3), dtype=np.float32),
    "too wide": np.zeros((2, 5), dtype=np.float32),
    "one row, not a matrix": np.zeros(4, dtype=np.float32),
    "double": np.zeros((2, 4)),
}


@pytest.mark.parametrize("matrix", WRONG_SHAPES.values(), ids=WRONG_SHAPES)
@pytest.mark.parametrize(
    "ask", ["tables.predict", "onnx.predict", "xgboost.predict", "xgboost.margins", "xgboost.contributions"]
)
def test_matrix_of_the_wrong_shape_is_refused(penguins: VerifiedBundle, ask, matrix):
    name, _, method = ask.partition(".")

    with pytest.raises(EngineError, match="needs a float32 matrix of 4 columns, got "):
        getattr(load(penguins, name), method)(matrix)


def test_margins_are_log_probabilities_up_to_a_constant(penguins: VerifiedBundle):
    engine, rows = load(penguins, "xgboost"), random_rows(penguins)

    odds = np.exp(engine.margins(rows))

    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), engine.predict(rows), atol=1e-6)


def test_margins_of_two_classes_are_opposite_log_odds(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path, classes=2))
    engine = XGBoostEngine(model.payload(), data.features, 2)

    margins, found = engine.margins(data.matrix), engine.predict(data.matrix)

    assert found.shape == (150, 2)
    np.testing.assert_array_equal(-margins[:, 0], margins[:, 1])
    np.testing.assert_allclose(np.log(found[:, 1] / found[:, 0]), margins[:, 1], atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_contributions_add_up_to_the_margins(tmp_path, classes):
    _, data, model = toy.fit(toy.write(tmp_path, classes=classes, names=toy.MIXED, nullable=True))
    engine = XGBoostEngine(model.payload(), data.features, classes)

    found = engine.contributions(data.matrix)

    assert (150, classes, 5) == found.shape
    np.testing.assert_allclose(engine.margins(data.matrix), found.sum(axis=2), atol=1e-4)


def test_contributions_of_numbers_are_xgboosts_own(penguins: VerifiedBundle, penguins_data: Dataset):
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(penguins.files["model.json"]))
    expected = booster.predict(xgboost.DMatrix(penguins_data.matrix), pred_contribs=True)

    np.testing.assert_array_equal(expected, load(penguins, "xgboost").contributions(penguins_data.matrix))


def test_contributions_of_a_category_are_those_of_all_its_columns(tmp_path):
    import xgboost

    from model.domain import one_hot

    _, data, model = toy.fit(toy.write(tmp_path, names=("colour", "size_mm")))
    raw = model.booster.predict(xgboost.DMatrix(one_hot(data.features, data.matrix)), pred_contribs=True)

    found = XGBoostEngine(model.payload(), data.features, 3).contributions(data.matrix)

    assert raw.shape == (150, 3, 5)
    np.testing.assert_allclose(raw[:, :, :3].sum(axis=2), found[:, :, 0], atol=1e-6)
    np.testing.assert_array_equal(raw[:, :, 3:], found[:, :, 1:])


@pytest.mark.parametrize("name", ["tables", "onnx", "xgboost"])
def test_engine_without_its_file_is_refused(penguins: VerifiedBundle, name):
    with pytest.raises(EngineError, match=f"the bundle has no model.*, so the {name} engine cannot serve it"):
        engines.load(name, {}, penguins.manifest.features, 3)


@pytest.mark.parametrize("payload", [b"", b"junk", b"\x08\x07\x12"], ids=["empty", "junk", "cut"])
def test_broken_onnx_is_refused(payload):
    with pytest.raises(EngineError, match=r"ONNX Runtime refuses model\.onnx"):
        OnnxEngine(payload, 4)


@pytest.mark.parametrize(
    "payload",
    [b"", b"junk", b"{}", b'{"learner": {}}', b"\xff\xfe{}", b"[1]"],
    ids=["empty", "junk", "nothing in it", "no learner", "not UTF-8", "a list"],
)
def test_broken_xgboost_model_is_refused(payload):
    with pytest.raises(EngineError, match=r"XGBoost refuses model\.json"):
        XGBoostEngine(payload, [number()], 2)


def graph(inputs: list, outputs: list) -> bytes:
    """Return a graph that hands its first input on."""
    nodes = [helper.make_node("Identity", [inputs[0].name], [output.name]) for output in outputs]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    return bytes(made.SerializeToString())


def tensor(name: str, width: int | str = 4):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])


FOREIGN = {
    "other width": ([tensor("x", 3)], [tensor("probabilities", 3)]),
    "any width": ([tensor("x", "d")], [tensor("probabilities", "d")]),
    "two inputs": ([tensor("x"), tensor("y")], [tensor("probabilities")]),
    "no probabilities": ([tensor("x")], [tensor("scores")]),
}


@pytest.mark.parametrize(("inputs", "outputs"), FOREIGN.values(), ids=FOREIGN)
def test_graph_that_is_not_ours_is_refused(inputs, outputs):
    with pytest.raises(EngineError, match="must take one matrix of the manifest's width"):
        OnnxEngine(graph(inputs, outputs), 4)


def test_graph_of_our_form_is_taken():
    engine = OnnxEngine(graph([tensor("x")], [tensor("probabilities")]), 4)

    assert engine.predict(np.array([[1, 2, 3, 4]], dtype=np.float32)).tolist() == [[1, 2, 3, 4]]


def test_model_of_another_width_is_refused(penguins: VerifiedBundle):
    with pytest.raises(EngineError, match=r"model\.json takes 4 columns, the manifest gives 3"):
        XGBoostEngine(penguins.files["model.json"], penguins.manifest.features[:3], 3)


def test_missing_xgboost_is_named_with_what_to_do(penguins: VerifiedBundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)

    with pytest.raises(EngineError, match="xgboost is not installed here; serve with ENGINE=onnx or install it"):
        load(penguins, "xgboost")
