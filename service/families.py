"""Every metric there is, with its labels and all their values: written down here, or fixed by the bundle."""

from __future__ import annotations

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

NO_ROUTE = "none"
# rule of the application → protocol; what matched no rule, or was refused before it was read, is `none`
ROUTES = {
    "/predict": "rookery",
    "/": "rookery",
    "/assets/<version>/<name>": "rookery",
    "/feedback": "rookery",
    "/model": "rookery",
    "/model/drift": "rookery",
    "/health/live": "rookery",
    "/health/ready": "rookery",
    "/metrics": "rookery",
    "/version": "rookery",
    "/openapi.json": "rookery",
    "/docs": "rookery",
    "/docs/start.js": "rookery",
    "/docs/assets/<name>": "rookery",
    NO_ROUTE: "rookery",
}
# routes that predict: all that can be said about them is there from the beginning, so that a first refusal is seen
PREDICTING = ("/predict",)

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
    found.append(
        Family(
            READY,
            "gauge",
            "Whether a verified model answers, in every worker",
            merge="min",
            constants=(float(not isinstance(state, NotReady)),),
        )
    )
    return found


def outcomes() -> list[tuple[str, str]]:
    """Return status class and reason of everything a request can come to."""
    found = [("2xx", ""), ("3xx", ""), ("4xx", ""), ("5xx", "")]
    found += sorted({(f"{kind.status // 100}xx", kind.slug) for kind in _refusals(ServiceError) if kind.slug != "http"})
    found += [(f"{status // 100}xx", f"http-{status}") for status in HTTP]
    return found


def _refusals(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    """Yield a refusal and what is derived from it."""
    yield kind
    for derived in kind.__subclasses__():
        yield from _refusals(derived)


def _always() -> Iterator[Family]:
    """Yield what does not depend on the model."""
    ways = sorted(ROUTES.items(), key=lambda way: way[0] not in PREDICTING)
    warm = ("false", "true")
    requests = tuple(
        (route, protocol, *outcome, is_warm) for (route, protocol), outcome, is_warm in product(ways, outcomes(), warm)
    )
    yield Family(
        REQUESTS, "counter", "Requests answered or refused; warm is false in an instance's first 10 seconds",
        ("route", "protocol", "status", "reason", "warm"), requests,
        shown=len(PREDICTING) * len(outcomes()) * len(warm),
    )  # fmt: skip
    timed = tuple((route, protocol, is_warm) for (route, protocol), is_warm in product(ways, warm))
    yield Family(
        REQUEST_SECONDS, "histogram", "From when a request was whole to its answer, waiting included",
        ("route", "protocol", "warm"), timed, SECONDS, shown=len(PREDICTING) * len(warm),
    )  # fmt: skip
    yield Family(
        STAGE_SECONDS, "histogram", "Time of each stage of the requests answered with predictions",
        ("stage",), _singles(STAGES), SECONDS,
    )  # fmt: skip
    yield Family(
        REFUSALS, "counter", "Refused requests that named a problem with this code", ("code",), _singles(CODES)
    )
    yield Family(IN_FLIGHT, "gauge", "Whole requests that are not answered yet")
    yield Family(WAITING, "gauge", "Those among them that wait for their turn")
    yield Family(STARTS, "counter", "Workers that began to serve")
    yield Family(
        COLD_START, "kept", "Seconds each phase of the instance's start took; total is the time to ready",
        ("phase",), (KEY, *_singles(PHASES)),
    )  # fmt: skip


def _of_model(ready: Ready, manifest: Manifest) -> Iterator[Family]:
    """Yield what the classes and features fix."""
    yield Family(PREDICTIONS, "counter", "Predictions by class", ("label",), _singles(manifest.classes))
    yield Family(FEEDBACK, "counter", FEEDBACK_TEXT, ("label", "predicted"), confusion(manifest.classes))
    yield Family(FEEDBACK_UNKNOWN, "counter", "Feedback about rows of which this worker does not know the prediction")
    yield Family(CONFIDENCES, "histogram", "Largest probability of each prediction", bounds=CONFIDENCE)
    yield Family(NOVELTIES, "histogram", "Share of training rows less unusual than each instance", bounds=NOVELTY)
    sizes = tuple(map(float, range(1, min(len(manifest.classes), MOST_SIZES) + 1)))
    yield Family(SET_SIZES, "histogram", "Classes in each prediction set", bounds=sizes)
    names = manifest.feature_names
    yield Family(UNIT_MIXUPS, "counter", "Values recognised as given in another unit", ("feature",), _singles(names))
    described = (manifest.name, manifest.version, ready.digest, ready.predictor.engine.name, ready.origin)
    labels = ("name", "version", "digest", "engine", "origin")
    yield Family(INFO, "gauge", "The model in use", labels, (described,), merge="max", constants=(1.0,))
    text = "Whether another bundle than the pinned one answers, in any worker"
    yield Family(FALLBACK, "gauge", text, merge="max", constants=(float(ready.is_fallback),))


FEEDBACK_TEXT = "What turned out to be true, against what was predicted"


def confusion(classes: Sequence[str]) -> tuple[Labels, ...]:
    """Return true and predicted class of every series of the feedback."""
    if len(classes) <= MOST_CONFUSED:
        return tuple(product(classes, classes))
    return (*((name, name) for name in classes), *((name, OTHER) for name in classes))


def _of_drift(digest: str, watched: Baseline) -> Iterator[Family]:
    """Yield what `deploy/monitoring/drift.rules.yml` reads."""
    of = ("digest", "kind", "name")
    every: list[tuple[Labels, Variable]] = [((digest, one.kind, one.name), one) for one in watched.variables]
    bins: list[tuple[Labels, Variable, int]] = [
        ((*name, bin_), variable, index) for name, variable in every for index, bin_ in enumerate(variable.bins)
    ]
    text = "Rows counted in the bins of the reference"
    yield Family(DRIFT_ROWS, "counter", text, (*of, "bin"), tuple(name for name, _, _ in bins))
    reference = {name: float(variable.reference[index]) for name, variable, index in bins}
    yield _constant(DRIFT_REFERENCE, "Training rows in the bin", (*of, "bin"), reference)
    scores = {
        name: float(variable.scores[index])
        for name, variable, index in bins
        if variable.scores is not None and variable.scores[index] == variable.scores[index]
    }
    yield _constant(DRIFT_SCORE, "How much more likely the bin becomes by a shift upwards", (*of, "bin"), scores)
    minima = {name: float(variable.minimum_rows) for name, variable in every}
    yield _constant(DRIFT_MINIMUM, "Rows from which on drift is judged", of, minima)
    limits: dict[Labels, float] = {}
    for window, level in drift.WINDOW_LEVELS.items():
        for (name, variable), limit in zip(every, drift.critical(watched, level), strict=True):
            if variable.degrees:
                limits[*name, "chi_square", window] = limit.chi_square
            if variable.scores is not None:
                limits[*name, "shift", window] = limit.shift
    text = "From where on a test is significant"
    yield _constant(DRIFT_CRITICAL, text, (*of, "test", "window"), limits)


def _constant(name: str, text: str, labels: Labels, series: dict[Labels, float]) -> Family:
    """Return a gauge that the bundle fixes."""
    return Family(name, "gauge", text, labels, tuple(series), merge="max", constants=tuple(series.values()))


def _singles(values: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    """Return series of one label."""
    return tuple((value,) for value in values)
