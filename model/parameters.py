"""Says what `[algorithm.params]` may hold and what the classes weigh: a parameter has a meaning here, or is refused."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.spec import LoadedSpec

# what XGBoost may only be given in one way
ONLY = {"booster": "gbtree", "multi_strategy": "one_output_per_tree", "device": "cpu", "process_type": "default"}

# what XGBoost learns from, beside ONLY: https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html
XGBOOST = {
    "eta", "learning_rate", "gamma", "min_split_loss", "max_depth", "min_child_weight", "max_delta_step", "subsample",
    "sampling_method", "colsample_bytree", "colsample_bylevel", "colsample_bynode", "lambda", "reg_lambda", "alpha",
    "reg_alpha", "tree_method", "grow_policy", "max_leaves", "max_bin", "num_parallel_tree", "seed_per_iteration",
    "max_cached_hist_node", "base_score", "scale_pos_weight",
}  # fmt: skip

_ELSEWHERE = "follows from the rest of the spec; drop it"
_BY_POSITION = "goes by positions of columns and classes, which a spec does not have; drop it"
_NO_EFFECT = "changes nothing about the trained model; drop it"
_OF_FEATURES = "follows from `[[features]]`, which say what may be missing and what is a category; drop it"
REFUSED = {
    **dict.fromkeys(
        ("objective", "num_class", "seed", "random_state", "nthread", "n_jobs", "verbosity", "validate_parameters"),
        _ELSEWHERE,
    ),
    **dict.fromkeys(("n_estimators", "num_boost_round", "num_round"), "is `rounds` in [algorithm] here"),
    **dict.fromkeys(("class_weight", "sample_weight"), 'is set in [algorithm]: class_weight = "balanced"'),
    **dict.fromkeys(
        ("monotone_constraints", "monotonic_cst", "interaction_constraints", "feature_weights"), _BY_POSITION
    ),
    **dict.fromkeys(
        ("eval_metric", "early_stopping_rounds", "disable_default_eval_metric", "importance_type", "verbose",
         "warm_start", "oob_score"),
        _NO_EFFECT,
    ),
    **dict.fromkeys(
        ("missing", "enable_categorical", "feature_types", "max_cat_to_onehot", "max_cat_threshold"), _OF_FEATURES
    ),
}  # fmt: skip

# XGBoost adds weights up as float32, and fails where they overflow
MOST_WEIGHT = 1_000_000

# what is about one of two classes, and would be about the alphabetically later one
OF_POSITIVE = ("scale_pos_weight", "base_score")


def refuse(loaded: LoadedSpec, classes: Sequence[str]) -> None:
    """Refuse parameters that would be ignored, that stand elsewhere, or that do not say which class they are about.

    Raises:
        SpecError: names the parameter and what to do.
    """
    algorithm = loaded.spec.algorithm
    is_xgboost = algorithm.name == "xgboost"
    for key, value in algorithm.params.items():
        at = f"algorithm.params.{key}"
        if is_xgboost and key in ONLY:
            if value != ONLY[key]:
                raise loaded.error(at, f'only `{key} = "{ONLY[key]}"` can be compiled and explained')
        elif key in REFUSED:
            raise loaded.error(at, f"`{key}` {REFUSED[key]}")
        elif is_xgboost and key not in XGBOOST:
            near = difflib.get_close_matches(key, XGBOOST, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise loaded.error(at, f"XGBoost has no parameter `{key}` here{hint}")
        elif key == "scale_pos_weight" and not is_xgboost:
            raise loaded.error(at, f'`{key}` is for xgboost; set class_weight = "balanced" in [algorithm]')
        elif key in OF_POSITIVE:
            _refuse_of_positive(loaded, classes, key, value)


def _refuse_of_positive(loaded: LoadedSpec, classes: Sequence[str], key: str, value: object) -> None:
    """Refuse a parameter about one of two classes where it is not said which one, or there are more."""
    at = f"algorithm.params.{key}"
    if len(classes) > 2:
        remedy = "drop it" if key == "base_score" else 'set class_weight = "balanced" in [algorithm]'
        raise loaded.error(at, f"`{key}` is for two classes, there are {len(classes)}; {remedy}")
    if loaded.spec.target.positive is None:
        table = f'label = {{name = "{loaded.spec.target.name}", positive = "{classes[0]}"}}'
        raise loaded.error(at, f'`{key}` is about one class; name it: {table}, or "{classes[1]}"')
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise loaded.error(at, f"`{key}` must be a number")
    if key == "scale_pos_weight" and not 0 < value <= MOST_WEIGHT:
        raise loaded.error(at, f"`{key}` must be above 0, and {MOST_WEIGHT} at most")
    if key == "base_score" and not 0 < value < 1:
        raise loaded.error(at, f"`{key}` must be a probability between 0 and 1")
    if key == "scale_pos_weight" and loaded.spec.algorithm.class_weight is not None:
        raise loaded.error(at, f"`{key}` and `class_weight` both weigh the classes; drop one")


def for_xgboost(loaded: LoadedSpec, classes: Sequence[str]) -> dict[str, Any]:
    """Return the parameters as XGBoost takes them: about its second class, and without the weight, which rows carry."""
    params = {key: value for key, value in loaded.spec.algorithm.params.items() if key != "scale_pos_weight"}
    if "base_score" in params and loaded.spec.target.positive == classes[0]:
        params["base_score"] = 1 - params["base_score"]
    return params


def class_weights(loaded: LoadedSpec, classes: Sequence[str], labels: NDArray[np.intp]) -> NDArray[np.float64] | None:
    """Return what a row of each class weighs in training, shape (k,), or None where all weigh the same.

    `balanced` is n / (k * rows of the class), as scikit-learn defines it.
    """
    algorithm = loaded.spec.algorithm
    if algorithm.class_weight == "balanced":
        return np.asarray(len(labels) / (len(classes) * np.bincount(labels, minlength=len(classes))))
    weight = algorithm.params.get("scale_pos_weight")
    if weight is None:
        return None
    return np.array([float(weight) if name == loaded.spec.target.positive else 1.0 for name in classes])
