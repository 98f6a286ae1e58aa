"""Measures a model out of fold: quality, calibration, coverage of its prediction sets, disputed labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.model_selection import StratifiedKFold

from model.dataset import Dataset
from model.domain import Feature, FloatMatrix, check
from model.learners import Fit, Labels, temper
from model.manifest import CalibrationBin, Coverage, Dispute, Estimate, Measures, Quality
from model.reference import FloatArray

LEVELS = (0.9, 0.95, 0.99)
CALIBRATION_BINS = 15
RESAMPLES = 2_000

Progress = Callable[[], None]


@dataclass(frozen=True)
class OutOfFold:
    """What models said about rows they had not seen.

    Attributes:
        probabilities: float64, shape (r, n, k): one complete set of answers per repeat.
        folds: shape (r, n): which fold each row was left out in.
    """

    probabilities: FloatArray
    folds: NDArray[np.intp]


@dataclass(frozen=True)
class Evaluated:
    """What cross-validation found.

    Attributes:
        quality: the numbers for the manifest.
        out_of_fold: the calibrated answers if calibration helped, else the raw ones.
        temperature: of the final model, None if calibration did not help.
        raw_calibration_error: before calibration.
    """

    quality: Quality
    out_of_fold: OutOfFold
    temperature: float | None
    raw_calibration_error: float


def evaluate(
    data: Dataset,
    fit: Fit,
    linear: Fit,
    folds: int,
    repeats: int,
    seed: int,
    calibrate: bool,
    progress: Progress,
) -> Evaluated:
    """Measure a model and logistic regression on the same folds, and decide about calibration.

    Args:
        data: the whole data set.
        fit: the model's pipeline.
        linear: the pipeline to compare with.
        folds: parts per repeat.
        repeats: shuffles.
        seed: of the shuffles and of the bootstrap.
        calibrate: whether temperature scaling may be used if it lowers the calibration error.
        progress: called once per fit, 2 * folds * repeats times.
    """
    raw, baseline = (cross_validate(f, data.matrix, data.labels, folds, repeats, seed, progress) for f in (fit, linear))
    before = measure(raw, data.labels, seed).calibration_error.value
    chosen, temperature = raw, None
    if calibrate:
        tempered = calibrated(raw, data.labels)
        if measure(tempered, data.labels, seed).calibration_error.value < before:
            pooled = raw.probabilities.reshape(repeats * len(data.labels), -1)
            chosen, temperature = tempered, fit_temperature(pooled, np.tile(data.labels, repeats))
    quality = Quality(
        method=f"{folds}-fold stratified cross-validation, {repeats} repeats, out of fold; "
        "95 % percentile-bootstrap intervals over rows",
        rows=len(data.labels),
        dropped_rows=len(data.dropped_lines),
        model=measure(chosen, data.labels, seed),
        linear=measure(baseline, data.labels, seed),
        confusion=confusion_matrix(chosen, data.labels),
        calibration=calibration_curve(chosen, data.labels),
        coverage=coverage(chosen, data.labels, seed),
        disputed=disputed(chosen, data.labels, data.lines, data.classes),
        units_recognised=units_recognised(data.features, data.matrix),
    )
    return Evaluated(quality, chosen, temperature, before)


def cross_validate(
    fit: Fit, matrix: FloatMatrix, labels: Labels, folds: int, repeats: int, seed: int, progress: Progress
) -> OutOfFold:
    """Fit on all folds but one, answer that one; for every fold of every repeat.

    Args:
        fit: the whole pipeline; sees nothing of the fold it will answer.
        matrix: float32, shape (n, d).
        labels: shape (n,).
        folds: how many parts, stratified by class.
        repeats: how many times, each with another shuffle.
        seed: of the shuffles; the same seed gives the same folds to every model.
        progress: called once per fit.
    """
    n, k = len(labels), int(labels.max()) + 1
    probabilities, which = np.empty((repeats, n, k)), np.empty((repeats, n), dtype=np.intp)
    for repeat in range(repeats):
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed + repeat)
        for fold, (train, held_out) in enumerate(splitter.split(matrix, labels)):
            probabilities[repeat, held_out] = fit(matrix[train], labels[train]).probabilities(matrix[held_out])
            which[repeat, held_out] = fold
            progress()
    return OutOfFold(probabilities, which)


def fit_temperature(probabilities: FloatArray, labels: Labels) -> float:
    """Return the temperature that minimises the log loss of (m, k) probabilities with (m,) labels."""

    def loss(log_temperature: float) -> float:
        scaled = temper(probabilities, math.exp(log_temperature))
        return float(-np.log(np.maximum(scaled[np.arange(len(labels)), labels], 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-4})
    return float(f"{math.exp(found.x):.4g}")


def calibrated(out_of_fold: OutOfFold, labels: Labels) -> OutOfFold:
    """Temper every row with a temperature fitted without its own fold."""
    result = np.empty_like(out_of_fold.probabilities)
    for repeat, (probabilities, folds) in enumerate(zip(out_of_fold.probabilities, out_of_fold.folds, strict=True)):
        for fold in np.unique(folds):
            own = folds == fold
            temperature = fit_temperature(probabilities[~own], labels[~own])
            result[repeat, own] = temper(probabilities[own], temperature)
    return OutOfFold(result, out_of_fold.folds)


def measure(out_of_fold: OutOfFold, labels: Labels, seed: int) -> Measures:
    """Return the measures with 95 % percentile-bootstrap intervals over rows; repeats are averaged within a row.

    The calibration error is the expected calibration error of the predicted class (Guo et al. 2017) over 15 bins of
    equal width, all repeats pooled; a resampled one is biased upwards, so its interval is shifted by the bias.
    """
    p = out_of_fold.probabilities
    repeats, n, k = p.shape
    correct = p.argmax(axis=2) == labels
    losses = -np.log(np.maximum(np.take_along_axis(p, np.broadcast_to(labels, (repeats, n))[..., None], 2), 1e-12))[
        ..., 0
    ]
    confusion = np.stack([(p.argmax(axis=2) == j).mean(axis=0) for j in range(k)], axis=1)
    bins = np.minimum((p.max(axis=2) * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    gaps = p.max(axis=2) - correct
    row_gaps = np.stack([(gaps * (bins == b)).mean(axis=0) for b in range(CALIBRATION_BINS)], axis=1)
    whole = np.ones((1, n))

    def scores(weights: FloatArray) -> FloatArray:
        """Return (b, 4) scores for (b, n) weights of the rows."""
        matrices = np.stack([(weights * (labels == i)) @ confusion for i in range(k)], axis=1)
        return np.stack(
            [
                weights @ correct.mean(axis=0) / n,
                weights @ losses.mean(axis=0) / n,
                _macro_f1(matrices),
                np.abs(weights @ row_gaps).sum(axis=1) / n,
            ],
            axis=1,
        )

    values = scores(whole)[0]
    resampled = np.concatenate([scores(weights) for weights in _resamples(n, seed)])
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    bias = np.array([0, 0, 0, resampled[:, 3].mean() - values[3]])
    low, high = np.maximum(low - bias, 0), high - bias
    estimates = [_estimate(*triple) for triple in zip(values, low, high, strict=True)]
    return Measures(*estimates)


def confusion_matrix(out_of_fold: OutOfFold, labels: Labels) -> tuple[tuple[int, ...], ...]:
    """Return counts over all repeats, (k, k): true class by predicted class."""
    k = out_of_fold.probabilities.shape[2]
    predicted = out_of_fold.probabilities.argmax(axis=2)
    return tuple(tuple(int(((predicted == j) & (labels == i)).sum()) for j in range(k)) for i in range(k))


def calibration_curve(out_of_fold: OutOfFold, labels: Labels) -> tuple[CalibrationBin, ...]:
    """Return the bins of the calibration error that hold any prediction."""
    confidence = out_of_fold.probabilities.max(axis=2)
    correct = out_of_fold.probabilities.argmax(axis=2) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    return tuple(
        CalibrationBin(
            count=int((bins == b).sum()),
            confidence=_round(confidence[bins == b].mean()),
            accuracy=_round(correct[bins == b].mean()),
        )
        for b in np.unique(bins)
    )


def coverage(out_of_fold: OutOfFold, labels: Labels, seed: int) -> tuple[Coverage, ...]:
    """Return thresholds for every level that n rows can support, with what they cover out of fold.

    Cross-conformal prediction (Vovk 2015) on the score 1 - p(true class): the threshold is the ceil((n + 1) * level)-th
    smallest score. For the measurement, each fold is judged by the scores of the others.
    """
    p = out_of_fold.probabilities
    repeats, n, _ = p.shape
    true = np.take_along_axis(p, np.broadcast_to(labels, (repeats, n))[..., None], 2)[..., 0]
    found = []
    for level in LEVELS:
        rank = math.ceil((n + 1) * level)
        if rank > n:
            continue
        floor = float(np.sort(true.ravel())[n * repeats - rank * repeats])
        covered, sizes = np.empty((repeats, n)), np.empty((repeats, n))
        for repeat in range(repeats):
            for fold in np.unique(out_of_fold.folds[repeat]):
                own = out_of_fold.folds[repeat] == fold
                others = np.sort(true[repeat, ~own])
                inner = min(math.ceil((len(others) + 1) * level), len(others))
                sets = p[repeat, own] >= others[len(others) - inner]
                sets[np.arange(len(sets)), p[repeat, own].argmax(axis=1)] = True
                covered[repeat, own] = sets[np.arange(len(sets)), labels[own]]
                sizes[repeat, own] = sets.sum(axis=1)
        found.append(
            Coverage(
                level=level, floor=floor, measured=_mean(covered.mean(axis=0), seed), mean_size=_round(sizes.mean())
            )
        )
    return tuple(found)


def disputed(
    out_of_fold: OutOfFold, labels: Labels, lines: NDArray[np.intp], classes: tuple[str, ...]
) -> tuple[Dispute, ...]:
    """Return the rows whose label most repeats contradict, the surest contradiction first."""
    wrong = (out_of_fold.probabilities.argmax(axis=2) != labels).mean(axis=0)
    mean = out_of_fold.probabilities.mean(axis=0)
    rows = [int(row) for row in np.flatnonzero((wrong > 0.5) & (mean.argmax(axis=1) != labels))]
    return tuple(
        Dispute(
            line=int(lines[row]),
            label=classes[labels[row]],
            predicted=classes[mean[row].argmax()],
            probability=_round(mean[row].max()),
        )
        for row in sorted(rows, key=lambda row: -mean[row].max())
    )


def units_recognised(features: tuple[Feature, ...], matrix: FloatMatrix) -> dict[str, dict[str, float]]:
    """Return, per feature and confused unit, the share of training values that would be noticed in that unit."""
    result: dict[str, dict[str, float]] = {}
    for column, feature in enumerate(features):
        values = matrix[:, column].astype(np.float64)
        values = values[~np.isnan(values)]
        for unit in feature.confused_units:
            found = [check(feature, float((value - unit.offset) / unit.factor)) for value in values]
            share = float(np.mean([v is not None and v.code == "unit" for v in found]))
            result.setdefault(feature.name, {})[unit.symbol] = _round(share)
    return result


def _macro_f1(matrices: FloatArray) -> FloatArray:
    """Return the mean F1 over classes of (b, k, k) confusion matrices; a class never met or predicted counts 0."""
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    total = matrices.sum(axis=1) + matrices.sum(axis=2)
    return np.asarray(np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0).mean(axis=1))


def _mean(per_row: FloatArray, seed: int) -> Estimate:
    """Return the mean over rows with its 95 % percentile-bootstrap interval."""
    n = len(per_row)
    means = np.concatenate([weights @ per_row / n for weights in _resamples(n, seed)])
    low, high = np.quantile(means, [0.025, 0.975])
    return _estimate(float(per_row.mean()), low, high)


def _resamples(n: int, seed: int) -> Iterator[FloatArray]:
    """Yield bootstrap weights of n rows, 100 resamples at a time so that a large table needs little memory."""
    random = np.random.default_rng(seed)
    for _ in range(RESAMPLES // 100):
        yield random.multinomial(n, np.full(n, 1 / n), size=100).astype(np.float64)


def _estimate(value: float, low: float, high: float) -> Estimate:
    """Round a value and its interval."""
    return Estimate(value=_round(value), low=_round(low), high=_round(high))


def _round(value: float) -> float:
    """Keep six decimals: more is noise, and sums differ in the last digits between machines."""
    return round(float(value), 6)
