"""The structure of `model.json`: what XGBoost writes for a gradient-boosted classifier, and nothing else."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
import numpy as np

from model.errors import EngineError
from model.inspect_trees import StructureInvalid, check_leaves, check_numbers, check_trees, need, need_all
from model.manifest import Manifest

# XGBoost writes no spaces and no escapes; its own reader takes either for another format or another key
_ALPHABET = bytes(range(ord("a"), ord("z") + 1)) + b'0123456789E{}[]":,._+-'

_NUMBER = r"-?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?"
_NUMBERS = re.compile(rf"\[{_NUMBER}(,{_NUMBER})*\]")
_COUNT = re.compile(r"[1-9]\d{0,6}")

# how XGBoost writes that a root has no parent, and which column a pruned node splits on
_NONE = 2**31 - 1

Int = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Nothing = Annotated[list[Int], msgspec.Meta(max_length=0)]


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    """Every key there, none beside them."""


class TreeParam(_Strict):
    """Sizes of one tree, as text."""

    num_deleted: str
    num_feature: str
    num_nodes: str
    size_leaf_vector: str


class Tree(_Strict):
    """One tree: arrays with one place a node."""

    base_weights: list[float]
    categories: Nothing
    categories_nodes: Nothing
    categories_segments: Nothing
    categories_sizes: Nothing
    default_left: list[Int]
    id: int
    left_children: list[Int]
    loss_changes: list[float]
    parents: list[Int]
    right_children: list[Int]
    split_conditions: list[float]
    split_indices: list[Int]
    split_type: list[Int]
    sum_hessian: list[float]
    tree_param: TreeParam


class Categories(_Strict):
    """XGBoost's own encoding of categories: never used, the one-hot columns are ours."""

    enc: Nothing
    feature_segments: Nothing
    sorted_idx: Nothing


class ForestParam(_Strict):
    """Sizes of the forest, as text."""

    num_parallel_tree: str
    num_trees: str


class Forest(_Strict):
    """All trees, the class of each, and where each round begins."""

    cats: Categories
    gbtree_model_param: ForestParam
    iteration_indptr: list[Int]
    tree_info: list[Int]
    trees: list[Tree]


class Booster(_Strict):
    """The trees and the name of what boosts them."""

    model: Forest
    name: str


class LearnerParam(_Strict):
    """Sizes of the model and its base scores, as text."""

    base_score: str
    boost_from_average: str
    num_class: str
    num_feature: str
    num_target: str


class Learner(_Strict):
    """The whole model."""

    attributes: Annotated[dict[str, str], msgspec.Meta(max_length=0)]
    feature_names: Nothing
    feature_types: Nothing
    gradient_booster: Booster
    learner_model_param: LearnerParam
    objective: dict[str, str | dict[str, str]]


class Document(_Strict):
    """The whole file."""

    learner: Learner
    version: tuple[Int, Int, Int]


_DECODER = msgspec.json.Decoder(Document)
_HEAD_KEYS = sum(
    len(kind.__struct_fields__) for kind in (Document, Learner, LearnerParam, Booster, Forest, ForestParam, Categories)
)
_TREE_KEYS = len(Tree.__struct_fields__) + len(TreeParam.__struct_fields__)


def check(payload: bytes, manifest: Manifest) -> None:
    """Refuse a `model.json` that XGBoost's loader or predictor might crash on, or that is not the manifest's kind.

    Raises:
        StructureInvalid: what and where.
    """
    width = sum(len(f.values) if f.is_category else 1 for f in manifest.features)
    classes = len(manifest.classes)
    document = decode(payload)
    learner = document.learner
    need((3, 1, 0) <= document.version < (4, 0, 0), f"version {document.version} is not from 3.1 up to 4")
    _check_head(learner, width, classes)
    forest = learner.gradient_booster.model
    _check_order(forest, 1 if classes == 2 else classes)
    for index, tree in enumerate(forest.trees):
        _check_sizes(tree, index, width)
    _check_nodes(forest.trees, width)


def learner_of(payload: bytes) -> Learner:
    """Return what a verified file holds, for whoever computes with it.

    Raises:
        EngineError: it is no such file.
    """
    try:
        return decode(payload).learner
    except StructureInvalid as error:
        raise EngineError(f"model.json: {error}") from error


def base_scores(learner: Learner) -> list[float]:
    """Return the scores before any tree, as float32, which the file's decimals stand for."""
    return [float(np.float32(text)) for text in learner.learner_model_param.base_score[1:-1].split(",")]


def decode(payload: bytes) -> Document:
    """Parse the file so that XGBoost's reader can only read the same.

    Raises:
        StructureInvalid: what and where.
    """
    strange = payload.translate(None, _ALPHABET)
    need(not strange, f"it holds the byte {strange[:1]!r}, which XGBoost never writes")
    try:
        document = _DECODER.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StructureInvalid(str(error)) from error
    # of a key given twice one reader takes the first, the other the last
    trees, objective = document.learner.gradient_booster.model.trees, msgspec.json.encode(document.learner.objective)
    keys = _HEAD_KEYS + _TREE_KEYS * len(trees) + objective.count(b":")
    need(payload.count(b":") == keys, f"it has {payload.count(b':')} keys, not {keys}: one is given twice")
    return document


