"""Refuses a manifest whose members contradict each other, or hold a number that the service could not work with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from model.domain import Feature
from model.errors import BundleError
from model.manifest import Estimate, FeatureBins, Golden, Manifest, Parity, Quality, Reference

# beyond these a float64 no longer counts by ones, JSON readers differ, and a float32 is infinite
MOST_COUNT, MOST_NUMBER = 2**53, 3.0e38
# factors between units, and what divides margins: far above any real one
MOST_FACTOR = 1e12
# a golden row that may differ by more proves nothing
MOST_TOLERANCE = 1e-3
MOST_QUANTILES, MOST_CONFIDENCE_BINS = 10_001, 1_000
MOST_DEPTH, MOST_CHARACTERS = 8, 128
# of probabilities that were rounded before they were written
ROUNDING = 1e-4

# what is wrong, None for nothing
Problem = str | None


def check(manifest: Manifest) -> None:
    """Raise BundleError `manifest_inconsistent`, naming the first member that cannot be."""
    for member, problem in _problems(manifest):
        if problem is not None:
            raise BundleError("manifest_inconsistent", f"{member[:100]} {problem}")


def _problems(m: Manifest) -> Iterator[tuple[str, Problem]]:
    """Yield every member that is looked at, with what is wrong about it."""
    yield "name", _word(m.name)
    yield "version", _word(m.version)
    yield "serial", _count(m.serial)
    yield "seed", _count(abs(m.seed))
    yield "classes", None if all(m.classes) else "must not be empty texts"
    yield "algorithm.params", _plain(m.algorithm.params)
    yield "algorithm.temperature", _factor(m.algorithm.temperature)
    for part in m.files:
        yield f"files.{part.name}.size_bytes", _count(part.size_bytes)
    for feature in m.features:
        yield f"features.{feature.name}", _feature(feature)
    yield from _quality(m.quality, m)
    for name, parity in (("parity", m.parity), ("tables", m.tables)):
        if parity is not None:
            yield name, _parity(parity)
    yield from _reference(m.reference, m)
    yield from _golden(m.golden, m)


def _word(text: str) -> Problem:
    """Return what is wrong about a text that is a part of paths, labels and messages."""
    is_word = 0 < len(text) <= MOST_CHARACTERS and "/" not in text and text.isprintable()
    return None if is_word else f"must be 1 to {MOST_CHARACTERS} printable characters without a slash"


def _feature(feature: Feature) -> Problem:
    """Return what is wrong about a feature."""
    if not feature.name or not feature.name.isprintable():
        return "must have a name"
    if feature.is_category:
        is_list = len(set(feature.values)) == len(feature.values) >= 1
        is_alone = not feature.confused_units and feature.hard == feature.plausible == (0.0, 0.0)
        return None if is_list and is_alone else "must have values, each once, and no range or unit"
    (hard_low, hard_high), (low, high) = feature.hard, feature.plausible
    if not -MOST_NUMBER <= hard_low <= low < high <= hard_high <= MOST_NUMBER:
        return "must have a plausible range inside its hard range, both within float32"
    if feature.values:
        return "must have no values, as it is a number"
    units = feature.confused_units
    if len({unit.symbol for unit in units}) < len(units) or not all(unit.symbol and unit.name for unit in units):
        return "must name each confused unit once"
    if any(_factor(unit.factor) or abs(unit.offset) > MOST_NUMBER for unit in units):
        return "must have confused units whose factor is positive and whose offset is within float32"
    return None


def _quality(quality: Quality, m: Manifest) -> Iterator[tuple[str, Problem]]:
    """Yield what was measured."""
    yield "quality.rows", _count(quality.rows, least=1)
    yield "quality.dropped_rows", _count(quality.dropped_rows)
    for name, measures in (("model", quality.model), ("linear", quality.linear)):
        for measure in ("accuracy", "macro_f1", "calibration_error"):
            yield f"quality.{name}.{measure}", _estimate(getattr(measures, measure), 1.0)
        yield f"quality.{name}.log_loss", _estimate(measures.log_loss, MOST_NUMBER)
    confusion, k = quality.confusion, len(m.classes)
    yield "quality.confusion", None if [len(row) for row in confusion] == [k] * k else "must have a cell for each pair"
    yield "quality.confusion", _counts([cell for row in confusion for cell in row])
    for one in quality.calibration:
        yield "quality.calibration", _count(one.count) or _shares((one.confidence, one.accuracy))
    levels = [level.level for level in quality.coverage]
    yield "quality.coverage", None if len(set(levels)) == len(levels) else "must have each level once"
    for level in quality.coverage:
        yield "quality.coverage", _shares((level.level, level.floor)) or _estimate(level.measured, 1.0)
        yield "quality.coverage", None if 0 <= level.mean_size <= k else "must have at most every class in a set"
    for dispute in quality.disputed:
        is_known = {dispute.label, dispute.predicted} <= set(m.classes)
        yield "quality.disputed", _count(dispute.line) or _shares((dispute.probability,))
        yield "quality.disputed", None if is_known else "must name classes"
    for name, found in quality.units_recognised.items():
        yield "quality.units_recognised", None if name in m.feature_names else "must name features"
        yield "quality.units_recognised", _shares(found.values())


def _parity(parity: Parity) -> Problem:
    """Return what is wrong about a proof."""
    counts = (parity.rows, parity.split_thresholds, parity.ties, parity.class_differences)
    return next(filter(None, map(_count, counts)), None) or _shares((parity.largest_difference, parity.tolerance))


def _reference(reference: Reference, m: Manifest) -> Iterator[tuple[str, Problem]]:
    """Yield the training data in summary."""
    for feature, bins in zip(m.features, reference.features, strict=True):
        yield f"reference.features.{feature.name}", _bins(feature, bins)
    for mean in reference.class_means:
        yield "reference.class_means", _numbers(mean)
    yield "reference.covariance", _covariance(reference.covariance)
    yield "reference.shrinkage", _shares((reference.shrinkage,))
    yield "reference.class_prior", _distribution(reference.class_prior)
    counts, quantiles = reference.confidence_counts, reference.novelty_quantiles
    yield "reference.confidence_counts", _counts(counts)
    is_few = 2 <= len(counts) <= MOST_CONFIDENCE_BINS
    yield "reference.confidence_counts", None if is_few else f"must be 2 to {MOST_CONFIDENCE_BINS}"
    is_ascending = all(low <= high for low, high in pairwise(quantiles)) and quantiles[0] >= 0
    yield "reference.novelty_quantiles", None if is_ascending else "must ascend from 0 or more"
    yield "reference.novelty_quantiles", _numbers(quantiles)
    is_few = len(quantiles) <= MOST_QUANTILES
    yield "reference.novelty_quantiles", None if is_few else f"must be at most {MOST_QUANTILES}"
    yield "reference.novelty_threshold", _shares((reference.novelty_threshold,))


def _bins(feature: Feature, bins: FeatureBins) -> Problem:
    """Return what is wrong about the bins of a feature."""
    if feature.is_category:
        if bins.edges or len(bins.counts) != len(feature.values):
            return "must have a count for each value, and no edges"
    elif len(bins.counts) != len(bins.edges) + 1:
        return "must have one count more than edges"
    elif not all(low < high for low, high in pairwise(bins.edges)):
        return "must have edges that ascend"
    return _numbers(bins.edges) or _count(bins.nulls) or _counts(bins.counts)


def _covariance(rows: Sequence[Sequence[float]]) -> Problem:
    """Return what is wrong about a covariance that is square; whether it is positive definite shows when it is used."""
    for i, row in enumerate(rows):
        for j in range(i):
            if abs(row[j] - rows[j][i]) > 1e-6 * math.sqrt(abs(row[i]) * abs(rows[j][j])):
                return "must be symmetric"
        if not 0 < row[i] <= MOST_NUMBER**2:
            return "must have positive variances within float32"
    return None


def _golden(golden: Golden, m: Manifest) -> Iterator[tuple[str, Problem]]:
    """Yield the golden rows."""
    for feature, column in zip(m.features, zip(*golden.rows, strict=True), strict=True):
        yield f"golden.rows of {feature.name}", _column(feature, column)
    for probabilities in golden.probabilities:
        yield "golden.probabilities", _distribution(probabilities)
    is_strict = 0 <= golden.tolerance <= MOST_TOLERANCE
    yield "golden.tolerance", None if is_strict else f"must be 0 to {MOST_TOLERANCE}"
    yield "golden.leaf_share", None if golden.leaf_share is None else _shares((golden.leaf_share,))


def _column(feature: Feature, column: Sequence[float | None]) -> Problem:
    """Return what is wrong about the golden values of a feature."""
    if feature.is_category:
        places = range(len(feature.values))
        return None if all(v is None or v in places for v in column) else "must be positions in its values"
    if None in column and not feature.nullable:
        return "must not be null"
    numbers = [value for value in column if value is not None]
    low, high = feature.hard
    # the range is in float64, the row in float32
    margin = 1e-6 * max(abs(low), abs(high))
    return None if all(low - margin <= v <= high + margin for v in numbers) else "must be inside its hard range"


def _estimate(estimate: Estimate, most: float) -> Problem:
    """Return what is wrong about a measured value that lies between 0 and `most`."""
    values = (estimate.low, estimate.value, estimate.high)
    is_good = all(0 <= value <= most for value in values) and estimate.low <= estimate.high
    return None if is_good else f"must be 0 to {most:g}, with an interval that ascends"


def _distribution(shares: Sequence[float]) -> Problem:
    """Return what is wrong about shares that add up to one."""
    return _shares(shares) or (None if abs(math.fsum(shares) - 1) <= ROUNDING * len(shares) else "must add up to 1")


def _shares(values: Iterable[float]) -> Problem:
    """Return what is wrong about shares."""
    return None if all(0 <= value <= 1 for value in values) else "must be 0 to 1"


def _numbers(values: Iterable[float]) -> Problem:
    """Return what is wrong about numbers of the size of features."""
    return None if all(-MOST_NUMBER <= value <= MOST_NUMBER for value in values) else "must be within float32"


def _factor(value: float | None) -> Problem:
    """Return what is wrong about a number that multiplies or divides."""
    return None if value is None or 1 / MOST_FACTOR <= value <= MOST_FACTOR else "must be a positive factor"


def _count(value: int, least: int = 0) -> Problem:
    """Return what is wrong about a count."""
    return None if least <= value <= MOST_COUNT else f"must be a count from {least} to 2^53"


def _counts(values: Sequence[int]) -> Problem:
    """Return what is wrong about counts of which some are not 0."""
    is_good = all(value >= 0 for value in values) and 0 < sum(values) <= MOST_COUNT
    return None if is_good else "must be counts, not all of them 0 and within 2^53"


def _plain(value: Any, depth: int = 0) -> Problem:
    """Return what is wrong about parameters, which may be anything that JSON can hold."""
    if depth > MOST_DEPTH:
        return "must not be nested so deeply"
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return next(filter(None, (_plain(one, depth + 1) for one in inside)), None)
    # JSON has neither NaN nor infinity, but whole numbers of any length
    return "must have whole numbers within 2^53" if isinstance(value, int) and abs(value) > MOST_COUNT else None
