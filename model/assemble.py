"""Puts everything that is known about a trained model into its manifest."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.covariance import ledoit_wolf

from model import bundle, compiling, engines, golden, reference
from model import manifest as manifests
from model.dataset import Dataset
from model.engines import Engine, XGBoostEngine
from model.errors import CompileError, EngineError
from model.evaluate import Evaluated, OutOfFold
from model.learners import BoostedTrees, Estimator
from model.libraries import versions
from model.manifest import Algorithm, EngineName, Engines, Golden, Manifest, Parity, Reference
from model.reference import FloatArray
from model.spec import LoadedSpec
from model.tables import TablesEngine

FileBytes = dict[str, bytes]

# what shapes a bundle
LIBRARIES = ("xgboost", "xgboost-cpu", "scikit-learn", "numpy", "onnx", "onnxmltools", "skl2onnx", "onnxruntime")


@dataclass(frozen=True)
class Compiled:
    """The files of the bundle and how they are to be served."""

    files: dict[str, bytes]
    engines: Engines
    parity: Parity | None
    note: str | None
    tables: Parity | None


def compile_and_prove(loaded: LoadedSpec, data: Dataset, model: BoostedTrees | Estimator) -> Compiled:
    """Compile, prove, and decide which engine serves: the fastest that is proven, unless the spec says which.

    Raises:
        CompileError: nothing is proven and XGBoost cannot stand in, or the spec's own choice is not proven.
    """
    wish, files = loaded.spec.algorithm.engine, {}
    original: XGBoostEngine | Estimator
    if isinstance(model, BoostedTrees):
        files["model.json"] = model.payload()
        original = XGBoostEngine(files["model.json"], data.features, len(data.classes))
    else:
        original = model
    parity: Parity | None = None
    try:
        payload, precision = compiling.compile_model(model, data.features, loaded.spec.name)
        parity, note = compiling.prove(
            model, original, payload, precision, data.features, data.matrix, loaded.spec.seed
        )
    except CompileError as error:
        note = str(error)
    proven: list[EngineName] = []
    if parity is not None and parity.proven:
        files["model.onnx"] = payload
        proven, note = ["onnx"], None
    tables, tables_note = _prove_tables(loaded, data, model, original, files)
    if tables is not None and tables.proven:
        proven.insert(0, "tables")
    if isinstance(model, Estimator) and not proven:
        name = loaded.spec.algorithm.name
        raise CompileError(f"{loaded.path}: {name} is refused, as its compiled form is not proven: {note}")
    if wish not in ("auto", "xgboost", *proven):
        why = tables_note if wish == "tables" else note
        raise CompileError(f'{loaded.path}: engine = "{wish}" is asked for, but this form is not proven: {why}')
    default: EngineName = (*proven, "xgboost")[0] if wish == "auto" else wish
    fallback: Literal["xgboost"] | None = "xgboost" if "model.json" in files and proven else None
    return Compiled(files, Engines(default=default, fallback=fallback), parity, note, tables)


def _prove_tables(
    loaded: LoadedSpec, data: Dataset, model: BoostedTrees | Estimator, original: Engine | Estimator, files: FileBytes
) -> tuple[Parity | None, str | None]:
    """Build the lookup tables of boosted trees and compare them with XGBoost: the proof, or why there is none."""
    if not isinstance(model, BoostedTrees):
        return None, "only boosted trees have lookup tables"
    try:
        engine = TablesEngine(files["model.json"], data.features, len(data.classes))
    except EngineError as error:
        return None, str(error)
    return compiling.prove_engine(model, original, engine, "double", data.features, data.matrix, loaded.spec.seed)


def describe(
    loaded: LoadedSpec, data: Dataset, evaluated: Evaluated, model: BoostedTrees | Estimator, compiled: Compiled
) -> Manifest:
    """Put everything that is known about the model into its manifest."""
    s = loaded.spec
    rows, matrix, leaf_share = golden.choose(data.features, model, data.matrix, s.seed)
    name = compiled.engines.default
    engine = engines.load(name, compiled.files, data.features, len(data.classes))
    tolerance = compiled.parity.tolerance if compiled.parity else compiling.TOLERANCE
    return Manifest(
        format=manifests.FORMAT,
        name=s.name,
        version=s.version,
        serial=s.serial,
        created=_created(),
        expires=s.expires,
        title=s.title,
        intended_use=s.intended_use,
        limits=s.limits,
        source_commit=_commit(loaded.path.parent),
        spec_digest=loaded.digest,
        data_digest=data.digest,
        data_source=s.data.source,
        data_licence=s.data.licence,
        seed=s.seed,
        libraries=versions(LIBRARIES),
        task="classification",
        label=s.target.name,
        classes=data.classes,
        features=data.features,
        files=tuple(bundle.part(file, payload) for file, payload in sorted(compiled.files.items())),
        engines=compiled.engines,
        algorithm=Algorithm(
            name=s.algorithm.name,
            params={**s.algorithm.params, "rounds": s.algorithm.rounds, **_weighting(loaded)},
            temperature=evaluated.temperature,
        ),
        coverage=max(c.level for c in evaluated.quality.coverage if c.level <= s.coverage),
        quality=evaluated.quality,
        parity=compiled.parity,
        tables=compiled.tables,
        reference=summarise(data, evaluated.out_of_fold, s.novelty_threshold),
        golden=Golden(
            rows=rows,
            probabilities=tuple(tuple(map(float, row)) for row in engine.predict(matrix)),
            tolerance=tolerance,
            leaf_share=leaf_share,
        ),
    )


def _weighting(loaded: LoadedSpec) -> dict[str, str]:
    """Return how the classes were weighted, and which one the parameters are about, where that was said."""
    said = {"class_weight": loaded.spec.algorithm.class_weight, "positive": loaded.spec.target.positive}
    return {key: value for key, value in said.items() if value is not None}


def summarise(data: Dataset, out_of_fold: OutOfFold, novelty_threshold: float) -> Reference:
    """Return the reference distribution, with the covariance shrunk as Ledoit and Wolf (2004) do."""
    covariance, shrinkage = _shrunk_covariance(data)
    confidence = out_of_fold.probabilities.mean(axis=0).max(axis=1)
    return reference.build(
        data.features, data.matrix, data.labels, len(data.classes), covariance, shrinkage, confidence, novelty_threshold
    )


def _shrunk_covariance(data: Dataset) -> tuple[FloatArray, float]:
    """Return the pooled within-class covariance of the numeric features, shrunk on the scale of standard deviations."""
    columns = reference.numeric_columns(data.features)
    if not columns:
        return np.zeros((0, 0)), 0.0
    numbers = data.matrix[:, columns].astype(np.float64)
    means = reference.class_means(numbers, data.labels, len(data.classes))
    residuals = np.nan_to_num(numbers - means[data.labels], nan=0.0)
    # a column may be constant within every class; its overall spread keeps the matrix invertible
    spread = np.maximum(residuals.std(axis=0), 1e-6 * np.nanstd(numbers, axis=0))
    shrunk, shrinkage = ledoit_wolf(residuals / spread, assume_centered=True)
    shrunk = shrunk + 1e-9 * np.eye(len(columns))
    return np.asarray(shrunk * np.outer(spread, spread)), float(shrinkage)


def _created() -> str:
    """Return the creation time in UTC, from SOURCE_DATE_EPOCH (seconds) when that is set."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = time.time() if epoch is None else float(epoch)
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _commit(folder: Path) -> str:
    """Return the commit the spec comes from, `-dirty` if anything tracked has changed, `unknown` outside git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
