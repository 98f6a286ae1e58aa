"""A parameter about one class names it, weights raise the recall of the class they are for, the rest is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xgboost
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from model import dataset, evaluate, learners, parameters, spec, train, verify
from model.errors import SpecError
from tests.conftest import NO_BAR
from tests.unit.model import toy

FRAUD = """
name = "fraud"
version = "1"
serial = 1
title = "Fraud"
label = {label}
seed = 1
intended_use = "Tests."
limits = ["None."]
[data]
path = "fraud.csv"
source = "made up"
licence = "CC0-1.0"
[split]
folds = 3
repeats = 1
[algorithm]
{algorithm}
"""
FEATURE = '[[features]]\nname = "{}"\ndescription = "A number"\nhard = [-100, 100]\nplausible = [-10, 10]\n'
BOOSTED = 'name = "xgboost"\nrounds = 20\n{}[algorithm.params]\nmax_depth = 3\n'
ALGORITHMS = {
    "xgboost": BOOSTED,
    "jittered": BOOSTED + "[algorithm.jitter]\ncopies = 2\nscale = 0.2\n",
    "linear": 'name = "logistic_regression"\n{}',
    "scaled": 'name = "logistic_regression"\nscaler = true\n{}',
    "forest": 'name = "random_forest"\nrounds = 20\n{}[algorithm.params]\nmax_depth = 5\n',
    "boosting": 'name = "gradient_boosting"\nrounds = 20\n{}',
}
BALANCED = 'class_weight = "balanced"\n'


def write(folder: Path, algorithm: str, positive: str | None = "fraud", classes: tuple[str, str] = ("fraud", "ok")):
    """Write a spec and 900 rows, one in twelve of which is of the first class; return the loaded spec."""
    random = np.random.default_rng(3)
    is_rare = random.random(900) < 1 / 12
    a, b = random.normal(size=900) + 1.2 * is_rare, random.normal(size=900) + 0.8 * is_rare
    rows = [f"{x:.3f},{y:.3f},{classes[0] if r else classes[1]}" for x, y, r in zip(a, b, is_rare, strict=True)]
    (folder / "fraud.csv").write_text("\n".join(["a,b,outcome", *rows]) + "\n")
    label = '"outcome"' if positive is None else f'{{name = "outcome", positive = "{positive}"}}'
    text = FRAUD.format(label=label, algorithm=algorithm) + FEATURE.format("a") + FEATURE.format("b")
    path = folder / "fraud.toml"
    path.write_text(text)
    return spec.load(path)


def recall(loaded: spec.LoadedSpec, name: str = "fraud") -> float:
    """Return the share of a class that is found out of fold."""
    data = dataset.load(loaded)
    fit = learners.learner(loaded, data.features, data.classes)
    found = evaluate.cross_validate(fit, data.matrix, data.labels, 3, 1, 1, lambda: None)
    own = data.labels == data.classes.index(name)
    return float((found.probabilities[0].argmax(axis=1) == data.labels)[own].mean())


@pytest.mark.parametrize("classes", [("fraud", "ok"), ("stolen", "fine")], ids=["first class", "second class"])
def test_the_positive_class_is_found_more_often_wherever_it_stands(tmp_path, classes):
    weighted = BOOSTED.format("") + "scale_pos_weight = 10\n"
    plain = recall(write(tmp_path, BOOSTED.format(""), None, classes), classes[0])

    found = recall(write(tmp_path, weighted, classes[0], classes), classes[0])
    other = recall(write(tmp_path, weighted, classes[1], classes), classes[0])

    assert other <= plain < 0.3
    assert found > 0.5


@pytest.mark.parametrize("name", ALGORITHMS)
def test_balanced_classes_are_found_more_often_by_every_algorithm(tmp_path, name):
    text = ALGORITHMS[name]

    plain, balanced = recall(write(tmp_path, text.format(""))), recall(write(tmp_path, text.format(BALANCED)))

    assert plain < 0.3
    assert balanced > 0.5


@pytest.mark.parametrize("flipped", [False, True], ids=["second class", "first class"])
def test_the_weight_is_xgboosts_own(tmp_path, flipped):
    # exact has no sketch of quantiles, for which weights of rows would choose other cuts than scale_pos_weight
    extra = 'scale_pos_weight = 7.5\nbase_score = 0.3\ntree_method = "exact"\n'
    loaded = write(tmp_path, BOOSTED.format("") + extra, "fraud" if flipped else "ok")
    data = dataset.load(loaded)
    target = 1 - data.labels if flipped else data.labels
    settings = {"objective": "binary:logistic", "max_depth": 3, "scale_pos_weight": 7.5, "base_score": 0.3}
    matrix = xgboost.DMatrix(data.matrix, label=target)
    expected = xgboost.train({**settings, "tree_method": "exact", "seed": 1, "nthread": 1}, matrix, 20).predict(matrix)

    model = learners.learner(loaded, data.features, data.classes)(data.matrix, data.labels)

    np.testing.assert_allclose(model.probabilities(data.matrix)[:, 0 if flipped else 1], expected, atol=1e-4)


def test_balanced_is_what_scikit_learn_means_by_it(tmp_path):
    originals = {
        "linear": LogisticRegression(random_state=1, max_iter=1000, class_weight="balanced"),
        "forest": RandomForestClassifier(20, max_depth=5, random_state=1, class_weight="balanced"),
    }
    for name, original in originals.items():
        loaded = write(tmp_path, ALGORITHMS[name].format(BALANCED))
        data = dataset.load(loaded)
        numbers = data.matrix.astype(np.float64)
        model = learners.learner(loaded, data.features, data.classes)(data.matrix, data.labels)

        expected = original.fit(numbers, data.labels).predict_proba(numbers)

        np.testing.assert_allclose(model.probabilities(data.matrix), expected, atol=1e-6)


OF_ONE_CLASS = {
    "no positive": ("scale_pos_weight = 3", None, 2, 'label = {name = "kind", positive = "kind a"}, or "kind b"'),
    "no positive for a score": ("base_score = 0.3", None, 2, "`base_score` is about one class; name it"),
    "three classes": ("scale_pos_weight = 3", "kind a", 3, 'set class_weight = "balanced" in [algorithm]'),
    "a score of three": ("base_score = 0.3", "kind a", 3, "`base_score` is for two classes, there are 3; drop it"),
    "text": ('scale_pos_weight = "3"', "kind a", 2, "must be a number"),
    "true": ("scale_pos_weight = true", "kind a", 2, "must be a number"),
    "zero": ("scale_pos_weight = 0", "kind a", 2, "must be above 0"),
    "not a number": ("scale_pos_weight = nan", "kind a", 2, "must be above 0"),
    "infinite": ("scale_pos_weight = inf", "kind a", 2, "must be above 0"),
    "too much": ("scale_pos_weight = 1e300", "kind a", 2, "1000000 at most"),
    "a score of one": ("base_score = 1", "kind a", 2, "must be a probability"),
}


@pytest.mark.parametrize(("line", "positive", "classes", "said"), OF_ONE_CLASS.values(), ids=OF_ONE_CLASS)
def test_a_parameter_about_one_class_is_refused_without_it(tmp_path, line, positive, classes, said):
    path = toy.write(tmp_path, f"{toy.XGBOOST}\n{line}", classes=classes, positive=positive)

    with pytest.raises(SpecError) as caught:
        toy.fit(path)

    assert said in caught.value.reason
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_text().splitlines()[caught.value.line - 1] == line
    key = line.partition(" ")[0]
    # the same with what was missing is taken
    toy.fit(toy.write(tmp_path, f"{toy.XGBOOST}\n{key} = 0.4", classes=2, positive="kind a"))


def test_two_weights_are_refused(tmp_path):
    text = toy.XGBOOST.replace("rounds", f"{BALANCED}rounds") + "\nscale_pos_weight = 2"
    with pytest.raises(SpecError, match="both weigh the classes"):
        toy.fit(toy.write(tmp_path, text, classes=2, positive="kind a"))


def test_a_positive_class_that_is_none_is_refused_at_its_line(tmp_path):
    path = toy.write(tmp_path, classes=2, positive="kind x")

    with pytest.raises(SpecError, match="'kind x' is no class; the classes are kind a, kind b") as caught:
        toy.fit(path)

    assert path.read_text().splitlines()[caught.value.line - 1].startswith("label = ")
    toy.fit(toy.write(tmp_path, classes=2, positive="kind b"))


IGNORED = {
    "objective": ('"binary:logistic"', "follows from the rest of the spec"),
    "num_class": ("2", "follows from the rest of the spec"),
    "random_state": ("4", "follows from the rest of the spec"),
    "n_estimators": ("4", "is `rounds` in [algorithm]"),
    "class_weight": ('"balanced"', 'is set in [algorithm]: class_weight = "balanced"'),
    "monotone_constraints": ('"(1,0,0)"', "goes by positions of columns and classes"),
    "interaction_constraints": ('"[[0,1]]"', "goes by positions of columns and classes"),
    "feature_weights": ("[1, 2, 3]", "goes by positions of columns and classes"),
    "eval_metric": ('"logloss"', "changes nothing about the trained model"),
    "early_stopping_rounds": ("4", "changes nothing about the trained model"),
    "missing": ("-999", "follows from `[[features]]`"),
    "enable_categorical": ("true", "follows from `[[features]]`"),
    "max_cat_to_onehot": ("4", "follows from `[[features]]`"),
}


@pytest.mark.parametrize("key", IGNORED)
@pytest.mark.parametrize("algorithm", ["xgboost", "random_forest"])
def test_a_parameter_without_meaning_here_is_refused(tmp_path, algorithm, key):
    value, said = IGNORED[key]
    control = f'name = "{algorithm}"\nrounds = 2\n[algorithm.params]\nmax_depth = 2'
    toy.fit(toy.write(tmp_path, control, classes=2))

    with pytest.raises(SpecError) as caught:
        toy.fit(toy.write(tmp_path, f"{control}\n{key} = {value}", classes=2))

    assert said in caught.value.reason
    assert key in caught.value.reason


@pytest.mark.parametrize("key", ["name", "num_feature", "num_trees", "boost_from_average", "num_target", "version"])
def test_words_of_xgboosts_own_record_are_no_parameters(tmp_path, key):
    with pytest.raises(SpecError, match=f"XGBoost has no parameter `{key}` here"):
        toy.fit(toy.write(tmp_path, f"{toy.XGBOOST}\n{key} = 1"))


def test_every_parameter_that_is_taken_is_one_of_xgboosts(tmp_path):
    _, _, model = toy.fit(toy.write(tmp_path, classes=2))
    record = json.loads(model.booster.save_config())

    def keys(node: object) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(keys, node))
        return set(node).union(*map(keys, node.values())) if isinstance(node, dict) else set()

    assert parameters.XGBOOST | set(parameters.ONLY) <= keys(record)


def test_rounds_of_a_linear_model_are_refused(tmp_path):
    path = toy.write(tmp_path, 'name = "logistic_regression"\nrounds = 100')
    with pytest.raises(SpecError, match="logistic regression has no rounds"):
        spec.load(path)
    spec.load(toy.write(tmp_path, 'name = "logistic_regression"'))


def test_report_and_manifest_say_what_was_weighted(tmp_path, capsys):
    loaded = write(tmp_path, BOOSTED.format("") + "scale_pos_weight = 10\n")
    data = dataset.load(loaded)

    written = train.train(loaded, data, NO_BAR, tmp_path, quiet=True)

    said = capsys.readouterr().out
    assert "weights in training (scale_pos_weight), everything below is measured on unweighted rows:\n" in said
    assert "  fraud x 10: mean probability 0." in said
    assert "  ok x 1: mean probability 0." in said
    manifest = verify.read(written.folder).manifest
    (hits, missed), (wrong, _) = manifest.quality.confusion
    assert f"positive class fraud: recall {hits / (hits + missed):.3f}, precision {hits / (hits + wrong):.3f}" in said
    params = manifest.algorithm.params
    assert (params["positive"], params["scale_pos_weight"]) == ("fraud", 10)


def test_nothing_is_said_of_weights_where_there_are_none(tmp_path, capsys):
    loaded = write(tmp_path, BOOSTED.format(""), None)

    written = train.train(loaded, dataset.load(loaded), NO_BAR, tmp_path, quiet=True)

    said = capsys.readouterr().out
    assert "weights in training" not in said
    assert "positive class" not in said
    assert set(verify.read(written.folder).manifest.algorithm.params) == {"max_depth", "rounds"}
