"""The contract that travels with the model: everything that knows the features is derived from it."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from model.domain import NULL_WORDS, Feature
from model.errors import BundleError

FORMAT = 1
# golden rows grow with the number of features, the covariance with its square: a hundred features take 0.6 MB
MAX_MANIFEST_BYTES = 8 << 20

Row = tuple[float | None, ...]
EngineName = Literal["tables", "onnx", "xgboost"]
FileName = Literal["model.json", "model.onnx"]

# what each engine loads, the fastest engine first
FILES: dict[EngineName, FileName] = {"tables": "model.json", "onnx": "model.onnx", "xgboost": "model.json"}


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the bundle."""

    name: FileName
    size_bytes: int
    sha256: str


class Estimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measured value with its 95 % interval (both ends included)."""

    value: float
    low: float
    high: float


class Measures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How good one model is, out of fold. Log loss in nats; the others 0..1."""

    accuracy: Estimate
    log_loss: Estimate
    macro_f1: Estimate
    calibration_error: Estimate


class CalibrationBin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Predictions whose confidence fell into one bin: their mean confidence, and how often they were right."""

    count: int
    confidence: float
    accuracy: float


class Coverage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One level of the prediction sets.

    A class is in the set if its probability is at least `floor` (one minus the conformal threshold); `measured` is the
    share of rows whose true class was in its set out of fold, `mean_size` the mean number of classes in a set.
    """

    level: float
    floor: float
    measured: Estimate
    mean_size: float


class Dispute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A training row whose label cross-validation contradicts in most repeats."""

    line: int
    label: str
    predicted: str
    probability: float


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured about the model, and how."""

    method: str
    rows: int
    dropped_rows: int
    model: Measures
    linear: Measures
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[CalibrationBin, ...]
    coverage: tuple[Coverage, ...]
    disputed: tuple[Dispute, ...]
    units_recognised: dict[str, dict[str, float]]


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The proof that the compiled form answers like the original.

    `rows` were compared; `ties` of them had their two largest probabilities within 1e-5 of each other; elsewhere
    `class_differences` classes differed. `largest_difference` is in probability.
    """

    precision: Literal["float", "double"]
    rows: int
    split_thresholds: int
    ties: int
    class_differences: int
    largest_difference: float
    tolerance: float
    proven: bool


class FeatureBins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one feature was distributed in training.

    Numbers: counts between consecutive inner `edges` (`len(edges) + 1` bins). Categories: counts per value, no edges.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    nulls: int


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The training data in summary, for novelty and drift.

    `columns` are the positions of the numeric features; `class_means` is (k, c), `covariance` (c, c) over them.
    `novelty_quantiles` are equally spaced quantiles, from 0 to 1, of the training rows' novelty distances.
    """

    features: tuple[FeatureBins, ...]
    columns: tuple[int, ...]
    class_means: tuple[tuple[float, ...], ...]
    covariance: tuple[tuple[float, ...], ...]
    shrinkage: float
    class_prior: tuple[float, ...]
    confidence_counts: tuple[int, ...]
    novelty_quantiles: tuple[float, ...]
    novelty_threshold: float


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs with their known answers; categories are given by their position in `values`.

    `leaf_share` is the share of the model's leaves that the rows visit, None where there are no leaves.
    """

    rows: tuple[Row, ...]
    probabilities: tuple[tuple[float, ...], ...]
    tolerance: float
    leaf_share: float | None


class Algorithm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What learned, with every parameter that was given; `temperature` divides the margins, None if not calibrated."""

    name: str
    params: dict[str, Any]
    temperature: float | None


class Engines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which engine serves, and which one stands in if asked to."""

    default: EngineName
    fallback: Literal["xgboost"] | None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contract and the table of contents of a bundle."""

    format: int
    name: str
    version: str
    serial: int
    created: str
    expires: str | None
    title: str
    intended_use: str
    limits: tuple[str, ...]
    source_commit: str
    spec_digest: str
    data_digest: str
    data_source: str
    data_licence: str
    seed: int
    libraries: dict[str, str]
    task: Literal["classification"]
    label: str
    classes: tuple[str, ...]
    features: tuple[Feature, ...]
    files: tuple[Part, ...]
    engines: Engines
    algorithm: Algorithm
    coverage: float
    quality: Quality
    parity: Parity | None
    reference: Reference
    golden: Golden
    # the proof of the lookup tables; `parity` is that of model.onnx
    tables: Parity | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the inputs, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def engine_names(self) -> tuple[EngineName, ...]:
        """Every engine that can serve the bundle, fastest first."""
        files = {part.name for part in self.files}
        has_tables = self.tables is not None and self.tables.proven
        return tuple(name for name, file in FILES.items() if file in files and (name != "tables" or has_tables))

    @property
    def set_floor(self) -> float:
        """The least probability of a class in a prediction set, at the manifest's own coverage level."""
        return next(c.floor for c in self.quality.coverage if c.level == self.coverage)


