"""Prints what training found, for the person who decides whether to ship it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from model import parameters
from model.bundle import WrittenBundle
from model.cells import named
from model.dataset import Dataset
from model.domain import FloatMatrix
from model.evaluate import Evaluated
from model.manifest import Engines, Estimate, Manifest, Measures, Parity
from model.predictor import Predictor
from model.spec import LoadedSpec


def quality(loaded: LoadedSpec, data: Dataset, evaluated: Evaluated) -> None:
    """Print the measures beside logistic regression, the sets, the disputed rows and the units."""
    spec, found, temperature = loaded.spec, evaluated.quality, evaluated.temperature
    print(f"{spec.name} {spec.version}: {found.rows} rows, {len(data.features)} features, {len(data.classes)} classes")
    _missing(data)
    _weights(loaded, data, evaluated)
    print(f"{found.method}:")
    print(f"  {'':<20}{spec.algorithm.name:<28}logistic regression")
    for name, label in zip(
        Measures.__struct_fields__, ("accuracy", "log loss", "macro F1", "calibration error"), strict=True
    ):
        ours, linear = getattr(found.model, name), getattr(found.linear, name)
        print(f"  {label:<20}{_interval(ours):<28}{_interval(linear)}")
    state = f"temperature {temperature}" if temperature else "not calibrated"
    print(f"  {state} (calibration error before: {evaluated.raw_calibration_error:.4f})")
    print("prediction sets, out of fold:")
    for level in found.coverage:
        print(f"  {level.level:.0%} promised: {_interval(level.measured)} covered, {level.mean_size:.3f} classes a set")
    print("confusion (rows: true, all repeats):")
    width = max(map(len, data.classes)) + 2
    for name, row in zip(data.classes, found.confusion, strict=True):
        print(f"  {name:<{width}}" + "".join(f"{count:>7}" for count in row))
    if spec.target.positive is not None:
        _positive(spec.target.positive, data.classes.index(spec.target.positive), found.confusion)
    print(f"labels disputed by most repeats: {len(found.disputed)}")
    path = os.path.relpath(loaded.data_path)
    for dispute in found.disputed[:20]:
        print(
            f"  {path}:{dispute.line}: labelled {dispute.label}, "
            f"answered {dispute.predicted} at {dispute.probability:.2f}"
        )
    for name, units in found.units_recognised.items():
        shares = ", ".join(f"{symbol} {share:.1%}" for symbol, share in units.items())
        print(f"unit mix-ups noticed from the value alone: {name}: {shares}")


def _missing(data: Dataset) -> None:
    """Print which columns and rows were left out and why, and which cells were read as missing."""
    if data.unused:
        print(f"columns not used: {', '.join(data.unused)}")
    if data.dropped_lines:
        print(f"left out {len(data.dropped_lines)} of {len(data.labels) + len(data.dropped_lines)} rows:")
    for reason, lines in data.dropped.items():
        shown = ", ".join(map(str, lines[:10]))
        print(f"  {reason}: {len(lines)} rows, line {shown}{_more(len(lines), 10)}")
    for name, words in data.missing.items():
        print(f"missing values of {name}: {', '.join(f'{count} {named(word)}' for word, count in words.items())}")


def _weights(loaded: LoadedSpec, data: Dataset, evaluated: Evaluated) -> None:
    """Print what the classes weighed in training, and what that does to the probabilities."""
    weights = parameters.class_weights(loaded, data.classes, data.labels)
    if weights is None:
        return
    cause = "class_weight" if loaded.spec.algorithm.class_weight else "scale_pos_weight"
    print(f"weights in training ({cause}), everything below is measured on unweighted rows:")
    means = evaluated.out_of_fold.probabilities.mean(axis=(0, 1))
    for position, name in enumerate(data.classes):
        share = (data.labels == position).mean()
        print(f"  {name} x {weights[position]:.4g}: mean probability {means[position]:.3f}, share of rows {share:.3f}")
    print("  probabilities of the heavier class are above its frequency, by design; the linear model is unweighted")


def _positive(name: str, position: int, confusion: Sequence[Sequence[int]]) -> None:
    """Print how many of the positive class are found, and how many of those called so are."""
    hits, real = confusion[position][position], sum(confusion[position])
    called = sum(row[position] for row in confusion)
    print(f"positive class {name}: recall {hits / real:.3f}, precision " + (f"{hits / called:.3f}" if called else "-"))


def parity(found: Parity | None, note: str | None, tables: Parity | None, engines: Engines) -> None:
    """Print the proofs."""
    if found is None:
        print(f"compiled form: none ({note})")
    else:
        _proof("compiled form", found, note)
    if tables is not None:
        _proof("lookup tables", tables, "see the largest difference")
    print(f"served by {engines.default}" + (f", {engines.fallback} stands by" if engines.fallback else ""))


def _proof(form: str, found: Parity, note: str | None) -> None:
    """Print one proof."""
    verdict = "proven equal" if found.proven else f"NOT proven ({note})"
    print(
        f"{form}: {verdict}: {found.rows} rows, both sides of {found.split_thresholds} split thresholds, "
        f"{found.class_differences} classes differ, largest difference {found.largest_difference:.2g} "
        f"(allowed {found.tolerance:.0e}), computed in {found.precision}"
    )


def speed(predictors: Sequence[Predictor], matrix: FloatMatrix) -> None:
    """Print what each engine takes for 1 and for 1,000 rows."""
    thousand = np.resize(matrix, (1_000, matrix.shape[1]))
    for predictor in predictors:
        one, many = (_seconds(predictor, rows) for rows in (matrix[:1], thousand))
        print(f"engine {predictor.engine.name}: 1 row {one * 1e6:.0f} µs, 1,000 rows {many * 1e3:.2f} ms")


def bundle(manifest: Manifest, written: WrittenBundle) -> None:
    """Print the golden rows' reach, the files and the address."""
    share = manifest.golden.leaf_share
    reach = "no leaves to visit" if share is None else f"{share:.1%} of the leaves visited"
    print(f"golden rows: {len(manifest.golden.rows)}, {reach}")
    for part in manifest.files:
        print(f"  {part.name} {part.size_bytes / 1e3:.0f} kB")
    print(f"{written.folder}\n{written.digest}")


def _interval(estimate: Estimate) -> str:
    """Return a value with its interval."""
    return f"{estimate.value:.4f} ({estimate.low:.4f}–{estimate.high:.4f})"


def _more(count: int, shown: int) -> str:
    """Return how many were not shown."""
    return f" and {count - shown} more" if count > shown else ""


def _seconds(predictor: Predictor, rows: FloatMatrix, repeats: int = 50) -> float:
    """Return the median time of an engine call, of one row as the service makes it."""
    row = rows[0].tolist()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        if len(rows) == 1:
            predictor.engine.predict_one(row)
        else:
            predictor.engine.predict(rows)
        times.append(time.perf_counter() - start)
    return float(np.median(times))
