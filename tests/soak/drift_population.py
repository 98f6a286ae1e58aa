"""A population that is known: normal distributions, one for each species of penguin, with what models learn from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec import structs
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from model import assemble, baseline, dataset, spec
from model.baseline import Baseline
from model.dataset import Dataset
from model.evaluate import OutOfFold
from model.manifest import Manifest
from model.reference import Novelty

SPEC = Path(__file__).resolve().parents[2] / "model/specs/penguins.toml"
FOLDS = 5


class Population:
    """Rows of the same means, covariances and class shares as the 342 penguins."""

    def __init__(self) -> None:
        """Fit the distributions."""
        self.data: Dataset = dataset.load(spec.load(SPEC))
        rows, labels = self.data.matrix.astype(np.float64), self.data.labels
        self.deviations = rows.std(axis=0)
        self._shares = np.bincount(labels) / len(labels)
        self._means = np.array([rows[labels == c].mean(axis=0) for c in range(3)])
        self._roots = np.array([np.linalg.cholesky(np.cov(rows[labels == c].T)) for c in range(3)])

    def draw(self, random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows, float32, shape (count, 4), and their classes."""
        labels = random.choice(3, size=count, p=self._shares)
        noise = np.einsum("nij,nj->ni", self._roots[labels], random.normal(size=(count, 4)))
        return (self._means[labels] + noise).astype(np.float32), labels


@dataclass(frozen=True)
class Watch:
    """What is known after one training: the training rows, their baseline, and how to answer."""

    rows: np.ndarray
    baseline: Baseline
    model: LinearDiscriminantAnalysis
    novelty: Novelty

    def bins(self, rows: np.ndarray) -> np.ndarray:
        """Return the bin of each row in each variable, int8, shape (v, n)."""
        novelty = self.novelty.shares(self.novelty.distances(rows))
        probabilities = self.model.predict_proba(rows)
        answers = (probabilities.argmax(axis=1), probabilities.max(axis=1), novelty)
        found = []
        for variable, column in zip(self.baseline.variables, [*rows.T.astype(np.float64), *answers], strict=True):
            edges = variable.edges
            parts = column.astype(int) if edges is None else np.searchsorted(edges, column, side="right")
            found.append(variable.places[parts])
        return np.array(found, dtype=np.int8)

    def counts(self, bins: np.ndarray) -> list[np.ndarray]:
        """Count bins, shape (v, n)."""
        variables = zip(self.baseline.variables, bins, strict=True)
        return [np.bincount(of_one, minlength=len(variable.bins)) for variable, of_one in variables]


def train(population: Population, template: Manifest, random: np.random.Generator, count: int) -> Watch:
    """Draw training rows and learn from them; linear discriminants, as a thousand trainings must be affordable."""
    rows, labels = population.draw(random, count)
    folds = random.permutation(count) % FOLDS
    probabilities = np.empty((count, 3))
    for fold in range(FOLDS):
        out = folds == fold
        probabilities[out] = LinearDiscriminantAnalysis().fit(rows[~out], labels[~out]).predict_proba(rows[out])
    found = assemble.summarise(
        replace(population.data, matrix=rows, labels=labels), OutOfFold(probabilities[None], folds[None]), 0.99
    )
    confusion = np.zeros((3, 3), dtype=int)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    quality = structs.replace(template.quality, rows=count, confusion=tuple(map(tuple, confusion.tolist())))
    manifest = structs.replace(template, reference=found, quality=quality)
    model = LinearDiscriminantAnalysis().fit(rows, labels)
    return Watch(rows, baseline.build(manifest), model, Novelty(found))
