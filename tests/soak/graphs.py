"""Seeded edits of an ONNX model that keep it a well-formed protocol buffer."""

from __future__ import annotations

import contextlib
from random import Random

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.soak.edits import REAL, WHOLE

OPERATORS = ["Loop", "If", "Scan", "RandomNormal", "RandomUniformLike", "Transpose", "Gather", "GatherND", "ScatterND"]
OPERATORS += ["TreeEnsembleRegressor", "TreeEnsemble", "SVMClassifier", "LinearClassifier", "Normalizer", "OneHot"]
OPERATORS += ["Reshape", "Softmax", "MatMul", "Add", "Split", "Concat", "Pad", "Slice", "Tile", "Expand", "Conv"]
DOMAINS = ["", "ai.onnx.ml", "com.microsoft", "ai.onnx.training", "x"]
MODES = ["LEAF", "BRANCH_LT", "BRANCH_LEQ", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER", "X"]
HUGE = [10**6, 10**9, 10**12, 2**62]


def edit_onnx(payload: bytes, random: Random) -> bytes:
    """Edit a `model.onnx` once, sometimes twice."""
    model = onnx.load_from_string(payload)
    for _ in range(random.choice([1, 1, 1, 2])):
        # after a first edit there may be nothing left to edit
        with contextlib.suppress(LookupError, TypeError, ValueError):
            _edit(model, random)
    return model.SerializeToString()


def _edit(model: ModelProto, random: Random) -> None:
    """Edit a model once."""
    kind = random.random()
    if kind < 0.35 and _edit_ensemble(model, random):
        return
    if kind < 0.6:
        random.choice(HOSTILE)(model, random)
    else:
        _edit_anything(model, random)


def _edit_ensemble(model: ModelProto, random: Random) -> bool:
    """Edit one attribute of the tree ensemble; False if there is none."""
    node = next((n for n in model.graph.node if n.op_type == "TreeEnsembleClassifier" and n.attribute), None)
    if node is None:
        return False
    attribute = random.choice(node.attribute)
    field = {6: "floats", 7: "ints", 8: "strings"}.get(attribute.type)
    if field is None:
        attribute.s = random.choice([b"NONE", b"LOGISTIC", b"SOFTMAX", b"SOFTMAX_ZERO", b"PROBIT", b"X", b""])
        return True
    values = list(getattr(attribute, field)) or [b"" if field == "strings" else 0]
    at = random.randrange(len(values))
    kind = random.randrange(10)
    if kind == 0:
        values = random.choice([values[:-1], values[1:], [], values * 2, values[: len(values) // 2], values[:1]])
    elif kind == 1:
        other = random.randrange(len(values))
        values[at], values[other] = values[other], values[at]
    elif kind == 2:
        values = values[::-1] if random.random() < 0.5 else [values[at]] * len(values)
    elif field == "ints":
        near = [0, at, at + 1, at - 1, len(values), random.randrange(len(values)), values[at] + 1, values[at] - 1]
        values[at] = random.choice([*near, *WHOLE[:-1]]) & (2**64 - 1)
        values[at] -= 2**64 if values[at] >= 2**63 else 0
    elif field == "floats":
        values[at] = random.choice(REAL[:4] + REAL[-3:])
    else:
        values[at] = random.choice(MODES).encode()
    del getattr(attribute, field)[:]
    getattr(attribute, field).extend(values)
    if random.random() < 0.05:
        node.attribute.remove(attribute)
    return True


def _edit_anything(model: ModelProto, random: Random) -> None:
    """Walk to a random field and change it."""
    message = model
    while True:
        fields = [field for field, _ in message.ListFields()]
        if not fields:
            return
        field = random.choice(fields)
        if message is model and random.random() < 0.8:
            field = model.DESCRIPTOR.fields_by_name["graph"]
        value = getattr(message, field.name)
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            break
        if not isinstance(value, (list, tuple)) and hasattr(value, "ListFields"):
            if random.random() < 0.1:
                message.ClearField(field.name)
                return
            message = value
            continue
        at = random.randrange(len(value))
        kind = random.random()
        if kind < 0.1:
            del value[at]
            return
        if kind < 0.2:
            value.add().CopyFrom(value[at])
            return
        message = value[at]
    _change(message, field, value, random)


def _change(message, field: FieldDescriptor, value, random: Random) -> None:
    """Change one field that is no message."""
    choices = {
        FieldDescriptor.TYPE_INT64: [0, *(v for v in WHOLE[:-1] if -(2**63) <= v < 2**63)],
        FieldDescriptor.TYPE_INT32: [v for v in WHOLE if -(2**31) <= v < 2**31],
        FieldDescriptor.TYPE_ENUM: list(range(1, 15)),
        FieldDescriptor.TYPE_FLOAT: REAL,
        FieldDescriptor.TYPE_DOUBLE: REAL,
        FieldDescriptor.TYPE_STRING: [*OPERATORS, *DOMAINS, "X", "input", "label", "probabilities", "tempered"],
        FieldDescriptor.TYPE_BYTES: [b"", b"LEAF", b"X" * 100],
    }[field.type]
    if isinstance(value, (str, bytes, int, float)):
        if isinstance(value, bytes) and value and random.random() < 0.7:
            choices = [value[:-1], value + value, value[::-1], b"\xff" * len(value), bytes(len(value))]
        if random.random() < 0.1:
            message.ClearField(field.name)
            return
        _set(message, field.name, random.choice(choices))
        return
    values = list(value)
    at = random.randrange(len(values))
    kind = random.random()
    if kind < 0.2:
        values = random.choice([values[:-1], values[1:], [], values * 2, values[::-1]])
    elif kind < 0.3:
        values.insert(at, random.choice(choices))
    else:
        values[at] = random.choice(choices)
    del value[:]
    value.extend(values)


def _set(message, name: str, value) -> None:
    """Set a field, a float32 too large becoming infinite."""
    with np.errstate(over="ignore"):
        setattr(message, name, value)


def _operator(model: ModelProto, random: Random) -> None:
    """Another operator or domain."""
    if not model.graph.node:
        return
    node = random.choice(model.graph.node)
    node.op_type = random.choice(OPERATORS)
    node.domain = random.choice(DOMAINS)


def _loop(model: ModelProto, random: Random) -> None:
    """A loop that never ends, or ends late."""
    keep = helper.make_tensor_value_info("keep_in", TensorProto.BOOL, [])
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    out = helper.make_tensor_value_info("keep", TensorProto.BOOL, [])
    body = helper.make_graph([helper.make_node("Identity", ["keep_in"], ["keep"])], "body", [count, keep], [out])
    trips = random.choice([10**18, 10**7])
    model.graph.initializer.append(numpy_helper.from_array(np.array(trips), "trips"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "go"))
    model.graph.node.insert(0, helper.make_node("Loop", ["trips", "go"], [], body=body))


def _branch(model: ModelProto, _: Random) -> None:
    """A subgraph."""
    then = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(1.0), "c"))],
        "then",
        [],
        [helper.make_tensor_value_info("c", TensorProto.DOUBLE, [])],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "which"))
    model.graph.node.insert(0, helper.make_node("If", ["which"], ["unused"], then_branch=then, else_branch=then))


