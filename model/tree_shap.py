"""TreeSHAP without XGBoost: what each feature adds to the raw score of a boosted forest, from `model.json` alone.

A leaf is reached if the row passes every condition on its path. Where a feature is absent, its condition is passed with
the share of the training rows that passed it (Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9, path dependent). A
leaf's worth is therefore a product of one factor per column on its path, and the Shapley value of a product is an
integral of the other factors over how present they are (Owen 1972, doi:10.1287/mnsc.18.5.64), a polynomial that
Gauss' quadrature integrates exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.domain import Feature, FloatMatrix, check_matrix, one_hot
from model.errors import EngineError
from model.inspect_xgboost import Forest, Tree, base_scores, learner_of

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Paths:
    """The way to every leaf of a forest, p of them, each with m conditions; those it does not need are always passed.

    Attributes:
        values: shape (p,), of the leaves.
        groups: shape (p,), the raw score that a leaf adds to.
        columns: shape (m, p), the one-hot column that a condition is on.
        low: shape (m, p), a number passes from here on.
        high: shape (m, p), up to below this.
        takes_null: shape (m, p), whether null passes.
        shares: shape (m, p), of the training rows that came so far, those that passed.
    """

    values: FloatArray
    groups: NDArray[np.intp]
    columns: NDArray[np.intp]
    low: FloatArray
    high: FloatArray
    takes_null: NDArray[np.bool_]
    shares: FloatArray


class ForestTooLarge(EngineError):
    """There are more conditions than were to be followed; XGBoost itself can explain it."""


class _Condition(NamedTuple):
    """What all splits of one path on one column come to; the fields are those of `Paths`."""

    column: int
    low: float
    high: float
    takes_null: bool
    share: float


# always passed: a condition that makes all paths equally long, and changes no Shapley value
ANYTHING = _Condition(0, -math.inf, math.inf, takes_null=True, share=1.0)


class TreeShap:
    """Explains rows by the trees of `model.json`; needs neither XGBoost nor ONNX Runtime."""

    def __init__(self, payload: bytes, features: Sequence[Feature], class_count: int, max_conditions: int) -> None:
        """Follow every path once.

        Args:
            payload: the bytes of `model.json`, already verified.
            features: d features of the manifest.
            class_count: k.
            max_conditions: see `follow`.

        Raises:
            EngineError: it is no such file; ForestTooLarge if it is too large.
        """
        learner = learner_of(payload)
        self._features, self._is_binary = features, class_count == 2
        self._owners = np.repeat(np.arange(len(features)), [len(f.values) or 1 for f in features])
        self._group_count = 1 if self._is_binary else class_count
        self._paths = paths = follow(learner.gradient_booster.model, max_conditions)
        scores = np.array(base_scores(learner))
        start = np.log(scores / (1 - scores)) if self._is_binary else scores
        expected = paths.values * paths.shares.prod(axis=0)
        self._base = start + np.bincount(paths.groups, expected, self._group_count)
        self._places = paths.groups * len(features) + self._owners[paths.columns]
        points, weights = np.polynomial.legendre.leggauss(len(paths.columns) // 2 + 1)
        self._points, self._weights = ((points + 1) / 2).tolist(), (weights / 2).tolist()

    def contributions(self, matrix: FloatMatrix) -> FloatArray:
        """Explain n rows.

        Args:
            matrix: float32, shape (n, d), as `model.domain.to_matrix` lays it out.

        Returns:
            shape (n, k, d + 1), in log-odds, the base in the last column; they add up to the raw scores.
        """
        check_matrix(matrix, len(self._features))
        columns = one_hot(self._features, matrix).astype(np.float64)
        shape = len(matrix), self._group_count, len(self._features)
        found = np.array([self._explain(row) for row in columns]).reshape(shape)
        whole = np.concatenate([found, np.broadcast_to(self._base[:, None], (*found.shape[:2], 1))], axis=2)
        return np.concatenate([-whole, whole], axis=1) if self._is_binary else whole

    def _explain(self, row: FloatArray) -> FloatArray:
        """Return what each feature adds to each raw score, shape (groups * d,), for one row of one-hot columns."""
        paths = self._paths
        values = row[paths.columns]
        passes = ((values >= paths.low) & (values < paths.high)) | (np.isnan(values) & paths.takes_null)
        change = passes - paths.shares
        added = np.zeros_like(paths.shares)
        for point, weight in zip(self._points, self._weights, strict=True):
            added += weight * _products_of_others(paths.shares + point * change)
        added *= change * paths.values
        sums = np.bincount(self._places.ravel(), added.ravel(), self._group_count * len(self._features))
        return np.asarray(sums, dtype=np.float64)


def _products_of_others(factors: FloatArray) -> FloatArray:
    """Return for each of m factors the product of the m - 1 others, shape (m, p); they may be 0."""
    found = np.ones_like(factors)
    np.cumprod(factors[:-1], axis=0, out=found[1:])
    after = np.ones(factors.shape[1])
    for index in range(len(factors) - 1, -1, -1):
        found[index] *= after
        after = after * factors[index]
    return found


def follow(forest: Forest, max_conditions: int) -> Paths:
    """Return the way to every leaf.

    Args:
        forest: the trees of `model.json`.
        max_conditions: the most that the paths to all leaves may have together, those that are always passed included.

    Raises:
        ForestTooLarge: there are more.
    """
    values: list[float] = []
    groups: list[int] = []
    ways: list[list[_Condition]] = []
    size = 1
    for tree, group in zip(forest.trees, forest.tree_info, strict=True):
        for value, conditions in _leaves(tree):
            values.append(value)
            groups.append(group)
            ways.append(list(conditions.values()))
            size = max(size, len(conditions))
        if len(ways) * size > max_conditions:
            raise ForestTooLarge(f"the trees have more than {max_conditions} conditions")
    padded = [condition for way in ways for condition in (*way, *[ANYTHING] * (size - len(way)))]
    table = np.array(padded, dtype=np.float64).reshape(len(ways), size, len(ANYTHING))
    columns, low, high, takes_null, shares = np.ascontiguousarray(table.transpose(2, 1, 0))
    places = np.array(groups, dtype=np.intp)
    return Paths(np.array(values), places, columns.astype(np.intp), low, high, takes_null.astype(np.bool_), shares)


def _leaves(tree: Tree) -> list[tuple[float, dict[int, _Condition]]]:
    """Return every leaf of a tree: its value, and the condition on each column on its path."""
    # as float32, which the file's decimals stand for
    thresholds = np.array(tree.split_conditions, dtype=np.float32).tolist()
    leaves = []
    waiting: list[tuple[int, dict[int, _Condition]]] = [(0, {})]
    while waiting:
        node, conditions = waiting.pop()
        threshold, left, right = thresholds[node], tree.left_children[node], tree.right_children[node]
        if left == -1:
            leaves.append((threshold, conditions))
            continue
        column, null_goes_left, rows = tree.split_indices[node], tree.default_left[node] == 1, tree.sum_hessian[node]
        _, low, high, takes_null, share = conditions.get(column, ANYTHING)
        left_share, right_share = (tree.sum_hessian[child] / rows if rows else 0.0 for child in (left, right))
        # XGBoost goes left where `value < threshold`
        to_left = _Condition(column, low, min(high, threshold), takes_null and null_goes_left, share * left_share)
        to_right = _Condition(column, max(low, threshold), high, takes_null and not null_goes_left, share * right_share)
        waiting += [(left, {**conditions, column: to_left}), (right, {**conditions, column: to_right})]
    return leaves
