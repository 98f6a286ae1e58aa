"""The training data in summary: how unusual a row is, and which bin each value falls into."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from model.domain import Feature, FloatMatrix
from model.manifest import FeatureBins, Reference

FloatArray = NDArray[np.float64]

BIN_COUNT = 10
CONFIDENCE_BINS = 20
QUANTILE_COUNT = 401

# up to here whitening column by column beats a product per row
COLUMNWISE_FEATURES = 48


class Novelty:
    """How unlike the training data a row is."""

    def __init__(self, reference: Reference) -> None:
        """Prepare the distance for rows without nulls; other patterns are prepared when they are met."""
        self._columns = np.array(reference.columns, dtype=np.intp)
        self._means = np.array(reference.class_means, dtype=np.float64).reshape(
            len(reference.class_means), len(self._columns)
        )
        self._covariance = np.array(reference.covariance, dtype=np.float64).reshape(
            len(self._columns), len(self._columns)
        )
        self._quantiles = np.array(reference.novelty_quantiles, dtype=np.float64)
        self._whole = self._prepare(np.ones(len(self._columns), dtype=np.bool_))
        self._positions = self._columns.tolist()
        self._steps = self._quantiles.tolist()
        is_short = 0 < len(self._columns) <= COLUMNWISE_FEATURES and len(self._means) <= COLUMNWISE_FEATURES
        self._nearest_square = _unroll(*self._whole) if is_short else None

    def distances(self, matrix: FloatMatrix) -> FloatArray:
        """Return Mahalanobis distances to the nearest class mean under the shared covariance.

        Args:
            matrix: float32, shape (n, d), NaN for null.

        Returns:
            float64, shape (n,), in standard deviations. Over the features present only, and then scaled by
            sqrt(features / features present), so that leaving values out does not make a row look ordinary.
        """
        numbers = matrix[:, self._columns].astype(np.float64)
        present = ~np.isnan(numbers)
        if len(self._columns) and present.all():
            return self._measure(numbers, *self._whole)
        result = np.zeros(len(matrix))
        for pattern in np.unique(present, axis=0):
            rows = (present == pattern).all(axis=1)
            if pattern.any():
                result[rows] = self._measure(numbers[rows][:, pattern], *self._prepare(pattern))
        return result

    def shares(self, distances: FloatArray) -> FloatArray:
        """Return novelty, 0..1: the share of training rows less unusual, for distances of shape (n,)."""
        # where many training rows are equally usual, interpolation would count them all as less unusual
        above = np.minimum(np.searchsorted(self._quantiles, distances, side="right"), len(self._quantiles) - 1)
        below = np.maximum(above - 1, 0)
        start, end = self._quantiles[below], self._quantiles[above]
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = (below + (distances - start) / (end - start)) / (len(self._quantiles) - 1)
        shares = np.where(distances >= self._quantiles[-1], 1.0, inside)
        return np.where(distances <= self._quantiles[0], 0.0, shares)

    def share(self, row: Sequence[float]) -> float:
        """Return the novelty of one row: `shares(distances(row))`, bit for bit, in a twentieth of the time.

        Args:
            row: float32 values as Python floats, shape (d,), NaN for null.
        """
        numbers = [row[position] for position in self._positions]
        if self._nearest_square is not None:
            square = self._nearest_square(*numbers)
            if square == square:
                return self._share(math.sqrt(square))
        # there are nulls, or too many columns to spell out
        matrix = np.array([row], dtype=np.float32)
        return float(self.shares(self.distances(matrix))[0])

    def _share(self, distance: float) -> float:
        """Do for one distance what `shares` does."""
        steps = self._steps
        if distance <= steps[0]:
            return 0.0
        if distance >= steps[-1]:
            return 1.0
        above = bisect_right(steps, distance)
        below = above - 1
        inside: float = (below + (distance - steps[below]) / (steps[above] - steps[below])) / (len(steps) - 1)
        return inside

    def _prepare(self, pattern: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """Return the whitening matrix (c, c) and the whitened class means (k, c) for the columns present."""
        if not pattern.any():
            return np.zeros((0, 0)), np.zeros((len(self._means), 0))
        covariance = self._covariance[np.ix_(pattern, pattern)]
        whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
        whitening *= np.sqrt(len(pattern) / pattern.sum())
        return whitening, self._means[:, pattern] @ whitening

    @staticmethod
    def _measure(numbers: FloatArray, whitening: FloatArray, means: FloatArray) -> FloatArray:
        """Return the distance of each row to the nearest of the whitened means."""
        # never a product or a sum over all rows at once: BLAS and einsum add in another order for another row count
        if numbers.shape[1] > COLUMNWISE_FEATURES:
            return np.asarray(np.sqrt([((row @ whitening - means) ** 2).sum(axis=1).min() for row in numbers]))
        whitened = numbers[:, :1] * whitening[0]
        for column in range(1, numbers.shape[1]):
            whitened += numbers[:, column : column + 1] * whitening[column]
        nearest = np.full(len(numbers), np.inf)
        for mean in means:
            difference = (whitened - mean) ** 2
            squares = difference[:, 0]
            for column in range(1, difference.shape[1]):
                squares = squares + difference[:, column]
            nearest = np.minimum(nearest, squares)
        return np.asarray(np.sqrt(nearest))


def _unroll(whitening: FloatArray, means: FloatArray) -> Callable[..., float]:
    """Return what `Novelty._measure` computes for one row, spelled out number by number.

    Python's float64 arithmetic in the same order gives the same bits, in a tenth of the time arrays take for one row;
    a loop would take three times as long as the bare sums.

    Args:
        whitening: shape (c, c).
        means: shape (k, c), whitened.

    Returns:
        A function of c numbers: the least squared distance, NaN if a number is.
    """
    columns = range(len(whitening))
    lines = [f"def nearest_square({', '.join(f'x{i}' for i in columns)}):"]
    for j in columns:
        # the upper triangle is zeros, which add nothing to finite numbers
        terms = [f"x{i} * {whitening[i, j].item()!r}" for i in columns if i <= j or whitening[i, j]]
        lines.append(f" z{j} = {' + '.join(terms)}")
    for k, mean in enumerate(means.tolist()):
        lines += [f" d{j} = z{j} - {mean[j]!r}" for j in columns]
        lines.append(f" s{k} = {' + '.join(f'd{j} * d{j}' for j in columns)}")
    squares = ", ".join(f"s{k}" for k in range(len(means)))
    lines.append(f" return min({squares})" if len(means) > 1 else f" return {squares}")
    found: dict[str, Callable[..., float]] = {}
    exec("\n".join(lines), {"min": min}, found)  # noqa: S102 - the text is made of numbers and of names from above
    return found["nearest_square"]


def build(
    features: Sequence[Feature],
    matrix: FloatMatrix,
    labels: NDArray[np.intp],
    class_count: int,
    covariance: FloatArray,
    shrinkage: float,
    confidence: FloatArray,
    novelty_threshold: float,
) -> Reference:
    """Summarise the training data.

    Args:
        features: d features in manifest order.
        matrix: float32, shape (n, d).
        labels: shape (n,), positions in the classes.
        class_count: k.
        covariance: shape (c, c), shared and shrunk, over the c numeric features.
        shrinkage: 0..1, the weight of the shrinkage target.
        confidence: shape (n,), out-of-fold probability of the predicted class.
        novelty_threshold: 0..1, the novelty above which a row is novel.
    """
    columns = numeric_columns(features)
    means = class_means(matrix[:, columns].astype(np.float64), labels, class_count)
    counts = np.bincount(labels, minlength=class_count)
    draft = Reference(
        features=tuple(_bins(f, matrix[:, i]) for i, f in enumerate(features)),
        columns=tuple(columns),
        class_means=tuple(tuple(map(float, mean)) for mean in means),
        covariance=tuple(tuple(map(float, row)) for row in covariance),
        shrinkage=shrinkage,
        class_prior=tuple(float(count / len(labels)) for count in counts),
        confidence_counts=tuple(int(c) for c in np.histogram(confidence, bins=CONFIDENCE_BINS, range=(0, 1))[0]),
        novelty_quantiles=(0.0, 1.0),
        novelty_threshold=novelty_threshold,
    )
    distances = Novelty(draft).distances(matrix)
    quantiles = np.quantile(distances, np.linspace(0, 1, QUANTILE_COUNT))
    return Reference(
        **{name: getattr(draft, name) for name in draft.__struct_fields__ if name != "novelty_quantiles"},
        novelty_quantiles=tuple(float(q) for q in quantiles),
    )


def numeric_columns(features: Sequence[Feature]) -> list[int]:
    """Return the positions of the features that are numbers."""
    return [index for index, feature in enumerate(features) if not feature.is_category]


def class_means(numbers: FloatArray, labels: NDArray[np.intp], class_count: int) -> FloatArray:
    """Return the mean of each column for each class, shape (k, c); the overall mean where a class has only nulls."""
    means = np.empty((class_count, numbers.shape[1]))
    for index in range(class_count):
        for column in range(numbers.shape[1]):
            values = numbers[labels == index, column]
            values = values[~np.isnan(values)]
            means[index, column] = values.mean() if len(values) else np.nanmean(numbers[:, column])
    return means


def _bins(feature: Feature, column: NDArray[np.float32]) -> FeatureBins:
    """Count one column: by value for a category, by deciles for a number."""
    present = column[~np.isnan(column)].astype(np.float64)
    nulls = int(len(column) - len(present))
    if feature.is_category:
        counts = np.bincount(present.astype(np.intp), minlength=len(feature.values))
        return FeatureBins(edges=(), counts=tuple(int(c) for c in counts), nulls=nulls)
    edges = np.unique(np.quantile(present, np.linspace(0, 1, BIN_COUNT + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    return FeatureBins(edges=tuple(float(e) for e in edges), counts=tuple(int(c) for c in counts), nulls=nulls)