def encode(manifest: Manifest) -> bytes:
    """Return the exact bytes of `manifest.json`; equal manifests give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(raw: bytes) -> Manifest:
    """Parse the bytes of `manifest.json`.

    Raises:
        BundleError: `manifest_malformed`, `manifest_format` or `manifest_inconsistent`.
    """
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError("manifest_malformed", f"manifest.json cannot be read: {str(error)[:300]}") from error
    if manifest.format != FORMAT:
        # a number of 5,000 digits cannot even be written down
        found = str(manifest.format) if abs(manifest.format) < 1_000 else "of many digits"
        raise BundleError("manifest_format", f"manifest format {found} is not {FORMAT}; train again")
    problem = _inconsistency(manifest)
    if problem:
        raise BundleError("manifest_inconsistent", problem)
    return manifest


def digest(raw: bytes) -> str:
    """Return the identity of a bundle: `sha256:<64 hex>` of the bytes of its manifest."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def contract(manifest: Manifest) -> str:
    """Return the identity of what callers rely on: name, features with their units and values, classes in order.

    Two bundles with the same contract take the same requests and mean the same by their answers. Words for a missing
    value count where they are not the usual ones, so that bundles that do not name them keep their contract.
    """
    features = [
        (f.name, f.dtype, f.unit, f.nullable, f.values, *([] if f.null == NULL_WORDS else [f.null]))
        for f in manifest.features
    ]
    parts = (manifest.name, manifest.task, manifest.classes, features)
    return "sha256:" + hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def example(manifest: Manifest) -> dict[str, float | str | None]:
    """Return an ordinary instance by name: of the golden rows without anything odd, the one written shortest."""

    def is_plausible(row: Row) -> bool:
        pairs = zip(manifest.features, row, strict=True)
        return all(v is not None and (f.is_category or f.accepts_as_plausible(v)) for f, v in pairs)

    rows = manifest.golden.rows
    row = min(filter(is_plausible, rows), key=lambda r: len(str(r)), default=rows[0])
    return {
        f.name: f.values[int(v)] if f.is_category and v is not None else v
        for f, v in zip(manifest.features, row, strict=True)
    }


def _inconsistency(m: Manifest) -> str | None:
    """Return what in a well-formed manifest contradicts itself, or None."""
    d, k, c = len(m.features), len(m.classes), len(m.reference.columns)
    names = {part.name for part in m.files}
    engines = {m.engines.default, *([m.engines.fallback] if m.engines.fallback else [])}
    numeric = tuple(i for i, f in enumerate(m.features) if not f.is_category)
    checks = [
        (d >= 1 and len(set(m.feature_names)) == d, "features must be named, each once"),
        (k >= 2 and len(set(m.classes)) == k, "classes must be at least two, each once"),
        (len(names) == len(m.files) >= 1, "files must be named once"),
        (all(FILES[engine] in names for engine in engines), "an engine has no file"),
        (m.engines.default != "tables" or "tables" in m.engine_names, "the lookup tables are not proven"),
        (m.coverage in {level.level for level in m.quality.coverage}, "the coverage level has no threshold"),
        (len(m.reference.features) == d, "reference must describe every feature"),
        (m.reference.columns == numeric, "reference columns must be the numeric features"),
        (len(m.reference.class_means) == len(m.reference.class_prior) == k, "reference must describe every class"),
        (all(len(mean) == c for mean in m.reference.class_means), "class means must cover the numeric features"),
        (len(m.reference.covariance) == c, "covariance must cover the numeric features"),
        (all(len(row) == c for row in m.reference.covariance), "covariance must be square"),
        (len(m.reference.novelty_quantiles) >= 2, "novelty quantiles are missing"),
        (200 <= len(m.golden.rows) <= 512, "golden rows must be 200 to 512"),
        (len(m.golden.probabilities) == len(m.golden.rows), "every golden row needs an answer"),
        (all(len(row) == d for row in m.golden.rows), "golden rows must have every feature"),
        (all(len(row) == k for row in m.golden.probabilities), "golden answers must have every class"),
    ]
    return next((problem for good, problem in checks if not good), None)
