"""The data the models were trained on, through the real server: the same answers as in process, to the last bit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model import predictor
from model.dataset import Dataset
from model.domain import ConfusedUnit, Feature, check, to_matrix
from model.predictor import Predictor
from model.verify import VerifiedBundle
from tests.conftest import Tell

from . import oracle
from .conftest import Shared
from .servers import Server, exchange

SEED = 20_140_305
RANDOM_ROWS = 10_000
BATCH_ROWS = 2_500
# four problems in a row, and of the bad rows of one batch 1,000 problems are named
MIXED_UP_ROWS = 250


def one_by_one(server: Server, instances: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answer every instance in a request of its own, over one connection."""
    found = []
    with closing(server.connect()) as connection:
        for instance in instances:
            answer = exchange(connection, "POST", "/predict", json.dumps(instance).encode())
            assert (answer.status, instance) == (200, instance)
            found.append(answer.json())
    return found


def in_batches(
    server: Server, instances: Sequence[dict[str, Any]], query: str = "", rows: int = BATCH_ROWS
) -> list[dict[str, Any]]:
    """Answer instances in batches of so many rows."""
    found = []
    for first in range(0, len(instances), rows):
        answer = server.predict({"instances": instances[first : first + rows]}, query)
        assert answer.status == 200, answer.body[:2000]
        found += answer.json()["predictions"]
    return found


