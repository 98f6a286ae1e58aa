"""A manifest that is consistent in every hash but contradicts itself is refused, and the message names the member."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from model import manifest as manifests
from model import manifest_checks
from model.domain import ConfusedUnit
from model.errors import BundleError
from model.manifest import Manifest
from model.predictor import Predictor
from model.verify import VerifiedBundle

Change = Callable[[Manifest], Manifest]


def _at(path: str, change: Callable[[Any], Any]) -> Change:
    """Change the member that a path such as `reference.features.0.edges` names."""

    def changed(value: Any, steps: list[str]) -> Any:
        if not steps:
            return change(value)
        step, rest = steps[0], steps[1:]
        if isinstance(value, tuple):
            at = int(step)
            return (*value[:at], changed(value[at], rest), *value[at + 1 :])
        if isinstance(value, dict):
            return {**value, step: changed(value[step], rest)}
        return replace(value, **{step: changed(getattr(value, step), rest)})

    return lambda manifest: changed(manifest, path.split("."))


def _to(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


FAULTS: dict[str, tuple[Change, str]] = {
    "no name": (_at("name", _to("")), "name"),
    "name with a slash": (_at("name", _to("a/b")), "name"),
    "name of 5,000 characters": (_at("name", _to("x" * 5000)), "name"),
    "no version": (_at("version", _to("")), "version"),
    "serial 2^64": (_at("serial", _to(2**64)), "serial"),
    "negative serial": (_at("serial", _to(-1)), "serial"),
    "seed of many digits": (_at("seed", _to(10**5000)), "seed"),
    "empty class": (_at("classes.0", _to("")), "classes"),
    "size 2^64": (_at("files.0.size_bytes", _to(2**64)), "files.model.json.size_bytes"),
    "negative size": (_at("files.0.size_bytes", _to(-1)), "files.model.json.size_bytes"),
    "params beyond 2^53": (_at("algorithm.params", _to({"a": [{"b": 2**64}]})), "algorithm.params"),
    "params nested": (_at("algorithm.params", _to({"a": [[[[[[[[[1]]]]]]]]]})), "algorithm.params"),
    "temperature 0": (_at("algorithm.temperature", _to(0.0)), "algorithm.temperature"),
    "hard range reversed": (_at("features.0.hard", lambda r: r[::-1]), "features.bill_length_mm"),
    "plausible range reversed": (_at("features.0.plausible", lambda r: r[::-1]), "features.bill_length_mm"),
    "plausible outside hard": (_at("features.0.plausible", _to((0.0, 1e9))), "features.bill_length_mm"),
    "range beyond float32": (_at("features.0.hard", _to((-1e308, 1e308))), "features.bill_length_mm"),
    "number with values": (_at("features.0.values", _to(("a", "b"))), "features.bill_length_mm"),
    "factor 0": (_at("features.0.confused_units.0.factor", _to(0.0)), "features.bill_length_mm"),
    "negative factor": (_at("features.0.confused_units.0.factor", _to(-1.0)), "features.bill_length_mm"),
    "denormal factor": (_at("features.0.confused_units.0.factor", _to(5e-324)), "features.bill_length_mm"),
    "offset 1e308": (_at("features.0.confused_units.0.offset", _to(1e308)), "features.bill_length_mm"),
    "unit twice": (
        _at("features.0.confused_units", _to((ConfusedUnit("cm", "cm", 10.0), ConfusedUnit("cm", "cm", 9.0)))),
        "features.bill_length_mm",
    ),
    "no rows": (_at("quality.rows", _to(0)), "quality.rows"),
    "confusion not square": (_at("quality.confusion.0", lambda r: r[1:]), "quality.confusion"),
    "confusion empty": (_at("quality.confusion", lambda c: tuple((0,) * len(c) for _ in c)), "quality.confusion"),
    "negative confusion": (_at("quality.confusion.0.0", _to(-5)), "quality.confusion"),
    "accuracy 2": (_at("quality.model.accuracy.value", _to(2.0)), "quality.model.accuracy"),
    "interval reversed": (
        _at("quality.linear.log_loss", lambda e: replace(e, low=e.high + 1)),
        "quality.linear.log_loss",
    ),
    "negative bin": (_at("quality.calibration.0.count", _to(-1)), "quality.calibration"),
    "floor 2": (_at("quality.coverage.0.floor", _to(2.0)), "quality.coverage"),
    "level twice": (_at("quality.coverage", lambda c: (*c, c[0])), "quality.coverage"),
    "sets of 9 classes": (_at("quality.coverage.0.mean_size", _to(9.0)), "quality.coverage"),
    "unknown class disputed": (_at("quality.disputed.0.label", _to("King")), "quality.disputed"),
    "unknown feature": (_at("quality.units_recognised", _to({"x": {}})), "quality.units_recognised"),
    "parity of -1 rows": (_at("parity.rows", _to(-1)), "parity"),
    "a count too few": (_at("reference.features.0.counts", lambda c: c[1:]), "reference.features.bill_length_mm"),
    "an edge too few": (_at("reference.features.0.edges", lambda e: e[1:]), "reference.features.bill_length_mm"),
    "edges reversed": (_at("reference.features.0.edges", lambda e: e[::-1]), "reference.features.bill_length_mm"),
    "edge twice": (
        _at("reference.features.0.edges", lambda e: (e[0], *e[:-1])),
        "reference.features.bill_length_mm",
    ),
    "edge 1e308": (_at("reference.features.0.edges", lambda e: (*e[:-1], 1e308)), "reference.features.bill_length_mm"),
    "counts all 0": (
        _at("reference.features.0.counts", lambda c: (0,) * len(c)),
        "reference.features.bill_length_mm",
    ),
    "count 2^64": (_at("reference.features.0.counts.0", _to(2**64)), "reference.features.bill_length_mm"),
    "negative count": (_at("reference.features.0.counts.0", _to(-1)), "reference.features.bill_length_mm"),
    "negative nulls": (_at("reference.features.0.nulls", _to(-1)), "reference.features.bill_length_mm"),
    "mean 1e308": (_at("reference.class_means.0.0", _to(1e308)), "reference.class_means"),
    "covariance not symmetric": (_at("reference.covariance.0.1", lambda v: v + 100), "reference.covariance"),
    "variance 0": (_at("reference.covariance.0.0", _to(0.0)), "reference.covariance"),
    "variance 1e308": (_at("reference.covariance.0.0", _to(1e308)), "reference.covariance"),
    "shrinkage 2": (_at("reference.shrinkage", _to(2.0)), "reference.shrinkage"),
    "prior of 2": (_at("reference.class_prior.0", _to(1.0)), "reference.class_prior"),
    "one bin of confidence": (_at("reference.confidence_counts", _to((5,))), "reference.confidence_counts"),
    "no confidence": (_at("reference.confidence_counts", _to((0,) * 20)), "reference.confidence_counts"),
    "a million bins of confidence": (_at("reference.confidence_counts", _to((1,) * 10**6)), "reference.confidence"),
    "quantiles reversed": (_at("reference.novelty_quantiles", lambda q: q[::-1]), "reference.novelty_quantiles"),
    "negative quantile": (_at("reference.novelty_quantiles.0", _to(-1.0)), "reference.novelty_quantiles"),
    "a million quantiles": (_at("reference.novelty_quantiles", _to((1.0,) * 10**6)), "reference.novelty_quantiles"),
    "threshold 2": (_at("reference.novelty_threshold", _to(2.0)), "reference.novelty_threshold"),
    "golden row out of range": (_at("golden.rows.7.0", _to(1e30)), "golden.rows of bill_length_mm"),
    "golden null": (_at("golden.rows.7.0", _to(None)), "golden.rows of bill_length_mm"),
    "golden probability": (_at("golden.probabilities.7.0", _to(7.0)), "golden.probabilities"),
    "golden probabilities of 2": (_at("golden.probabilities.7", _to((1.0, 1.0, 0.0))), "golden.probabilities"),
    "tolerance 1e308": (_at("golden.tolerance", _to(1e308)), "golden.tolerance"),
    "negative tolerance": (_at("golden.tolerance", _to(-1.0)), "golden.tolerance"),
    "more leaves than there are": (_at("golden.leaf_share", _to(2.0)), "golden.leaf_share"),
}


@pytest.mark.parametrize(("change", "member"), FAULTS.values(), ids=FAULTS)
def test_a_manifest_that_contradicts_itself_is_refused_by_the_member_at_fault(manifest: Manifest, change, member):
    # the control
    manifest_checks.check(manifest)
    with pytest.raises(BundleError) as caught:
        manifest_checks.check(change(manifest))
    assert caught.value.code == "manifest_inconsistent"
    assert caught.value.reason.startswith(member)
    assert len(caught.value.reason) < 300


OF_CATEGORIES: dict[str, Change] = {
    "value twice": _at("features.1.values", lambda v: (*v[:-1], v[0])),
    "no values": _at("features.1.values", _to(())),
    "with a range": _at("features.1.hard", _to((0.0, 1.0))),
    "with edges": _at("reference.features.1.edges", _to((1.0,))),
    "a count too many": _at("reference.features.1.counts", lambda c: (*c, 1)),
    "golden position beyond": _at("golden.rows.3.1", _to(3.0)),
    "golden position between": _at("golden.rows.3.1", _to(0.5)),
    "negative golden position": _at("golden.rows.3.1", _to(-1.0)),
}


@pytest.mark.parametrize("change", OF_CATEGORIES.values(), ids=OF_CATEGORIES)
def test_a_category_that_contradicts_itself_is_refused(toy_bundle: VerifiedBundle, change):
    manifest_checks.check(toy_bundle.manifest)
    with pytest.raises(BundleError, match="colour"):
        manifest_checks.check(change(toy_bundle.manifest))


@pytest.mark.parametrize("number", [2**64, -(2**64), 10**5000, 0], ids=["2^64", "-2^64", "5,000 digits", "0"])
def test_a_format_of_any_size_is_refused_with_what_to_do(manifest: Manifest, number):
    raw = manifests.encode(manifest).replace(b'"format": 1,', b'"format": ' + _digits(number) + b",")
    with pytest.raises(BundleError, match=r"train again|Number out of range|cannot be read"):
        manifests.decode(raw)


def _digits(number: int) -> bytes:
    return b"1" + b"0" * 5000 if number > 10**300 else str(number).encode()


def test_a_reason_does_not_repeat_what_was_sent(manifest: Manifest):
    raw = manifests.encode(manifest).replace(b'"task": "classification"', b'"task": "' + b"x" * 9000 + b'"')
    with pytest.raises(BundleError) as caught:
        manifests.decode(raw)
    assert (caught.value.code, len(caught.value.reason) < 500) == ("manifest_malformed", True)


def test_a_reference_that_cannot_be_computed_with_is_refused_when_it_is_loaded(penguins: VerifiedBundle):
    plain = Predictor(penguins, _Constant(penguins.manifest))
    plain.prove_reference()
    tiny = _at("reference.features.0.edges", lambda e: tuple(5e-324 * i for i in range(len(e))))(penguins.manifest)
    manifest_checks.check(tiny)
    broken = Predictor(dataclasses.replace(penguins, manifest=tiny), _Constant(tiny))
    with pytest.raises(BundleError, match="reference cannot be computed with") as caught:
        broken.prove_reference()
    assert caught.value.code == "manifest_inconsistent"


class _Constant:
    """An engine that is not asked."""

    name = "tables"

    def __init__(self, manifest: Manifest) -> None:
        self._classes = len(manifest.classes)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        return np.full((len(matrix), self._classes), 1 / self._classes)

    def predict_one(self, row: Any) -> list[float]:
        return [1 / self._classes] * self._classes
