"""What each feature adds to the predicted class, in log-odds."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model import engines
from model.domain import FloatMatrix
from model.engines import Engine, XGBoostEngine
from model.errors import EngineError
from model.verify import VerifiedBundle

if TYPE_CHECKING:
    from model.tree_shap import TreeShap

FloatArray = NDArray[np.float64]

# up to here every coalition is evaluated (2^d rows); above, PERMUTATIONS antithetic pairs are sampled
EXACT_FEATURES = 8
PERMUTATIONS = 32

# conditions of all leaves together; beyond, following them takes longer than importing XGBoost
MAX_CONDITIONS = 1 << 18

# a forest may say 0 or 1; beyond this probability the log-odds are cut
FLOOR = 1e-9


@dataclass(frozen=True, slots=True)
class Contributions:
    """Why the predicted class got its raw score, for n rows.

    Attributes:
        values: float64, shape (n, d), in log-odds of the predicted class.
        base: float64, shape (n,); `base + values.sum(axis=1)` is the raw score within 1e-4.
    """

    values: FloatArray
    base: FloatArray


class Explainer:
    """Computes contributions for one bundle: exact TreeSHAP for XGBoost, Shapley values of the compiled form else."""

    def __init__(self, bundle: VerifiedBundle, engine: Engine, max_conditions: int = MAX_CONDITIONS) -> None:
        """Remember where to find the model; its trees are followed at the first explanation, not before.

        Args:
            bundle: has the model.
            engine: answers for it.
            max_conditions: see `model.tree_shap.follow`; XGBoost explains a forest that has more.
        """
        self._bundle = bundle
        self._engine = engine
        self._max_conditions = max_conditions
        self._is_tree_model = "model.json" in bundle.files
        self._trees: TreeShap | XGBoostEngine | None = None
        self.unavailable_reason: str | None = None

    def explain(self, matrix: FloatMatrix, classes: NDArray[np.intp]) -> Contributions | None:
        """Explain n rows.

        Args:
            matrix: float32, shape (n, d).
            classes: shape (n,), the predicted classes.

        Returns:
            The contributions, or None if there is no way to compute them (`unavailable_reason` says why).
        """
        if self.unavailable_reason is not None:
            return None
        if not self._is_tree_model:
            return self._shapley(matrix, classes)
        try:
            chosen = self._load_trees().contributions(matrix)[np.arange(len(matrix)), classes]
        except EngineError as error:
            self.unavailable_reason = str(error)
            return None
        return Contributions(chosen[:, :-1], chosen[:, -1])

    def _load_trees(self) -> TreeShap | XGBoostEngine:
        """Return what explains the trees, made once: our own, or XGBoost for a forest that is too large for it.

        Raises:
            EngineError: neither can.
        """
        if self._trees is None:
            # the start does not wait for it
            from model.tree_shap import ForestTooLarge, TreeShap

            manifest = self._bundle.manifest
            arguments = self._bundle.files["model.json"], manifest.features, len(manifest.classes)
            try:
                self._trees = TreeShap(*arguments, self._max_conditions)
            except ForestTooLarge as error:
                if not _is_installed("xgboost"):
                    raise EngineError(f"explanations of so large a forest need xgboost: {error}") from error
                own = self._engine
                self._trees = own if isinstance(own, XGBoostEngine) else engines.XGBoostEngine(*arguments)
        return self._trees

    def _shapley(self, matrix: FloatMatrix, classes: NDArray[np.intp]) -> Contributions:
        """Return Shapley values of the compiled form, row by row."""
        background = self._background()
        pairs = [self._explain_row(row, int(c), background) for row, c in zip(matrix, classes, strict=True)]
        return Contributions(np.array([values for values, _ in pairs]), np.array([base for _, base in pairs]))

    def _background(self) -> FloatMatrix:
        """Return what an absent feature is replaced by: the mean of each class, or a category's mode; shape (k, d)."""
        reference = self._bundle.manifest.reference
        rows = np.empty((len(reference.class_means), len(reference.features)), dtype=np.float32)
        for column, bins in enumerate(reference.features):
            rows[:, column] = np.argmax(bins.counts)
        rows[:, list(reference.columns)] = np.array(reference.class_means, dtype=np.float32)
        return rows

    def _explain_row(self, row: FloatMatrix, label: int, background: FloatMatrix) -> tuple[FloatArray, float]:
        """Return contributions (d,) and base of one row."""
        d = len(row)
        coalitions = _all_coalitions(d) if d <= EXACT_FEATURES else _sampled_coalitions(d)
        # absent features come from each class mean in turn; the worth is the mean over them, weighted by the prior
        filled = np.where(coalitions[:, None, :], row, background[None, :, :]).reshape(-1, d)
        odds = log_odds(self._engine.predict(filled.astype(np.float32)), label)
        worth = odds.reshape(len(coalitions), -1) @ np.array(self._bundle.manifest.reference.class_prior)
        if d <= EXACT_FEATURES:
            return _exact(worth, d), float(worth[0])
        return _sampled(worth, coalitions, d), float(worth[0])


def log_odds(probabilities: FloatArray, label: int) -> FloatArray:
    """Return log(p / (1 - p)) of one class, p cut to [FLOOR, 1 - FLOOR], for probabilities of shape (n, k)."""
    wanted = np.maximum(probabilities[:, label], FLOOR)
    others = np.maximum(np.delete(probabilities, label, axis=1).sum(axis=1), FLOOR)
    return np.asarray(np.log(wanted) - np.log(others))


def _all_coalitions(d: int) -> NDArray[np.bool_]:
    """Return every subset of d features, shape (2^d, d); row i holds feature j if bit j of i is set."""
    return (np.arange(2**d)[:, None] >> np.arange(d) & 1).astype(np.bool_)


def _exact(worth: FloatArray, d: int) -> FloatArray:
    """Return Shapley values from the worth of every subset (Shapley 1953; Štrumbelj and Kononenko 2014)."""
    sizes = np.array([i.bit_count() for i in range(2**d)])
    weights = np.array([math.factorial(s) * math.factorial(d - s - 1) / math.factorial(d) for s in range(d)])
    values = np.empty(d)
    for feature in range(d):
        without = np.flatnonzero((np.arange(2**d) >> feature & 1) == 0)
        values[feature] = weights[sizes[without]] @ (worth[without | 1 << feature] - worth[without])
    return values


def _sampled_coalitions(d: int) -> NDArray[np.bool_]:
    """Return the prefixes of seeded permutations and their reverses, shape (2 * PERMUTATIONS * (d + 1), d)."""
    random = np.random.default_rng(d)
    coalitions = []
    for permutation in itertools.chain.from_iterable(
        (p, p[::-1]) for p in (random.permutation(d) for _ in range(PERMUTATIONS))
    ):
        rank = np.argsort(permutation)
        coalitions.append(rank < np.arange(d + 1)[:, None])
    return np.concatenate(coalitions)


def _sampled(worth: FloatArray, coalitions: NDArray[np.bool_], d: int) -> FloatArray:
    """Return the mean marginal contribution over permutations (Castro et al. 2009); it adds up exactly."""
    steps = np.diff(worth.reshape(-1, d + 1), axis=1)
    joined = np.diff(coalitions.reshape(-1, d + 1, d).astype(np.int8), axis=1).argmax(axis=2)
    return np.asarray(np.bincount(joined.ravel(), weights=steps.ravel(), minlength=d) / len(steps))


def _is_installed(module: str) -> bool:
    """Whether a module could be imported, without importing it."""
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ValueError:
        # sys.modules says that it is not to be imported
        return False