def assert_same(actual: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare row by row: the difference of whole lists would take minutes to print."""
    assert len(actual) == len(expected)
    assert next((pair for pair in zip(actual, expected, strict=True) if pair[0] != pair[1]), None) is None


def test_every_penguin_alone_is_answered_as_in_process(
    penguin_server: Server, penguin_predictor: Predictor, penguins_data: Dataset
) -> None:
    model = oracle.model_member(penguin_predictor)
    expected = [{**row, "model": model} for row in oracle.answers(penguin_predictor, penguins_data.matrix)]

    assert len(expected) == 342
    assert_same(one_by_one(penguin_server, oracle.named(penguin_predictor, penguins_data.matrix)), expected)


def test_all_penguins_in_one_batch_are_answered_as_in_process(
    penguin_server: Server, penguin_predictor: Predictor, penguins_data: Dataset
) -> None:
    instances = oracle.named(penguin_predictor, penguins_data.matrix)

    assert_same(in_batches(penguin_server, instances), oracle.answers(penguin_predictor, penguins_data.matrix))


@pytest.fixture(scope="session")
def iris_predictor(iris: VerifiedBundle) -> Predictor:
    return predictor.load(iris)


@pytest.fixture(params=["true", "false"], ids=["fast", "plain"])
def iris_server(request: pytest.FixtureRequest, shared: Shared, bundles: dict[str, Path]) -> Server:
    return shared({"FAST_PATH": request.param, "MODEL_URI": str(bundles["iris"])})


def test_every_iris_alone_and_in_one_batch_is_answered_as_in_process(
    iris_server: Server, iris_predictor: Predictor, iris_data: Dataset
) -> None:
    instances = oracle.named(iris_predictor, iris_data.matrix)
    expected = oracle.answers(iris_predictor, iris_data.matrix)
    model = oracle.model_member(iris_predictor)

    assert len(expected) == 150
    assert_same(one_by_one(iris_server, instances), [{**row, "model": model} for row in expected])
    assert_same(in_batches(iris_server, instances), expected)


def test_explained_irises_are_explained_as_in_process(
    iris_server: Server, iris_predictor: Predictor, iris_data: Dataset
) -> None:
    few = iris_data.matrix[::10]
    expected = oracle.answers(iris_predictor, few, explain=True)

    assert_same(in_batches(iris_server, oracle.named(iris_predictor, few), "?explain=true"), expected)


def test_no_real_row_is_refused(
    plain_server: Server, penguin_predictors: dict[str, Predictor], tell: Tell, penguins_data: Dataset
) -> None:
    instances = oracle.named(penguin_predictors["onnx"], penguins_data.matrix)
    rows = in_batches(plain_server, instances, "?on_error=row")
    refused = [row for row in rows if "error" in row]

    tell(f"real rows refused: {len(refused)} of {len(rows)}")
    assert refused == []


# --- unit mix-ups


@dataclass(frozen=True)
class MixUp:
    """A real row in which some values are given in other units."""

    instance: dict[str, float]
    units: dict[str, str]


def in_unit(value: float, unit: ConfusedUnit) -> float:
    """What a person would have written down: four significant digits."""
    return float(f"{(value - unit.offset) / unit.factor:.4g}")


def mix_ups(data: Dataset, features: Sequence[Feature]) -> Iterator[MixUp]:
    """Give every row as it is, and with the given features in every combination of their listed units."""
    names = [feature.name for feature in data.features]
    for row in data.matrix:
        instance = dict(zip(names, map(float, map(str, row)), strict=True))
        yield MixUp(instance, {})
        for units in itertools.product(*(feature.confused_units for feature in features)):
            chosen = list(zip(features, units, strict=True))
            changed = {feature.name: in_unit(instance[feature.name], unit) for feature, unit in chosen}
            yield MixUp({**instance, **changed}, {feature.name: unit.symbol for feature, unit in chosen})


def recognised_units(row: dict[str, Any]) -> dict[str, str] | None:
    """Return which unit the refusal of a row suggests for which feature; None if it refuses for another reason."""
    errors = row.get("error", {}).get("errors", [])
    if any(error["code"] != "unit" for error in errors):
        return None
    return {error["pointer"].rsplit("/", 1)[1]: error["suggestion"]["unit"] for error in errors}


@dataclass(frozen=True)
class Recognition:
    """How many mix-ups there were, how many got the right units, and how many were answered as if nothing was odd."""

    count: int
    right: int
    silent: int
    refused_real_rows: int

    @property
    def share(self) -> float:
        return self.right / self.count

    def __str__(self) -> str:
        return f"{self.share:.4%} of {self.count} named with the right unit, {self.silent} answered and not novel"


def recognise(server: Server, found: list[MixUp]) -> Recognition:
    """Send real and mixed-up rows side by side."""
    rows = in_batches(server, [mix_up.instance for mix_up in found], "?on_error=row", MIXED_UP_ROWS)
    pairs = list(zip(rows, found, strict=True))
    mixed_up = [(row, mix_up) for row, mix_up in pairs if mix_up.units]
    return Recognition(
        count=len(mixed_up),
        right=sum(recognised_units(row) == mix_up.units for row, mix_up in mixed_up),
        silent=sum(row.get("is_novel") is False for row, _ in mixed_up),
        refused_real_rows=sum("error" in row for row, mix_up in pairs if not mix_up.units),
    )


def test_one_value_in_another_unit_is_recognised(plain_server: Server, penguins_data: Dataset, tell: Tell) -> None:
    found = [mix_up for feature in penguins_data.features for mix_up in mix_ups(penguins_data, [feature])]
    recognition = recognise(plain_server, found)

    tell(f"penguins, one value in another unit: {recognition}")
    assert recognition.count == 342 * 9
    assert recognition.share >= 0.99
    assert (recognition.silent, recognition.refused_real_rows) == (0, 0)


def test_all_values_in_other_units_are_recognised_together(
    plain_server: Server, penguins_data: Dataset, tell: Tell
) -> None:
    recognition = recognise(plain_server, list(mix_ups(penguins_data, penguins_data.features)))

    tell(f"penguins, all values in other units: {recognition}")
    assert recognition.count == 342 * 24
    assert recognition.share >= 0.99
    assert (recognition.silent, recognition.refused_real_rows) == (0, 0)


def test_iris_in_another_unit_is_never_answered_as_ordinary(
    iris_server: Server, iris_data: Dataset, tell: Tell
) -> None:
    # a petal of 2 mm looks like one of 2 cm: not every mix-up can be named, but every one shows
    one = recognise(iris_server, [m for feature in iris_data.features for m in mix_ups(iris_data, [feature])])
    together = recognise(iris_server, list(mix_ups(iris_data, iris_data.features)))

    tell(f"iris, one value in another unit: {one}")
    tell(f"iris, all values in other units: {together}")
    assert (one.silent, together.silent) == (0, 0)
    assert (one.refused_real_rows, together.refused_real_rows) == (0, 0)


def test_batch_of_irises_that_are_all_bad_is_answered_row_by_row(iris_server: Server) -> None:
    assert iris_server.predict({"instances": [{}, {}]}, "?on_error=row").status == 200


# --- A8


def random_values(feature: Feature, count: int, random: np.random.Generator) -> list[float]:
    """Draw values all over the hard range: evenly, evenly in the logarithm, and ordinary ones; none that is refused."""
    found: list[float] = []
    low, high = feature.hard
    while len(found) < count:
        drawn = np.concatenate(
            [
                random.uniform(low, high, count),
                np.exp(random.uniform(np.log(low), np.log(high), count)),
                random.uniform(*feature.plausible, count),
                [low, high, *feature.plausible],
            ]
        )
        found += [value for value in map(float, drawn) if low <= value <= high and check(feature, value) is None]
    order = random.permutation(len(found))[:count]
    return [found[i] for i in order]


def test_any_row_valid_for_the_manifest_is_answered_as_in_process(
    penguin_server: Server, penguin_predictor: Predictor, tell: Tell
) -> None:
    features = penguin_predictor.manifest.features
    random = np.random.default_rng(SEED)
    columns = [random_values(feature, RANDOM_ROWS, random) for feature in features]
    rows = list(zip(*columns, strict=True))
    instances = [dict(zip(penguin_predictor.manifest.feature_names, row, strict=True)) for row in rows]
    expected = oracle.answers(penguin_predictor, to_matrix(features, rows))
    actual = in_batches(penguin_server, instances)
    different = sum(a != b for a, b in zip(actual, expected, strict=True))

    novel = sum(row["is_novel"] for row in actual)
    tell(f"A8: {len(actual)} random valid rows ({novel} novel), answers that differ from in process: {different}")
    assert different == 0
