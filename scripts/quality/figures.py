"""Accuracy, calibration and coverage with their intervals: pure functions of outcomes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model import baseline, drift
from model.drift import Drift
from model.manifest import Manifest
from model.reference import FloatArray
from scripts.quality.events import Outcome, Predicted

# two-sided 95 %
Z = 1.959964
# as at training, see `model.evaluate.measure`
CALIBRATION_BINS = 15
RESAMPLES, SEED = 1_000, 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How good the answers of one bundle were.

    Attributes:
        rows: whose truth is known.
        accuracy: share of right answers.
        confidence: mean probability of the predicted class; equal to the accuracy where it is calibrated.
        calibration_error: expected calibration error of the predicted class.
        coverage: share of prediction sets that hold the true class.
        confusion: true and predicted class → rows.
    """

    rows: int
    accuracy: Estimate
    confidence: float
    calibration_error: Estimate
    coverage: Estimate
    confusion: dict[tuple[str, str], int]


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """Return the figures of one bundle.

    Args:
        outcomes: at least one.
    """
    right = [outcome.is_right for outcome in outcomes]
    confidence = np.array([outcome.predicted.confidence for outcome in outcomes])
    return Figures(
        rows=len(outcomes),
        accuracy=share(sum(right), len(outcomes)),
        confidence=float(confidence.mean()),
        calibration_error=_calibration(confidence, np.array(right)),
        coverage=share(sum(outcome.is_covered for outcome in outcomes), len(outcomes)),
        confusion=dict(sorted(Counter((one.truth, one.predicted.label) for one in outcomes).items())),
    )


def share(count: int, total: int) -> Estimate:
    """Return a share with its interval (Wilson 1927), which is sound for few rows and near 0 and 1."""
    value, spread = count / total, Z * Z / total
    middle = (value + spread / 2) / (1 + spread)
    reach = Z / (1 + spread) * math.sqrt(value * (1 - value) / total + spread / 4 / total)
    return Estimate(value, max(0.0, middle - reach), min(1.0, middle + reach))


def _calibration(confidence: FloatArray, right: NDArray[np.bool_]) -> Estimate:
    """Return the expected calibration error (Guo et al. 2017) with a bootstrap interval, its bias taken off."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    gaps = np.zeros((len(right), CALIBRATION_BINS))
    gaps[np.arange(len(right)), bins] = confidence - right
    value = float(np.abs(gaps.sum(axis=0)).sum() / len(right))
    random = np.random.default_rng(SEED)
    weights = (random.multinomial(len(right), np.full(len(right), 1 / len(right))) for _ in range(RESAMPLES))
    resampled = np.array([np.abs(one @ gaps).sum() / len(right) for one in weights])
    low, high = np.quantile(resampled, [0.025, 0.975]) - (resampled.mean() - value)
    return Estimate(value, max(0.0, float(low)), max(0.0, float(high)))


def drifted(manifest: Manifest, predictions: Sequence[Predicted]) -> Drift:
    """Judge the features of predictions against a bundle's reference, from the bins that the log tells."""
    watched = baseline.build(manifest)
    features = tuple(one for one in watched.variables if one.kind == "feature")
    counts = []
    for variable in features:
        found = Counter(one.bins.get(variable.name) for one in predictions)
        counts.append(np.array([found[name] for name in variable.bins], dtype=np.int64))
    return drift.judge(baseline.Baseline(features), counts)
