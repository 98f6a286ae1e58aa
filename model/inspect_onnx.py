"""The structure of `model.onnx`: follows types and shapes through the graph, with the operators our compiler emits."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from model import inspect_ensemble, inspect_proto
from model.inspect_operators import OPERATORS, ROWS, Value
from model.inspect_proto import DOUBLE, FLOAT, INT32, INT64
from model.inspect_trees import need
from model.manifest import Manifest

# what `model.compiling` names; another set gives the same operators another meaning
IR_VERSION = 8
_OPSETS: dict[bytes, Collection[int]] = {b"": {18}, b"ai.onnx.ml": {1, 3}}

_WHOLE_VECTORS = (b"whole_vectors", b"true")

_REAL = (FLOAT, DOUBLE)
_INT_TYPE = 2
_STORES = {
    FLOAT: ("float_data", "<f4"),
    DOUBLE: ("double_data", "<f8"),
    INT32: ("int32_data", "<i4"),
    INT64: ("int64_data", "<i8"),
}


def check(payload: bytes, manifest: Manifest) -> None:
    """Refuse a `model.onnx` that our compiler cannot have written for this manifest.

    Raises:
        StructureInvalid: what and where.
    """
    model = inspect_proto.decode(payload)
    need(model.ir_version == IR_VERSION, f"ir_version is {model.ir_version}, not {IR_VERSION}")
    # skl2onnx may name the same set twice
    opsets = {(opset.domain, opset.version) for opset in model.opset_import}
    good = {domain for domain, _ in opsets} == _OPSETS.keys() and len(opsets) == len(_OPSETS)
    need(good and all(v in _OPSETS[domain] for domain, v in opsets), "the operator sets are not those of our compiler")
    _check_notes(model)
    graph, classes = model.graph, len(manifest.classes)
    need(len(graph.input) == 1, f"there are {len(graph.input)} inputs, not one matrix")
    values = {graph.input[0].name: _declared(graph.input[0], ROWS, len(manifest.features))}
    need(values[graph.input[0].name].kind in _REAL, "the input is neither float nor double")
    for tensor in graph.initializer:
        _define(values, tensor.name, _constant(tensor))
    need(len(graph.node) <= 4 * len(manifest.features) + 32, f"there are {len(graph.node)} nodes, too many")
    for index, node in enumerate(graph.node):
        _follow(values, node, f"node {index} ({node.op_type[:40].decode(errors='replace')})", classes)
    need(
        [value.name for value in graph.output] == [b"label", b"probabilities"],
        "the outputs are not label, probabilities",
    )
    for value, dims in zip(graph.output, ((ROWS,), (ROWS, classes)), strict=True):
        given = values.get(value.name)
        named = value.name.decode()
        need(given == _declared(value, *dims), f"the output {named} is not what the graph computes")
    need(values[b"label"].kind == INT64 and values[b"probabilities"].kind in _REAL, "the outputs have the wrong type")


def _check_notes(model: Any) -> None:
    """Check that the metadata says what `model.compiling` says of a temperature, and nothing else."""
    notes = [(note.key, note.value) for note in model.metadata_props]
    need(notes in ([], [_WHOLE_VECTORS]), "the metadata is not ours")
    is_tempered = any(node.op_type == b"Log" for node in model.graph.node)
    is_double = any(value.type.tensor_type.elem_type == DOUBLE for value in model.graph.input)
    need(not notes or is_tempered, "the metadata speaks of a temperature that is not there")
    # without it a row's answer would depend on the rows beside it; in double the engine needs no telling
    need(bool(notes) or is_double or not is_tempered, "the metadata does not speak of the temperature")


def _declared(info: Any, *dims: int) -> Value:
    """Return what an input or output is declared to be, once it is declared to have the shape it must have."""
    name = info.name[:40].decode(errors="replace")
    tensor = info.type.tensor_type
    found = [(dim.HasField("dim_value"), dim.dim_value, dim.HasField("dim_param")) for dim in tensor.shape.dim]
    wanted = [(size != ROWS, 0 if size == ROWS else size, False) for size in dims]
    need(found == wanted, f"{name} is not declared as a tensor of shape {['n' if d == ROWS else d for d in dims]}")
    return Value(tensor.elem_type, dims)


def _define(values: dict[bytes, Value], name: bytes, value: Value) -> None:
    """Bind a name, which must be new."""
    need(name != b"" and name not in values, f"the name {name[:40].decode(errors='replace')!r} is empty or given twice")
    values[name] = value


def _constant(tensor: Any) -> Value:
    """Return an initializer whose numbers are all there, finite, and as many as its shape says."""
    name = tensor.name[:40].decode(errors="replace")
    need(tensor.data_type in _STORES, f"initializer {name}: type {tensor.data_type} is not one of ours")
    store, kind = _STORES[tensor.data_type]
    dims = tuple(tensor.dims)
    need(
        len(dims) <= 2 and all(dim >= 1 for dim in dims), f"initializer {name}: the shape {dims[:8]} is not one of ours"
    )
    used = {field.name for field, _ in tensor.ListFields()} - {"dims", "data_type", "name"}
    need(used in ({"raw_data"}, {store}), f"initializer {name}: the numbers are not in one place")
    raw = tensor.raw_data if "raw_data" in used else np.array(getattr(tensor, store)[:], dtype=kind).tobytes()
    size = math.prod(dims) * np.dtype(kind).itemsize
    need(len(raw) == size, f"initializer {name}: {len(raw)} bytes of numbers, the shape needs {size}")
    numbers = np.frombuffer(raw, dtype=kind).reshape(dims)
    need(np.isfinite(numbers).all(), f"initializer {name}: a number is not finite")
    return Value(tensor.data_type, dims, numbers)


def _follow(values: dict[bytes, Value], node: Any, where: str, classes: int) -> None:
    """Check one node and bind its outputs."""
    inputs = [values.get(name) for name in node.input]
    given = [value for value in inputs if value is not None]
    need(len(given) == len(inputs), f"{where}: an input is not computed before it")
    operator = (node.domain, node.op_type)
    if operator == (b"ai.onnx.ml", b"TreeEnsembleClassifier"):
        need(len(given) == 1 and given[0].is_matrix, f"{where}: needs one matrix")
        inspect_ensemble.check(node, given[0].width, classes)
        results = [Value(INT64, (ROWS,)), Value(FLOAT, (ROWS, classes))]
    else:
        need(operator in OPERATORS, f"{where}: is not an operator of ours")
        known = OPERATORS[operator]
        need(len(given) >= 1 and known.inputs in {None, len(given)}, f"{where}: has {len(given)} inputs")
        results = known.rule(given, _options(node, known.options, where))
        need(len(results) > 0, f"{where}: the inputs do not fit")
    need(len(node.output) == len(results), f"{where}: has {len(node.output)} outputs, not {len(results)}")
    for name, value in zip(node.output, results, strict=True):
        _define(values, name, value)


def _options(node: Any, wanted: Mapping[bytes, Collection[int]], where: str) -> dict[bytes, int]:
    """Return the attributes of an ordinary operator: whole numbers, each from a closed set."""
    options: dict[bytes, int] = {}
    for attribute in node.attribute:
        fields = {field.name for field, _ in attribute.ListFields()}
        good = attribute.type == _INT_TYPE and fields == {"name", "type", "i"}
        need(good and attribute.i in wanted.get(attribute.name, ()), f"{where}: an attribute is not one of ours")
        options[attribute.name] = attribute.i
    need(len(node.attribute) == len(options) == len(wanted), f"{where}: an attribute is missing or given twice")
    return options
