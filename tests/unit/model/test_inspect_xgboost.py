"""The structure of `model.json`: every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from model import inspect
from model.verify import VerifiedBundle
from tests.soak.damage import PRUNED
from tests.unit.model import toy
from tests.unit.model.files import made, refusal


def written(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def forest(document: dict) -> dict:
    return document["learner"]["gradient_booster"]["model"]


def set_at(*path: object) -> Callable[[dict], None]:
    """Return an edit that sets the value at a path; the last two of `path` are key and value."""
    *steps, key, value = path

    def edit(document):
        for step in steps:
            document = document[step]
        document[key] = value

    return edit


LEARNER = ("learner",)
PARAM = ("learner", "learner_model_param")
MODEL = ("learner", "gradient_booster", "model")
TREE = (*MODEL, "trees", 1)


def chain(levels: int) -> Callable[[dict], None]:
    """Return an edit that makes the second tree a chain of so many levels."""

    def edit(document):
        tree, size = forest(document)["trees"][1], 2 * levels + 1
        for key, value in tree.items():
            if isinstance(value, list) and value:
                tree[key] = [0] * size
        tree["left_children"] = [i + 1 if i % 2 == 0 and i < size - 1 else -1 for i in range(size)]
        tree["right_children"] = [i + 2 if i % 2 == 0 and i < size - 1 else -1 for i in range(size)]
        tree["parents"] = [2**31 - 1, *((i - 1) // 2 * 2 for i in range(1, size))]
        tree["tree_param"]["num_nodes"] = str(size)

    return edit


def cycle(document: dict) -> None:
    """Two nodes, each the other's parent, beside a tree that is whole."""
    chain(3)(document)
    tree = forest(document)["trees"][1]
    tree["left_children"] = [1, -1, -1, 4, 3, -1, -1]
    tree["right_children"] = [2, -1, -1, 5, 6, -1, -1]
    tree["parents"] = [2**31 - 1, 0, 0, 4, 3, 3, 4]


JSON_EDITS = {
    "version 2": (set_at("version", [2, 1, 4]), "version"),
    "version 4": (set_at("version", [4, 0, 0]), "version"),
    "no version": (lambda d: d.pop("version"), "version"),
    "unknown key": (set_at("extra", 1), "extra"),
    "unknown key in a tree": (set_at(*TREE, "extra", []), "extra"),
    "missing array": (lambda d: forest(d)["trees"][0].pop("parents"), "parents"),
    "text for a number": (set_at(*TREE, "left_children", 0, "1"), "Expected `int`"),
    "real for a whole number": (set_at(*TREE, "left_children", 0, 1.0), "Expected `int`"),
    "more than 32 bits": (set_at(*TREE, "left_children", 0, 2**31), "Expected `int`"),
    "attributes": (set_at(*LEARNER, "attributes", {"best_iteration": "1"}), "attributes"),
    "feature names": (set_at(*LEARNER, "feature_names", [1]), "feature_names"),
    "categories": (set_at(*MODEL, "cats", "enc", [1]), "enc"),
    "split on categories": (set_at(*TREE, "categories", [1]), "categories"),
    "booster": (set_at("learner", "gradient_booster", "name", "dart"), "booster"),
    "width": (set_at(*PARAM, "num_feature", "5"), "num_feature"),
    "targets": (set_at(*PARAM, "num_target", "2"), "num_target"),
    "boost from average": (set_at(*PARAM, "boost_from_average", "x"), "boost_from_average"),
    "classes": (set_at(*PARAM, "num_class", "4"), "num_class"),
    "base score text": (set_at(*PARAM, "base_score", "[nan,1,2]"), "base_score"),
    "base score infinite": (set_at(*PARAM, "base_score", "[1e39,0,0]"), "base scores"),
    "base score count": (set_at(*PARAM, "base_score", "[1E0,0E0]"), "2 base scores"),
    "objective": (set_at("learner", "objective", "name", "multi:softmax"), "objective"),
    "objective's classes": (set_at("learner", "objective", "softmax_multiclass_param", "num_class", "2"), "objective"),
    "parallel trees": (set_at(*MODEL, "gbtree_model_param", "num_parallel_tree", "0"), "num_parallel_tree"),
    "not whole rounds": (set_at(*MODEL, "gbtree_model_param", "num_parallel_tree", "7"), "rounds of 21"),
    "number of trees": (set_at(*MODEL, "gbtree_model_param", "num_trees", "1"), "num_trees"),
    "rounds": (set_at(*MODEL, "iteration_indptr", 1, 2), "iteration_indptr"),
    "class of a tree": (set_at(*MODEL, "tree_info", 1, 0), "tree_info"),
    "length": (lambda d: forest(d)["trees"][1]["parents"].append(0), "differ in length"),
    "empty tree": (lambda d: forest(d)["trees"][1].update({k: [] for k in ARRAYS}), "are empty"),
    "num_nodes": (set_at(*TREE, "tree_param", "num_nodes", "1"), "num_nodes"),
    "id": (set_at(*TREE, "id", 0), "its id"),
    "width of a tree": (set_at(*TREE, "tree_param", "num_feature", "0"), "tree 1: num_feature"),
    "vector leaves": (set_at(*TREE, "tree_param", "size_leaf_vector", "3"), "size_leaf_vector"),
    "num_deleted": (set_at(*TREE, "tree_param", "num_deleted", "1"), "num_deleted"),
    "one child": (set_at(*TREE, "right_children", 0, -1), "one child"),
    "child too large": (set_at(*TREE, "left_children", 0, 99), "not in its tree"),
    "child too small": (set_at(*TREE, "left_children", 0, -7), "one child"),
    "both children too small": (
        lambda d: [set_at(*TREE, k, 0, -2)(d) for k in ("left_children", "right_children")],
        "not in its tree",
    ),
    "two parents": (set_at(*TREE, "left_children", 0, 2), "no parent, or two"),
    "a root is a child": (set_at(*TREE, "left_children", 0, 0), "no parent, or two"),
    "cycle": (cycle, "cycle"),
    "deep": (chain(513), "deeper than 512"),
    "column too large": (set_at(*TREE, "split_indices", 0, 4), "column"),
    "column too small": (set_at(*TREE, "split_indices", 0, -1), "column"),
    "split type": (set_at(*TREE, "split_type", 0, 1), "not on a number"),
    "default": (set_at(*TREE, "default_left", 0, 2), "default_left"),
    "root has a parent": (set_at(*TREE, "parents", 0, 0), "root has a parent"),
    "other parent": (set_at(*TREE, "parents", 1, 1), "another parent"),
    "threshold": (set_at(*TREE, "split_conditions", 0, 1e39), "split_conditions"),
    "weight": (set_at(*TREE, "base_weights", 0, -1e39), "base_weights"),
    "gain": (set_at(*TREE, "loss_changes", 0, 1e39), "loss_changes"),
    "hessian": (set_at(*TREE, "sum_hessian", 0, 1e39), "sum_hessian"),
    "leaf": (set_at(*TREE, "split_conditions", -1, 2e30), "add up to 2e+30"),
}
ARRAYS = ("base_weights", "default_left", "left_children", "loss_changes", "parents", "right_children")
ARRAYS += ("split_conditions", "split_indices", "split_type", "sum_hessian")


