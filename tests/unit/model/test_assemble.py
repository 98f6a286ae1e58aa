"""What is put into a manifest, and which engine serves when the compiled form is not proven."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model import assemble, engines
from model.dataset import Dataset
from model.errors import CompileError
from model.learners import Estimator
from model.manifest import Engines, Manifest
from model.verify import VerifiedBundle
from tests.conftest import ROOT
from tests.unit.model import toy

# the converter gives every second of a class's parallel trees to the next class: a wrong conversion of a sound model
PARALLEL = 'name = "xgboost"\nrounds = 4\n{engine}\n[algorithm.params]\nmax_depth = {depth}\nnum_parallel_tree = 2'


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("auto", Engines(default="tables", fallback="xgboost")),
        ("tables", Engines(default="tables", fallback="xgboost")),
        ("onnx", Engines(default="onnx", fallback="xgboost")),
        ("xgboost", Engines(default="xgboost", fallback="xgboost")),
    ],
)
def test_proven_form_serves_unless_the_spec_says_otherwise(tmp_path, engine, expected):
    algorithm = toy.XGBOOST.replace("rounds", f'engine = "{engine}"\nrounds')
    loaded, data, model = toy.fit(toy.write(tmp_path, algorithm=algorithm))

    found = assemble.compile_and_prove(loaded, data, model)

    assert (expected, {"model.json", "model.onnx"}, None) == (found.engines, set(found.files), found.note)
    assert found.parity.proven
    assert (found.tables.proven, found.tables.precision) == (True, "double")


@pytest.mark.parametrize("algorithm", [toy.SCALED, toy.LOGISTIC, toy.FOREST, toy.BOOSTING])
def test_estimator_is_served_by_its_compiled_form_alone(tmp_path, algorithm):
    found = assemble.compile_and_prove(*toy.fit(toy.write(tmp_path, algorithm=algorithm)))

    assert (Engines(default="onnx", fallback=None), ["model.onnx"]) == (found.engines, list(found.files))


@pytest.mark.parametrize("engine", ["auto", "xgboost"])
def test_xgboost_serves_itself_when_no_other_form_is_proven(tmp_path, engine):
    algorithm = PARALLEL.format(engine=f'engine = "{engine}"', depth=3)
    loaded, data, model = toy.fit(toy.write(tmp_path, algorithm=algorithm))

    found = assemble.compile_and_prove(loaded, data, model)

    assert (Engines(default="xgboost", fallback=None), ["model.json"]) == (found.engines, list(found.files))
    assert (found.parity.proven, found.tables) == (False, None)
    assert re.fullmatch(r"largest difference \S+ in probability, at size_mm=\S+, weight_g=\S+, legs=\S+", found.note)
    served = engines.load("xgboost", found.files, data.features, 3)
    np.testing.assert_array_equal(model.probabilities(data.matrix), served.predict(data.matrix))


@pytest.mark.parametrize(("engine", "default"), [("auto", "tables"), ("tables", "tables"), ("xgboost", "xgboost")])
def test_tables_serve_when_the_compiled_form_is_not_proven(tmp_path, engine, default):
    algorithm = PARALLEL.format(engine=f'engine = "{engine}"', depth=2)
    loaded, data, model = toy.fit(toy.write(tmp_path, algorithm=algorithm))

    found = assemble.compile_and_prove(loaded, data, model)

    assert (Engines(default=default, fallback="xgboost"), ["model.json"]) == (found.engines, list(found.files))
    assert (found.parity.proven, found.tables.proven) == (False, True)
    served = engines.load("tables", found.files, data.features, 3)
    np.testing.assert_allclose(model.probabilities(data.matrix), served.predict(data.matrix), rtol=0, atol=1e-6)


def test_onnx_serves_trees_too_deep_for_tables(tmp_path):
    deep = toy.XGBOOST.replace("max_depth = 2", "max_depth = 4")

    found = assemble.compile_and_prove(*toy.fit(toy.write(tmp_path, algorithm=deep)))

    assert (Engines(default="onnx", fallback="xgboost"), None) == (found.engines, found.tables)


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        (PARALLEL.format(engine='engine = "onnx"', depth=2), 'engine = "onnx" .* is not proven: largest'),
        (PARALLEL.format(engine='engine = "tables"', depth=3), 'engine = "tables" .*: a leaf depends on more than two'),
    ],
    ids=["onnx", "tables"],
)
def test_form_that_is_asked_for_but_not_proven_is_refused(tmp_path, algorithm, reason):
    loaded, data, model = toy.fit(toy.write(tmp_path, algorithm=algorithm))

    with pytest.raises(CompileError, match=reason) as caught:
        assemble.compile_and_prove(loaded, data, model)

    assert "is asked for, but this form is not proven: " in str(caught.value)


def test_estimator_that_cannot_be_proven_is_refused_with_the_row(tmp_path):
    """A scaler before trees moves the thresholds between two float32: what the spec refuses, made by hand."""
    loaded, data, _ = toy.fit(toy.write(tmp_path, algorithm=toy.FOREST))
    made = make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=1))
    model = Estimator(made.fit(data.matrix.astype(np.float64), data.labels), data.features)

    with pytest.raises(CompileError) as caught:
        assemble.compile_and_prove(loaded, data, model)

    assert "random_forest is refused, as its compiled form is not proven: largest difference " in str(caught.value)
    assert re.search(r"in probability, at size_mm=\S+, weight_g=\S+, legs=\S+$", str(caught.value))


def test_estimator_without_converter_is_refused(tmp_path):
    loaded, data, _ = toy.fit(toy.write(tmp_path, algorithm=toy.FOREST))

    with pytest.raises(CompileError, match="is refused, as its compiled form is not proven: cannot be converted"):
        assemble.compile_and_prove(loaded, data, Estimator(object(), data.features))


def test_manifest_says_where_the_model_comes_from(manifest: Manifest, penguins_data: Dataset):
    assert (manifest.name, manifest.version, manifest.serial, manifest.label) == ("penguins", "1", 1, "species")
    assert penguins_data.digest == manifest.data_digest
    assert penguins_data.features == manifest.features
    assert {"max_depth": 2, "rounds": 100}.items() <= manifest.algorithm.params.items()
    assert {"python", "numpy", "scikit-learn", "onnxruntime"} <= manifest.libraries.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", manifest.created)


@pytest.mark.parametrize(("epoch", "expected"), [("0", "1970-01-01T00:00:00Z"), ("1700000000", "2023-11-14T22:13:20Z")])
def test_creation_time_follows_source_date_epoch(monkeypatch: pytest.MonkeyPatch, epoch, expected):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)

    assert expected == assemble._created()


def test_creation_time_is_now_without_source_date_epoch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)

    assert assemble._created()[:4] >= "2026"


def test_commit_is_that_of_the_specs_folder(tmp_path):
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", assemble._commit(ROOT / "model/specs"))
    assert assemble._commit(tmp_path) == "unknown"
    assert assemble._commit(Path("/no/such/folder")) == "unknown"


def test_covariance_is_ledoit_and_wolfs_within_classes(iris_data: Dataset):
    numbers = iris_data.matrix.astype(np.float64)
    residuals = numbers - np.stack([numbers[iris_data.labels == k].mean(axis=0) for k in range(3)])[iris_data.labels]
    spread = residuals.std(axis=0)
    expected, shrinkage = ledoit_wolf(residuals / spread, assume_centered=True)

    found, share = assemble._shrunk_covariance(iris_data)

    np.testing.assert_allclose(expected * np.outer(spread, spread), found, rtol=1e-6)
    assert pytest.approx(shrinkage) == share
    assert 0 < share < 1


def test_covariance_of_a_column_constant_within_classes_can_be_inverted(tmp_path):
    path = toy.write(tmp_path)
    cells = [line.split(",") for line in (tmp_path / "toy.csv").read_text().splitlines()]
    for row in cells[1:]:
        row[2] = str("abc".index(row[-1][-1]))
    (tmp_path / "toy.csv").write_text("\n".join(map(",".join, cells)) + "\n")
    _, data, _ = toy.fit(path)

    covariance, _ = assemble._shrunk_covariance(data)

    assert np.isfinite(np.linalg.cholesky(covariance)).all()


def test_without_numbers_there_is_no_covariance(tmp_path):
    _, data, _ = toy.fit(toy.write(tmp_path, names=toy.CATEGORIES))

    covariance, shrinkage = assemble._shrunk_covariance(data)

    assert (covariance.shape, shrinkage) == ((0, 0), 0.0)


def test_reference_belongs_to_the_data(penguins: VerifiedBundle):
    reference = penguins.manifest.reference

    assert sum(reference.confidence_counts) == 342
    assert [sum(bins.counts) + bins.nulls for bins in reference.features] == [342] * 4
    assert pytest.approx([151 / 342, 68 / 342, 123 / 342]) == reference.class_prior
