"""What each feature adds: it adds up, and it is what Shapley's formula says."""

from __future__ import annotations

import dataclasses
import itertools
import sys

import numpy as np
import pytest

from model import dataset, engines, predictor, spec, train, verify
from model.dataset import Dataset
from model.explain import EXACT_FEATURES, FLOOR, Explainer, log_odds
from model.predictor import Predictor
from model.verify import VerifiedBundle
from tests.conftest import NO_BAR
from tests.unit.model import toy


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A logistic regression with more features than every coalition of is asked for."""
    root = tmp_path_factory.mktemp("wide")
    loaded = spec.load(toy.write(root, algorithm=toy.SCALED, names=("size_mm", "colour"), extra=EXACT_FEATURES))
    written = train.train(loaded, dataset.load(loaded), NO_BAR, root, quiet=True)
    return predictor.load(verify.read(written.folder))


@pytest.mark.parametrize("engine", ["onnx", "xgboost"])
@pytest.mark.parametrize("name", ["penguins", "toy_bundle"])
def test_contributions_of_trees_add_up_to_the_margin(request, name, engine):
    bundle = request.getfixturevalue(name)
    loaded = predictor.load(bundle, engine)
    rows = loaded.golden_matrix()
    booster = engines.load("xgboost", bundle.files, bundle.manifest.features, 3)

    classes = loaded.predict(rows).classes
    found = loaded.explain(rows, classes)

    assert found is not None
    assert rows.shape == found.values.shape
    assert loaded.no_contributions_reason is None
    margins = booster.margins(rows)[np.arange(len(rows)), classes]
    np.testing.assert_allclose(margins, found.base + found.values.sum(axis=1), atol=1e-4)


def test_contributions_of_a_linear_model_add_up_to_its_log_odds(iris_predictor: Predictor, iris_data: Dataset):
    answers = iris_predictor.predict(iris_data.matrix)
    found = iris_predictor.explain(iris_data.matrix, answers.classes)

    assert found is not None
    p = answers.probabilities
    others = np.array([np.delete(row, c).sum() for row, c in zip(p, answers.classes, strict=True)])
    # beyond FLOOR the log-odds are cut
    expected = np.log(p.max(axis=1)) - np.log(np.maximum(others, FLOOR))
    np.testing.assert_allclose(expected, found.base + found.values.sum(axis=1), atol=1e-4)


def test_sampled_contributions_add_up_too(wide: Predictor):
    rows = wide.golden_matrix()[:40]
    classes = wide.predict(rows).classes
    expected = np.concatenate(
        [log_odds(p[None], c) for p, c in zip(wide.predict(rows).probabilities, classes, strict=True)]
    )

    found = wide.explain(rows, classes)

    assert found is not None
    assert len(wide.manifest.features) > EXACT_FEATURES
    assert rows.shape == found.values.shape
    np.testing.assert_allclose(expected, found.base + found.values.sum(axis=1), atol=1e-4)


def test_sampled_contributions_are_the_same_every_time_and_alone(wide: Predictor):
    rows = wide.golden_matrix()[:5]
    classes = wide.predict(rows).classes

    together = wide.explain(rows, classes)

    alone = [wide.explain(rows[i : i + 1], classes[i : i + 1]) for i in range(5)]
    np.testing.assert_array_equal(together.values, np.concatenate([a.values for a in alone]))


def shapley(found: Predictor, row: np.ndarray, label: int) -> np.ndarray:
    """Return Shapley values from the definition: the mean over every order in which the features may come."""
    reference = found.manifest.reference
    means = np.array(reference.class_means, dtype=np.float32)

    def worth(members: tuple[int, ...]) -> float:
        rows = means.copy()
        rows[:, list(members)] = row[list(members)]
        p = found.engine.predict(rows)
        # not 1 - p, which is rounded away when p is nearly 1
        others = np.delete(p, label, axis=1).sum(axis=1)
        odds = np.log(np.maximum(p[:, label], FLOOR) / np.maximum(others, FLOOR))
        return float(odds @ reference.class_prior)

    values = np.zeros(len(row))
    orders = list(itertools.permutations(range(len(row))))
    for order in orders:
        for place, feature in enumerate(order):
            values[feature] += worth(order[: place + 1]) - worth(order[:place])
    return values / len(orders)


@pytest.mark.parametrize("number", [60, 90, 120], ids=["versicolor", "versicolor 2", "virginica"])
def test_exact_contributions_are_shapleys(iris_predictor: Predictor, iris_data: Dataset, number):
    row = iris_data.matrix[number]
    label = iris_predictor.predict(row[None]).classes

    found = iris_predictor.explain(row[None], label)

    np.testing.assert_allclose(shapley(iris_predictor, row, int(label[0])), found.values[0], atol=1e-6)


def test_sampled_contributions_of_an_additive_model_are_exact(tmp_path):
    """The log-odds of two classes in a linear model are a sum: every order gives a feature the same share."""
    path = toy.write(tmp_path, algorithm=toy.SCALED, names=("size_mm",), extra=EXACT_FEATURES, classes=2)
    loaded, data, model = toy.fit(path)
    found = predictor.load(verify.read(train.train(loaded, data, NO_BAR, tmp_path, quiet=True).folder))
    reference = found.manifest.reference
    scaler, linear = model.estimator
    background = np.array(reference.class_prior) @ np.array(reference.class_means)
    row = data.matrix[:1]
    label = found.predict(row).classes
    sign = 1 if label[0] == 1 else -1

    expected = sign * found_temperature(found) * linear.coef_[0] * (row[0] - background) / scaler.scale_

    np.testing.assert_allclose(expected, found.explain(row, label).values[0], atol=1e-5)


def found_temperature(found: Predictor) -> float:
    """Return what calibration multiplies log-odds by."""
    temperature = found.manifest.algorithm.temperature
    return 1.0 if temperature is None else 1 / temperature


def test_feature_that_is_as_in_every_class_adds_nothing(tmp_path):
    loaded = spec.load(toy.write(tmp_path, algorithm=toy.SCALED, names=("size_mm", "colour")))
    found = predictor.load(verify.read(train.train(loaded, dataset.load(loaded), NO_BAR, tmp_path, quiet=True).folder))
    mode = int(np.argmax(found.manifest.reference.features[1].counts))
    row = np.array([[40, mode]], dtype=np.float32)

    values = found.explain(row, found.predict(row).classes).values

    assert values[0, 1] == 0
    assert values[0, 0] != 0


@pytest.mark.parametrize(
    ("probabilities", "label", "expected"),
    [
        ([0.2, 0.3, 0.5], 2, 0.0),
        ([0.9, 0.1, 0.0], 0, np.log(9)),
        ([1.0, 0.0, 0.0], 0, -np.log(FLOOR)),
        ([1.0, 0.0, 0.0], 1, np.log(FLOOR)),
    ],
    ids=["even", "likely", "certain", "impossible"],
)
def test_log_odds_are_cut_at_the_floor(probabilities, label, expected):
    assert pytest.approx([expected]) == log_odds(np.array([probabilities]), label)


def test_trees_are_explained_without_xgboost(penguins: VerifiedBundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    loaded = predictor.load(penguins)

    assert loaded.no_contributions_reason is None
    assert loaded.explain(loaded.golden_matrix()[:1], np.array([0])) is not None


@pytest.mark.parametrize("engine", ["tables", "xgboost"])
def test_large_forests_are_explained_by_xgboost(penguins: VerifiedBundle, engine):
    loaded, other = predictor.load(penguins, engine), predictor.load(penguins)
    rows = loaded.golden_matrix()
    classes = loaded.predict(rows).classes
    expected = other.explain(rows, classes)

    found = Explainer(penguins, loaded.engine, max_conditions=10).explain(rows, classes)

    assert found is not None

    np.testing.assert_allclose(expected.values, found.values, atol=1e-5)
    np.testing.assert_allclose(expected.base, found.base, atol=1e-5)


def test_large_forests_are_not_explained_without_xgboost(penguins: VerifiedBundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    loaded = predictor.load(penguins)
    explainer = Explainer(penguins, loaded.engine, max_conditions=10)

    assert explainer.explain(loaded.golden_matrix()[:1], np.array([0])) is None
    assert explainer.unavailable_reason.startswith("explanations of so large a forest need xgboost")


def test_linear_models_are_explained_without_xgboost(iris: VerifiedBundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    loaded = predictor.load(iris)

    assert loaded.no_contributions_reason is None
    assert loaded.explain(loaded.golden_matrix()[:1], np.array([0])) is not None


def test_model_file_that_is_none_is_not_explained(penguins: VerifiedBundle):
    broken = dataclasses.replace(penguins, files={**penguins.files, "model.json": b"junk"})
    explainer = Explainer(broken, predictor.load(penguins).engine)
    rows = predictor.load(penguins).golden_matrix()[:1]

    assert explainer.unavailable_reason is None
    assert explainer.explain(rows, np.array([0])) is None
    assert explainer.unavailable_reason.startswith("model.json: ")
    assert explainer.explain(rows, np.array([0])) is None
