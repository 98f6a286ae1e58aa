"""The short way for a single row gives what the arrays give, bit for bit."""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from model import predictor
from model.domain import Feature, FloatMatrix
from model.errors import EngineError
from model.predictor import SLICE_ROWS, Answer, Predictor
from model.reference import COLUMNWISE_FEATURES, Novelty
from model.verify import VerifiedBundle
from tests.unit.model.test_reference import made

# rows a test; raise it for a long run
EXAMPLES = 300
THREADS, ROUNDS = 2, 400

MODELS = ("penguins", "iris", "toy")
ENGINES = ("tables", "onnx", "xgboost")
# iris is a logistic regression: XGBoost cannot serve it
PAIRS = tuple(pair for pair in itertools.product(MODELS, ENGINES) if pair[0] != "iris" or pair[1] == "onnx")
SMALLEST, LARGEST = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)


@pytest.fixture(scope="module")
def predictors(
    penguins: VerifiedBundle, iris: VerifiedBundle, toy_bundle: VerifiedBundle
) -> dict[tuple[str, str], Predictor]:
    """Every model with every engine that serves it; `toy` has categories and nulls."""
    found = {"penguins": penguins, "iris": iris, "toy": toy_bundle}
    return {(name, engine): predictor.load(found[name], engine) for name, engine in PAIRS}


def _bits(answers: Sequence[Answer]) -> list[tuple[Any, ...]]:
    """Return answers so that equal means equal in every bit and in type."""
    return [
        (
            (type(a.prediction), a.prediction),
            [struct.pack("<d", p) for p in a.probabilities],
            [(type(member), member) for member in a.members],
            struct.pack("<d", a.novelty),
            (type(a.is_novel), a.is_novel),
        )
        for a in answers
    ]


def _numbers(feature: Feature) -> list[float]:
    """Return the numbers at which something may change."""
    edges = [*feature.hard, *feature.plausible]
    neighbours = [float(np.nextafter(np.float32(e), np.float32(to))) for e in edges for to in (-np.inf, np.inf)]
    return [*edges, *neighbours, 0.0, -0.0, SMALLEST, -SMALLEST, 1e20, -1e20, LARGEST, -LARGEST]


def _value(feature: Feature) -> st.SearchStrategy[float]:
    """Return values of a feature: ordinary, at an edge, absurd, null."""
    if feature.is_category:
        return st.one_of(st.integers(0, len(feature.values) - 1).map(float), st.just(np.nan))
    return st.one_of(
        st.floats(*map(float, np.float32(feature.plausible)), width=32),
        st.sampled_from(_numbers(feature)),
        st.floats(allow_nan=True, allow_infinity=False, width=32),
        st.just(np.nan),
    )


def _rows(loaded: Predictor, most: int = 9) -> st.SearchStrategy[FloatMatrix]:
    """Return matrices of a model."""
    row = st.tuples(*map(_value, loaded.manifest.features))
    return st.lists(row, min_size=1, max_size=most).map(lambda rows: np.array(rows, dtype=np.float32))


@pytest.mark.parametrize(("name", "engine"), PAIRS)
@given(data=st.data())
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_a_row_alone_is_answered_as_in_its_batch(predictors, name, engine, data):
    loaded = predictors[name, engine]
    matrix = data.draw(_rows(loaded))
    together = loaded.predict(matrix).answers()
    alone = [loaded.answers(matrix[i : i + 1])[0] for i in range(len(matrix))]
    assert _bits(alone) == _bits(together)
    assert _bits(loaded.answers(matrix)) == _bits(together)


@pytest.mark.parametrize(("name", "engine"), PAIRS)
def test_golden_and_random_rows_are_answered_alike_both_ways(predictors, name, engine):
    loaded = predictors[name, engine]
    golden, random = loaded.golden_matrix(), np.random.default_rng(3)
    shaken = np.repeat(golden, 4, axis=0)
    numbers = [i for i, f in enumerate(loaded.manifest.features) if not f.is_category]
    shaken[:, numbers] *= random.uniform(0.2, 3, (len(shaken), len(numbers))).astype(np.float32)
    matrix = np.concatenate([golden, shaken])
    together = loaded.predict(matrix).answers()
    alone = [loaded.answers(matrix[i : i + 1])[0] for i in range(len(matrix))]
    assert _bits(alone) == _bits(together)
    assert len({answer.is_novel for answer in together}) == 2
    assert len({tuple(answer.members) for answer in together}) > 2


@pytest.mark.parametrize("name", MODELS)
def test_a_row_of_nulls_alone_is_answered_alike_both_ways(predictors, name):
    loaded = predictors[name, "onnx"]
    matrix = np.full((1, len(loaded.manifest.features)), np.nan, dtype=np.float32)
    assert _bits(loaded.answers(matrix)) == _bits(loaded.predict(matrix).answers())