def _check_head(learner: Learner, width: int, classes: int) -> None:
    """Check everything outside the trees against the manifest."""
    booster, param, objective = learner.gradient_booster.name, learner.learner_model_param, learner.objective
    need(booster == "gbtree", f"the booster is {booster!r}, not 'gbtree'")
    need(param.num_feature == str(width), f"num_feature is {param.num_feature!r}, the manifest has {width} columns")
    need(param.num_target == "1", f"num_target is {param.num_target!r}, not '1'")
    need(param.boost_from_average in {"0", "1"}, f"boost_from_average is {param.boost_from_average!r}")
    wanted = "0" if classes == 2 else str(classes)
    need(param.num_class == wanted, f"num_class is {param.num_class!r}, not {wanted!r}")
    need(_NUMBERS.fullmatch(param.base_score) is not None, f"base_score {param.base_score!r} is not a list of numbers")
    scores = np.array(param.base_score[1:-1].split(","), dtype=np.float64)
    check_numbers(scores, "the base scores")
    if classes == 2:
        need(objective.get("name") == "binary:logistic", f"the objective is {objective.get('name')!r}")
        need(len(scores) == 1, f"there are {len(scores)} base scores, not 1")
        need(0 < np.float32(scores[0]) < 1, f"the base score {scores[0]:g} is not a probability")
        weight = objective.get("reg_loss_param")
        good = isinstance(weight, dict) and _NUMBERS.fullmatch(f"[{weight.get('scale_pos_weight')}]") is not None
        need(good and len(objective) == 2 and len(weight or ()) == 1, "the objective's parameters are not its own")
        return
    known = {"name": "multi:softprob", "softmax_multiclass_param": {"num_class": wanted}}
    need(objective == known, f"the objective is not multi:softprob with {classes} classes")
    need(len(scores) == classes, f"there are {len(scores)} base scores, not {classes}")


def _check_order(forest: Forest, groups: int) -> None:
    """Check that the trees come round by round, in each round class by class."""
    param, count = forest.gbtree_model_param, len(forest.trees)
    need(_COUNT.fullmatch(param.num_parallel_tree) is not None, f"num_parallel_tree is {param.num_parallel_tree!r}")
    parallel = int(param.num_parallel_tree)
    a_round = groups * parallel
    need(param.num_trees == str(count), f"num_trees is {param.num_trees!r}, there are {count}")
    need(count > 0 and count % a_round == 0, f"{count} trees are not rounds of {a_round}")
    need(forest.iteration_indptr == list(range(0, count + 1, a_round)), f"iteration_indptr is not every {a_round}th")
    info = [group for group in range(groups) for _ in range(parallel)] * (count // a_round)
    need(forest.tree_info == info, "tree_info does not go round the classes")


def _check_sizes(tree: Tree, index: int, width: int) -> None:
    """Check that the arrays of one tree agree with what it says of itself."""
    param, size = tree.tree_param, len(tree.left_children)
    sizes = {
        len(array)
        for array in (
            tree.base_weights,
            tree.default_left,
            tree.loss_changes,
            tree.parents,
            tree.right_children,
            tree.split_conditions,
            tree.split_indices,
            tree.split_type,
            tree.sum_hessian,
        )
    }
    need(size > 0 and sizes == {size}, f"tree {index}: the arrays differ in length or are empty")
    need(param.num_nodes == str(size), f"tree {index}: num_nodes is {param.num_nodes!r}, there are {size}")
    need(tree.id == index, f"tree {index}: its id is {tree.id}")
    need(param.num_feature == str(width), f"tree {index}: num_feature is {param.num_feature!r}, not {width}")
    need(param.size_leaf_vector == "1", f"tree {index}: size_leaf_vector is {param.size_leaf_vector!r}, not '1'")
    deleted = str(tree.split_indices.count(_NONE))
    need(param.num_deleted == deleted, f"tree {index}: num_deleted is {param.num_deleted!r}, not {deleted}")


def _check_nodes(trees: list[Tree], width: int) -> None:
    """Check every node of all trees at once."""

    def ints(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([value for tree in trees for value in getattr(tree, name)], dtype=np.int64)

    def floats(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([value for tree in trees for value in getattr(tree, name)], dtype=np.float64)

    sizes = np.array([len(tree.left_children) for tree in trees], dtype=np.int64)
    left, right, parents, columns = map(ints, ("left_children", "right_children", "parents", "split_indices"))
    deleted, leaf = columns == _NONE, left == -1
    check_trees(sizes, left, right, deleted)
    need_all(((columns >= 0) & (columns < width)) | deleted, "a split is on a column that is not there")
    need_all(ints("split_type") == 0, "a split is not on a number")
    need_all(np.isin(ints("default_left"), (0, 1)), "default_left is not 0 or 1")
    starts = np.cumsum(sizes) - sizes
    need_all(parents[starts] == _NONE, "a root has a parent")
    start, here = np.repeat(starts, sizes), np.arange(len(left))
    inner = here[~leaf]
    position = inner - start[inner]
    good = (parents[left[inner] + start[inner]] == position) & (parents[right[inner] + start[inner]] == position)
    need_all(good, "a child names another parent")
    need_all((parents >= 0) & (parents <= _NONE), "a parent is negative")
    values = floats("split_conditions")
    for name in ("base_weights", "loss_changes", "sum_hessian"):
        check_numbers(floats(name), name)
    check_numbers(values, "split_conditions")
    check_leaves(values[leaf])
