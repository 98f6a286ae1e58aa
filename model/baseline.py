"""Which bins recent traffic is counted in, and how many rows of the reference are in each.

Counts over the same bins can be added, over batches, hours and instances; `model/drift.py` judges the sums.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from model.domain import Feature, FloatMatrix
from model.manifest import FeatureBins, Manifest, Reference
from model.reference import FloatArray, Novelty

if TYPE_CHECKING:
    from model.bins import Bins, Counts

Kind = Literal["feature", "label", "confidence", "novelty"]

# with fewer live rows, or fewer expected in a bin, nothing is judged: the tests are approximations for many
MINIMUM_ROWS = 20
MINIMUM_EXPECTED = 2
# bins with fewer rows of the reference, or a smaller share of them, are pooled
POOL_ROWS = 10
POOL_SHARE = 0.025
# fewer bins than these have a chi-square test that says as much as a score would
MINIMUM_SCORED = 3
# the shift that scores are best for, in standard deviations
SCORED_SHIFT = 0.5
# novelty is the share of training rows less unusual, so these are its deciles, and one more where it matters
NOVELTY_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

# the bin for nulls and for values too rare in training to have a bin of their own
REST = "rest"


@dataclass(frozen=True, slots=True)
class Variable:
    """One thing whose distribution is watched.

    Attributes:
        kind: what it is.
        name: of the feature, otherwise empty.
        edges: inner edges for numbers, shape (p - 1,); a value on an edge is above it. None for closed lists.
        bins: names of the b bins: "0", "1", …, and "rest".
        places: shape (p + 1,): the bin of each of the p parts between edges or values of the list; the last is null's.
        reference: float64, shape (b,): rows of the reference in each bin.
        scores: float64, shape (b,): how much more likely a bin becomes as the whole distribution shifts upwards, with
            mean 0 and standard deviation 1 in the reference, NaN for the rest; None for closed lists and few bins.
    """

    kind: Kind
    name: str
    edges: FloatArray | None
    bins: tuple[str, ...]
    places: NDArray[np.intp]
    reference: FloatArray
    scores: FloatArray | None

    @property
    def borders(self) -> FloatArray:
        """Inner edges, also where values are positions in a closed list, shape (p - 1,)."""
        return np.arange(0.5, len(self.places) - 2) if self.edges is None else self.edges

    @property
    def degrees(self) -> int:
        """Degrees of freedom: bins that can vary once the number of rows is known."""
        return len(self.bins) - 1

    @property
    def minimum_rows(self) -> int:
        """Live rows from which on it is judged: so many that 2 are expected in every bin but the rest."""
        own = [float(count) for name, count in zip(self.bins, self.reference, strict=True) if name != REST]
        return max(MINIMUM_ROWS, math.ceil(MINIMUM_EXPECTED * float(self.reference.sum()) / min(own, default=math.inf)))

    def count(self, values: FloatArray) -> Counts:
        """Count values, shape (n,), NaN for null; positions for closed lists."""
        missing = np.isnan(values)
        if self.edges is not None:
            parts = self.edges.searchsorted(values, side="right")
        else:
            parts = np.where(missing, 0, values).astype(np.intp)
        if missing.any():
            parts[missing] = len(self.places) - 1
        return np.bincount(self.places[parts], minlength=len(self.bins))

    def name_of(self, value: float) -> str:
        """Return the name of a value's bin, as `count` takes it."""
        if math.isnan(value):
            part = len(self.places) - 1
        else:
            part = int(value) if self.edges is None else bisect_right(self.edges, value)
        return self.bins[int(self.places[part])]


@dataclass(frozen=True)
class Baseline:
    """What the traffic of one bundle is compared with: its features in order, predicted label, confidence, novelty."""

    variables: tuple[Variable, ...]

    @cached_property
    def bins(self) -> Bins:
        """What counts values of all variables at once, as each would count its own."""
        # the start does not wait for it
        from model.bins import Bins

        return Bins([(one.borders, one.places, len(one.bins)) for one in self.variables])

    def count(self, matrix: FloatMatrix, probabilities: FloatArray, novelty: FloatArray) -> list[Counts]:
        """Count what came and what was answered.

        Args:
            matrix: float32, shape (n, d), NaN for null.
            probabilities: shape (n, k).
            novelty: shape (n,), 0..1.

        Returns:
            For each variable counts of shape (b,), to which those of other rows can be added.
        """
        values = np.vstack([matrix.T, probabilities.argmax(axis=1), probabilities.max(axis=1), novelty])
        return self.bins.split(self.bins.count([*np.sort(values)]))


def build(manifest: Manifest) -> Baseline:
    """Lay out the bins, and fill them with the reference."""
    reference = manifest.reference
    confidence_edges = np.linspace(0, 1, len(reference.confidence_counts) + 1)[1:-1]
    features = zip(manifest.features, reference.features, strict=True)
    return Baseline(
        (
            *(_feature(feature, bins) for feature, bins in features),
            lay_out("label", "", None, _predicted(manifest)),
            lay_out("confidence", "", confidence_edges, reference.confidence_counts),
            lay_out("novelty", "", NOVELTY_EDGES, _novel(reference, manifest.quality.rows)),
        )
    )


def _feature(feature: Feature, bins: FeatureBins) -> Variable:
    """Return the variable for a feature."""
    nulls = bins.nulls if feature.nullable else None
    return lay_out("feature", feature.name, None if feature.is_category else bins.edges, bins.counts, nulls)


