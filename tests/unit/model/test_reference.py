"""How unusual a row is, against plain formulas from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.spatial.distance import mahalanobis

from model import reference
from model.dataset import Dataset
from model.manifest import FeatureBins, Reference
from model.predictor import Predictor
from model.reference import COLUMNWISE_FEATURES, Novelty
from model.verify import VerifiedBundle
from tests.unit.model.toy import category, number


def made(columns: int, classes: int = 3, seed: int = 1) -> Reference:
    """Return a reference of so many numbers with random means and a random covariance."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(columns, columns)) + np.eye(columns)
    return Reference(
        features=tuple(FeatureBins(edges=(), counts=(1,), nulls=0) for _ in range(columns)),
        columns=tuple(range(columns)),
        class_means=tuple(map(tuple, random.normal(size=(classes, columns)).tolist())),
        covariance=tuple(map(tuple, (root @ root.T + np.eye(columns)).tolist())),
        shrinkage=0.0,
        class_prior=(1 / classes,) * classes,
        confidence_counts=(),
        novelty_quantiles=tuple(np.linspace(1, 5, 401).tolist()),
        novelty_threshold=0.99,
    )


def plain(found: Reference, row: np.ndarray) -> float:
    """Return the distance as a textbook writes it, over the numbers that are there."""
    there = ~np.isnan(row)
    if not there.any():
        return 0.0
    inverse = np.linalg.inv(np.array(found.covariance)[np.ix_(there, there)])
    nearest = min(mahalanobis(row[there], np.array(mean)[there], inverse) for mean in found.class_means)
    return nearest * np.sqrt(len(row) / there.sum())


@pytest.mark.parametrize("columns", [1, 2, 5, COLUMNWISE_FEATURES, COLUMNWISE_FEATURES + 1])
@pytest.mark.parametrize("nulls", [0.0, 0.4], ids=["complete", "with nulls"])
def test_distance_is_mahalanobis_to_the_nearest_class(columns, nulls):
    found, random = made(columns), np.random.default_rng(2)
    rows = random.normal(size=(60, columns)).astype(np.float32)
    rows[random.random(rows.shape) < nulls] = np.nan

    expected = [plain(found, row.astype(np.float64)) for row in rows]

    np.testing.assert_allclose(expected, Novelty(found).distances(rows), rtol=1e-9)


