"""Converts a model to ONNX and proves that the converted form answers like the original (decision 0001)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from model.domain import Feature, FloatMatrix
from model.engines import WHOLE_VECTORS, Engine, OnnxEngine, Probabilities
from model.errors import CompileError, EngineError
from model.learners import FLOOR, BoostedTrees, Estimator, Split
from model.manifest import Parity
from model.predictor import TIE

OPSET, ML_OPSET = 18, 3
RANDOM_ROWS = 10_000
TOLERANCE, TOLERANCE_LARGE, LARGE_TREES = 1e-6, 5e-6, 1_000

Precision = Literal["float", "double"]


def compile_model(model: BoostedTrees | Estimator, features: Sequence[Feature], name: str) -> tuple[bytes, Precision]:
    """Convert a model to ONNX.

    Args:
        model: the final, calibrated model.
        features: d features; the graph takes the (n, d) matrix of `model.domain.to_matrix` and one-hot encodes itself.
        name: name of the graph; the converters would draw a random one.

    Returns:
        The bytes of `model.onnx` and the precision it computes in.

    Raises:
        CompileError: no converter for this model.
    """
    precision = _precision(model)
    width = sum(len(f.values) if f.is_category else 1 for f in features)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = _convert(model, width, precision)
    except Exception as error:  # the converters raise whatever occurs to them
        why = " ".join(str(error).split())[:200]
        raise CompileError(f"cannot be converted to ONNX: {type(error).__name__}: {why}") from error
    if isinstance(model, Estimator) and model.temperature is not None:
        _append_temperature(converted, model.temperature)
        # unlike the trees before them, these nodes round the tail of a vector otherwise than its body
        helper.set_model_props(converted, {WHOLE_VECTORS: "true"})
    if any(feature.is_category for feature in features):
        _prepend_one_hot(converted, features, precision)
    converted.graph.name = name
    converted.doc_string = converted.graph.doc_string = ""
    return converted.SerializeToString(deterministic=True), precision


def prove(
    model: BoostedTrees | Estimator,
    original: Engine | BoostedTrees | Estimator,
    payload: bytes,
    precision: Precision,
    features: Sequence[Feature],
    training: FloatMatrix,
    seed: int,
) -> tuple[Parity, str | None]:
    """Compare the compiled form with the original on training rows, random rows, and both sides of every split.

    Returns:
        The proof, and None or what differs most: the largest difference and the row it was found in.

    Raises:
        CompileError: ONNX Runtime refuses it.
    """
    try:
        engine = OnnxEngine(payload, len(features))
    except EngineError as error:
        raise CompileError(str(error)) from error
    return prove_engine(model, original, engine, precision, features, training, seed)


def prove_engine(
    model: BoostedTrees | Estimator,
    original: Engine | BoostedTrees | Estimator,
    engine: Engine,
    precision: Precision,
    features: Sequence[Feature],
    training: FloatMatrix,
    seed: int,
) -> tuple[Parity, str | None]:
    """Compare any engine with the original, see `prove`."""
    splits = model.splits()
    rows = np.concatenate(
        [training, random_rows(features, RANDOM_ROWS, seed), threshold_rows(features, training, splits, seed)]
    )
    trees = model.leaves(training[:1])
    tolerance = TOLERANCE_LARGE if trees is not None and trees.shape[1] > LARGE_TREES else TOLERANCE
    known = _answers(original, rows)
    found = engine.predict(rows)
    difference = np.abs(found - known).max(axis=1)
    difference[~np.isfinite(difference)] = 1.0
    top = np.sort(known, axis=1)
    ties = top[:, -1] - top[:, -2] <= TIE
    wrong = (found.argmax(axis=1) != known.argmax(axis=1)) & ~ties
    worst = int((difference + wrong).argmax())
    dependent = _depends_on_batch(engine, rows)
    proven = not wrong.any() and bool(difference.max() <= tolerance) and not dependent
    parity = Parity(
        precision=precision,
        rows=len(rows),
        split_thresholds=len(splits),
        ties=int(ties.sum()),
        class_differences=int(wrong.sum()),
        largest_difference=float(difference.max()),
        tolerance=tolerance,
        proven=proven,
    )
    if proven:
        return parity, None
    if dependent:
        return parity, "a row's answer depends on the rows beside it"
    row = ", ".join(f"{f.name}={value:.9g}" for f, value in zip(features, rows[worst], strict=True))
    return parity, f"largest difference {difference[worst]:.3g} in probability, at {row}"


def random_rows(features: Sequence[Feature], count: int, seed: int) -> FloatMatrix:
    """Return random rows, shape (count, d): half over the plausible ranges, half over the hard ones, some nulls."""
    random = np.random.default_rng(seed)
    rows = np.empty((count, len(features)), dtype=np.float32)
    for column, feature in enumerate(features):
        if feature.is_category:
            rows[:, column] = random.integers(len(feature.values), size=count)
            continue
        (low, high), (hard_low, hard_high) = feature.plausible, feature.hard
        rows[:, column] = random.uniform(low, high, size=count)
        rows[count // 2 :, column] = random.uniform(hard_low, hard_high, size=count - count // 2)
        if feature.dtype == "int":
            rows[:, column] = np.round(rows[:, column])
    for column, feature in enumerate(features):
        if feature.nullable:
            rows[random.random(count) < 0.1, column] = np.nan
    return rows


def threshold_rows(
    features: Sequence[Feature], training: FloatMatrix, splits: Sequence[Split], seed: int
) -> FloatMatrix:
    """Return training rows moved onto every split threshold and one float32 step to either side, shape (3 * s, d)."""
    columns = _original_columns(features)
    numeric = [(columns[s.column], np.float32(s.threshold)) for s in splits if columns[s.column] is not None]
    if not numeric:
        return training[:0]
    random = np.random.default_rng(seed)
    rows = np.repeat(training[random.integers(len(training), size=len(numeric))], 3, axis=0)
    for index, (column, threshold) in enumerate(numeric):
        below, above = np.nextafter(threshold, np.float32(-np.inf)), np.nextafter(threshold, np.float32(np.inf))
        rows[3 * index : 3 * index + 3, column] = below, threshold, above
    return rows


def _original_columns(features: Sequence[Feature]) -> list[int | None]:
    """Return for each one-hot column the position of its numeric feature, None for a category's column."""
    columns: list[int | None] = []
    for index, feature in enumerate(features):
        columns.extend([None] * len(feature.values) if feature.is_category else [index])
    return columns