def lay_out(
    kind: Kind,
    name: str,
    edges: Sequence[float] | FloatArray | None,
    parts: Sequence[float] | FloatArray,
    nulls: int | None = None,
) -> Variable:
    """Return a variable with what is too rare pooled, and the bins named.

    Args:
        kind: what it is.
        name: of the feature, otherwise empty.
        edges: inner edges, None for a closed list.
        parts: rows of the reference in each part between edges, or for each value of the list.
        nulls: rows of the reference without a value, None if there always is one.
    """
    counts = np.array(parts, dtype=np.float64)
    least = max(POOL_ROWS, (counts.sum() + (nulls or 0)) * min(POOL_SHARE, 0.5 / len(counts)))
    groups = _single(counts, least) if edges is None else _neighbours(counts, least)
    own = int(groups.max()) + 1
    places = np.append(np.where(groups < 0, own, groups), own)
    has_rest = nulls is not None or bool((groups < 0).any())
    weights = np.append(counts, nulls or 0)
    reference: FloatArray = np.bincount(places, weights, own + 1)[: own + has_rest].astype(np.float64)
    bins = (*map(str, range(own)), *[REST] * has_rest)
    if edges is None:
        return Variable(kind, name, None, bins, places, reference, None)
    inner, scores = np.array(edges, dtype=np.float64), None
    if own >= MINIMUM_SCORED:
        borders = inner[groups[1:] > groups[:-1]]
        raw = _shift_scores(borders, reference[:own]) if kind == "feature" else _normal_scores(reference[:own])
        scores = np.append(_standardise(raw, reference[:own]), [np.nan] * has_rest)
    return Variable(kind, name, inner, bins, places, reference, scores)


def _single(counts: FloatArray, least: float) -> NDArray[np.intp]:
    """Return for each value its group, -1 for those with too few rows."""
    is_alone = counts >= least
    return np.where(is_alone, is_alone.cumsum() - 1, -1)


def _neighbours(counts: FloatArray, least: float) -> NDArray[np.intp]:
    """Return for each part its group: neighbours are pooled, from the first on, until a group has enough rows."""
    groups = np.zeros(len(counts), dtype=np.intp)
    group, rows = 0, 0.0
    for part, count in enumerate(counts):
        if rows >= least and counts[part:].sum() >= least:
            group, rows = group + 1, 0.0
        groups[part] = group
        rows += count
    if group == 0:
        # one group would see nothing: what was hardly ever met in training is the rest
        groups[np.arange(len(counts)) != counts.argmax()] = -1
    return groups


def _shift_scores(borders: FloatArray, reference: FloatArray) -> FloatArray:
    """Return scores, shape (b,), for a shift by half a standard deviation, given the b - 1 borders between bins.

    The score of a bin is how much its share grows by a shift upwards instead of downwards: close to the most powerful
    score for whatever shape the reference has. Within bins rows are spread evenly, the outermost are twice as wide as
    their neighbours.
    """
    gaps = np.diff(borders)
    grid = np.array([borders[0] - 2 * gaps[0], *borders, borders[-1] + 2 * gaps[-1]])
    share, middle, width = reference / reference.sum(), (grid[1:] + grid[:-1]) / 2, np.diff(grid)
    variance = (share * (middle**2 + width**2 / 12)).sum() - (share * middle).sum() ** 2
    below, by = np.array([0.0, *share.cumsum()]), SCORED_SHIFT * np.sqrt(variance)
    upwards, downwards = np.interp(borders - by, grid, below), np.interp(borders + by, grid, below)
    return np.asarray(np.diff(upwards - downwards, prepend=0.0, append=0.0) / share)


def _normal_scores(reference: FloatArray) -> FloatArray:
    """Return van der Waerden's scores, shape (b,): the value of a normal variable in the middle of each bin."""
    share = reference / reference.sum()
    return np.array([NormalDist().inv_cdf(middle) for middle in share.cumsum() - share / 2])


def _standardise(scores: FloatArray, reference: FloatArray) -> FloatArray:
    """Give scores mean 0 and standard deviation 1 in the reference."""
    share = reference / reference.sum()
    centred = scores - (share * scores).sum()
    return np.asarray(centred / np.sqrt((share * centred**2).sum()))


def _predicted(manifest: Manifest) -> FloatArray:
    """Return how many training rows were predicted as each class out of fold, as live rows are predictions, too."""
    columns = np.array(manifest.quality.confusion, dtype=np.float64).sum(axis=0)
    return np.asarray(columns * (manifest.quality.rows / columns.sum()))


def _novel(reference: Reference, rows: int) -> FloatArray:
    """Return how many of as many fresh rows as there were in training are expected between the edges of novelty.

    Means and covariance were fitted to the training rows, so fresh rows are farther away. For k classes with normal
    distributions and c numbers the mean square grows by (1 + k/n) n/(n - k - c - 1).
    """
    classes, numbers = len(reference.class_means), len(reference.columns)
    growth = math.sqrt((rows + classes) / max(1, rows - classes - numbers - 1))
    quantiles = np.array(reference.novelty_quantiles)
    # the middle between quantiles stands for the rows there
    shares = Novelty(reference).shares((quantiles[1:] + quantiles[:-1]) / 2 * growth)
    parts = np.bincount(np.searchsorted(NOVELTY_EDGES, shares, side="right"), minlength=len(NOVELTY_EDGES) + 1)
    return np.asarray(parts * (rows / len(shares)))
