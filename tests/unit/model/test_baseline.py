"""Which bins are watched, what the reference has in them, and how live rows are counted."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import structs

from model import baseline
from model.baseline import REST, Baseline, lay_out
from model.dataset import Dataset
from model.manifest import Manifest
from model.predictor import Predictor
from model.verify import VerifiedBundle

DECILES = tuple(float(edge) for edge in range(10, 100, 10))


def test_everything_that_is_watched(manifest: Manifest):
    found = baseline.build(manifest)

    named = [(variable.kind, variable.name) for variable in found.variables]
    assert named == [
        *(("feature", name) for name in manifest.feature_names),
        ("label", ""),
        ("confidence", ""),
        ("novelty", ""),
    ]
    for variable in found.variables:
        assert variable.reference.sum() == pytest.approx(manifest.quality.rows)
        assert len(variable.bins) == len(variable.reference) == len(set(variable.bins)) > 1


def test_a_value_is_named_after_the_bin_that_it_is_counted_in(manifest: Manifest):
    random = np.random.default_rng(8)
    for variable in baseline.build(manifest).variables:
        places = (
            range(len(variable.places) - 1) if variable.edges is None else [*variable.edges, *variable.edges - 1e-9]
        )
        values = [
            *([float("nan")] if REST in variable.bins else []),
            *places,
            *(random.normal(0, 100, 20) if variable.edges is not None else []),
        ]
        for value in values:
            counted = variable.count(np.array([value], dtype=np.float64))
            assert variable.name_of(float(value)) == variable.bins[int(counted.argmax())]


def test_training_rows_are_counted_like_the_reference(penguins_predictor: Predictor, penguins_data: Dataset):
    found = baseline.build(penguins_predictor.manifest)
    answers = penguins_predictor.predict(penguins_data.matrix)

    counts = found.count(penguins_data.matrix, answers.probabilities, answers.novelty)

    for variable, count in zip(found.variables, counts, strict=True):
        assert count.sum() == 342
        if variable.kind == "feature":
            np.testing.assert_array_equal(variable.reference, count)
        if variable.kind == "novelty":
            # fresh rows are expected to be a little farther away
            np.testing.assert_allclose(variable.reference.cumsum(), count.cumsum(), atol=12)
            assert (variable.reference.cumsum()[:-1] <= count.cumsum()[:-1] + 1).all()


def test_categories_and_nulls_of_training_rows_are_counted_like_the_reference(toy_bundle: VerifiedBundle):
    manifest = toy_bundle.manifest
    found = baseline.build(manifest)
    for variable, feature, bins in zip(found.variables, manifest.features, manifest.reference.features, strict=False):
        assert variable.name == feature.name
        assert (variable.scores is None) == feature.is_category
        assert variable.reference.sum() == sum(bins.counts) + bins.nulls
        assert variable.bins[-1] == REST


def test_counts_of_parts_add_up_to_the_whole(penguins_predictor: Predictor, penguins_data: Dataset):
    found, rows = baseline.build(penguins_predictor.manifest), penguins_data.matrix
    answers = penguins_predictor.predict(rows)

    def count(part: slice) -> list[np.ndarray]:
        return found.count(rows[part], answers.probabilities[part], answers.novelty[part])

    for one, other, whole in zip(count(slice(100)), count(slice(100, None)), count(slice(None)), strict=True):
        np.testing.assert_array_equal(whole, one + other)


def test_rows_are_counted_as_each_variable_counts_its_own(penguins_predictor: Predictor, penguins_data: Dataset):
    found, rows = baseline.build(penguins_predictor.manifest), penguins_data.matrix
    answers = penguins_predictor.predict(rows)
    classes, confidence = answers.classes.astype(np.float64), answers.probabilities.max(axis=1)
    columns = (*rows.T.astype(np.float64), classes, confidence, answers.novelty)

    together = found.count(rows, answers.probabilities, answers.novelty)

    for variable, column, counts in zip(found.variables, columns, together, strict=True):
        np.testing.assert_array_equal(counts, variable.count(column))


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_nulls_and_closed_lists_are_counted_beside_numbers(rows):
    random = np.random.default_rng(rows)
    variables = (
        lay_out("feature", "a", DECILES, [20] * 10, 30),
        lay_out("feature", "b", None, [50, 1, 60, 2], 40),
        lay_out("feature", "c", None, [50, 60]),
        lay_out("novelty", "", DECILES, [100, 5, 5, 5, 5, 5, 5, 5, 5, 60]),
    )
    columns = [random.uniform(-10, 110, rows), random.integers(0, 4, rows), random.integers(0, 2, rows)]
    values = np.vstack([*columns, random.uniform(0, 100, rows)])
    values[random.random((4, rows)) < [[0.3], [0.3], [0], [0]]] = np.nan
    bins = Baseline(variables).bins

    for variable, column, counts in zip(variables, values, bins.split(bins.count([*np.sort(values)])), strict=True):
        assert counts.tolist() == variable.count(column).tolist()


def test_predictions_are_compared_with_predictions_out_of_fold(manifest: Manifest):
    confusion = ((80, 20), (0, 100))
    quality = structs.replace(manifest.quality, confusion=confusion, rows=100)

    label = baseline.build(structs.replace(manifest, quality=quality)).variables[-3]

    # half of the rows are of each class, but 40 % are called the first
    assert label.reference.tolist() == [40, 60]


def test_value_on_an_edge_is_above_it():
    variable = lay_out("feature", "a", DECILES, [20] * 10)

    counted = variable.count(np.array([9.9, 10.0, 10.1, 89.9, 90.0, 1e9, -1e9]))

    assert counted.tolist() == [2, 2, 0, 0, 0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([20] * 10, [20] * 10),
        ([0, 40, 20, 20, 20, 20, 20, 20, 20, 20], [40, 20, 20, 20, 20, 20, 20, 20, 20]),
        ([100, 5, 5, 5, 5, 5, 5, 5, 5, 60], [100, 10, 10, 10, 10, 60]),
        ([100, 50, 30, 10, 4, 2, 1, 1, 1, 0], [100, 50, 30, 19]),
        ([1, 2, 1, 0, 0, 0, 0, 0, 0, 196], [196, 4]),
    ],
    ids=["deciles", "empty first", "pairs", "rare end", "nearly all in one"],
)
def test_rare_neighbours_are_pooled(parts, expected):
    found = lay_out("confidence", "", DECILES, parts)

    assert found.reference.tolist() == expected
    values = np.repeat(np.arange(5, 105, 10), parts).astype(np.float64)
    np.testing.assert_array_equal(found.reference, found.count(values))


@pytest.mark.parametrize(
    ("parts", "nulls", "bins", "expected"),
    [
        ([50, 50], None, ("0", "1"), [50, 50]),
        ([50, 3, 50], None, ("0", "1", REST), [50, 50, 3]),
        ([50, 3, 50], 4, ("0", "1", REST), [50, 50, 7]),
        ([50, 50], 0, ("0", "1", REST), [50, 50, 0]),
        ([3, 4], 0, (REST,), [7]),
    ],
    ids=["plain", "rare value", "rare value and nulls", "no null yet", "all rare"],
)
def test_rare_values_and_nulls_are_the_rest(parts, nulls, bins, expected):
    found = lay_out("feature", "a", None, parts, nulls)

    assert (bins, expected) == (found.bins, found.reference.tolist())
    if nulls is not None:
        assert found.count(np.array([np.nan])).tolist() == [0] * (len(bins) - 1) + [1]


def test_many_values_keep_their_bins():
    assert len(lay_out("label", "", None, [20] * 100).bins) == 100


@pytest.mark.parametrize("kind", ["feature", "novelty"])
def test_scores_are_standardised_and_grow_with_the_value(kind):
    normal = [-1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28]
    found = lay_out(kind, "a", normal, [100] * 10, nulls=50)

    scores, share = found.scores[:10], found.reference[:10] / 1000
    assert np.isnan(found.scores[10])
    assert (share * scores).sum() == pytest.approx(0, abs=1e-12)
    assert (share * scores**2).sum() == pytest.approx(1)
    assert (np.diff(scores) > 0).all()
    np.testing.assert_allclose(scores, -scores[::-1], atol=1e-9)


def test_two_bins_have_no_score():
    assert lay_out("confidence", "", [0.9], [20, 80]).scores is None


@pytest.mark.parametrize(
    ("parts", "expected"), [([100] * 10, 20), ([35, 25, 280], 28), ([3, 4], 20)], ids=["deciles", "rarer", "rest only"]
)
def test_minimum_rows_fill_every_bin(parts, expected):
    assert lay_out("label", "", None, parts).minimum_rows == expected
