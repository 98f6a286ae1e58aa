"""Finds out which units a row was really measured in, from the row as a whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.domain import Feature, FloatMatrix, Reading, Value, Violation, to_matrix

MAX_COMBINATIONS = 256

NoveltyOf = Callable[[FloatMatrix], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the values of a row most likely are.

    Attributes:
        readings: position of the feature → its readings, the most likely first.
        is_certain: whether exactly one combination of readings is possible, or exactly one gives a row that the
            training data would not call novel. Only then may a value be converted.
    """

    readings: Mapping[int, tuple[Reading, ...]]
    is_certain: bool


def resolve(
    features: Sequence[Feature],
    row: Sequence[Value],
    violations: Mapping[int, Violation],
    distance: NoveltyOf,
    novel_distance: float,
) -> Resolution:
    """Choose among the readings of every mixed-up value together.

    A body mass of 6.2 may be in kg or in lb: alone both are plausible, beside the other measurements one is not.

    Args:
        features: d features in manifest order.
        row: d values, the mixed-up ones as given.
        violations: position → a violation with the code `unit`; at least one.
        distance: novelty distance of rows, (n, d) → (n,).
        novel_distance: the distance above which a row is novel.
    """
    positions = list(violations)
    choices = [violations[position].readings for position in positions]
    if all(len(choice) == 1 for choice in choices):
        return Resolution(dict(zip(positions, choices, strict=True)), is_certain=True)
    # the first ones of the manifest's order come first, so a cut keeps the likeliest units
    combinations = list(itertools.islice(itertools.product(*choices), MAX_COMBINATIONS))
    is_whole = len(combinations) == math.prod(map(len, choices))
    rows = []
    for combination in combinations:
        candidate = list(row)
        for position, reading in zip(positions, combination, strict=True):
            candidate[position] = reading.value
        rows.append(candidate)
    distances = distance(to_matrix(features, rows))
    order = np.argsort(distances, kind="stable")
    best = combinations[order[0]]
    readings = {
        position: (chosen, *(other for other in choice if other != chosen))
        for position, choice, chosen in zip(positions, choices, best, strict=True)
    }
    return Resolution(readings, is_certain=is_whole and int((distances <= novel_distance).sum()) == 1)
