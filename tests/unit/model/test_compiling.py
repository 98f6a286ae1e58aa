"""The compiled form is proven equal for every algorithm, and a form that is not equal is not proven."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from model import compiling, learners
from model.compiling import RANDOM_ROWS, TOLERANCE, TOLERANCE_LARGE
from model.dataset import Dataset
from model.engines import OnnxEngine, XGBoostEngine
from model.errors import CompileError
from model.learners import BoostedTrees, Estimator, Split
from model.manifest import Parity
from tests.unit.model import toy
from tests.unit.model.toy import category, number

ALL = {
    "xgboost": (toy.XGBOOST, "float"),
    "logistic": (toy.LOGISTIC, "double"),
    "scaled": (toy.SCALED, "double"),
    "forest": (toy.FOREST, "double"),
    "boosting": (toy.BOOSTING, "float"),
}


def proof(data: Dataset, model: BoostedTrees | Estimator, payload: bytes | None = None) -> tuple[Parity, str | None]:
    made, precision = compiling.compile_model(model, data.features, "toy")
    original = (
        XGBoostEngine(model.payload(), data.features, len(data.classes)) if isinstance(model, BoostedTrees) else model
    )
    return compiling.prove(model, original, payload or made, precision, data.features, data.matrix, 7)


@pytest.mark.parametrize("temperature", [None, 0.6], ids=["as it is", "tempered"])
@pytest.mark.parametrize(
    "names",
    [toy.NUMBERS, toy.MIXED, toy.CATEGORIES, ("colour",)],
    ids=["numbers", "mixed", "categories", "one category"],
)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("algorithm", ALL)
def test_compiled_form_is_proven(tmp_path, algorithm, classes, names, temperature):
    text, precision = ALL[algorithm]
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=text, classes=classes, names=names))
    model = model if temperature is None else model.scaled(temperature)

    parity, note = proof(data, model)

    assert note is None
    assert (True, 0, precision, TOLERANCE) == (
        parity.proven,
        parity.class_differences,
        parity.precision,
        parity.tolerance,
    )
    assert parity.largest_difference <= TOLERANCE
    assert len(model.splits()) == parity.split_thresholds
    assert parity.rows >= 150 + RANDOM_ROWS


@pytest.mark.parametrize("classes", [2, 3])
def test_compiled_form_with_nulls_is_proven(tmp_path, classes):
    _, data, model = toy.fit(toy.write(tmp_path, classes=classes, names=toy.MIXED, nullable=True))
    assert np.isnan(data.matrix).any()

    parity, note = proof(data, model)

    assert (parity.proven, note) == (True, None)


def test_compiling_twice_gives_the_same_bytes(tmp_path):
    for algorithm, _ in ALL.values():
        _, data, model = toy.fit(toy.write(tmp_path, algorithm=algorithm, names=toy.MIXED))
        model = model.scaled(0.5)

        assert compiling.compile_model(model, data.features, "toy") == compiling.compile_model(
            model, data.features, "toy"
        )


def test_graph_bears_the_given_name_and_takes_the_manifests_columns(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path, names=toy.MIXED))

    graph = onnx.load_model_from_string(compiling.compile_model(model, data.features, "toys")[0]).graph

    assert graph.name == "toys"
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim][1:] == [4]


def weights(payload: bytes) -> tuple[onnx.ModelProto, onnx.AttributeProto]:
    """Return a compiled tree model and the weights of its leaves."""
    made = onnx.load_model_from_string(payload)
    trees = next(node for node in made.graph.node if node.op_type.startswith("TreeEnsemble"))
    return made, next(a for a in trees.attribute if a.name == "class_weights" or a.name == "target_weights")


@pytest.mark.parametrize("size", [0.5, 1e-4])
def test_one_changed_leaf_is_not_proven(tmp_path, size):
    _, data, model = toy.fit(toy.write(tmp_path))
    payload, _ = compiling.compile_model(model, data.features, "toy")
    made, leaves = weights(payload)
    leaves.floats[3] += size
    tampered = made.SerializeToString()

    parity, note = proof(data, model, tampered)

    assert not parity.proven
    assert parity.largest_difference > TOLERANCE
    rows = np.concatenate(
        [
            data.matrix,
            compiling.random_rows(data.features, RANDOM_ROWS, 7),
            compiling.threshold_rows(data.features, data.matrix, model.splits(), 7),
        ]
    )
    difference = np.abs(
        OnnxEngine(tampered, 3).predict(rows) - XGBoostEngine(model.payload(), data.features, 3).predict(rows)
    ).max(axis=1)
    assert pytest.approx(difference.max()) == parity.largest_difference
    assert note.startswith(f"largest difference {difference.max():.3g} in probability, at size_mm=")
    named = [float(part.partition("=")[2]) for part in note.partition(" at ")[2].split(", ")]
    assert pytest.approx(difference.max()) == difference[np.isclose(rows, named, rtol=1e-7).all(axis=1)].max()


@pytest.mark.parametrize("steps", [-1, 1], ids=["just below", "just above"])
def test_threshold_moved_by_one_float_is_not_proven(tmp_path, steps):
    _, data, model = toy.fit(toy.write(tmp_path, names=("size_mm", "weight_g")))
    made = onnx.load_model_from_string(compiling.compile_model(model, data.features, "toy")[0])
    trees = next(node for node in made.graph.node if node.op_type.startswith("TreeEnsemble"))
    values = next(a for a in trees.attribute if a.name == "nodes_values")
    position = int(np.flatnonzero(np.array(values.floats))[0])
    values.floats[position] = float(np.nextafter(np.float32(values.floats[position]), np.float32(1e9 * steps)))

    parity, note = proof(data, model, made.SerializeToString())

    assert not parity.proven
    assert "largest difference" in note


def test_graph_that_answers_nothing_finite_is_not_proven(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path))
    made, leaves = weights(compiling.compile_model(model, data.features, "toy")[0])
    leaves.floats[3] = float("nan")

    parity, note = proof(data, model, made.SerializeToString())

    assert (parity.proven, parity.largest_difference) == (False, 1.0)
    assert note.startswith("largest difference 1 in probability")


def test_other_class_away_from_a_tie_is_counted(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=toy.SCALED))
    made = onnx.load_model_from_string(compiling.compile_model(model, data.features, "toy")[0])
    node = next(node for node in made.graph.node if "probabilities" in node.output)
    node.output[:] = ["upright" if name == "probabilities" else name for name in node.output]
    made.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "reversed"))
    made.graph.node.append(onnx.helper.make_node("Gather", ["upright", "reversed"], ["probabilities"], axis=1))

    parity, _ = proof(data, model, made.SerializeToString())

    assert not parity.proven
    assert parity.class_differences > 1000


def test_answer_that_depends_on_its_batch_is_not_proven(tmp_path):
    """Half a billionth of the largest answer in the batch: within the tolerance, and still refused."""
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=toy.SCALED))
    made = onnx.load_model_from_string(compiling.compile_model(model, data.features, "toy")[0])
    node = next(node for node in made.graph.node if "probabilities" in node.output)
    node.output[:] = ["alone" if name == "probabilities" else name for name in node.output]
    made.graph.initializer.append(numpy_helper.from_array(np.array(5e-10), "little"))
    made.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMax", ["alone"], ["largest"], keepdims=0),
            onnx.helper.make_node("Mul", ["largest", "little"], ["leak"]),
            onnx.helper.make_node("Add", ["alone", "leak"], ["probabilities"]),
        ]
    )

    parity, note = proof(data, model, made.SerializeToString())

    assert (parity.proven, note) == (False, "a row's answer depends on the rows beside it")
    assert parity.largest_difference <= TOLERANCE


def test_payload_onnx_runtime_refuses_is_a_compile_error(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path))

    with pytest.raises(CompileError, match=r"ONNX Runtime refuses model\.onnx"):
        proof(data, model, b"junk")


def test_model_without_converter_is_a_compile_error_of_one_line(tmp_path):
    _, data, _ = toy.fit(toy.write(tmp_path))

    class Unknown:
        classes_ = (0, 1)

    with pytest.raises(CompileError, match="cannot be converted to ONNX: ") as caught:
        compiling.compile_model(Estimator(Unknown(), data.features), data.features, "toy")

    assert len(str(caught.value).splitlines()) == 1


def test_many_trees_are_allowed_more(tmp_path):
    many = 'name = "xgboost"\nrounds = 334\n[algorithm.params]\nmax_depth = 1\nlearning_rate = 0.01'
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=many))

    parity, _ = proof(data, model)

    assert model.leaves(data.matrix[:1]).shape[1] == 1002
    assert (parity.proven, parity.tolerance) == (True, TOLERANCE_LARGE)


FEATURES = (
    number("a", hard=(0, 1000), plausible=(10, 20), nullable=True),
    number("b", dtype="int", hard=(0, 9), plausible=(2, 4)),
    category("x", "y", "z"),
)


def test_random_rows_are_half_plausible_and_half_hard():
    rows = compiling.random_rows(FEATURES, 4000, 3)
    first, second = rows[:2000], rows[2000:]

    assert (np.float32, (4000, 3)) == (rows.dtype, rows.shape)
    assert (10, 20) <= (np.nanmin(first[:, 0]), np.nanmax(first[:, 0])) <= (20, 20)
    assert np.nanmax(second[:, 0]) > 900
    assert 0.08 < np.isnan(rows[:, 0]).mean() < 0.12
    assert {2, 3, 4} == set(first[:, 1].tolist())
    assert set(range(10)) == set(second[:, 1].tolist())
    assert {0, 1, 2} == set(rows[:, 2].tolist())
    assert not np.isnan(rows[:, 1:]).any()


def test_random_rows_follow_the_seed():
    same, other = compiling.random_rows(FEATURES, 50, 3), compiling.random_rows(FEATURES, 50, 4)

    np.testing.assert_array_equal(compiling.random_rows(FEATURES, 50, 3), same)
    assert not np.array_equal(same, other, equal_nan=True)


def test_threshold_rows_lie_on_a_split_and_one_step_to_either_side():
    training = np.arange(30, dtype=np.float32).reshape(10, 3)
    # one-hot columns: a, b, x, y, z
    splits = [Split(0, 12.3), Split(1, 2.5), Split(3, 0.5)]

    rows = compiling.threshold_rows(FEATURES, training, splits, 1)

    t = np.float32(12.3)
    assert [np.nextafter(t, np.float32(-99)), t, np.nextafter(t, np.float32(99))] == rows[:3, 0].tolist()
    assert np.float32(2.5) == rows[4, 1]
    assert rows.shape == (6, 3)
    assert {tuple(row) for row in rows[:3, 1:].tolist()} < {tuple(row) for row in training[:, 1:].tolist()}


def test_linear_model_has_no_threshold_rows():
    assert compiling.threshold_rows(FEATURES, np.ones((5, 3), dtype=np.float32), [], 1).shape == (0, 3)


def test_temperature_in_the_graph_is_the_learners(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=toy.FOREST))
    payload, _ = compiling.compile_model(model.scaled(0.4), data.features, "toy")

    expected = learners.temper(model.probabilities(data.matrix), 0.4)

    np.testing.assert_allclose(expected, OnnxEngine(payload, 3).predict(data.matrix), atol=TOLERANCE)


def test_original_is_not_changed_by_being_compiled(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path))
    before = model.payload()

    compiling.compile_model(model, data.features, "toy")

    assert before == model.payload()
    assert dataclasses.is_dataclass(Split)
