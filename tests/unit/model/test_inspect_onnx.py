"""The structure of `model.onnx`: every refusal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from model.verify import VerifiedBundle
from tests.unit.model import toy
from tests.unit.model.files import made, refusal


def attribute(model: ModelProto, name: str):
    tree = next(node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier")
    return next(a for a in tree.attribute if a.name == name)


def put(name: str, position: int, value: object) -> Callable[[ModelProto], None]:
    """Return an edit that changes one value of an attribute of the ensemble."""

    def edit(model):
        found = attribute(model, name)
        (found.floats or found.ints or found.strings)[position] = value

    return edit


def first(op_type: str, act: Callable) -> Callable[[ModelProto], None]:
    return lambda model: act(next(node for node in model.graph.node if node.op_type == op_type))


def tensor(name: str, act: Callable) -> Callable[[ModelProto], None]:
    return lambda model: act(next(t for t in model.graph.initializer if t.name == name))


def replace(name: str, array: np.ndarray) -> Callable[[ModelProto], None]:
    return tensor(name, lambda t: t.CopyFrom(numpy_helper.from_array(array, name)))


def add_node(*given: object, **options: object) -> Callable[[ModelProto], None]:
    return lambda model: model.graph.node.append(helper.make_node(*given, **options))


TREES_EDITS = {
    "not a model": (None, "not an ONNX model"),
    "metadata": (lambda m: m.metadata_props.add(key="a", value="b"), "metadata is not ours"),
    "metadata of another": (lambda m: m.metadata_props.add(key="whole_vectors", value="true"), "temperature"),
    "function": (lambda m: m.functions.add(name="f"), "fields that our compiler"),
    "training": (lambda m: m.training_info.add(), "fields that our compiler"),
    "sparse": (lambda m: m.graph.sparse_initializer.add(), "fields that our compiler"),
    "value info": (lambda m: m.graph.value_info.add(name="x"), "fields that our compiler"),
    "ir version": (lambda m: setattr(m, "ir_version", 9), "ir_version"),
    "operator set": (lambda m: setattr(m.opset_import[0], "version", 17), "operator sets"),
    "two operator sets": (lambda m: m.opset_import.add(domain="ai.onnx.ml", version=3), "operator sets"),
    "another domain": (lambda m: m.opset_import.add(domain="com.microsoft", version=1), "operator sets"),
    "no operator set": (lambda m: m.opset_import.pop(), "operator sets"),
    "two inputs": (lambda m: m.graph.input.add(name="x"), "2 inputs"),
    "input type": (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 7), "neither float nor double"),
    "input width": (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 5), "shape"),
    "input rows": (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 5), "shape"),
    "named size": (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", "n"), "shape"),
    "input rank": (lambda m: m.graph.input[0].type.tensor_type.shape.dim.add(), "shape"),
    "output name": (lambda m: setattr(m.graph.output[1], "name", "x"), "the outputs are not"),
    "more outputs": (lambda m: m.graph.output.add(name="x"), "the outputs are not"),
    "output type": (lambda m: setattr(m.graph.output[1].type.tensor_type, "elem_type", 11), "not what the graph"),
    "output width": (lambda m: setattr(m.graph.output[1].type.tensor_type.shape.dim[1], "dim_value", 2), "shape"),
    "output not made": (lambda m: m.graph.node.pop(), "label is not what the graph"),
    "many nodes": (lambda m: m.graph.node.extend(m.graph.node[0] for _ in range(50)), "51 nodes"),
    "unknown input": (first("TreeEnsembleClassifier", lambda n: n.input.__setitem__(0, "x")), "not computed before"),
    "two matrices": (first("TreeEnsembleClassifier", lambda n: n.input.append("input")), "needs one matrix"),
    "three outputs": (first("TreeEnsembleClassifier", lambda n: n.output.append("x")), "3 outputs, not 2"),
    "name twice": (first("TreeEnsembleClassifier", lambda n: n.output.__setitem__(0, "input")), "given twice"),
    "no name": (first("TreeEnsembleClassifier", lambda n: n.output.__setitem__(0, "")), "is empty"),
    "operator": (first("TreeEnsembleClassifier", lambda n: setattr(n, "op_type", "Loop")), "not an operator of ours"),
    "domain": (first("TreeEnsembleClassifier", lambda n: setattr(n, "domain", "x")), "not an operator of ours"),
    "unknown attribute": (lambda m: setattr(attribute(m, "nodes_modes"), "name", "x"), "attribute x"),
    "attribute twice": (lambda m: setattr(attribute(m, "class_ids"), "name", "class_treeids"), "given twice"),
    "attribute type": (lambda m: setattr(attribute(m, "class_ids"), "type", 6), "another type"),
    "attribute with two values": (lambda m: attribute(m, "class_ids").floats.append(1), "another type"),
    "missing attribute": (first("TreeEnsembleClassifier", lambda n: n.attribute.pop()), "attributes are missing"),
    "transform": (lambda m: setattr(attribute(m, "post_transform"), "s", b"PROBIT"), "post_transform"),
    "labels": (put("classlabels_int64s", 0, 1), "class labels"),
    "base values": (lambda m: attribute(m, "base_values").floats.pop(), "2 base values"),
    "base value": (put("base_values", 0, float("nan")), "base values"),
    "length": (lambda m: attribute(m, "nodes_modes").strings.pop(), "differ in length"),
    "tree ids": (put("nodes_treeids", -1, 10**9), "trees are not numbered"),
    "negative tree": (put("nodes_treeids", 0, -1), "trees are not numbered"),
    "node ids": (put("nodes_nodeids", 1, 7), "nodes of a tree are not numbered"),
    "mode": (put("nodes_modes", 0, b"BRANCH_EQ"), "mode that is not"),
    "mixed modes": (put("nodes_modes", 0, b"BRANCH_LEQ"), "differ in mode"),
    "child of a leaf": (put("nodes_truenodeids", -1, 1), "leaf has children"),
    "child too large": (put("nodes_truenodeids", 0, 10**6), "not in its tree"),
    "child too small": (put("nodes_truenodeids", 0, -1), "one child"),
    "a tree has itself": (put("nodes_falsenodeids", 0, 0), "no parent, or two"),
    "column": (put("nodes_featureids", 0, 4), "column"),
    "negative column": (put("nodes_featureids", 0, -1), "column"),
    "null's way": (put("nodes_missing_value_tracks_true", 0, 2), "nodes_missing_value"),
    "threshold": (put("nodes_values", 0, float("inf")), "nodes_values"),
    "weights' length": (lambda m: attribute(m, "class_ids").ints.pop(), "leaves' attributes differ"),
    "weight's tree": (put("class_treeids", 0, 10**6), "tree that is not there"),
    "weight's node": (put("class_nodeids", 0, 10**6), "node that is not there"),
    "weight's class": (put("class_ids", 0, 3), "class that is not there"),
    "negative class": (put("class_ids", 0, -1), "class that is not there"),
    "weights' order": (put("class_nodeids", 1, 2), "not in order"),
    "weight of a branch": (put("class_nodeids", 0, 0), "a leaf has no weight"),
    "weight": (put("class_weights", 0, float("nan")), "class_weights"),
    "large weight": (put("class_weights", 0, 2e30), "add up to"),
}


def refused_onnx(bundle: VerifiedBundle, edit: Callable[[ModelProto], None] | None) -> str:
    model = onnx.load_from_string(bundle.files["model.onnx"])
    if edit is None:
        return refusal(b"\xff" * 20, "model.onnx", bundle.manifest)
    edit(model)
    return refusal(model.SerializeToString(deterministic=True), "model.onnx", bundle.manifest)


@pytest.mark.parametrize("name", TREES_EDITS)
def test_edited_ensemble_is_refused(name, penguins: VerifiedBundle):
    edit, reason = TREES_EDITS[name]

    assert reason in refused_onnx(penguins, edit)


def test_weight_of_a_branch_beside_all_leaves_is_refused(penguins: VerifiedBundle):
    def edit(model):
        for name, value in (("class_treeids", 0), ("class_nodeids", 0), ("class_ids", 0)):
            attribute(model, name).ints.insert(0, value)
        attribute(model, "class_weights").floats.insert(0, 1.0)

    assert "weight is for a branch" in refused_onnx(penguins, edit)


def test_empty_ensemble_is_refused(penguins: VerifiedBundle):
    def edit(model):
        for name in ("falsenodeids", "featureids", "missing_value_tracks_true", "nodeids", "treeids", "truenodeids"):
            del attribute(model, f"nodes_{name}").ints[:]

    assert "another type" in refused_onnx(penguins, edit)


def test_a_value_given_twice_is_refused(penguins: VerifiedBundle):
    payload = penguins.files["model.onnx"]

    assert "fields that our compiler" in refusal(payload + b"\x08\x08", "model.onnx", penguins.manifest)


LINEAR_EDITS = {
    "external": (
        tensor("coef", lambda t: t.external_data.add(key="location", value="/etc/passwd")),
        "fields that our compiler",
    ),
    "tensor type": (tensor("coef", lambda t: setattr(t, "data_type", TensorProto.STRING)), "type 8"),
    "rank": (tensor("coef", lambda t: t.dims.append(1)), "shape"),
    "empty": (tensor("coef", lambda t: t.dims.__setitem__(0, 0)), "shape"),
    "too large": (tensor("coef", lambda t: t.dims.__setitem__(0, 10**12)), "bytes of numbers"),
    "two places": (tensor("coef", lambda t: setattr(t, "raw_data", b"1")), "not in one place"),
    "no place": (tensor("coef", lambda t: t.ClearField("double_data")), "not in one place"),
    "not finite": (tensor("coef", lambda t: t.double_data.__setitem__(0, float("nan"))), "not finite"),
    "hides the input": (tensor("coef", lambda t: setattr(t, "name", "X")), "given twice"),
    "coefficients": (replace("coef", np.ones((3, 3))), "inputs do not fit"),
    "coefficients' type": (replace("coef", np.ones((4, 3), dtype=np.float32)), "inputs do not fit"),
    "scaler": (replace("Su_Subcst", np.ones(3)), "inputs do not fit"),
    "scaler's type": (replace("Su_Subcst", np.ones(4, dtype=np.float32)), "inputs do not fit"),
    "class numbers": (replace("classes", np.arange(2, dtype=np.int32)), "inputs do not fit"),
    "shape": (replace("shape_tensor", np.array([10**12])), "inputs do not fit"),
    "attribute's value": (first("ArgMax", lambda n: setattr(n.attribute[0], "i", 0)), "attribute is not one of ours"),
    "attribute's type": (first("ArgMax", lambda n: setattr(n.attribute[0], "type", 1)), "attribute is not one of ours"),
    "attribute's name": (first("ArgMax", lambda n: setattr(n.attribute[0], "name", "x")), "is not one of ours"),
    "attribute twice": (first("ArgMax", lambda n: n.attribute.append(n.attribute[0])), "missing or given twice"),
    "attribute gone": (first("ArgMax", lambda n: n.attribute.pop()), "missing or given twice"),
    "more inputs": (first("ArgMax", lambda n: n.input.append("X")), "has 2 inputs"),
    "positions by computing": (first("ArrayFeatureExtractor", lambda n: n.input.__setitem__(1, "raw_scores")), "fit"),
    "a vector is no matrix": (add_node("Abs", ["label"], ["x"]), "inputs do not fit"),
    "no inputs": (add_node("Concat", [], ["x"], axis=1), "has 0 inputs"),
    "types side by side": (add_node("Concat", ["X", "label"], ["x"], axis=1), "inputs do not fit"),
    "label type": (first("Cast", lambda n: setattr(n.attribute[0], "i", 7)), "label is not what"),
    "no argmax of a vector": (add_node("ArgMax", ["label"], ["x"], axis=1), "inputs do not fit"),
    "split": (add_node("Split", ["X"], ["x", "y"], axis=1, num_outputs=2), "inputs do not fit"),
    "sum": (add_node("ReduceSum", ["X", "shape_tensor"], ["x"], keepdims=1), "inputs do not fit"),
    "codes": (add_node("Equal", ["X", "classes"], ["x"]), "inputs do not fit"),
    "matrix with a wide one": (add_node("Add", ["X", "raw_scores"], ["x"]), "inputs do not fit"),
}


@pytest.mark.parametrize("name", LINEAR_EDITS)
def test_edited_linear_model_is_refused(name, iris: VerifiedBundle):
    edit, reason = LINEAR_EDITS[name]
    if name == "label type":
        edit = label_as_double

    assert reason in refused_onnx(iris, edit)


def label_as_double(model: ModelProto) -> None:
    """The last cast makes the label a double, and the output says so too."""
    last = [node for node in model.graph.node if node.op_type == "Cast"][-1]
    last.attribute[0].i = TensorProto.DOUBLE


def test_label_declared_double_is_refused(iris: VerifiedBundle):
    def edit(model):
        label_as_double(model)
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    assert "the outputs have the wrong type" in refused_onnx(iris, edit)


def test_attributes_of_sums_are_checked(tmp_path):
    files, manifest = made(toy.LOGISTIC, toy.NUMBERS, 2, None, tmp_path)
    model = onnx.load_from_string(files["model.onnx"])
    replace("axis", np.array([0]))(model)

    assert "inputs do not fit" in refusal(model.SerializeToString(deterministic=True), "model.onnx", manifest)


def test_lengths_of_hitrates_are_checked(tmp_path):
    files, manifest = made(toy.FOREST, toy.NUMBERS, 3, None, tmp_path)
    model = onnx.load_from_string(files["model.onnx"])
    attribute(model, "nodes_hitrates").floats.pop()

    assert "differ in length" in refusal(model.SerializeToString(deterministic=True), "model.onnx", manifest)


def test_tempered_model_in_float_must_say_so(tmp_path):
    files, manifest = made(toy.BOOSTING, toy.NUMBERS, 3, 1.7, tmp_path)
    model = onnx.load_from_string(files["model.onnx"])
    del model.metadata_props[:]

    payload = model.SerializeToString(deterministic=True)

    assert "does not speak of the temperature" in refusal(payload, "model.onnx", manifest)
