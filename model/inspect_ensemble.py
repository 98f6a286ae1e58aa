"""The trees inside `model.onnx`: one TreeEnsembleClassifier, node by node."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.inspect_trees import Floats, Ints, Mask, check_leaves, check_numbers, check_trees, need, need_all

# AttributeProto.AttributeType → the field that holds the value
_FIELDS = {3: "s", 6: "floats", 7: "ints", 8: "strings"}
_STRING, _FLOATS, _INTS, _STRINGS = _FIELDS

_NODES = {
    b"nodes_falsenodeids": _INTS,
    b"nodes_featureids": _INTS,
    b"nodes_missing_value_tracks_true": _INTS,
    b"nodes_modes": _STRINGS,
    b"nodes_nodeids": _INTS,
    b"nodes_treeids": _INTS,
    b"nodes_truenodeids": _INTS,
    b"nodes_values": _FLOATS,
}
_WEIGHTS = {b"class_ids": _INTS, b"class_nodeids": _INTS, b"class_treeids": _INTS, b"class_weights": _FLOATS}
_OTHERS = {b"classlabels_int64s": _INTS, b"post_transform": _STRING}
_OPTIONAL = {b"base_values": _FLOATS, b"nodes_hitrates": _FLOATS}
_TYPES = {**_NODES, **_WEIGHTS, **_OTHERS, **_OPTIONAL}

_MODES = {b"LEAF": 0, b"BRANCH_LT": 1, b"BRANCH_LEQ": 2}
_TRANSFORMS = (b"NONE", b"LOGISTIC", b"SOFTMAX")


def check(node: Any, width: int, classes: int) -> None:
    """Refuse an ensemble that ONNX Runtime's loader or predictor might crash on.

    Args:
        node: the TreeEnsembleClassifier, as `model.inspect_proto` reads it.
        width: the number of columns it is given.
        classes: k.

    Raises:
        StructureInvalid: what and where.
    """
    given = _attributes(node)
    need(given[b"post_transform"] in _TRANSFORMS, "post_transform is not one of ours")
    need(given[b"classlabels_int64s"] == list(range(classes)), f"the class labels are not 0 to {classes - 1}")
    base = np.array(given.get(b"base_values", []), dtype=np.float64)
    need(len(base) in {0, 1 if classes == 2 else classes}, f"there are {len(base)} base values")
    check_numbers(base, "the base values")
    check_numbers(np.array(given.get(b"nodes_hitrates", []), dtype=np.float64), "nodes_hitrates")
    count = len(given[b"nodes_treeids"])
    lengths = {len(given[name]) for name in _NODES} | {len(given.get(b"nodes_hitrates", [])) or count}
    need(lengths == {count} and count > 0, "the nodes' attributes differ in length or are empty")
    starts, leaf = _check_nodes(given, width)
    _check_weights(given, starts, leaf, classes)


def _attributes(node: Any) -> dict[bytes, Any]:
    """Return the attributes by name: all that must be there, once each, of their type."""
    given: dict[bytes, Any] = {}
    for attribute in node.attribute:
        name = attribute.name[:40].decode(errors="replace")
        wanted = _TYPES.get(attribute.name, 0)
        need(wanted != 0 and attribute.name not in given, f"attribute {name} is not one of ours or given twice")
        fields = {field.name for field, _ in attribute.ListFields()}
        need(
            attribute.type == wanted and fields == {"name", "type", _FIELDS[wanted]},
            f"attribute {name} has another type",
        )
        value = getattr(attribute, _FIELDS[wanted])
        given[attribute.name] = value if wanted == _STRING else value[:]
    missing = _TYPES.keys() - _OPTIONAL.keys() - given.keys()
    need(not missing, f"attributes are missing: {b', '.join(sorted(missing)).decode()}")
    return given


def _ints(values: list[int]) -> Ints:
    """Return whole numbers as an array."""
    return np.array(values, dtype=np.int64)


def _check_nodes(given: dict[bytes, Any], width: int) -> tuple[Ints, Mask]:
    """Check every node; return where each tree starts and which nodes are leaves."""
    trees, nodes = _ints(given[b"nodes_treeids"]), _ints(given[b"nodes_nodeids"])
    starts = np.flatnonzero(np.diff(trees, prepend=-1))
    sizes = np.diff(starts, append=len(trees))
    need(np.array_equal(trees, np.repeat(np.arange(len(starts)), sizes)), "the trees are not numbered one by one")
    need_all(
        nodes == np.arange(len(nodes)) - np.repeat(starts, sizes), "the nodes of a tree are not numbered one by one"
    )
    modes = np.array([_MODES.get(mode, -1) for mode in given[b"nodes_modes"]])
    need_all(modes >= 0, "a node has a mode that is not one of ours")
    leaf = modes == 0
    need(len(set(modes[~leaf].tolist())) <= 1, "the branches differ in mode")
    true, false = _ints(given[b"nodes_truenodeids"]), _ints(given[b"nodes_falsenodeids"])
    need_all(~leaf | ((true == 0) & (false == 0)), "a leaf has children")
    none = np.zeros(len(leaf), dtype=np.bool_)
    check_trees(sizes, np.where(leaf, -1, true), np.where(leaf, -1, false), none)
    columns = _ints(given[b"nodes_featureids"])
    need_all((columns >= 0) & (columns < width), "a split is on a column that is not there")
    missing = _ints(given[b"nodes_missing_value_tracks_true"])
    need_all((missing == 0) | (missing == 1), "nodes_missing_value_tracks_true is not 0 or 1")
    check_numbers(np.array(given[b"nodes_values"], dtype=np.float64), "nodes_values")
    return starts, leaf


def _check_weights(given: dict[bytes, Any], starts: Ints, leaf: Mask, classes: int) -> None:
    """Check what the leaves add: each at least one number, to a class that is there, in order."""
    trees, nodes, ids = (_ints(given[name]) for name in (b"class_treeids", b"class_nodeids", b"class_ids"))
    weights: Floats = np.array(given[b"class_weights"], dtype=np.float64)
    need(len(trees) == len(nodes) == len(ids) == len(weights), "the leaves' attributes differ in length")
    need_all((trees >= 0) & (trees < len(starts)), "a weight is for a tree that is not there")
    sizes = np.diff(starts, append=len(leaf))
    need_all((nodes >= 0) & (nodes < sizes[trees]), "a weight is for a node that is not there")
    need_all((ids >= 0) & (ids < classes), "a weight is for a class that is not there")
    places = starts[trees] + nodes
    need_all(np.diff(places * classes + ids, prepend=-1) > 0, "the weights are not in order or given twice")
    need_all(np.isin(np.flatnonzero(leaf), places), "a leaf has no weight")
    need_all(leaf[places], "a weight is for a branch")
    check_numbers(weights, "class_weights")
    check_leaves(weights)