def test_wide_path_agrees_with_the_narrow_path():
    narrow, extra = made(12), COLUMNWISE_FEATURES
    assert 12 <= COLUMNWISE_FEATURES < 12 + extra
    # columns in which every class and every row is 0 add nothing to a distance
    covariance = np.eye(12 + extra)
    covariance[:12, :12] = narrow.covariance
    wide = replace(
        made(12 + extra),
        class_means=tuple((*mean, *[0.0] * extra) for mean in narrow.class_means),
        covariance=tuple(map(tuple, covariance.tolist())),
    )
    rows = np.random.default_rng(4).normal(size=(100, 12)).astype(np.float32)

    expected = Novelty(narrow).distances(rows)

    found = Novelty(wide).distances(np.hstack([rows, np.zeros((100, extra), dtype=np.float32)]))
    np.testing.assert_allclose(expected, found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("columns", [3, 60], ids=["narrow", "wide"])
def test_distance_never_depends_on_the_batch(columns):
    novelty, random = Novelty(made(columns)), np.random.default_rng(3)
    rows = random.normal(size=(200, columns)).astype(np.float32)
    rows[random.random(rows.shape) < 0.05] = np.nan

    together = novelty.distances(rows)

    np.testing.assert_array_equal(together, np.concatenate([novelty.distances(row[None]) for row in rows]))


def test_categories_are_ignored():
    found = replace(made(2), features=(FeatureBins(edges=(), counts=(1, 1), nulls=0),) * 3, columns=(0, 2))
    rows = np.array([[1, 0, 2], [1, 1, 2], [1, np.nan, 2]], dtype=np.float32)

    distances = Novelty(found).distances(rows)

    assert distances[0] == distances[1] == distances[2] > 0


def test_row_without_any_number_is_at_no_distance():
    assert Novelty(made(2)).distances(np.full((1, 2), np.nan, dtype=np.float32)).tolist() == [0.0]


def test_leaving_a_value_out_does_not_make_a_row_ordinary():
    found = replace(made(2), class_means=((0.0, 0.0),), covariance=((1.0, 0.0), (0.0, 1.0)))
    rows = np.array([[3, 3], [3, np.nan]], dtype=np.float32)

    whole, part = Novelty(found).distances(rows)

    assert pytest.approx(whole) == part


def test_shares_are_the_quantiles_position():
    novelty = Novelty(made(2))

    found = novelty.shares(np.array([0.0, 1.0, 2.0, 3.0, 5.0, 99.0]))

    np.testing.assert_allclose([0, 0, 0.25, 0.5, 1, 1], found)


def test_novelty_of_training_rows_is_uniform(penguins_predictor: Predictor, penguins_data: Dataset):
    novelty = penguins_predictor.predict(penguins_data.matrix).novelty

    assert novelty.min() == 0
    assert novelty.max() == 1
    np.testing.assert_allclose(np.linspace(0, 1, 342), np.sort(novelty), atol=0.01)


def test_novelty_lies_between_0_and_1_everywhere(penguins_predictor: Predictor):
    rows = np.random.default_rng(1).uniform(-1e30, 1e30, size=(500, 4)).astype(np.float32)
    rows[:250] = np.random.default_rng(2).uniform(0, 5000, size=(250, 4))

    novelty = penguins_predictor.predict(rows).novelty

    assert ((novelty >= 0) & (novelty <= 1)).all()
    assert (novelty[250:] == 1).all()


def test_novelty_of_nulls_is_a_number(toy_bundle: VerifiedBundle):
    novelty = Novelty(toy_bundle.manifest.reference)
    rows = np.array([[50, 0, 3, 1], [np.nan, 0, 3, 1], [50, np.nan, np.nan, np.nan]], dtype=np.float32)

    assert ((novelty.shares(novelty.distances(rows)) >= 0) & (novelty.shares(novelty.distances(rows)) <= 1)).all()


def built(features, matrix, labels, **changes) -> Reference:
    columns = len(reference.numeric_columns(features))
    return reference.build(
        **{
            "features": features,
            "matrix": np.array(matrix, dtype=np.float32),
            "labels": np.array(labels),
            "class_count": 2,
            "covariance": np.eye(columns),
            "shrinkage": 0.25,
            "confidence": np.array([0.0, 0.5, 0.97, 1.0]),
            "novelty_threshold": 0.9,
            **changes,
        }
    )


def test_reference_summarises_numbers_and_categories():
    features = [number("a", nullable=True), category("x", "y", "z", nullable=True)]
    found = built(features, [[1, 0], [2, 2], [3, 2], [np.nan, np.nan]], [0, 0, 0, 1])

    assert found.columns == (0,)
    # class 1 has no number of its own and gets the overall mean
    assert found.class_means == ((2.0,), (2.0,))
    assert found.class_prior == (0.75, 0.25)
    assert FeatureBins(edges=(), counts=(1, 0, 2), nulls=1) == found.features[1]
    assert found.features[0].nulls == 1
    assert sum(found.features[0].counts) == 3
    assert len(found.features[0].edges) + 1 == len(found.features[0].counts)
    assert (
        len(found.confidence_counts),
        sum(found.confidence_counts),
        found.confidence_counts[0],
        found.confidence_counts[10],
        found.confidence_counts[19],
    ) == (20, 4, 1, 1, 2)
    assert (found.shrinkage, found.novelty_threshold, len(found.novelty_quantiles)) == (0.25, 0.9, 401)


def test_bins_of_a_number_are_its_deciles():
    values = np.random.default_rng(5).permutation(1000)
    found = built([number("a")], values[:, None], values % 2, confidence=np.ones(1000))

    assert found.features[0].counts == (100,) * 10
    np.testing.assert_allclose(np.arange(99.9, 999, 99.9), found.features[0].edges)


def test_bins_of_few_values_are_fewer():
    found = built([number("a")], [[1], [1], [1], [2]], [0, 0, 1, 1])

    assert found.features[0].edges == tuple(sorted(set(found.features[0].edges)))
    assert sum(found.features[0].counts) == 4


def test_reference_of_categories_only_finds_no_row_novel():
    found = built([category("x", "y")], [[0], [1], [0], [1]], [0, 1, 0, 1])

    novelty = Novelty(found)
    distances = novelty.distances(np.array([[0], [1], [np.nan]], dtype=np.float32))
    assert distances.tolist() == [0, 0, 0]
    assert novelty.shares(distances).tolist() == [0, 0, 0]


def test_values_equally_usual_are_not_novel():
    found = built([number("a"), category("x", "y")], [[1, 0], [1, 1], [3, 0], [3, 1]], [0, 0, 1, 1])

    assert Novelty(found).shares(Novelty(found).distances(np.array([[1, 0]], dtype=np.float32))).tolist() == [0.0]
