"""Prints what training found, for the person who decides whether to ship it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from model.bundle import WrittenBundle
from model.dataset import Dataset
from model.domain import FloatMatrix
from model.manifest import Engines, Estimate, Manifest, Measures, Parity, Quality
from model.predictor import Predictor
from model.spec import LoadedSpec


def quality(
    loaded: LoadedSpec, data: Dataset, found: Quality, temperature: float | None, raw_calibration_error: float
) -> None:
    """Print the measures beside logistic regression, the sets, the disputed rows and the units."""
    spec = loaded.spec
    print(f"{spec.name} {spec.version}: {found.rows} rows, {len(data.features)} features, {len(data.classes)} classes")
    if data.dropped_lines:
        shown = ", ".join(map(str, data.dropped_lines[:10]))
        print(
            f"left out {found.dropped_rows} rows with missing values: line {shown}{_more(len(data.dropped_lines), 10)}"
        )
    print(f"{found.method}:")
    print(f"  {'':<20}{spec.algorithm.name:<28}logistic regression")
    for name, label in zip(
        Measures.__struct_fields__, ("accuracy", "log loss", "macro F1", "calibration error"), strict=True
    ):
        ours, linear = getattr(found.model, name), getattr(found.linear, name)
        print(f"  {label:<20}{_interval(ours):<28}{_interval(linear)}")
    state = f"temperature {temperature}" if temperature else "not calibrated"
    print(f"  {state} (calibration error before: {raw_calibration_error:.4f})")
    print("prediction sets, out of fold:")
    for level in found.coverage:
        print(f"  {level.level:.0%} promised: {_interval(level.measured)} covered, {level.mean_size:.3f} classes a set")
    print("confusion (rows: true, all repeats):")
    width = max(map(len, data.classes)) + 2
    for name, row in zip(data.classes, found.confusion, strict=True):
        print(f"  {name:<{width}}" + "".join(f"{count:>7}" for count in row))
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