@pytest.mark.parametrize("name", JSON_EDITS)
def test_edited_json_is_refused(name, penguins: VerifiedBundle):
    edit, reason = JSON_EDITS[name]
    document = json.loads(penguins.files["model.json"])
    inspect.check({"model.json": written(document)}, penguins.manifest)
    edit(document)

    assert reason in refusal(written(document), "model.json", penguins.manifest)


def test_negative_parent_of_a_deleted_node_is_refused(tmp_path):
    files, manifest = made(PRUNED, toy.NUMBERS, 2, None, tmp_path)
    document = json.loads(files["model.json"])
    tree = next(t for t in forest(document)["trees"] if t["tree_param"]["num_deleted"] != "0")
    tree["parents"][tree["split_indices"].index(2**31 - 1)] = -1

    assert "negative" in refusal(written(document), "model.json", manifest)


BINARY_EDITS = {
    "objective": (set_at("learner", "objective", {"name": "multi:softprob"}), "objective"),
    "no parameters": (lambda d: d["learner"]["objective"].pop("reg_loss_param"), "objective's parameters"),
    "parameters": (set_at("learner", "objective", "reg_loss_param", "scale_pos_weight", "x"), "objective's parameters"),
    "more parameters": (set_at("learner", "objective", "reg_loss_param", "x", "1"), "objective's parameters"),
    "more": (set_at("learner", "objective", "x", "1"), "objective's parameters"),
    "classes": (set_at(*PARAM, "num_class", "2"), "num_class"),
    "scores": (set_at(*PARAM, "base_score", "[5E-1,5E-1]"), "2 base scores"),
    "probability 1": (set_at(*PARAM, "base_score", "[1E0]"), "not a probability"),
    "probability 0": (set_at(*PARAM, "base_score", "[0E0]"), "not a probability"),
    "class of a tree": (set_at(*MODEL, "tree_info", 0, 1), "tree_info"),
}


@pytest.mark.parametrize("name", BINARY_EDITS)
def test_edited_binary_json_is_refused(name, tmp_path):
    edit, reason = BINARY_EDITS[name]
    files, manifest = made(toy.XGBOOST, toy.NUMBERS, 2, None, tmp_path)
    document = json.loads(files["model.json"])
    edit(document)

    assert reason in refusal(written(document), "model.json", manifest)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'{"learner"', b'{ "learner"', "byte b' '"),
        (b'"left_children"', b'"l\\u0065ft_children"', "byte b'\\\\'"),
        (b'"num_nodes"', b'"num_nodes":"1","num_nodes"', "given twice"),
        (b'"id":0', b'"id":NaN', "byte b'N'"),
        (b'{"learner"', b"{{", "malformed"),
        (b'"enc":[', b'"enc":' + b"[" * 5000, "learner"),
        (b'"trees":[', b'"trees":[],"trees":[', "given twice"),
    ],
    ids=["space", "escape", "twice", "nan", "malformed", "deep", "trees twice"],
)
def test_json_that_another_reader_reads_otherwise_is_refused(old, new, reason, penguins: VerifiedBundle):
    payload = penguins.files["model.json"].replace(old, new, 1)

    assert reason in refusal(payload, "model.json", penguins.manifest)


def test_no_trees_are_refused(penguins: VerifiedBundle):
    document = json.loads(penguins.files["model.json"])
    forest(document).update(trees=[], tree_info=[], iteration_indptr=[0])
    forest(document)["gbtree_model_param"]["num_trees"] = "0"

    assert "0 trees" in refusal(written(document), "model.json", penguins.manifest)