def _noise(model: ModelProto, random: Random) -> None:
    """Random numbers, a few or far too many, in the answer or beside it."""
    shape = random.choice([[3], [random.choice(HUGE)], [10**5, 10**5]])
    model.graph.node.insert(0, helper.make_node("RandomNormal", [], ["noise"], shape=shape))
    if random.random() < 0.5:
        model.graph.output.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, None))


def _explode(model: ModelProto, random: Random) -> None:
    """A tensor that needs more memory than there is."""
    size = random.choice(HUGE)
    model.graph.initializer.append(numpy_helper.from_array(np.array([size]), "size"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], ["zeros"]))
    model.graph.output.append(helper.make_tensor_value_info("zeros", TensorProto.FLOAT, None))


def _external(model: ModelProto, random: Random) -> None:
    """An initializer whose numbers are in another file."""
    tensor = model.graph.initializer.add(name="outside", data_type=TensorProto.FLOAT, dims=[4])
    if len(model.graph.initializer) > 1 and random.random() < 0.7:
        tensor = model.graph.initializer[0]
        for name in ("raw_data", "float_data", "double_data"):
            tensor.ClearField(name)
    tensor.data_location = TensorProto.EXTERNAL
    place = random.choice(["/etc/passwd", "../../../etc/passwd", "/dev/zero", "*/_ORT_MEM_ADDR_/*", "model.onnx"])
    tensor.external_data.add(key="location", value=place)
    tensor.external_data.add(key="offset", value=random.choice(["0", "-1", "99999999999", "139637976727552"]))
    tensor.external_data.add(key="length", value=random.choice(["32", "-1", "99999999999"]))


