"""The contract: equal manifests are equal bytes, and one that contradicts itself is refused."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from msgspec.structs import replace

from model import manifest as manifests
from model.errors import BundleError
from model.manifest import Engines, Manifest
from model.verify import VerifiedBundle


def test_manifest_survives_encoding(manifest: Manifest):
    raw = manifests.encode(manifest)

    assert manifest == manifests.decode(raw)
    assert raw == manifests.encode(manifests.decode(raw))
    assert raw.endswith(b"}\n")


def test_digest_is_the_sha256_of_the_exact_bytes():
    assert "sha256:" + hashlib.sha256(b"abc").hexdigest() == manifests.digest(b"abc")
    assert manifests.digest(b"abc") != manifests.digest(b"abc\n")


def test_names_are_in_feature_order(manifest: Manifest):
    assert manifest.feature_names == ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


def test_set_floor_belongs_to_the_coverage_level(manifest: Manifest):
    floors = {level.level: level.floor for level in manifest.quality.coverage}

    assert {0.9, 0.95, 0.99} == set(floors)
    assert floors[manifest.coverage] == manifest.set_floor
    assert floors[0.9] == replace(manifest, coverage=0.9).set_floor


def _with(document: dict, **changes: object) -> bytes:
    return json.dumps({**document, **changes}).encode()


MALFORMED = {
    "empty": lambda raw: b"",
    "not JSON": lambda raw: b"manifest",
    "not an object": lambda raw: b"[]",
    "cut short": lambda raw: raw[:-3],
    "more behind it": lambda raw: raw + b"{}",
    "not UTF-8": lambda raw: raw.replace(b"penguins", b"pengu\xffns", 1),
    "unknown key": lambda raw: _with(json.loads(raw), surprise=1),
    "missing key": lambda raw: json.dumps({k: v for k, v in json.loads(raw).items() if k != "seed"}).encode(),
    "wrong type": lambda raw: _with(json.loads(raw), serial="1"),
    "not a number": lambda raw: raw.replace(b'"seed": 20140305', b'"seed": NaN'),
    "strange file": lambda raw: raw.replace(b'"name": "model.json"', b'"name": "../model.json"'),
    "other task": lambda raw: _with(json.loads(raw), task="regression"),
    "nested without end": lambda raw: raw.replace(b'"max_depth": 2', b'"max_depth": ' + b"[" * 200_000),
}


@pytest.mark.parametrize("damage", MALFORMED.values(), ids=MALFORMED)
def test_malformed_manifest_is_refused(manifest: Manifest, damage):
    raw = manifests.encode(manifest)
    damaged = damage(raw)
    assert raw != damaged

    with pytest.raises(BundleError) as caught:
        manifests.decode(damaged)

    assert caught.value.code == "manifest_malformed"


def test_other_format_is_refused_with_what_to_do(manifest: Manifest):
    with pytest.raises(BundleError, match="manifest format 2 is not 1; train again") as caught:
        manifests.decode(manifests.encode(replace(manifest, format=2)))

    assert caught.value.code == "manifest_format"


def _reference(**changes):
    return lambda m: replace(m, reference=replace(m.reference, **{k: f(m.reference) for k, f in changes.items()}))


def _golden(**changes):
    return lambda m: replace(m, golden=replace(m.golden, **{k: f(m.golden) for k, f in changes.items()}))


INCONSISTENT = {
    "no features": (lambda m: replace(m, features=()), "features must be named, each once"),
    "feature twice": (lambda m: replace(m, features=(*m.features[:3], m.features[0])), "features must be named"),
    "one class": (lambda m: replace(m, classes=("Adelie",)), "classes must be at least two"),
    "class twice": (lambda m: replace(m, classes=("a", "b", "a")), "classes must be at least two, each once"),
    "no files": (lambda m: replace(m, files=()), "files must be named once"),
    "file twice": (lambda m: replace(m, files=(m.files[0], m.files[0])), "files must be named once"),
    "onnx without file": (
        lambda m: replace(m, files=m.files[:1], engines=Engines(default="onnx", fallback=None)),
        "an engine has no file",
    ),
    "tables without file": (
        lambda m: replace(m, files=m.files[1:], engines=Engines(default="tables", fallback=None)),
        "an engine has no file",
    ),
    "fallback without file": (
        lambda m: replace(m, files=m.files[1:], engines=Engines(default="onnx", fallback="xgboost")),
        "an engine has no file",
    ),
    "level without threshold": (lambda m: replace(m, coverage=0.5), "the coverage level has no threshold"),
    "feature without bins": (_reference(features=lambda r: r.features[1:]), "reference must describe every feature"),
    "columns": (_reference(columns=lambda r: (0, 1, 2)), "reference columns must be the numeric features"),
    "class without mean": (_reference(class_means=lambda r: r.class_means[1:]), "reference must describe every class"),
    "class without prior": (_reference(class_prior=lambda r: r.class_prior[1:]), "reference must describe every class"),
    "short mean": (
        _reference(class_means=lambda r: (r.class_means[0][1:], *r.class_means[1:])),
        "class means must cover the numeric features",
    ),
    "covariance": (_reference(covariance=lambda r: r.covariance[1:]), "covariance must cover the numeric features"),
    "ragged covariance": (
        _reference(covariance=lambda r: (r.covariance[0][1:], *r.covariance[1:])),
        "covariance must be square",
    ),
    "quantiles": (_reference(novelty_quantiles=lambda r: (1.0,)), "novelty quantiles are missing"),
    "few golden rows": (_golden(rows=lambda g: g.rows[:199]), "golden rows must be 200 to 512"),
    "many golden rows": (_golden(rows=lambda g: g.rows[:1] * 513), "golden rows must be 200 to 512"),
    "row without answer": (_golden(probabilities=lambda g: g.probabilities[1:]), "every golden row needs an answer"),
    "short golden row": (_golden(rows=lambda g: (g.rows[0][1:], *g.rows[1:])), "golden rows must have every feature"),
    "short answer": (
        _golden(probabilities=lambda g: (g.probabilities[0][1:], *g.probabilities[1:])),
        "golden answers must have every class",
    ),
}


@pytest.mark.parametrize(("change", "reason"), INCONSISTENT.values(), ids=INCONSISTENT)
def test_manifest_that_contradicts_itself_is_refused(manifest: Manifest, change, reason):
    assert [part.name for part in manifest.files] == ["model.json", "model.onnx"]

    with pytest.raises(BundleError, match=reason) as caught:
        manifests.decode(manifests.encode(change(manifest)))

    assert caught.value.code == "manifest_inconsistent"


def test_only_the_default_engine_needs_a_file_without_a_fallback(manifest: Manifest):
    alone = replace(manifest, files=manifest.files[1:], engines=Engines(default="onnx", fallback=None))

    assert alone == manifests.decode(manifests.encode(alone))


ENGINE_NAMES = {
    "all": (lambda m: m, ("tables", "onnx", "xgboost")),
    "no proof of the tables": (lambda m: replace(m, tables=None), ("onnx", "xgboost")),
    "tables not proven": (lambda m: replace(m, tables=replace(m.tables, proven=False)), ("onnx", "xgboost")),
    "no compiled form": (lambda m: replace(m, files=m.files[:1]), ("tables", "xgboost")),
    "compiled form alone": (lambda m: replace(m, files=m.files[1:], tables=None), ("onnx",)),
}


@pytest.mark.parametrize(("change", "expected"), ENGINE_NAMES.values(), ids=ENGINE_NAMES)
def test_engines_that_can_serve_are_named_fastest_first(manifest: Manifest, change, expected):
    assert expected == change(manifest).engine_names


def test_manifest_without_a_proof_of_tables_is_read(manifest: Manifest):
    older = replace(manifest, tables=None, engines=Engines(default="onnx", fallback="xgboost"))
    without = msgspec.json.decode(manifests.encode(older))
    del without["tables"]

    assert older == manifests.decode(msgspec.json.encode(without))


def test_manifest_may_not_be_changed(manifest: Manifest):
    with pytest.raises(AttributeError):
        manifest.serial = 2
    assert isinstance(manifest, msgspec.Struct)


def test_example_is_an_ordinary_golden_row(manifest: Manifest):
    found = manifests.example(manifest)

    assert manifest.feature_names == tuple(found)
    assert tuple(found.values()) in manifest.golden.rows
    assert all(f.accepts_as_plausible(v) for f, v in zip(manifest.features, found.values(), strict=True))


def test_example_names_categories_by_their_text(toy_bundle: VerifiedBundle):
    found = manifests.example(toy_bundle.manifest)

    assert found["colour"] in ("red", "green", "blue")
    assert found["shape"] in ("round", "long")
    assert None not in found.values()


def test_example_without_an_ordinary_row_is_the_first(toy_bundle: VerifiedBundle):
    m = toy_bundle.manifest
    rows = ((None, 1.0, None, 0.0), (499.0, None, 99.0, None))

    found = manifests.example(replace(m, golden=replace(m.golden, rows=rows)))

    assert found == {"size_mm": None, "colour": "green", "legs": None, "shape": "round"}


def test_contract_of_a_manifest_without_words_for_missing_is_what_it_was(manifest: Manifest):
    features = [(f.name, f.dtype, f.unit, f.nullable, f.values) for f in manifest.features]
    parts = (manifest.name, manifest.task, manifest.classes, features)
    expected = "sha256:" + hashlib.sha256(msgspec.json.encode(parts)).hexdigest()

    assert manifests.contract(manifest) == expected
    assert b'"null"' not in manifests.encode(manifest)


def test_words_for_missing_are_part_of_the_contract(manifest: Manifest):
    def with_words(*words: str) -> Manifest:
        return replace(manifest, features=tuple(replace(f, null=words) for f in manifest.features))

    questioned = with_words("", "?")

    read = manifests.decode(manifests.encode(questioned))

    assert [feature.null for feature in read.features] == [("", "?")] * 4
    contracts = {manifests.contract(one) for one in (manifest, questioned, with_words("-999"))}
    assert len(contracts) == 3
    assert manifests.contract(read) == manifests.contract(questioned)
    assert manifests.contract(with_words("", "NA")) == manifests.contract(manifest)
