"""Which unit a value was measured in, told by the whole row."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from model.dataset import Dataset
from model.domain import ConfusedUnit, Feature, Violation, check
from model.predictor import Predictor
from model.units import MAX_COMBINATIONS, Resolution, resolve
from tests.unit.model.toy import number

ADELIE, GENTOO = (39.1, 18.7, 181.0, 2812.0), (50.0, 15.2, 228.0, 6200.0)


def violations(features: tuple[Feature, ...], row: list) -> dict[int, Violation]:
    found = {i: check(f, v) for i, (f, v) in enumerate(zip(features, row, strict=True))}
    return {i: v for i, v in found.items() if v is not None}


def resolved(predictor: Predictor, row: list) -> Resolution:
    found = violations(predictor.manifest.features, row)
    assert all(v.code == "unit" for v in found.values())
    return resolve(predictor.manifest.features, row, found, predictor.distances, predictor.novel_distance)


def in_unit(value: float, unit: ConfusedUnit) -> float:
    return (value - unit.offset) / unit.factor


@pytest.mark.parametrize(("row", "symbol"), [(ADELIE, "lb"), (GENTOO, "kg")], ids=["light bird", "heavy bird"])
def test_ambiguous_body_mass_is_resolved_by_the_whole_row(penguins_predictor: Predictor, row, symbol):
    given = [*row[:3], 6.2]
    alone = check(penguins_predictor.manifest.features[3], 6.2)

    found = resolved(penguins_predictor, given)

    assert alone is not None
    assert [reading.unit.symbol for reading in alone.readings] == ["kg", "lb"]
    assert symbol == found.readings[3][0].unit.symbol
    assert {"kg", "lb"} == {reading.unit.symbol for reading in found.readings[3]}


def test_the_only_reading_is_certain_even_of_a_strange_row(penguins_predictor: Predictor):
    found = resolved(penguins_predictor, [3.91, 29.0, 260.0, 9000.0])

    assert found.is_certain
    assert [reading.unit.symbol for reading in found.readings[0]] == ["cm"]


def test_reading_is_certain_when_the_others_would_be_novel(penguins_predictor: Predictor):
    found = resolved(penguins_predictor, [*GENTOO[:3], 6.2])

    assert found.is_certain


def test_nothing_is_certain_when_two_readings_fit():
    feature = number(
        confused_units=(ConfusedUnit("a", "as", 10.0), ConfusedUnit("b", "bs", 11.0)), hard=(0, 500), plausible=(10, 90)
    )
    row = [3.0]

    found = resolve((feature,), row, violations((feature,), row), lambda rows: np.abs(rows[:, 0] - 32), 5.0)

    assert not found.is_certain
    assert [reading.unit.symbol for reading in found.readings[0]] == ["b", "a"]


def test_nothing_is_certain_when_no_reading_fits():
    feature = number(confused_units=(ConfusedUnit("a", "as", 10.0), ConfusedUnit("b", "bs", 20.0)))

    found = resolve((feature,), [3.0], violations((feature,), [3.0]), lambda rows: rows[:, 0], 5.0)

    assert not found.is_certain
    assert found.readings[0][0].unit.symbol == "a"


def test_nothing_is_certain_when_not_every_combination_was_looked_at():
    units = tuple(ConfusedUnit(symbol, symbol, factor) for symbol, factor in (("a", 10.0), ("b", 20.0), ("c", 30.0)))
    features = tuple(number(f"x{i}", confused_units=units) for i in range(6))
    row = [1.0] * 6
    assert MAX_COMBINATIONS < 3**6

    def distance(rows):
        """Only the first combination and, beyond what is looked at, the last one are ordinary."""
        return np.where((rows == rows[0]).all(axis=1) | (rows == 30).all(axis=1), 0.0, 9.0)

    found = resolve(features, row, violations(features, row), distance, 1.0)

    assert not found.is_certain
    assert [found.readings[i][0].unit.symbol for i in range(6)] == ["a"] * 6


def test_nulls_beside_a_mixed_up_value_stay_nulls(penguins_predictor: Predictor):
    features = penguins_predictor.manifest.features
    row = [None, 15.2, 228.0, 6.2]
    found = {3: check(features[3], 6.2)}

    resolution = resolve(features, row, found, penguins_predictor.distances, penguins_predictor.novel_distance)

    assert resolution.readings[3][0].unit.symbol == "kg"


def test_no_real_penguin_is_taken_for_a_mix_up(penguins_predictor: Predictor, penguins_data: Dataset):
    features = penguins_predictor.manifest.features
    alarms = [row for row in penguins_data.matrix.tolist() if violations(features, row)]

    print(f"false alarms: {len(alarms)} of {len(penguins_data.matrix)}")
    assert len(penguins_data.matrix) == 342
    assert alarms == []


def test_mix_up_of_one_value_is_recognised(penguins_predictor: Predictor, penguins_data: Dataset):
    features = penguins_predictor.manifest.features
    for position, feature in enumerate(features):
        for unit in feature.confused_units:
            right = certain = wrongly_certain = 0
            for row in penguins_data.matrix.astype(np.float64).tolist():
                row[position] = in_unit(row[position], unit)
                found = violations(features, row)
                if [position] != list(found) or found[position].code != "unit":
                    continue
                resolution = resolved(penguins_predictor, row)
                is_right = resolution.readings[position][0].unit == unit
                right += is_right
                certain += resolution.is_certain
                wrongly_certain += resolution.is_certain and not is_right
            print(f"{feature.name} in {unit.symbol}: {right / 342:.2%} recognised, {certain / 342:.2%} certain")
            assert right / 342 >= 0.99
            assert wrongly_certain == 0


def test_mix_up_of_every_value_is_recognised(penguins_predictor: Predictor, penguins_data: Dataset):
    features = penguins_predictor.manifest.features
    for units in itertools.product(*(feature.confused_units for feature in features)):
        right = wrongly_certain = 0
        for row in penguins_data.matrix.astype(np.float64).tolist():
            given = [in_unit(value, unit) for value, unit in zip(row, units, strict=True)]
            found = violations(features, given)
            if len(found) < 4 or any(v.code != "unit" for v in found.values()):
                continue
            resolution = resolved(penguins_predictor, given)
            is_right = [r[0].unit for _, r in sorted(resolution.readings.items())] == list(units)
            right += is_right
            wrongly_certain += resolution.is_certain and not is_right
        print(f"all in {', '.join(unit.symbol for unit in units)}: {right / 342:.2%} recognised")
        assert right / 342 >= 0.99
        assert wrongly_certain == 0
