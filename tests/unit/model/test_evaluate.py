"""The measures against independent ones, and the promises of the prediction sets."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from model import evaluate, learners, spec
from model.dataset import Dataset
from model.domain import ConfusedUnit
from model.evaluate import OutOfFold
from model.learners import temper
from tests.conftest import ROOT
from tests.unit.model.toy import category, number


def made(rows: int = 300, classes: int = 3, repeats: int = 1, folds: int = 5, sharpness: float = 2.0, seed: int = 1):
    """Return answers whose labels are drawn from them, tempered by `sharpness`, with the labels."""
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(classes), size=rows)
    labels = np.array([random.choice(classes, p=row) for row in p])
    noisy = [temper(p * np.exp(random.normal(0, 0.05, p.shape)), 1 / sharpness) for _ in range(repeats)]
    which = np.stack([random.permutation(rows) % folds for _ in range(repeats)])
    return OutOfFold(np.stack(noisy), which), labels


def calibration_error(p: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error as Guo et al. write it, by hand."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    total = 0.0
    for index in range(15):
        inside = (confidence >= index / 15) & ((confidence < (index + 1) / 15) | (index == 14))
        if inside.any():
            total += inside.sum() / len(p) * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_measures_agree_with_scikit_learn(classes):
    answers, labels = made(classes=classes)
    p = answers.probabilities[0]

    found = evaluate.measure(answers, labels, 1)

    assert pytest.approx(accuracy_score(labels, p.argmax(axis=1)), abs=1e-6) == found.accuracy.value
    assert pytest.approx(log_loss(labels, p), abs=1e-6) == found.log_loss.value
    assert pytest.approx(f1_score(labels, p.argmax(axis=1), average="macro"), abs=1e-6) == found.macro_f1.value
    assert pytest.approx(calibration_error(p, labels), abs=1e-6) == found.calibration_error.value


def test_repeats_are_averaged_within_a_row():
    answers, labels = made(repeats=3)
    flat, all_labels = answers.probabilities.reshape(-1, 3), np.tile(labels, 3)

    found = evaluate.measure(answers, labels, 1)

    assert pytest.approx(accuracy_score(all_labels, flat.argmax(axis=1)), abs=1e-6) == found.accuracy.value
    assert pytest.approx(log_loss(all_labels, flat), abs=1e-6) == found.log_loss.value
    assert pytest.approx(calibration_error(flat, all_labels), abs=1e-6) == found.calibration_error.value
    expected = f1_score(all_labels, flat.argmax(axis=1), average="macro")
    assert pytest.approx(expected, abs=1e-6) == found.macro_f1.value


def test_intervals_hold_the_value_and_shrink_with_rows():
    widths = []
    for rows in (100, 1600):
        answers, labels = made(rows=rows)
        found = evaluate.measure(answers, labels, 1)
        for name in ("accuracy", "log_loss", "macro_f1"):
            assert getattr(found, name).low < getattr(found, name).value < getattr(found, name).high
        assert 0 <= found.calibration_error.low <= found.calibration_error.value
        widths.append(found.accuracy.high - found.accuracy.low)

    assert 3 < widths[0] / widths[1] < 5.5


def test_interval_of_accuracy_is_the_binomial_one():
    answers, labels = made(rows=400)
    found = evaluate.measure(answers, labels, 1).accuracy
    half = 1.96 * np.sqrt(found.value * (1 - found.value) / 400)

    assert pytest.approx((found.value - half, found.value + half), abs=0.008) == (found.low, found.high)


def test_perfect_answers_measure_perfectly():
    labels = np.arange(60) % 3
    found = evaluate.measure(OutOfFold(np.eye(3)[labels][None], np.zeros((1, 60), dtype=np.intp)), labels, 1)

    assert tuple(getattr(found, name).value for name in found.__struct_fields__) == (1, 0, 1, 0)


def test_impossible_answers_cost_much_but_not_infinitely():
    labels = np.arange(60) % 3
    found = evaluate.measure(OutOfFold(np.eye(3)[(labels + 1) % 3][None], np.zeros((1, 60), dtype=np.intp)), labels, 1)

    assert (found.accuracy.value, found.macro_f1.value, found.calibration_error.value) == (0, 0, 1)
    assert pytest.approx(-np.log(1e-12)) == found.log_loss.value


def test_class_never_met_counts_nothing_in_f1():
    p = np.tile([0.8, 0.1, 0.1], (10, 1))

    found = evaluate.measure(OutOfFold(p[None], np.zeros((1, 10), dtype=np.intp)), np.zeros(10, dtype=np.intp), 1)

    assert pytest.approx(1 / 3, abs=1e-6) == found.macro_f1.value


def test_confusion_counts_true_by_predicted_over_all_repeats():
    answers, labels = made(repeats=2)
    expected = sum(confusion_matrix(labels, p.argmax(axis=1)) for p in answers.probabilities)

    found = evaluate.confusion_matrix(answers, labels)

    assert expected.tolist() == [list(row) for row in found]


def test_calibration_curve_holds_the_calibration_error():
    answers, labels = made(repeats=2)
    curve = evaluate.calibration_curve(answers, labels)
    error = sum(b.count * abs(b.confidence - b.accuracy) for b in curve) / 600

    assert sum(b.count for b in curve) == 600
    assert all(b.count for b in curve)
    assert pytest.approx(evaluate.measure(answers, labels, 1).calibration_error.value, abs=1e-5) == error


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0, 4.0])
def test_temperature_undoes_sharpening(sharpness):
    answers, labels = made(rows=20_000, sharpness=sharpness)

    assert pytest.approx(sharpness, rel=0.05) == evaluate.fit_temperature(answers.probabilities[0], labels)


def test_temperature_minimises_log_loss():
    answers, labels = made(rows=2000)
    p = answers.probabilities[0]
    best = evaluate.fit_temperature(p, labels)

    losses = [log_loss(labels, temper(p, best * factor)) for factor in (0.98, 1.0, 1.02)]

    assert min(losses) == losses[1]


def test_fold_is_tempered_without_its_own_labels():
    answers, labels = made(repeats=2)
    changed = labels.copy()
    own = answers.folds[1] == 3
    changed[own] = (labels[own] + 1) % 3

    expected, found = evaluate.calibrated(answers, labels), evaluate.calibrated(answers, changed)

    np.testing.assert_array_equal(expected.probabilities[1, own], found.probabilities[1, own])
    assert not np.array_equal(expected.probabilities[1, ~own], found.probabilities[1, ~own])
    np.testing.assert_array_equal(answers.folds, found.folds)


def test_held_out_rows_are_answered_by_a_model_that_has_not_seen_them():
    labels = np.arange(60) % 3
    matrix = np.arange(60, dtype=np.float32)[:, None]
    seen: list[set[float]] = []

    class Memory:
        """Answers from what it was fitted on."""

        def __init__(self, rows, targets):
            self.rows = set(rows[:, 0].tolist())
            seen.append(self.rows)
            assert [2 * len(targets) // 6] * 3 == np.bincount(targets).tolist()

        def probabilities(self, rows):
            assert not self.rows & set(rows[:, 0].tolist())
            assert {60} == {len(self.rows | set(rows[:, 0].tolist()))}
            return np.repeat(rows, 3, axis=1).astype(np.float64)

    steps: list[None] = []
    found = evaluate.cross_validate(Memory, matrix, labels, 5, 2, 7, lambda: steps.append(None))

    np.testing.assert_array_equal(np.broadcast_to(matrix, (2, 60, 3)), found.probabilities)
    assert [np.bincount(folds).tolist() for folds in found.folds] == [[12] * 5] * 2
    assert not np.array_equal(found.folds[0], found.folds[1])
    assert 10 == len(steps) == len(seen)


def test_equal_seeds_give_equal_folds():
    labels = np.arange(60) % 3
    matrix = np.zeros((60, 1), dtype=np.float32)

    class Constant:
        def __init__(self, rows, targets):
            pass

        def probabilities(self, rows):
            return np.full((len(rows), 3), 1 / 3)

    folds = [evaluate.cross_validate(Constant, matrix, labels, 4, 1, s, lambda: None).folds for s in (1, 1, 2)]

    np.testing.assert_array_equal(folds[0], folds[1])
    assert not np.array_equal(folds[0], folds[2])


@pytest.mark.parametrize(
    ("rows", "levels"),
    [(8, ()), (9, (0.9,)), (18, (0.9,)), (19, (0.9, 0.95)), (98, (0.9, 0.95)), (99, (0.9, 0.95, 0.99))],
)
def test_level_the_rows_cannot_support_is_not_offered(rows, levels):
    answers, labels = made(rows=rows)

    assert levels == tuple(found.level for found in evaluate.coverage(answers, labels, 1))


@pytest.mark.parametrize("repeats", [1, 4])
def test_threshold_is_the_conformal_quantile(repeats):
    answers, labels = made(rows=250, repeats=repeats)
    scores = np.sort(1 - np.take_along_axis(answers.probabilities, np.tile(labels, (repeats, 1))[..., None], 2).ravel())

    for found in evaluate.coverage(answers, labels, 1):
        rank = int(np.ceil(251 * found.level)) * repeats
        assert pytest.approx(scores[rank - 1]) == 1 - found.floor
        assert rank == (1 - scores >= found.floor - 1e-12).sum()


@pytest.mark.parametrize("seed", range(3))
def test_fresh_rows_are_covered_as_promised(seed):
    answers, labels = made(rows=1000, seed=seed)
    fresh, fresh_labels = made(rows=4000, seed=seed + 100)

    for found in evaluate.coverage(answers, labels, 1):
        p = fresh.probabilities[0]
        covered = (p[np.arange(4000), fresh_labels] >= found.floor) | (p.argmax(axis=1) == fresh_labels)
        # three standard errors of 1,000 rows that set the threshold and 4,000 that test it
        allowed = 3 * np.sqrt(found.level * (1 - found.level) * (1 / 1000 + 1 / 4000))
        assert found.level - allowed <= covered.mean()
        assert found.level - allowed <= found.measured.value
        assert 1 <= found.mean_size <= 3


@pytest.mark.parametrize("name", ["penguins", "iris"])
def test_shipped_models_cover_what_they_promise(request, name):
    quality = request.getfixturevalue(name).manifest.quality

    assert [found.level for found in quality.coverage] == [0.9, 0.95, 0.99]
    for found in quality.coverage:
        print(f"{name}, promised {found.level:.0%}: {found.measured}")
        assert found.level <= found.measured.high
        assert found.measured.low <= found.measured.value <= found.measured.high
        assert 1 <= found.mean_size <= 3
    floors = [found.floor for found in quality.coverage]
    assert floors == sorted(floors, reverse=True)


def test_disputed_are_the_rows_most_repeats_contradict():
    labels = np.array([0, 0, 1, 1])
    wrong, right = [0.1, 0.9], [0.9, 0.1]
    p = np.array([[right, wrong, wrong, [0.6, 0.4]], [right, wrong, right, [0.7, 0.3]], [wrong, wrong, wrong, wrong]])

    found = evaluate.disputed(
        OutOfFold(p, np.zeros((3, 4), dtype=np.intp)), labels, np.array([2, 3, 4, 5]), ("no", "yes")
    )

    # line 5: two of three repeats contradict it, and so does the mean only if it does
    assert [(d.line, d.label, d.predicted, d.probability) for d in found] == [(3, "no", "yes", 0.9)]


def test_surest_contradiction_comes_first():
    p = np.array([[[0.4, 0.6], [0.1, 0.9], [0.8, 0.2]]])

    found = evaluate.disputed(
        OutOfFold(p, np.zeros((1, 3), dtype=np.intp)), np.zeros(3, dtype=np.intp), np.arange(3), ("a", "b")
    )

    assert [d.line for d in found] == [1, 0]


def test_units_recognised_are_the_shares_noticed_alone():
    cm = ConfusedUnit("cm", "centimeters", 10.0)
    features = (number("size_mm", confused_units=(cm,), nullable=True), category("a", "b"), number("plain"))
    matrix = np.array([[20, 0, 50], [80, 1, 50], [np.nan, 0, 50], [200, 1, 50]], dtype=np.float32)

    # 20 mm is 2 cm and noticed, 80 mm is 8 cm and noticed, 200 mm is 20 cm and could be 20 mm
    assert {"size_mm": {"cm": pytest.approx(2 / 3, abs=1e-6)}} == evaluate.units_recognised(features, matrix)


def run(data: Dataset, calibrate: bool, folds: int = 3, repeats: int = 2):
    loaded = spec.load(ROOT / "model/specs/iris.toml")
    steps: list[None] = []
    fit = learners.learner(loaded, data.features, data.classes)
    linear = learners.linear_baseline(data.features, 1)
    found = evaluate.evaluate(data, fit, linear, folds, repeats, 5, calibrate, lambda: steps.append(None))
    return found, len(steps)


def test_evaluation_reports_both_models_and_every_fit(iris_data: Dataset):
    found, steps = run(iris_data, calibrate=True)

    assert steps == 2 * 3 * 2
    assert found.temperature is not None
    assert found.quality.model.calibration_error.value < found.raw_calibration_error
    assert found.quality.model != found.quality.linear
    assert 300 == sum(map(sum, found.quality.confusion)) == sum(b.count for b in found.quality.calibration)
    assert (
        found.quality.rows,
        found.quality.dropped_rows,
        found.quality.method,
    ) == (
        150,
        0,
        "3-fold stratified cross-validation, 2 repeats, out of fold; 95 % percentile-bootstrap intervals over rows",
    )


def test_without_calibration_the_raw_answers_are_measured(iris_data: Dataset):
    found, _ = run(iris_data, calibrate=False)

    assert found.temperature is None
    assert found.raw_calibration_error == found.quality.model.calibration_error.value


def test_calibration_that_does_not_help_is_not_used(iris_data: Dataset):
    class Shrug:
        """Finds all classes equally likely, which no temperature changes."""

        def __init__(self, rows, targets):
            pass

        def probabilities(self, rows):
            return np.full((len(rows), 3), 1 / 3)

    found = evaluate.evaluate(iris_data, Shrug, Shrug, 3, 1, 5, True, lambda: None)

    assert found.temperature is None
    assert found.raw_calibration_error == found.quality.model.calibration_error.value
    np.testing.assert_array_equal(np.full((1, 150, 3), 1 / 3), found.out_of_fold.probabilities)