@pytest.mark.parametrize("count", [0, 1, 2, SLICE_ROWS, SLICE_ROWS + 1])
def test_there_is_one_answer_a_row(penguins_predictor: Predictor, count):
    matrix = np.resize(penguins_predictor.golden_matrix(), (count, 4))
    assert _bits(penguins_predictor.predict(matrix).answers()) == _bits(penguins_predictor.answers(matrix))
    assert len(penguins_predictor.answers(matrix)) == count


@pytest.mark.parametrize("shape", [(1, 3), (1, 5), (1,), (1, 4, 1)])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_row_of_the_wrong_shape_is_refused(predictors, engine, shape):
    with pytest.raises(EngineError):
        predictors["penguins", engine].answers(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_row_of_the_wrong_type_is_refused(predictors, engine):
    with pytest.raises(EngineError):
        predictors["penguins", engine].answers(np.zeros((1, 4)))


@pytest.mark.parametrize(("name", "engine"), PAIRS)
def test_an_answer_stays_as_it_was_when_the_next_row_comes(predictors, name, engine):
    loaded = predictors[name, engine]
    first, second = loaded.golden_matrix()[:1], loaded.golden_matrix()[-1:]
    probabilities = loaded.engine.predict(first)
    before, answer = probabilities.copy(), loaded.answers(first)
    kept = _bits(answer)
    loaded.answers(second)
    np.testing.assert_array_equal(before, probabilities)
    assert _bits(answer) == kept


@pytest.mark.parametrize(("name", "engine"), PAIRS)
def test_two_threads_get_their_own_answers(predictors, name, engine):
    loaded = predictors[name, engine]
    golden = loaded.golden_matrix()
    known = _bits(loaded.predict(golden).answers())
    mistakes: list[int] = []
    rounds = [0] * THREADS
    start = threading.Barrier(THREADS)

    def ask(thread: int) -> None:
        start.wait(20)
        for step in range(ROUNDS):
            index = (step * (thread + 1) + thread) % len(golden)
            if _bits(loaded.answers(golden[index : index + 1])) != known[index : index + 1]:
                mistakes.append(index)
            rounds[thread] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (mistakes, rounds) == ([], [ROUNDS] * THREADS)


def _same_share(novelty: Novelty, row: np.ndarray) -> bool:
    """Whether both ways give the same novelty, bit for bit."""
    matrix = row[None].astype(np.float32)
    known = float(novelty.shares(novelty.distances(matrix))[0])
    return struct.pack("<d", known) == struct.pack("<d", novelty.share(matrix[0].tolist()))


QUANTILES = {
    "even": tuple(np.linspace(1, 5, 401).tolist()),
    "repeated": (0.5,) * 3 + (1.0,) * 5 + (2.0,) + (3.5,) * 4,
    "all the same": (2.0,) * 7,
    "two": (0.0, 1.0),
    "near each other": tuple((1 + np.arange(50) * np.finfo(np.float64).eps).tolist()),
}


@pytest.mark.parametrize("columns", [1, 2, 5, COLUMNWISE_FEATURES, COLUMNWISE_FEATURES + 1])
@pytest.mark.parametrize("quantiles", QUANTILES.values(), ids=QUANTILES.keys())
@pytest.mark.parametrize("nulls", [0.0, 0.4, 1.0], ids=["complete", "with nulls", "nothing but nulls"])
def test_novelty_of_a_row_is_that_of_the_arrays(columns, quantiles, nulls):
    novelty = Novelty(replace(made(columns), novelty_quantiles=quantiles))
    random = np.random.default_rng(columns)
    rows = random.normal(size=(200, columns)) * random.choice([1e-30, 0.3, 1, 3, 1e18], (200, 1))
    rows[random.random(rows.shape) < nulls] = np.nan
    assert [i for i, row in enumerate(rows) if not _same_share(novelty, row)] == []


@pytest.mark.parametrize("quantiles", QUANTILES.values(), ids=QUANTILES.keys())
@given(distance=st.floats(0, 1e200))
@example(0.0)
@example(2.0)
@example(3.5)
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_the_share_of_a_distance_is_that_of_the_arrays(quantiles, distance):
    novelty = Novelty(replace(made(2), novelty_quantiles=quantiles))
    for near in (distance, *quantiles, *np.nextafter(quantiles, 0), *np.nextafter(quantiles, np.inf)):
        known = float(novelty.shares(np.array([near]))[0])
        assert struct.pack("<d", known) == struct.pack("<d", novelty._share(float(near)))


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_novelty_is_the_same_for_any_number_of_classes(classes):
    novelty = Novelty(made(4, classes))
    rows = np.random.default_rng(classes).normal(size=(200, 4)) * 2
    assert all(_same_share(novelty, row) for row in rows)


def test_a_model_without_numbers_knows_nothing_novel():
    novelty = Novelty(made(0))
    assert _same_share(novelty, np.zeros(3))
    assert novelty.share([0.0, 1.0]) == 0