def _tensor(model: ModelProto, random: Random) -> None:
    """An initializer of another shape or type than its numbers."""
    if not model.graph.initializer:
        model.graph.initializer.add(name="new", data_type=1, dims=[random.choice(HUGE)], raw_data=b"1234")
        return
    tensor = random.choice(model.graph.initializer)
    kind = random.randrange(3)
    if kind == 0:
        tensor.data_type = random.randrange(25)
    elif kind == 1:
        del tensor.dims[:]
        tensor.dims.extend(random.choice([[], [0], [-1], [2], [1, 1], [2, 2], [random.choice(HUGE)] * 2, [1] * 40]))
    elif random.random() < 0.5 or not (tensor.double_data or tensor.raw_data):
        tensor.name = random.choice(["x", "", "coef", "codes_1", "temperature"])
    else:
        array = np.frombuffer(tensor.raw_data or np.array(tensor.double_data).tobytes(), dtype=np.uint8).copy()
        array.flat[random.randrange(array.size)] = random.randrange(256)
        tensor.ClearField("double_data")
        tensor.raw_data = array.tobytes()


def _edge(model: ModelProto, random: Random) -> None:
    """Inputs or outputs of another name, type or shape; or one more, or one less."""
    values = random.choice([model.graph.input, model.graph.output])
    if not values:
        return
    value = random.choice(values)
    kind = random.randrange(5)
    if kind == 0:
        value.name = random.choice(["x", "", "label", "probabilities"])
    elif kind == 1:
        value.type.tensor_type.elem_type = random.randrange(20)
    elif kind == 2 and value.type.tensor_type.shape.dim:
        random.choice(value.type.tensor_type.shape.dim).dim_value = random.choice([0, 1, 2, 5, -1, 10**9])
    elif kind == 3:
        values.add().CopyFrom(value)
        values[-1].name = "more"
    else:
        values.remove(value)


def _rewire(model: ModelProto, random: Random) -> None:
    """A node that reads another name, or one that is not there, or its own output."""
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    if not names:
        return
    node = random.choice([node for node in model.graph.node if node.input and node.output])
    side = random.choice([node.input, node.output])
    side[random.randrange(len(side))] = random.choice([*names, "", "nowhere"])


def _extras(model: ModelProto, random: Random) -> None:
    """What our compiler never writes: functions, training, sparse tensors, metadata, other versions."""
    kind = random.randrange(6)
    if kind == 0:
        body = [helper.make_node("Softmax", ["a"], ["b"])]
        sets = [helper.make_opsetid("", 18)]
        model.functions.append(helper.make_function("", "Softmax", ["a"], ["b"], body, sets))
    elif kind == 1:
        model.training_info.add().algorithm.CopyFrom(model.graph)
    elif kind == 2:
        model.graph.sparse_initializer.add().dims.append(random.choice(HUGE))
    elif kind == 3:
        model.metadata_props.add(
            key=random.choice(["ort_config", "whole_vectors"]), value=random.choice(["{}", "true"])
        )
    elif kind == 4:
        model.ir_version = random.choice([0, 3, 7, 9, 99])
    else:
        model.opset_import[0].version = random.choice([-1, 1, 13, 22, 99])


HOSTILE = [
    *[_operator, _loop, _branch, _noise, _explode, _external],
    *[_tensor, _tensor, _edge, _edge, _rewire, _rewire, _extras],
]
