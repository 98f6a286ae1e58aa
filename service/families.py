"""Every metric there is, with its labels and all their values: written down here, or fixed by the bundle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import msgspec

from model import drift
from model.baseline import Baseline, Variable
from model.manifest import Manifest
from service.errors import ServiceError
from service.loader import NotReady, Ready, State
from service.stopping import Stopping
from service.ways import PREDICTING, WAYS

# what refusals without a class of their own are: status → reason `http-<status>`
HTTP = (400, 408, 411, 412, 413, 414, 416, 417, 426, 431, 501, 505)

CODES = (
    "ambiguous", "body_too_large", "internal", "malformed", "missing", "no_model", "null", "overloaded", "range",
    "rate", "too_many_instances", "type", "unit", "unknown",
)  # fmt: skip

STAGES = ("wait", "decode", "predict", "render")
# of what is kept: not a phase, but when it was
KEY = ("listening_at",)
PHASES = ("imports", "fetch", "verify", "load", "golden", "listen", "total")

# upper bounds of the bins, inclusive
SECONDS = (25e-6, 50e-6, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CONFIDENCE = tuple(round(0.05 * step, 2) for step in range(1, 21))
NOVELTY = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
MOST_SIZES = 10

REQUESTS, REQUEST_SECONDS = "rookery_requests_total", "rookery_request_seconds"
STAGE_SECONDS = "rookery_stage_seconds"
REFUSALS = "rookery_refusals_total"
IN_FLIGHT, WAITING = "rookery_in_flight", "rookery_waiting"
PREDICTIONS, CONFIDENCES = "rookery_predictions_total", "rookery_confidence"
NOVELTIES, SET_SIZES = "rookery_novelty", "rookery_prediction_set_size"
UNIT_MIXUPS = "rookery_unit_mixups_total"
DRIFT_ROWS, DRIFT_REFERENCE = "rookery_drift_rows_total", "rookery_drift_reference_rows"
DRIFT_SCORE, DRIFT_MINIMUM, DRIFT_CRITICAL = (
    "rookery_drift_score",
    "rookery_drift_minimum_rows",
    "rookery_drift_critical",
)
FEEDBACK, FEEDBACK_UNKNOWN = "rookery_feedback_total", "rookery_feedback_unknown_total"
STARTS, COLD_START = "rookery_starts_total", "rookery_cold_start_seconds"
INFO, READY, FALLBACK = "rookery_model_info", "rookery_model_ready", "rookery_model_fallback"

# with more classes only what was right has series of its own
MOST_CONFUSED = 32
OTHER = "other"

Labels = tuple[str, ...]
Kind = Literal["counter", "histogram", "kept", "gauge"]
# how the gauges of several workers become one
Merge = Literal["sum", "max", "min"]


class Family(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        name: as it is exported.
        kind: `kept` is a gauge that the first worker sets and that stays.
        text: what it tells.
        labels: names of its labels.
        values: of the labels, one tuple for each series; the only one is empty where there are no labels.
        bounds: of a histogram's bins, upper and inclusive, without infinity.
        merge: how gauges of several workers become one.
        shown: how many of the series, from the first on, are shown as long as they are 0.
        constants: of each series, where it is known from the bundle.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ((),)
    bounds: tuple[float, ...] = ()
    merge: Merge = "sum"
    shown: int = 1 << 30
    constants: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Cells of one series: of a histogram one for each bin, the last one for what is above, and the sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    @property
    def size(self) -> int:
        """Cells of all series."""
        return self.width * len(self.values)


def _catalogue() -> Iterator[Family]:
    """Yield what all metrics are called and mean; the values of their labels come later."""
    of, in_bin = ("digest", "kind", "name"), ("digest", "kind", "name", "bin")
    cold = "warm is false in an instance's first 10 seconds"
    yield Family(
        REQUESTS, "counter", f"Requests answered or refused; {cold}", ("route", "protocol", "status", "reason", "warm")
    )
    text = f"From when a request was whole until it was answered, waiting included; {cold}"
    yield Family(REQUEST_SECONDS, "histogram", text, ("route", "protocol", "warm"))
    yield Family(STAGE_SECONDS, "histogram", "Time of each stage of requests answered with predictions", ("stage",))
    yield Family(REFUSALS, "counter", "Refused requests that named a problem with this code", ("code",))
    yield Family(IN_FLIGHT, "gauge", "Whole requests that are not answered yet")
    yield Family(WAITING, "gauge", "Those among them that wait for their turn")
    yield Family(PREDICTIONS, "counter", "Predictions by class", ("label",))
    yield Family(CONFIDENCES, "histogram", "Largest probability of each prediction")
    yield Family(SET_SIZES, "histogram", "Classes in each prediction set")
    yield Family(NOVELTIES, "histogram", "Share of training rows less unusual than each instance")
    yield Family(UNIT_MIXUPS, "counter", "Values found to be in another unit, refused or converted", ("feature",))
    text = "What turned out to be true, against what was predicted"
    yield Family(FEEDBACK, "counter", text, ("label", "predicted"))
    yield Family(FEEDBACK_UNKNOWN, "counter", "Feedback about rows of which this worker does not know the prediction")
    yield Family(DRIFT_ROWS, "counter", "Rows counted in the bins of the reference, every bin from 0 on", in_bin)
    yield Family(DRIFT_REFERENCE, "gauge", "Training rows in the bin", in_bin, merge="max")
    text = "How much more likely the bin becomes by a shift upwards; only where there is a score"
    yield Family(DRIFT_SCORE, "gauge", text, in_bin, merge="max")
    yield Family(DRIFT_MINIMUM, "gauge", "Rows from which on drift is judged", of, merge="max")
    text = "From where on a test is significant"
    yield Family(DRIFT_CRITICAL, "gauge", text, (*of, "test", "window"), merge="max")
    yield Family(STARTS, "counter", "Workers that began to serve")
    text = "Seconds each phase of the instance's start took; total is the time to ready"
    yield Family(COLD_START, "kept", text, ("phase",))
    labels = ("name", "version", "digest", "engine", "origin")
    yield Family(INFO, "gauge", "The model in use", labels, merge="max")
    yield Family(READY, "gauge", "Whether a verified model answers, in every worker", merge="min")
    text = "Whether another bundle than the pinned one answers, in any worker"
    yield Family(FALLBACK, "gauge", text, merge="max")


# name → family, as they are documented
METRICS = {family.name: family for family in _catalogue()}


@dataclass(frozen=True)
class Layout:
    """Where each family's cells are: first what adds up, then what is kept, then gauges.

    Attributes:
        families: in order of their cells.
        names: the same as bytes, so that another process knows them.
        begins: name → position of the first cell.
        sizes: cells of each of the three parts.
    """

    families: tuple[Family, ...]
    names: bytes
    begins: dict[str, int] = field(default_factory=dict)
    sizes: tuple[int, int, int] = (0, 0, 0)

    def __getitem__(self, name: str) -> Family:
        """Return a family by its name."""
        return next(family for family in self.families if family.name == name)

    def part(self, name: str) -> slice:
        """Return where the cells of a family are."""
        begin = self.begins[name]
        return slice(begin, begin + self[name].size)


def lay_out(families: Sequence[Family]) -> Layout:
    """Put families in order."""
    parts: tuple[list[Family], ...] = ([], [], [])
    for family in families:
        parts[{"kept": 1, "gauge": 2}.get(family.kind, 0)].append(family)
    ordered = (*parts[0], *parts[1], *parts[2])
    begins, begin = {}, 0
    for family in ordered:
        begins[family.name] = begin
        begin += family.size
    sizes = tuple(sum(family.size for family in part) for part in parts)
    return Layout(ordered, msgspec.json.encode(ordered), begins, sizes)  # type: ignore[arg-type]


def read_names(names: bytes) -> Layout:
    """Return the layout that another worker wrote."""
    return lay_out(msgspec.json.decode(names, type=tuple[Family, ...]))


def all_families(state: State, watched: Baseline | None) -> list[Family]:
    """Return every family of a service.

    Args:
        state: the model, or why there is none.
        watched: the bins of its drift; None without a model.
    """
    found = list(_always())
    if isinstance(state, Ready) and watched is not None:
        found += _of_model(state, state.predictor.manifest)
        found += _of_drift(state.digest, watched)
    found.append(_filled(READY, constants=(float(not isinstance(state, NotReady)),)))
    return found


def outcomes() -> list[tuple[str, str]]:
    """Return status class and reason of everything a request can come to."""
    found = [("2xx", ""), ("3xx", ""), ("4xx", ""), ("5xx", "")]
    # the one that is defined elsewhere belongs to them, whoever has been imported
    kinds: set[type[ServiceError]] = {*_refusals(ServiceError), Stopping}
    found += sorted({(f"{kind.status // 100}xx", kind.slug) for kind in kinds if kind.slug != "http"})
    found += [(f"{status // 100}xx", f"http-{status}") for status in HTTP]
    return found


def _refusals(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    """Yield a refusal and what is derived from it."""
    yield kind
    for derived in kind.__subclasses__():
        yield from _refusals(derived)


def _always() -> Iterator[Family]:
    """Yield what does not depend on the model."""
    warm = ("false", "true")
    requests = tuple((*way, *outcome, is_warm) for way, outcome, is_warm in product(WAYS, outcomes(), warm))
    timed = tuple((*way, is_warm) for way, is_warm in product(WAYS, warm))
    yield _filled(REQUESTS, requests, shown=len(PREDICTING) * len(outcomes()) * len(warm))
    yield _filled(REQUEST_SECONDS, timed, bounds=SECONDS, shown=len(PREDICTING) * len(warm))
    yield _filled(STAGE_SECONDS, _singles(STAGES), bounds=SECONDS)
    yield _filled(REFUSALS, _singles(CODES))
    yield from (METRICS[IN_FLIGHT], METRICS[WAITING], METRICS[STARTS])
    yield _filled(COLD_START, (KEY, *_singles(PHASES)))


def _of_model(ready: Ready, manifest: Manifest) -> Iterator[Family]:
    """Yield what the classes and features fix."""
    yield _filled(PREDICTIONS, _singles(manifest.classes))
    yield _filled(FEEDBACK, confusion(manifest.classes))
    yield METRICS[FEEDBACK_UNKNOWN]
    yield _filled(CONFIDENCES, bounds=CONFIDENCE)
    yield _filled(NOVELTIES, bounds=NOVELTY)
    yield _filled(SET_SIZES, bounds=tuple(map(float, range(1, min(len(manifest.classes), MOST_SIZES) + 1))))
    yield _filled(UNIT_MIXUPS, _singles(manifest.feature_names))
    described = (manifest.name, manifest.version, ready.digest, ready.predictor.engine.name, ready.origin)
    yield _filled(INFO, (described,), constants=(1.0,))
    yield _filled(FALLBACK, constants=(float(ready.is_fallback),))


def confusion(classes: Sequence[str]) -> tuple[Labels, ...]:
    """Return true and predicted class of every series of the feedback."""
    if len(classes) <= MOST_CONFUSED:
        return tuple(product(classes, classes))
    return (*((name, name) for name in classes), *((name, OTHER) for name in classes))


def _of_drift(digest: str, watched: Baseline) -> Iterator[Family]:
    """Yield what `deploy/monitoring/drift.rules.yml` reads."""
    every: list[tuple[Labels, Variable]] = [((digest, one.kind, one.name), one) for one in watched.variables]
    bins: list[tuple[Labels, Variable, int]] = [
        ((*name, bin_), variable, index) for name, variable in every for index, bin_ in enumerate(variable.bins)
    ]
    yield _filled(DRIFT_ROWS, tuple(name for name, _, _ in bins))
    yield _constant(DRIFT_REFERENCE, {name: float(variable.reference[index]) for name, variable, index in bins})
    scores = {name: variable.scores[index] for name, variable, index in bins if variable.scores is not None}
    yield _constant(DRIFT_SCORE, {name: float(score) for name, score in scores.items() if not math.isnan(score)})
    yield _constant(DRIFT_MINIMUM, {name: float(variable.minimum_rows) for name, variable in every})
    limits: dict[Labels, float] = {}
    for window, level in drift.WINDOW_LEVELS.items():
        for (name, variable), limit in zip(every, drift.critical(watched, level), strict=True):
            if variable.degrees:
                limits[*name, "chi_square", window] = limit.chi_square
            if variable.scores is not None:
                limits[*name, "shift", window] = limit.shift
    yield _constant(DRIFT_CRITICAL, limits)


def _constant(name: str, series: dict[Labels, float]) -> Family:
    """Return a gauge that the bundle fixes."""
    return _filled(name, tuple(series), constants=tuple(series.values()))


def _filled(name: str, values: tuple[Labels, ...] = ((),), **more: Any) -> Family:
    """Return a family with the values of its labels."""
    return msgspec.structs.replace(METRICS[name], values=values, **more)


def _singles(values: Sequence[str]) -> tuple[Labels, ...]:
    """Return series of one label."""
    return tuple((value,) for value in values)
