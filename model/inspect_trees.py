"""Proves that arrays of child positions are trees: what both model formats have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MAX_NODES = 4_000_000
# TreeSHAP recurses once a level and ONNX Runtime's loader too
MAX_DEPTH = 512

# far below the largest float32, so that no sum of leaves becomes infinite
MAX_LEAF_SUM = 1e30


class StructureInvalid(Exception):
    """Why a model file is not built as it must be; the reader is told in `BundleError`."""


def need(is_good: bool | np.bool_, reason: str) -> None:
    """Raise StructureInvalid with the reason unless the condition holds."""
    if not is_good:
        raise StructureInvalid(reason)


def need_all(good: Mask, reason: str) -> None:
    """Raise StructureInvalid with the reason and the first position where the condition does not hold."""
    if not good.all():
        raise StructureInvalid(f"{reason}, first at position {int(np.argmin(good))}")


def check_trees(sizes: Ints, left: Ints, right: Ints, deleted: Mask, max_nodes: int = MAX_NODES) -> None:
    """Prove that every tree hangs together: each node reached from its root, once.

    Args:
        sizes: shape (t,), the number of nodes of each tree, at least 1.
        left: shape (n,), the trees one after the other: position of the first child in its tree, -1 in a leaf.
        right: the same for the second child.
        deleted: shape (n,), nodes that pruning has left behind and nothing may lead to.
        max_nodes: the most that all trees together may have.

    Raises:
        StructureInvalid: no trees, too many nodes, or what does not hang together.
    """
    count = len(left)
    need(len(sizes) > 0, "there are no trees")
    need(count <= max_nodes, f"there are {count} nodes, more than {max_nodes}")
    starts = np.cumsum(sizes) - sizes
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    inner = left >= 0
    need_all(inner == (right >= 0), "a node has one child")
    need_all((left >= -1) & (right >= -1) & (left < size) & (right < size), "a child is not in its tree")
    children = np.concatenate([(left + start)[inner], (right + start)[inner]])
    expected = np.where(deleted, 0, 1)
    expected[starts] = 0
    need_all(np.bincount(children, minlength=count) == expected, "a node has no parent, or two, or should have none")
    depth, level, reached = 0, starts, len(starts)
    while len(level):
        need(depth <= MAX_DEPTH, f"a tree is deeper than {MAX_DEPTH}")
        level = level[inner[level]]
        level = np.concatenate([left[level] + start[level], right[level] + start[level]])
        reached += len(level)
        depth += 1
    need(reached == count - int(deleted.sum()), "a tree has a cycle")


def check_numbers(values: Floats, what: str) -> None:
    """Refuse numbers that are not finite as float32.

    Raises:
        StructureInvalid: naming the first one.
    """
    need_all(np.abs(values) <= np.finfo(np.float32).max, f"{what} are not finite")


def check_leaves(values: Floats) -> None:
    """Refuse leaf values whose sum could overflow.

    Raises:
        StructureInvalid: with the sum.
    """
    total = float(np.abs(values).sum())
    need(total <= MAX_LEAF_SUM, f"the leaves add up to {total:.3g}, more than {MAX_LEAF_SUM:g}")
