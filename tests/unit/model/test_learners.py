"""The algorithms a spec may name, and what calibration does to them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model import learners
from model.domain import one_hot
from model.errors import SpecError
from model.learners import BoostedTrees, Split, temper
from tests.unit.model import toy

ALL = {
    "xgboost": toy.XGBOOST,
    "logistic": toy.LOGISTIC,
    "scaled": toy.SCALED,
    "forest": toy.FOREST,
    "boosting": toy.BOOSTING,
}
TREES = ("xgboost", "forest", "boosting")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("algorithm", ALL)
def test_every_algorithm_learns_the_toys(tmp_path, algorithm, classes):
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=ALL[algorithm], classes=classes, names=toy.MIXED[:3]))

    found = model.probabilities(data.matrix)

    assert (np.float64, (150, classes)) == (found.dtype, found.shape)
    np.testing.assert_allclose(np.ones(150), found.sum(axis=1), atol=1e-6)
    assert (found.argmax(axis=1) == data.labels).mean() > 0.75


@pytest.mark.parametrize("algorithm", ALL)
def test_learning_twice_gives_the_same_model(tmp_path, algorithm):
    path = toy.write(tmp_path, algorithm=ALL[algorithm])

    (_, data, first), (_, _, second) = toy.fit(path), toy.fit(path)

    np.testing.assert_array_equal(first.probabilities(data.matrix), second.probabilities(data.matrix))


@pytest.mark.parametrize("seeded", [toy.FOREST, toy.XGBOOST + "\nsubsample = 0.5"], ids=["forest", "xgboost"])
def test_another_seed_gives_another_model(tmp_path, seeded):
    path = toy.write(tmp_path, algorithm=seeded)
    _, data, first = toy.fit(path)
    path.write_text(path.read_text().replace("seed = 7", "seed = 8"))
    _, _, second = toy.fit(path)

    assert not np.array_equal(first.probabilities(data.matrix), second.probabilities(data.matrix))


def test_scaler_standardises_before_the_linear_model(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=toy.SCALED))
    expected = make_pipeline(StandardScaler(), LogisticRegression(random_state=7, max_iter=1000))
    expected.fit(data.matrix.astype(np.float64), data.labels)

    np.testing.assert_array_equal(
        expected.predict_proba(data.matrix.astype(np.float64)), model.probabilities(data.matrix)
    )


def test_parameters_reach_the_library(tmp_path):
    _, _, forest = toy.fit(toy.write(tmp_path, algorithm=toy.FOREST))
    _, _, trees = toy.fit(toy.write(tmp_path, algorithm=toy.XGBOOST))
    _, _, linear = toy.fit(toy.write(tmp_path, algorithm=toy.LOGISTIC))

    assert (forest.estimator.n_estimators, forest.estimator.max_depth, forest.estimator.random_state) == (4, 3, 7)
    assert (linear.estimator.C, linear.estimator.solver) == (0.01, "newton-cholesky")
    assert 12 == trees.booster.num_boosted_rounds() * 3 == trees.leaves(np.zeros((1, 3), dtype=np.float32)).shape[1]


REFUSED = {
    "misspelt": ("max_dept = 3", "XGBoost has no parameter `max_dept` here; did you mean `max_depth`?"),
    "unknown": ("zzzz = 3", "XGBoost has no parameter `zzzz` here"),
    "out of range": ("max_depth = -1", "XGBoost refuses the parameters"),
    "other booster": ('booster = "dart"', 'only `booster = "gbtree"` can be compiled and explained'),
    "linear booster": ('booster = "gblinear"', 'only `booster = "gbtree"`'),
    "vector leaves": (
        'multi_strategy = "multi_output_tree"',
        'only `multi_strategy = "one_output_per_tree"` can be compiled and explained',
    ),
    "objective": ('objective = "reg:squarederror"', "`objective` follows from the rest of the spec; drop it"),
    "seed": ("seed = 1", "`seed` follows from the rest of the spec; drop it"),
    "threads": ("nthread = 4", "`nthread` follows from the rest of the spec; drop it"),
}


@pytest.mark.parametrize(("line", "reason"), REFUSED.values(), ids=REFUSED)
def test_parameter_xgboost_does_not_take_is_refused_at_its_line(tmp_path, line, reason):
    path = toy.write(tmp_path, algorithm=f'name = "xgboost"\nrounds = 1\n[algorithm.params]\n{line}')

    with pytest.raises(SpecError) as caught:
        toy.fit(path)

    assert reason in caught.value.reason
    assert len(str(caught.value).splitlines()) == 1
    places = ("[algorithm.params]", line) if line == "max_depth = -1" else (line,)
    assert path.read_text().splitlines()[caught.value.line - 1] in places


@pytest.mark.parametrize(
    "params",
    [
        'booster = "gbtree"',
        "eta = 0.1\nlambda = 2\nalpha = 1\ngamma = 0.1",
        "learning_rate = 0.1\nreg_lambda = 2\nreg_alpha = 1\nmin_split_loss = 0.1",
        'tree_method = "hist"\ngrow_policy = "lossguide"\nmax_leaves = 4\nmax_bin = 16',
        "subsample = 0.9\ncolsample_bytree = 0.9\ncolsample_bylevel = 0.9\ncolsample_bynode = 0.9",
        "base_score = 0.4\nmax_delta_step = 1\nmin_child_weight = 2\nscale_pos_weight = 2",
        'num_parallel_tree = 2\nsampling_method = "uniform"\nseed_per_iteration = true\nmax_cached_hist_node = 4',
    ],
)
def test_parameters_xgboost_knows_are_taken(tmp_path, params):
    _, data, model = toy.fit(
        toy.write(
            tmp_path,
            algorithm=f'name = "xgboost"\nrounds = 1\n[algorithm.params]\n{params}',
            classes=2,
            positive="kind b",
        )
    )

    assert isinstance(model, BoostedTrees)
    assert model.probabilities(data.matrix).shape == (150, 2)


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting"])
@pytest.mark.parametrize("params", ["zzzz = 1", 'max_depth = "deep"'], ids=["unknown", "wrong type"])
def test_parameter_scikit_learn_does_not_take_is_refused(tmp_path, name, params):
    path = toy.write(tmp_path, algorithm=f'name = "{name}"\n[algorithm.params]\n{params}')

    with pytest.raises(SpecError, match="scikit-learn refuses the parameters: ") as caught:
        toy.fit(path)

    assert path.read_text().splitlines()[caught.value.line - 1] == "[algorithm.params]"


def test_splits_and_leaves_are_those_of_the_trees(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=toy.XGBOOST, names=toy.MIXED))
    trees = json.loads(model.payload())["learner"]["gradient_booster"]["model"]["trees"]
    expected = {
        Split(tree["split_indices"][i], tree["split_conditions"][i])
        for tree in trees
        for i in range(len(tree["left_children"]))
        if tree["left_children"][i] != -1
    }

    assert expected == set(model.splits())
    assert len(expected) == len(model.splits())
    assert model.leaf_count() == sum(tree["left_children"].count(-1) for tree in trees)
    assert model.leaves(data.matrix).shape == (150, 12)


@pytest.mark.parametrize("algorithm", TREES)
@pytest.mark.parametrize("classes", [2, 3])
def test_crossing_no_split_changes_no_leaf(tmp_path, algorithm, classes):
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=ALL[algorithm], classes=classes))
    first, second = [split.threshold for split in model.splits() if split.column == 0][:2]
    below, above, beyond = data.matrix.copy(), data.matrix.copy(), data.matrix.copy()
    below[:, 0] = np.nextafter(np.float32(first), np.float32(99))
    above[:, 0] = (first + second) / 2
    beyond[:, 0] = first - 0.01

    assert list(model.splits()) == sorted(model.splits(), key=lambda split: (split.column, split.threshold))
    np.testing.assert_array_equal(model.leaves(below), model.leaves(above))
    assert not np.array_equal(model.leaves(below), model.leaves(beyond))
    visited = sum(len(np.unique(tree)) for tree in model.leaves(data.matrix).T)
    assert 0 < visited <= model.leaf_count()


def test_linear_model_has_no_splits_and_no_leaves(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=toy.SCALED))

    assert (model.splits(), model.leaves(data.matrix), model.leaf_count()) == ([], None, 0)


@pytest.mark.parametrize("temperature", [0.3, 0.7218, 1.0, 2.5])
@pytest.mark.parametrize(
    ("classes", "base_score"),
    [(2, ""), (2, "\nbase_score = 0.3"), (3, "")],
    ids=["two, estimated base", "two, given base", "three"],
)
def test_temperature_is_folded_into_the_leaves(tmp_path, classes, temperature, base_score):
    text = toy.XGBOOST + base_score
    path = toy.write(tmp_path, text, toy.MIXED, classes, nullable=True, positive="kind a")
    _, data, model = toy.fit(path)

    expected = temper(model.probabilities(data.matrix), temperature)

    np.testing.assert_allclose(expected, model.scaled(temperature).probabilities(data.matrix), atol=1e-6)
    assert model.splits() == model.scaled(temperature).splits()


@pytest.mark.parametrize("algorithm", ["logistic", "scaled", "forest", "boosting"])
def test_temperature_of_an_estimator_is_applied_to_its_answers(tmp_path, algorithm):
    _, data, model = toy.fit(toy.write(tmp_path, algorithm=ALL[algorithm]))

    expected = temper(model.probabilities(data.matrix), 1.7)

    np.testing.assert_array_equal(expected, model.scaled(1.7).probabilities(data.matrix))


def test_tempering_keeps_order_and_sharpens_below_one():
    p = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])

    sharp, flat = temper(p, 0.5), temper(p, 2.0)

    np.testing.assert_allclose(p, temper(p, 1.0), atol=1e-11)
    np.testing.assert_allclose([[25 / 38, 9 / 38, 4 / 38]], sharp[:1])
    assert (flat[0].max(), sharp[0].max()) == (min(flat[0].max(), 0.5), max(sharp[0].max(), 0.5))
    np.testing.assert_allclose(np.ones(3), flat.sum(axis=1))
    np.testing.assert_allclose([1 / 3] * 3, sharp[2])


def test_baseline_fills_nulls_and_beats_chance(tmp_path):
    _, data, _ = toy.fit(toy.write(tmp_path, names=toy.MIXED, nullable=True))
    model = learners.linear_baseline(data.features, 1)(data.matrix, data.labels)

    found = model.probabilities(data.matrix)

    assert np.isfinite(found).all()
    assert (found.argmax(axis=1) == data.labels).mean() > 0.7


def test_jitter_adds_lighter_noisy_copies_of_real_numbers_only(tmp_path):
    jitter = "\n[algorithm.jitter]\ncopies = 4\nscale = 0.1"
    loaded, data, _ = toy.fit(toy.write(tmp_path, algorithm=toy.XGBOOST + jitter, names=toy.MIXED, nullable=True))

    rows, labels, weights = learners._jittered(data.matrix, data.labels, data.features, loaded.spec.algorithm.jitter, 3)

    copies = rows[150:].reshape(4, 150, 4)
    np.testing.assert_array_equal(data.matrix, rows[:150])
    np.testing.assert_array_equal(np.tile(data.labels, 5), labels)
    np.testing.assert_allclose(150, weights.sum())
    # column 0 is a measurement; categories and whole numbers stay
    np.testing.assert_array_equal(np.broadcast_to(data.matrix[:, 1:], (4, 150, 3)), copies[..., 1:])
    noise = copies[..., 0] - data.matrix[:, 0]
    spread = np.nanstd(data.matrix[:, 0]) * 0.1
    assert 0.9 < np.nanstd(noise) / spread < 1.1
    assert np.isnan(data.matrix[:, 0]).any()
    np.testing.assert_array_equal(np.isnan(np.broadcast_to(data.matrix[:, 0], (4, 150))), np.isnan(noise))


def test_without_jitter_every_row_stands_for_itself(tmp_path):
    _, data, _ = toy.fit(toy.write(tmp_path))

    rows, labels, weights = learners._jittered(data.matrix, data.labels, data.features, None, 3)

    assert rows is data.matrix
    assert labels is data.labels
    assert {1.0} == set(weights.tolist())


def test_trees_see_one_column_per_category_value(tmp_path):
    _, data, model = toy.fit(toy.write(tmp_path, names=toy.MIXED))

    assert one_hot(data.features, data.matrix).shape[1] == model.booster.num_features() == 1 + 3 + 1 + 2
