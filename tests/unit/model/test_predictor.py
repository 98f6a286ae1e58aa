"""The one way to an answer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from msgspec.structs import replace

from model import predictor
from model.compiling import random_rows
from model.dataset import Dataset
from model.errors import BundleError, EngineError
from model.predictor import Predictor
from model.verify import VerifiedBundle


def test_known_adelie_is_answered(penguins_predictor: Predictor):
    found = penguins_predictor.predict(np.array([[39.1, 18.7, 181, 3750]], dtype=np.float32))

    assert penguins_predictor.manifest.classes[found.classes[0]] == "Adelie"
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("engine", ["tables", "onnx", "xgboost"])
def test_a_row_never_depends_on_its_batch(penguins: VerifiedBundle, penguins_data: Dataset, engine):
    loaded = predictor.load(penguins, engine)
    rows = np.tile(penguins_data.matrix, (4, 1))

    together = loaded.predict(rows)
    alone = [loaded.predict(row[None]) for row in penguins_data.matrix]

    np.testing.assert_array_equal(together.probabilities[:342], np.concatenate([a.probabilities for a in alone]))
    np.testing.assert_array_equal(together.novelty[-342:], np.concatenate([a.novelty for a in alone]))


def test_double_precision_row_never_depends_on_its_batch(iris_predictor: Predictor, iris_data: Dataset):
    rows = np.tile(iris_data.matrix, (16, 1))

    together = iris_predictor.predict(rows)
    alone = [iris_predictor.predict(row[None]) for row in iris_data.matrix]

    assert len(rows) > 2 * predictor.SLICE_ROWS
    for field in ("probabilities", "classes", "sets", "novelty", "is_novel"):
        expected = np.concatenate([getattr(a, field) for a in alone])
        np.testing.assert_array_equal(np.concatenate([expected] * 16), getattr(together, field))


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 2049])
def test_rows_are_answered_in_order_whatever_their_number(penguins_predictor: Predictor, penguins_data: Dataset, count):
    rows = np.resize(penguins_data.matrix, (count, 4))

    found = penguins_predictor.predict(rows)

    np.testing.assert_array_equal(penguins_predictor.engine.predict(rows), found.probabilities)
    assert [(count, 3), (count,), (count, 3), (count,), (count,)] == [
        getattr(found, field).shape for field in ("probabilities", "classes", "sets", "novelty", "is_novel")
    ]


def test_set_holds_every_class_above_the_floor_and_always_the_predicted_one(penguins_predictor: Predictor):
    rows = random_rows(penguins_predictor.manifest.features, 3_000, 1)

    found = penguins_predictor.predict(rows)

    floor = penguins_predictor.manifest.set_floor
    expected = found.probabilities >= floor
    expected[np.arange(3_000), found.probabilities.argmax(axis=1)] = True
    np.testing.assert_array_equal(expected, found.sets)
    assert {1, 2} <= set(found.sets.sum(axis=1).tolist())


def test_set_is_never_empty_even_with_an_unreachable_floor(penguins: VerifiedBundle, penguins_data: Dataset):
    levels = tuple(replace(level, floor=2.0) for level in penguins.manifest.quality.coverage)
    manifest = replace(penguins.manifest, quality=replace(penguins.manifest.quality, coverage=levels))
    loaded = Predictor(dataclasses.replace(penguins, manifest=manifest), predictor.load(penguins).engine)

    found = loaded.predict(penguins_data.matrix)

    assert found.sets.sum(axis=1).tolist() == [1] * 342
    assert found.sets[np.arange(342), found.classes].all()


def test_row_is_novel_by_distance_or_by_range(penguins_predictor: Predictor):
    ordinary = [39.1, 18.7, 181, 3750]
    unlikely = [39.1, 13.0, 231, 2700]
    outside = [71.0, 18.7, 181, 3750]

    found = penguins_predictor.predict(np.array([ordinary, unlikely, outside], dtype=np.float32))

    assert found.is_novel.tolist() == [False, True, True]
    assert found.novelty[1] > 0.99


def test_novel_distance_is_where_novelty_reaches_the_threshold(penguins_predictor: Predictor, penguins_data: Dataset):
    distances = penguins_predictor.distances(penguins_data.matrix)
    novelty = penguins_predictor.predict(penguins_data.matrix).novelty

    np.testing.assert_array_equal(novelty > 0.99, distances > penguins_predictor.novel_distance)
    assert 0 < (novelty > 0.99).mean() < 0.02


def test_wrong_shape_is_refused(penguins_predictor: Predictor):
    with pytest.raises(EngineError):
        penguins_predictor.predict(np.zeros((1, 3), dtype=np.float32))


@pytest.mark.parametrize("bundle", ["penguins", "iris", "toy_bundle"])
def test_golden_rows_answer_as_known(request, bundle):
    for engine in *request.getfixturevalue(bundle).manifest.engine_names, None:
        assert predictor.load(request.getfixturevalue(bundle), engine).replay_golden() is None


def _golden(bundle: VerifiedBundle, **changes) -> VerifiedBundle:
    manifest = replace(bundle.manifest, golden=replace(bundle.manifest.golden, **changes))
    return dataclasses.replace(bundle, manifest=manifest)


@pytest.mark.parametrize("engine", ["tables", "onnx", "xgboost"])
@pytest.mark.parametrize("row", [0, 16, 37, -1])
def test_changed_answer_of_a_golden_row_is_noticed(penguins: VerifiedBundle, engine, row):
    known = [list(p) for p in penguins.manifest.golden.probabilities]
    known[row][0] += 1e-4

    with pytest.raises(BundleError, match=rf"golden row {row % len(known)} answers \[.*\], known \[") as caught:
        predictor.load(_golden(penguins, probabilities=tuple(map(tuple, known))), engine)

    assert caught.value.code == "golden_mismatch"


def test_changed_class_of_a_golden_row_is_noticed_whatever_the_tolerance(penguins: VerifiedBundle):
    known = list(penguins.manifest.golden.probabilities)
    known[5] = known[5][1:] + known[5][:1]

    with pytest.raises(BundleError, match="golden row 5 "):
        predictor.load(_golden(penguins, probabilities=tuple(known), tolerance=2.0))


def test_answers_of_other_rows_are_noticed(penguins: VerifiedBundle):
    with pytest.raises(BundleError, match="golden_mismatch"):
        predictor.load(_golden(penguins, rows=penguins.manifest.golden.rows[::-1]))


def test_golden_nulls_are_nan(toy_bundle: VerifiedBundle):
    matrix = predictor.load(toy_bundle).golden_matrix()

    expected = [[value is None for value in row] for row in toy_bundle.manifest.golden.rows]
    assert expected == np.isnan(matrix).tolist()
    assert np.isnan(matrix).any()


@pytest.mark.parametrize(
    ("engine", "files", "reason"),
    [
        ("tables", {"model.json": b"junk"}, r"model\.json: "),
        ("onnx", {"model.onnx": b"junk"}, "ONNX Runtime refuses"),
        ("xgboost", {"model.json": b"junk"}, "XGBoost refuses"),
        ("tables", {}, r"the bundle has no model\.json, so the tables engine cannot serve it"),
        (None, {}, r"the bundle has no model\.json, so the tables engine cannot serve it"),
        ("onnx", {}, r"the bundle has no model\.onnx"),
        ("xgboost", {}, r"the bundle has no model\.json"),
    ],
)
def test_engine_that_cannot_load_is_a_bundle_error(penguins: VerifiedBundle, engine, files, reason):
    with pytest.raises(BundleError, match=reason) as caught:
        predictor.load(dataclasses.replace(penguins, files=files), engine)

    assert caught.value.code == "engine_refused"


def test_covariance_that_is_none_is_a_bundle_error(penguins: VerifiedBundle):
    reference = penguins.manifest.reference
    zeros = tuple((0.0,) * len(row) for row in reference.covariance)
    hostile = replace(penguins.manifest, reference=replace(reference, covariance=zeros))

    with pytest.raises(BundleError, match="manifest_inconsistent"):
        predictor.load(dataclasses.replace(penguins, manifest=hostile))


@pytest.mark.parametrize(
    ("engine", "code"), [("tables", "engine_refused"), ("onnx", "golden_mismatch"), ("xgboost", "golden_mismatch")]
)
def test_answers_of_another_number_of_classes_are_noticed(penguins: VerifiedBundle, engine, code):
    golden, reference = penguins.manifest.golden, penguins.manifest.reference
    hostile = replace(
        penguins.manifest,
        classes=("Adelie", "Gentoo"),
        golden=replace(golden, probabilities=tuple((row[0], row[2]) for row in golden.probabilities)),
        reference=replace(reference, class_means=reference.class_means[:2], class_prior=reference.class_prior[:2]),
    )

    with pytest.raises(BundleError) as caught:
        predictor.load(dataclasses.replace(penguins, manifest=hostile), engine)

    assert code == caught.value.code
