"""Chooses the golden rows: few enough to replay at every start, and through as much of the model as possible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.compiling import random_rows, threshold_rows
from model.domain import Feature, FloatMatrix, check
from model.learners import Fitted
from model.manifest import Row

MIN_ROWS, MAX_ROWS = 256, 512
SPLIT_ROWS = 96
CANDIDATES = 4_000


def choose(
    features: Sequence[Feature], model: Fitted, training: FloatMatrix, seed: int
) -> tuple[tuple[Row, ...], FloatMatrix, float | None]:
    """Choose golden rows.

    A part lies one float32 step to either side of split thresholds; the rest is chosen greedily so that each row visits
    as many leaves as possible that none before it did.

    Returns:
        The rows as JSON holds them, the same as float32 (g, d), and the share of leaves visited (None without trees).
    """
    random = np.random.default_rng(seed)
    sides = threshold_rows(features, training, model.splits(), seed)
    sides = _acceptable(features, np.unique(sides, axis=0))
    edge = sides[np.sort(random.permutation(len(sides))[:SPLIT_ROWS])]
    pool = _acceptable(features, np.concatenate([training, random_rows(features, 2 * CANDIDATES, seed), sides]))
    pool = np.concatenate([_acceptable(features, training), pool[random.permutation(len(pool))[:CANDIDATES]]])
    leaves = model.leaves(np.concatenate([edge, pool]))
    if leaves is None:
        chosen = pool[:: max(1, len(pool) // MIN_ROWS)][:MIN_ROWS]
    else:
        picks = _cover(leaves[len(edge) :], leaves[: len(edge)], MIN_ROWS - len(edge), MAX_ROWS - len(edge))
        chosen = np.concatenate([edge, pool[picks]])
    rows = [tuple(_as_json(value) for value in row) for row in chosen]
    matrix = np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=np.float32)
    share = None
    visited = model.leaves(matrix)
    if visited is not None:
        share = round(sum(len(np.unique(tree)) for tree in visited.T) / model.leaf_count(), 4)
    return tuple(rows), matrix, share


def _cover(leaves: NDArray[np.intp], taken: NDArray[np.intp], least: int, most: int) -> list[int]:
    """Pick rows greedily until nothing new is visited; then the first ones not picked, up to `least`.

    Args:
        leaves: shape (candidates, trees).
        taken: shape (m, trees), leaves visited already.
        least: pick at least so many rows.
        most: and never more.
    """
    width = int(max(leaves.max(), taken.max(initial=0))) + 1
    ids = leaves + np.arange(leaves.shape[1]) * width
    unseen = np.ones(leaves.shape[1] * width, dtype=np.bool_)
    unseen[(taken + np.arange(leaves.shape[1]) * width).ravel()] = False
    picks: list[int] = []
    while len(picks) < most:
        gains = unseen[ids].sum(axis=1)
        best = int(gains.argmax())
        if gains[best] == 0:
            break
        picks.append(best)
        unseen[ids[best]] = False
    rest = [index for index in range(len(leaves)) if index not in set(picks)]
    return picks + rest[: max(0, least - len(picks))]


def _acceptable(features: Sequence[Feature], rows: FloatMatrix) -> FloatMatrix:
    """Keep the rows that the service would answer."""
    return rows[[all(map(_answers, features, row)) for row in rows]] if len(rows) else rows


def _answers(feature: Feature, value: np.float32) -> bool:
    """Whether one value would be accepted over HTTP."""
    if np.isnan(value):
        return feature.nullable
    if feature.is_category:
        return True
    whole = feature.dtype != "int" or float(value).is_integer()
    shown = _as_json(value)
    return whole and shown is not None and check(feature, shown) is None


def _as_json(value: np.float32) -> float | None:
    """Return the shortest decimal that reads back as the same float32; None for null."""
    return None if np.isnan(value) else float(str(np.float32(value)))