def _precision(model: BoostedTrees | Estimator) -> Precision:
    """Return the precision a kind of model was measured to need: boosted trees add in float, all others in double."""
    if isinstance(model, BoostedTrees) or type(model.estimator).__name__ == "GradientBoostingClassifier":
        return "float"
    return "double"


def _convert(model: BoostedTrees | Estimator, width: int, precision: Precision) -> Any:
    """Run the library's converter."""
    if isinstance(model, BoostedTrees):
        from onnxmltools.convert import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        converted = convert_xgboost(
            model.booster, initial_types=[("input", FloatTensorType([None, width]))], target_opset=15
        )
        _set_opset(converted)
        return converted
    from skl2onnx import to_onnx

    sample = np.zeros((1, width), dtype=np.float32 if precision == "float" else np.float64)
    return to_onnx(model.estimator, sample, options={"zipmap": False}, target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET})


def _set_opset(model: Any) -> None:
    """Name the default operator set too: the converter names only the one it used, and our own nodes need it."""
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 1)])


def _append_temperature(model: Any, temperature: float) -> None:
    """Let the graph divide its log probabilities by the temperature, as `model.learners.temper` does."""
    dtype = np.float32 if model.graph.output[1].type.tensor_type.elem_type == TensorProto.FLOAT else np.float64
    for node in model.graph.node:
        node.output[:] = ["raw_probabilities" if name == "probabilities" else name for name in node.output]
        node.input[:] = ["raw_probabilities" if name == "probabilities" else name for name in node.input]
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(FLOOR, dtype=dtype), "temperature_floor"),
            numpy_helper.from_array(np.array(temperature, dtype=dtype), "temperature"),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("Max", ["raw_probabilities", "temperature_floor"], ["floored"]),
            helper.make_node("Log", ["floored"], ["logged"]),
            helper.make_node("Div", ["logged", "temperature"], ["tempered"]),
            helper.make_node("Softmax", ["tempered"], ["probabilities"], axis=1),
        ]
    )


def _prepend_one_hot(model: Any, features: Sequence[Feature], precision: Precision) -> None:
    """Let the graph take the manifest's columns and one-hot encode the categories itself."""
    kind, dtype = (TensorProto.FLOAT, np.float32) if precision == "float" else (TensorProto.DOUBLE, np.float64)
    inner = model.graph.input[0].name
    nodes = [
        helper.make_node(
            "Split", ["instance"], [f"column_{i}" for i in range(len(features))], axis=1, num_outputs=len(features)
        )
    ]
    if len(features) == 1:
        nodes = [helper.make_node("Identity", ["instance"], ["column_0"])]
    for index, feature in enumerate(features):
        if feature.is_category:
            codes = np.arange(len(feature.values), dtype=dtype)
            model.graph.initializer.append(numpy_helper.from_array(codes, f"codes_{index}"))
            nodes.append(helper.make_node("Equal", [f"column_{index}", f"codes_{index}"], [f"is_{index}"]))
            nodes.append(helper.make_node("Cast", [f"is_{index}"], [f"hot_{index}"], to=kind))
    parts = [f"hot_{i}" if f.is_category else f"column_{i}" for i, f in enumerate(features)]
    nodes.append(helper.make_node("Concat", parts, [inner], axis=1))
    following = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *following])
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("instance", kind, [None, len(features)]))


def _answers(original: Engine | BoostedTrees | Estimator, rows: FloatMatrix) -> Probabilities:
    """Ask the original in slices, so that memory stays flat for large forests."""
    ask = original.probabilities if isinstance(original, (BoostedTrees, Estimator)) else original.predict
    return np.concatenate([ask(rows[start : start + 4096]) for start in range(0, len(rows), 4096)])


def _depends_on_batch(engine: Engine, rows: FloatMatrix, count: int = 97) -> bool:
    """Whether any of some rows is answered differently alone, in a small batch, and in a large one."""
    some = rows[np.linspace(0, len(rows) - 1, count).astype(np.intp)]
    together = engine.predict(some)
    alone = np.array([engine.predict_one(row) for row in some.tolist()])
    sevens = np.concatenate([engine.predict(some[i : i + 7]) for i in range(0, count, 7)])
    return not all(np.array_equal(together, parts, equal_nan=True) for parts in (alone, sevens))
