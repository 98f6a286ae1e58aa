"""Fits models: the algorithms a spec may name, each behind the same three questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xgboost
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from model import parameters
from model.domain import Feature, FloatMatrix, one_hot
from model.reference import FloatArray
from model.spec import JitterSpec, LoadedSpec

Labels = NDArray[np.intp]

# below this probability a logarithm is cut; far under anything a calibrated model of this size can mean
FLOOR = 1e-12


@dataclass(frozen=True)
class Split:
    """One decision of a tree: column of the one-hot matrix, and the threshold."""

    column: int
    threshold: float


class Fitted(Protocol):
    """A model that has learned."""

    def probabilities(self, matrix: FloatMatrix) -> FloatArray:
        """Return float64, shape (n, k), for float32 rows of shape (n, d)."""
        ...

    def splits(self) -> list[Split]:
        """Return every distinct split, in a fixed order; empty for a linear model."""
        ...

    def leaves(self, matrix: FloatMatrix) -> NDArray[np.intp] | None:
        """Return the leaf each row reaches in each tree, shape (n, trees), or None without trees."""
        ...

    def leaf_count(self) -> int:
        """Return the number of leaves of all trees."""
        ...


class BoostedTrees:
    """XGBoost's tree booster, multiclass or binary."""

    def __init__(self, booster: xgboost.Booster, features: Sequence[Feature]) -> None:
        """Wrap a trained booster."""
        self.booster, self._features = booster, features
        self._trees = json.loads(self.payload())["learner"]["gradient_booster"]["model"]["trees"]

    def payload(self) -> bytes:
        """Return the model in XGBoost's JSON format."""
        return bytes(self.booster.save_raw("json"))

    def probabilities(self, matrix: FloatMatrix) -> FloatArray:
        """See `Fitted.probabilities`."""
        raw = np.asarray(self.booster.inplace_predict(one_hot(self._features, matrix)), dtype=np.float64)
        return np.stack([1 - raw, raw], axis=1) if raw.ndim == 1 else raw

    def splits(self) -> list[Split]:
        """See `Fitted.splits`."""
        found = {
            (column, threshold)
            for tree in self._trees
            for column, threshold, left in zip(
                tree["split_indices"], tree["split_conditions"], tree["left_children"], strict=True
            )
            if left != -1
        }
        return [Split(column, threshold) for column, threshold in sorted(found)]

    def leaves(self, matrix: FloatMatrix) -> NDArray[np.intp] | None:
        """See `Fitted.leaves`."""
        data = xgboost.DMatrix(one_hot(self._features, matrix), nthread=1)
        return np.asarray(self.booster.predict(data, pred_leaf=True), dtype=np.intp).reshape(len(matrix), -1)

    def leaf_count(self) -> int:
        """See `Fitted.leaf_count`."""
        return sum(tree["left_children"].count(-1) for tree in self._trees)

    def scaled(self, temperature: float) -> BoostedTrees:
        """Return the model with its margins divided by a temperature, folded into leaves and base scores."""
        document = json.loads(self.payload())
        learner = document["learner"]
        for tree in learner["gradient_booster"]["model"]["trees"]:
            leaves = [left == -1 for left in tree["left_children"]]
            for key in ("split_conditions", "base_weights"):
                tree[key] = [
                    float(np.float32(value / temperature)) if leaf else value
                    for value, leaf in zip(tree[key], leaves, strict=True)
                ]
        parameters = learner["learner_model_param"]
        scores = np.array(json.loads(parameters["base_score"]), dtype=np.float64)
        if learner["objective"]["name"] == "binary:logistic":
            # a binary model keeps its base score as a probability
            scores = 1 / (1 + np.exp(-np.log(scores / (1 - scores)) / temperature))
        else:
            scores = scores / temperature
        parameters["base_score"] = "[" + ",".join(f"{np.float32(score):.9g}" for score in scores) + "]"
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(json.dumps(document).encode()))
        return BoostedTrees(booster, self._features)


class Estimator:
    """A scikit-learn classifier or pipeline."""

    def __init__(self, estimator: Any, features: Sequence[Feature], temperature: float | None = None) -> None:
        """Wrap a fitted estimator; with a temperature, its probabilities are tempered as the compiled graph does it."""
        self.estimator, self._features, self.temperature = estimator, features, temperature

    def probabilities(self, matrix: FloatMatrix) -> FloatArray:
        """See `Fitted.probabilities`."""
        raw = np.asarray(self.estimator.predict_proba(one_hot(self._features, matrix).astype(np.float64)))
        return raw if self.temperature is None else temper(raw, self.temperature)

    def _trees(self) -> list[Any]:
        """Return scikit-learn's low-level trees."""
        return [tree.tree_ for tree in np.ravel(getattr(self.estimator, "estimators_", []))]

    def splits(self) -> list[Split]:
        """See `Fitted.splits`."""
        found = {
            (int(column), float(threshold))
            for tree in self._trees()
            for column, threshold in zip(tree.feature, tree.threshold, strict=True)
            if column >= 0
        }
        return [Split(column, threshold) for column, threshold in sorted(found)]

    def leaves(self, matrix: FloatMatrix) -> NDArray[np.intp] | None:
        """See `Fitted.leaves`."""
        trees = self._trees()
        if not trees:
            return None
        rows = one_hot(self._features, matrix)
        return np.stack([tree.apply(rows) for tree in trees], axis=1)

    def leaf_count(self) -> int:
        """See `Fitted.leaf_count`."""
        return sum(int((tree.feature < 0).sum()) for tree in self._trees())

    def scaled(self, temperature: float) -> Estimator:
        """Return the model with its log probabilities divided by a temperature."""
        return Estimator(self.estimator, self._features, temperature)


