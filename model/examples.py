"""Instances to begin with: ordinary rows of each class, and a doubtful one, out of the golden rows."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.domain import Value
from model.manifest import Manifest, Row

EACH = 3


class Example(NamedTuple):
    """One instance by name, and what the model answers to it.

    Attributes:
        kind: `typical`, or `doubtful` for the row whose two largest probabilities are nearest to each other.
        label: the class.
        instance: a value for every feature.
    """

    kind: Literal["typical", "doubtful"]
    label: str
    instance: dict[str, Value]


def examples(manifest: Manifest) -> list[Example]:
    """Return up to three rows of each class, those nearest to the class's mean first, and the most doubtful row.

    Only rows without a null and with every number in its plausible range are taken.
    """
    golden = manifest.golden
    plausible = [i for i, row in enumerate(golden.rows) if _is_plausible(manifest, row)]
    answers = np.array(golden.probabilities)
    found: list[Example] = []
    for position, label in enumerate(manifest.classes):
        own = [i for i in plausible if int(answers[i].argmax()) == position]
        distances = _distances(manifest, position, [golden.rows[i] for i in own])
        nearest = np.argsort(distances, kind="stable")[:EACH]
        found += [Example("typical", label, _instance(manifest, golden.rows[own[i]])) for i in nearest]
    if plausible:
        top = np.sort(answers[plausible], axis=1)
        doubtful = plausible[int((top[:, -1] - top[:, -2]).argmin())]
        label = manifest.classes[int(answers[doubtful].argmax())]
        found.append(Example("doubtful", label, _instance(manifest, golden.rows[doubtful])))
    return found


def _is_plausible(manifest: Manifest, row: Row) -> bool:
    """Whether nothing is missing or odd."""
    pairs = zip(manifest.features, row, strict=True)
    return all(value is not None and (f.is_category or f.accepts_as_plausible(value)) for f, value in pairs)


def _distances(manifest: Manifest, position: int, rows: list[Row]) -> NDArray[np.float64]:
    """Return the distance of each row to a class's mean, in standard deviations, over the numbers; shape (n,)."""
    reference = manifest.reference
    numbers = np.array([[row[column] for column in reference.columns] for row in rows], dtype=np.float64)
    scale = np.sqrt(np.maximum(np.diagonal(np.array(reference.covariance, ndmin=2)), 1e-12))
    # a class may have no row at all
    moved = (numbers.reshape(len(rows), len(reference.columns)) - np.array(reference.class_means[position])) / scale
    return np.asarray((moved**2).sum(axis=1))


def _instance(manifest: Manifest, row: Row) -> dict[str, Value]:
    """Return a golden row by name, categories as their text, whole numbers as such."""

    def value(index: int) -> Value:
        feature, number = manifest.features[index], row[index]
        if number is None or not (feature.is_category or feature.dtype == "int"):
            return number
        return feature.values[int(number)] if feature.is_category else int(number)

    return {feature.name: value(i) for i, feature in enumerate(manifest.features)}
