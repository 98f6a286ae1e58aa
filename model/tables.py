"""Shallow boosted trees as lookup tables: an answer is a few sums instead of a walk through every tree.

A leaf that depends on at most two features is a rectangle over the two features' bins, the intervals between the split
thresholds. All rectangles of one pair of features add up to one table, so the whole forest is as many additions as
there are pairs, however many trees it has (Lou, Caruana and Gehrke 2013, doi:10.1145/2487575.2487579: GA2M).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.domain import Feature, FloatMatrix, check_matrix
from model.errors import EngineError
from model.grid import Grid
from model.inspect_xgboost import Learner, Tree, base_scores, learner_of

# 8 MB of float64: beyond, the tables would be slower to build and to reach than the trees
MAX_CELLS = 1 << 20

Bins = NDArray[np.bool_]
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """How one feature's values fall into bins.

    Attributes:
        thresholds: ascending; bin i holds the values with i thresholds at or below them. Empty for a category, whose
            codes are the bins.
        size: number of bins, the last one for null.
    """

    thresholds: tuple[float, ...]
    size: int

    @cached_property
    def array(self) -> NDArray[np.float64]:
        """The thresholds as an array, shape (t,)."""
        return np.array(self.thresholds, dtype=np.float64)


@dataclass
class Tables:
    """What the trees add up to.

    Attributes:
        axes: one per feature.
        base: shape (k,), raw scores before any tree.
        max_cells: the most that all tables together may have.
        pairs: (first feature, second feature) → shape (bins of the first, bins of the second, k); a table of one
            feature has d, which every row has in bin 0, as its second.
    """

    axes: list[Axis]
    base: list[float]
    max_cells: int
    pairs: dict[tuple[int, int], Table] = field(default_factory=dict)


class TablesEngine:
    """Computes what `model.json` says, in float64, from lookup tables; needs neither XGBoost nor ONNX Runtime."""

    name = "tables"

    def __init__(
        self, payload: bytes, features: Sequence[Feature], class_count: int, max_cells: int = MAX_CELLS
    ) -> None:
        """Build the tables.

        Args:
            payload: the bytes of `model.json`, already verified.
            features: d features of the manifest.
            class_count: k.
            max_cells: the most that all tables together may have.

        Raises:
            EngineError: a leaf depends on more than two features, or the tables would be too large.
        """
        learner = learner_of(payload)
        self._tables = build(learner, features, class_count, max_cells)
        self._width, self._class_count = len(features), class_count
        self._is_binary = class_count == 2
        self._sums = [
            (first, second, table.shape[1], table.reshape(-1, table.shape[2]), table.reshape(-1).data)
            for (first, second), table in self._tables.pairs.items()
        ]
        used = sorted({feature for pair in self._tables.pairs for feature in pair if feature < self._width})
        self._used = [(feature, self._tables.axes[feature]) for feature in used]
        self._divided = [feature for feature, axis in self._used if axis.thresholds]
        self._grid = Grid([self._tables.axes[feature].array for feature in self._divided]) if self._divided else None

    def predict(self, matrix: FloatMatrix) -> NDArray[np.float64]:
        """See `model.engines.Engine.predict`."""
        check_matrix(matrix, self._width)
        if not len(matrix):
            return np.empty((0, self._class_count))
        columns = np.ascontiguousarray(matrix.T, dtype=np.float64)
        below = () if self._grid is None else self._grid.places(columns[self._divided]) - self._grid.firsts
        divided = dict(zip(self._divided, below, strict=True))
        places = {feature: _places(axis, columns[feature], divided.get(feature)) for feature, axis in self._used}
        places[self._width] = np.zeros(len(matrix), dtype=np.intp)
        margins = np.tile(np.array(self._tables.base), (len(matrix), 1))
        for first, second, step, table, _ in self._sums:
            margins += table.take(places[first] * step + places[second], axis=0)
        if self._is_binary:
            odds = _exponentials(-np.abs(margins))
            likely, unlikely = 1.0 / (1.0 + odds), odds / (1.0 + odds)
            return np.where(margins > 0, np.hstack([unlikely, likely]), np.hstack([likely, unlikely]))
        return _softmax(np.ascontiguousarray(margins.T))

    def predict_one(self, row: Sequence[float]) -> list[float]:
        """See `model.engines.Engine.predict_one`: the same sums in the same order."""
        places = [0] * (self._width + 1)
        for feature, axis in self._used:
            value = row[feature]
            if value != value:
                places[feature] = axis.size - 1
            elif axis.thresholds:
                places[feature] = bisect_right(axis.thresholds, value)
            else:
                places[feature] = int(value)
        margins = self._tables.base.copy()
        columns = range(len(margins))
        for first, second, step, _, cells in self._sums:
            start = (places[first] * step + places[second]) * len(margins)
            for column in columns:
                margins[column] += cells[start + column]
        if self._is_binary:
            odds = math.exp(-abs(margins[0]))
            likely, unlikely = 1.0 / (1.0 + odds), odds / (1.0 + odds)
            return [unlikely, likely] if margins[0] > 0 else [likely, unlikely]
        highest = max(margins)
        powers = [math.exp(margin - highest) for margin in margins]
        total = powers[0]
        for power in powers[1:]:
            total += power
        return [power / total for power in powers]


def build(learner: Learner, features: Sequence[Feature], class_count: int, max_cells: int) -> Tables:
    """Add the trees up.

    Args:
        learner: as `model.inspect_xgboost.decode` reads it.
        features: d features of the manifest; a category is as many columns of the trees as it has values.
        class_count: k.
        max_cells: the most that all tables together may have.

    Raises:
        EngineError: a leaf depends on more than two features, or the tables would be too large.
    """
    owners = [(index, code) for index, f in enumerate(features) for code in range(len(f.values) or 1)]
    if int(learner.learner_model_param.num_feature) != len(owners):
        raise EngineError("model.json takes other columns than the manifest has")
    forest = learner.gradient_booster.model
    axes = _axes(forest.trees, features, owners)
    groups = 1 if class_count == 2 else class_count
    scores = base_scores(learner)
    if len(scores) != groups:
        raise EngineError(f"model.json has {len(scores)} base scores, {class_count} classes need {groups}")
    base = [math.log(scores[0] / (1 - scores[0]))] if class_count == 2 else scores
    tables = Tables(axes, base, max_cells)
    alone: list[tuple[int, Bins, int, float]] = []
    for tree, group in zip(forest.trees, forest.tree_info, strict=True):
        for value, masks in _leaves(tree, axes, features, owners):
            if len(masks) > 2:
                raise EngineError("a leaf depends on more than two features")
            if not masks:
                tables.base[group] += value
            elif len(masks) == 1:
                alone.extend((feature, mask, group, value) for feature, mask in masks.items())
            else:
                pair = min(masks), max(masks)
                table = _open(tables, pair, (axes[pair[0]].size, axes[pair[1]].size, groups))
                table[..., group] += value * np.outer(masks[pair[0]], masks[pair[1]])
    _add_alone(tables, alone, groups)
    return tables


def _add_alone(tables: Tables, alone: Sequence[tuple[int, Bins, int, float]], groups: int) -> None:
    """Add leaves of a single feature to any table that has this feature, or to one of its own."""
    nothing = len(tables.axes)
    for feature, mask, group, value in alone:
        pair = next((pair for pair in tables.pairs if feature in pair), (feature, nothing))
        table = _open(tables, pair, (tables.axes[feature].size, 1, groups))
        if pair[0] == feature:
            table[mask, :, group] += value
        else:
            table[:, mask, group] += value


def _open(tables: Tables, pair: tuple[int, int], shape: tuple[int, int, int]) -> Table:
    """Return the table of a pair, a new one of this shape if there is none.

    Raises:
        EngineError: all tables together would be too large.
    """
    if pair not in tables.pairs:
        cells = sum(table.size for table in tables.pairs.values()) + math.prod(shape)
        if cells > tables.max_cells:
            raise EngineError(f"the tables would have more than {tables.max_cells} cells")
        tables.pairs[pair] = np.zeros(shape)
    return tables.pairs[pair]


def _axes(trees: Sequence[Tree], features: Sequence[Feature], owners: Sequence[tuple[int, int]]) -> list[Axis]:
    """Return how each feature is divided by all the splits on it."""
    found: list[set[float]] = [set() for _ in features]
    for tree in trees:
        for left, column, threshold in zip(tree.left_children, tree.split_indices, tree.split_conditions, strict=True):
            if left != -1:
                found[owners[column][0]].add(threshold)
    axes = []
    for feature, thresholds in zip(features, found, strict=True):
        if feature.is_category:
            axes.append(Axis((), len(feature.values) + 1))
        else:
            exact = tuple(sorted({float(np.float32(threshold)) for threshold in thresholds}))
            axes.append(Axis(exact, len(exact) + 2))
    return axes


def _leaves(
    tree: Tree, axes: Sequence[Axis], features: Sequence[Feature], owners: Sequence[tuple[int, int]]
) -> list[tuple[float, dict[int, Bins]]]:
    """Return every leaf: its value, and for each feature on its path which bins lead there."""
    leaves = []
    waiting: list[tuple[int, dict[int, Bins]]] = [(0, {})]
    while waiting:
        node, masks = waiting.pop()
        threshold = float(np.float32(tree.split_conditions[node]))
        if tree.left_children[node] == -1:
            leaves.append((threshold, masks))
            continue
        feature, code = owners[tree.split_indices[node]]
        goes_left = _goes_left(axes[feature], features[feature], code, threshold, bool(tree.default_left[node]))
        before = masks.get(feature)
        for child, mask in ((tree.left_children[node], goes_left), (tree.right_children[node], ~goes_left)):
            waiting.append((child, {**masks, feature: mask if before is None else before & mask}))
    return leaves


def _goes_left(axis: Axis, feature: Feature, code: int, threshold: float, null_goes_left: bool) -> Bins:
    """Return for each bin of a feature whether a split sends it left: XGBoost compares `value < threshold`."""
    if feature.is_category:
        # the split is on the 0/1 column of one value; null has 0 in every column
        return np.array([float(value == code) < threshold for value in range(axis.size)])
    mask = np.arange(axis.size) <= bisect_right(axis.thresholds, threshold) - 1
    mask[-1] = null_goes_left
    return mask


def _places(axis: Axis, values: NDArray[np.float64], below: NDArray[np.intp] | None) -> NDArray[np.intp]:
    """Return the bin of each value, shape (n,), given how many thresholds are at or below it; None for categories."""
    if below is not None:
        # NaN is behind every threshold, as are the largest values
        return below if below.max() < axis.size - 2 else np.where(np.isnan(values), axis.size - 1, below)
    is_null = np.isnan(values)
    return np.where(is_null, axis.size - 1, np.where(is_null, 0, values).astype(np.intp))


def _softmax(margins: Table) -> Table:
    """Return probabilities, shape (n, k), for margins of shape (k, n), added up in the order of the classes."""
    highest = margins[0]
    for margin in margins[1:]:
        highest = np.maximum(highest, margin)
    powers = _exponentials(margins - highest)
    total = powers[0]
    for power in powers[1:]:
        total = total + power
    return np.ascontiguousarray((powers / total).T)


def _exponentials(values: Table) -> Table:
    """Return e to each value, none above 0: numpy's own depends on the processor, and may on the place in the array."""
    found = np.ones_like(values)
    # of each row the largest is 0
    is_less = values < 0
    less = values[is_less].tolist()
    found[is_less] = np.fromiter(map(math.exp, less), np.float64, len(less))
    return found
