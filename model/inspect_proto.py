"""The part of ONNX's file format that our compiler writes: what cannot be said here cannot be in a model file."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from model.inspect_trees import StructureInvalid, need

# TensorProto.DataType
FLOAT, INT32, INT64, BOOL, DOUBLE = 1, 6, 7, 9, 11

# message → (number, name, kind); a capital names a message, + repeats, * repeats packed.
# Texts are bytes: the same on the wire, and never a UnicodeDecodeError. Source: onnx.proto of ONNX 1.23.
_MESSAGES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "Dimension": ((1, "dim_value", "int64"), (2, "dim_param", "bytes")),
    "Shape": ((1, "dim", "Dimension+"),),
    "TensorType": ((1, "elem_type", "int32"), (2, "shape", "Shape")),
    "Type": ((1, "tensor_type", "TensorType"),),
    "ValueInfo": ((1, "name", "bytes"), (2, "type", "Type")),
    "Tensor": (
        (1, "dims", "int64+"),
        (2, "data_type", "int32"),
        (4, "float_data", "float*"),
        (5, "int32_data", "int32*"),
        (7, "int64_data", "int64*"),
        (8, "name", "bytes"),
        (9, "raw_data", "bytes"),
        (10, "double_data", "double*"),
    ),
    "Attribute": (
        (1, "name", "bytes"),
        (3, "i", "int64"),
        (4, "s", "bytes"),
        (7, "floats", "float+"),
        (8, "ints", "int64+"),
        (9, "strings", "bytes+"),
        (20, "type", "int32"),
    ),
    "Node": (
        (1, "input", "bytes+"),
        (2, "output", "bytes+"),
        (3, "name", "bytes"),
        (4, "op_type", "bytes"),
        (5, "attribute", "Attribute+"),
        (6, "doc_string", "bytes"),
        (7, "domain", "bytes"),
    ),
    "Graph": (
        (1, "node", "Node+"),
        (2, "name", "bytes"),
        (5, "initializer", "Tensor+"),
        (10, "doc_string", "bytes"),
        (11, "input", "ValueInfo+"),
        (12, "output", "ValueInfo+"),
    ),
    "OperatorSet": ((1, "domain", "bytes"), (2, "version", "int64")),
    "Entry": ((1, "key", "bytes"), (2, "value", "bytes")),
    "Model": (
        (1, "ir_version", "int64"),
        (2, "producer_name", "bytes"),
        (3, "producer_version", "bytes"),
        (4, "domain", "bytes"),
        (5, "model_version", "int64"),
        (6, "doc_string", "bytes"),
        (7, "graph", "Graph"),
        (8, "opset_import", "OperatorSet+"),
        (14, "metadata_props", "Entry+"),
    ),
}


def decode(payload: bytes) -> Any:
    """Parse a model file so that any other reader of protocol buffers can only read the same.

    Returns:
        A message of kind `Model`.

    Raises:
        StructureInvalid: the file is no model, or holds anything our compiler does not write: subgraphs, functions,
            external data, training, sparse tensors; or a value given twice.
    """
    try:
        model = _MODEL.FromString(payload)
    except DecodeError as error:
        raise StructureInvalid(f"it is not an ONNX model: {error}") from error
    model.DiscardUnknownFields()
    need(model.SerializeToString(deterministic=True) == payload, "it holds fields that our compiler does not write")
    return model


def _model_class() -> Any:
    """Build the message classes in a pool of their own, so that `onnx` may be imported beside them."""
    field_kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="rookery/onnx.proto", package="rookery.onnx", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field_name, kind in fields:
            bare = kind.rstrip("+*")
            field = message.field.add(name=field_name, number=number)
            field.label = field_kinds.LABEL_OPTIONAL if bare == kind else field_kinds.LABEL_REPEATED
            field.options.packed = kind.endswith("*")
            if bare in _MESSAGES:
                field.type, field.type_name = field_kinds.TYPE_MESSAGE, f".rookery.onnx.{bare}"
            else:
                field.type = field_kinds.Type.Value(f"TYPE_{bare.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("rookery.onnx.Model"))


_MODEL = _model_class()
