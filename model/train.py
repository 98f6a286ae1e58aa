"""Trains, judges, compiles, proves and writes one bundle: `python -m model.train model/specs/penguins.toml`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model import assemble, bundle, dataset, evaluate, learners, predictor, report, spec, verify
from model.command_line import Parser
from model.dataset import Dataset
from model.errors import DataError, ModelError, QualityError, SpecError
from model.manifest import Quality
from model.spec import LoadedSpec

HELP_END = """\
exit status: 0 written or up to date; 1 below the bar of slo.toml, not provable or not writable; 2 wrong spec, data

examples:
  python -m model.train model/specs/penguins.toml
  python -m model.train machines.toml --out bundles --if-changed --json
"""


def train(
    loaded: LoadedSpec, data: Dataset, quality_bar: dict[str, float], root: Path, quiet: bool
) -> bundle.WrittenBundle:
    """Run the whole artifact flow, up to a verified bundle on disk.

    Args:
        loaded: the spec.
        data: its CSV.
        quality_bar: `accuracy_min` and `calibration_error_max`, 0..1.
        root: the folder of all bundles.
        quiet: no progress bar.

    Raises:
        QualityError: the model is below the bar.
        CompileError: the model cannot be proven and there is no other engine for it.
        BundleError: the bundle just written does not verify.
    """
    s = loaded.spec
    fit = learners.learner(loaded, data.features, data.classes)
    linear = learners.linear_baseline(data.features, s.seed)
    with tqdm(total=2 * s.split.folds * s.split.repeats, desc="cross-validation", unit="fit", disable=quiet) as bar:
        evaluated = evaluate.evaluate(
            data, fit, linear, s.split.folds, s.split.repeats, s.seed, s.algorithm.calibrate == "auto", bar.update
        )
    report.quality(loaded, data, evaluated)
    refuse_below_bar(evaluated.quality, quality_bar)
    model = fit(data.matrix, data.labels)
    if evaluated.temperature is not None:
        model = model.scaled(evaluated.temperature)
    compiled = assemble.compile_and_prove(loaded, data, model)
    report.parity(compiled.parity, compiled.note, compiled.tables, compiled.engines)
    manifest = assemble.describe(loaded, data, evaluated, model, compiled)
    written = bundle.write(root, manifest, compiled.files)
    checked = verify.read(written.folder, written.digest)
    predictors = [predictor.load(checked, name) for name in manifest.engine_names]
    bundle.make_current(written)
    report.speed(predictors, data.matrix)
    report.bundle(manifest, written)
    return written


def refuse_below_bar(quality: Quality, bar: dict[str, float]) -> None:
    """Raise QualityError if a measure misses the bar of `slo.toml`."""
    accuracy, error = quality.model.accuracy.value, quality.model.calibration_error.value
    if accuracy < bar["accuracy_min"]:
        raise QualityError(
            f"accuracy {accuracy:.4f} is below the bar {bar['accuracy_min']} of slo.toml; no bundle written"
        )
    if error > bar["calibration_error_max"]:
        raise QualityError(
            f"calibration error {error:.4f} is above the bar {bar['calibration_error_max']} of slo.toml; no bundle"
        )


def bar_for(path: Path, name: str) -> dict[str, float]:
    """Return the quality bar of a model: `[quality.<name>]` over `[quality.default]`.

    Raises:
        SpecError: the file is not there, not TOML, or without the two bars.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text())["quality"]
        bar = {**tables["default"], **tables.get(name, {})}
        return {key: float(bar[key]) for key in ("accuracy_min", "calibration_error_max")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SpecError(str(path), None, f"cannot read the quality bar: {error!r}") from error


def is_current(loaded: LoadedSpec, root: Path) -> Path | None:
    """Return the current bundle if it verifies and was trained from the same spec and data, else None."""
    folder = bundle.current(root, loaded.spec.name)
    if folder is None:
        return None
    try:
        manifest = verify.read(folder, folder.name).manifest
        digest = "sha256:" + hashlib.sha256(loaded.data_path.read_bytes()).hexdigest()
    except (ModelError, OSError):
        return None
    # a bundle from before manifests named the words for missing reads files in another way
    words = [spec.null_words(loaded.spec, feature) for feature in loaded.spec.features]
    is_same = (manifest.spec_digest, manifest.data_digest) == (loaded.digest, digest)
    return folder if is_same and [feature.null for feature in manifest.features] == words else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0 written, 1 below the bar, not provable or not writable, 2 wrong spec or data.
    """
    parser = Parser(
        prog="python -m model.train",
        description="Train a bundle from a spec file and the CSV it names, unless the model is below its bar.",
        epilog=HELP_END,
    )
    parser.add_argument("spec", type=Path, nargs="?", default=Path("model/specs/penguins.toml"), help="the spec file")
    parser.add_argument("--out", type=Path, default=Path("bundles"), help="folder of all bundles (default: bundles)")
    parser.add_argument("--slo", type=Path, default=Path("slo.toml"), help="file with the quality bar")
    parser.add_argument("--if-changed", action="store_true", help="do nothing if the current bundle fits spec and data")
    parser.add_argument("--json", action="store_true", help="print the bundle as JSON, and the report on stderr")
    given = parser.parse_args(arguments)
    try:
        loaded = spec.load(given.spec)
        existing = is_current(loaded, given.out) if given.if_changed else None
        if existing is not None:
            print(_as_json(existing, trained=False) if given.json else f"{existing} is up to date")
            return 0
        bar = bar_for(given.slo, loaded.spec.name)
        with contextlib.redirect_stdout(sys.stderr if given.json else sys.stdout):
            written = train(loaded, dataset.load(loaded), bar, given.out, quiet=not sys.stderr.isatty())
        if given.json:
            print(_as_json(written.folder, trained=True))
    except (SpecError, DataError) as error:
        return _fail(error, 2)
    except (ModelError, OSError) as error:
        return _fail(error, 1)
    return 0


def _as_json(folder: Path, *, trained: bool) -> str:
    """Return what a script wants to know about the current bundle."""
    found = verify.read(folder)
    quality = found.manifest.quality
    measures = {
        "accuracy": quality.model.accuracy.value,
        "log_loss": quality.model.log_loss.value,
        "dropped_rows": quality.dropped_rows,
    }
    return json.dumps({"folder": str(folder), "digest": found.digest, "trained": trained, **measures})


def _fail(error: Exception, status: int) -> int:
    """Print an error on one line, whatever a header or a library put into it, and return the exit status."""
    print("error:", *str(error).splitlines(), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