Model = BoostedTrees | Estimator
Fit = Callable[[FloatMatrix, Labels], Model]


def temper(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Return softmax(log p / T), shape (n, k): temperature scaling (Guo et al. 2017) from probabilities alone."""
    logits = np.log(np.maximum(probabilities, FLOOR)) / temperature
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def learner(loaded: LoadedSpec, features: Sequence[Feature], classes: Sequence[str]) -> Fit:
    """Return the function that fits the spec's algorithm, always with the spec's seed and one thread.

    Raises (the returned function, too):
        SpecError: a parameter in `[algorithm.params]` is refused here, or by the library.
    """
    parameters.refuse(loaded, classes)
    if loaded.spec.algorithm.name == "xgboost":
        return _boosted_trees(loaded, features, classes)
    return _estimator(loaded, features, classes)


def linear_baseline(features: Sequence[Feature], seed: int) -> Fit:
    """Return the function that fits standardised logistic regression, nulls replaced by the mean: the model to beat."""

    def fit(matrix: FloatMatrix, labels: Labels) -> Model:
        model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=2000, random_state=seed))
        return Estimator(model.fit(one_hot(features, matrix).astype(np.float64), labels), features)

    return fit


def _boosted_trees(loaded: LoadedSpec, features: Sequence[Feature], classes: Sequence[str]) -> Fit:
    """Return the function that fits XGBoost."""
    algorithm = loaded.spec.algorithm
    objective: dict[str, Any] = {"objective": "binary:logistic"}
    if len(classes) > 2:
        objective = {"objective": "multi:softprob", "num_class": len(classes)}
    settings = {
        **parameters.for_xgboost(loaded, classes),
        **objective,
        "seed": loaded.spec.seed,
        "nthread": 1,
        "verbosity": 0,
    }

    def fit(matrix: FloatMatrix, labels: Labels) -> Model:
        rows, targets, weights = _jittered(matrix, labels, features, algorithm.jitter, loaded.spec.seed)
        class_weights = parameters.class_weights(loaded, classes, labels)
        if class_weights is not None:
            weights = weights * class_weights[targets]
        data = xgboost.DMatrix(one_hot(features, rows), label=targets, weight=weights, nthread=1)
        try:
            booster = xgboost.train({**settings, "validate_parameters": False}, data, num_boost_round=algorithm.rounds)
        except (xgboost.core.XGBoostError, TypeError, ValueError) as error:
            line = next((text for text in str(error).splitlines() if text.strip()), str(error))
            raise loaded.error("algorithm.params", f"XGBoost refuses the parameters: {line[:200]}") from error
        return BoostedTrees(booster, features)

    return fit


def _jittered(
    matrix: FloatMatrix, labels: Labels, features: Sequence[Feature], jitter: JitterSpec | None, seed: int
) -> tuple[FloatMatrix, Labels, FloatArray]:
    """Return rows, labels and weights, with noisy copies of the real-valued columns behind the rows themselves."""
    if jitter is None:
        return matrix, labels, np.ones(len(labels))
    noisy = np.array([feature.dtype == "float" for feature in features])
    spread = np.where(noisy, np.nanstd(matrix.astype(np.float64), axis=0), 0.0)
    noise = np.random.default_rng(seed).normal(size=(jitter.copies, *matrix.shape)) * (jitter.scale * spread)
    rows = np.concatenate([matrix, (matrix + noise).reshape(-1, matrix.shape[1]).astype(np.float32)])
    total = jitter.copies + 1
    return rows, np.tile(labels, total), np.full(len(rows), 1 / total)


def _estimator(loaded: LoadedSpec, features: Sequence[Feature], classes: Sequence[str]) -> Fit:
    """Return the function that fits a scikit-learn model."""
    algorithm, seed = loaded.spec.algorithm, loaded.spec.seed

    def make() -> Any:
        params = dict(algorithm.params)
        if algorithm.name == "random_forest":
            return RandomForestClassifier(**{"random_state": seed, "n_estimators": algorithm.rounds, **params})
        if algorithm.name == "gradient_boosting":
            return GradientBoostingClassifier(**{"random_state": seed, "n_estimators": algorithm.rounds, **params})
        linear = LogisticRegression(**{"random_state": seed, "max_iter": 1000, **params})
        return make_pipeline(StandardScaler(), linear) if algorithm.scaler else linear

    def fit(matrix: FloatMatrix, labels: Labels) -> Model:
        weights = parameters.class_weights(loaded, classes, labels)
        try:
            model = make()
            weighting = {} if weights is None else {_weight_keyword(model): weights[labels]}
            model.fit(one_hot(features, matrix).astype(np.float64), labels, **weighting)
        except (TypeError, ValueError) as error:
            raise loaded.error(
                "algorithm.params", f"scikit-learn refuses the parameters: {str(error)[:200]}"
            ) from error
        return Estimator(model, features)

    return fit


def _weight_keyword(model: Any) -> str:
    """Return what `fit` calls the weights of rows: in a pipeline they are for its last step."""
    return f"{model.steps[-1][0]}__sample_weight" if isinstance(model, Pipeline) else "sample_weight"
