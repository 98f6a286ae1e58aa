"""Whatever the protocol: the same probabilities bit for bit, the same refusals with the same codes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from model.domain import Feature
from service.answer import Answerer
from service.loader import Ready
from tests.unit.service.calls import ADELIE, PLOT, ROWS

from .ways import WAYS, Way, codes, send

NATIVE = WAYS["/predict"]


def _values(feature: Feature, seeded: random.Random) -> Any:
    """Return a value that is accepted: ordinary, null where that is allowed, or a text."""
    if feature.is_category:
        return seeded.choice(feature.values)
    if feature.nullable and seeded.random() < 0.3:
        return None
    low, high = feature.plausible
    if feature.dtype == "int":
        return seeded.randint(-1000, 1000)
    return max(round(seeded.uniform(low, high), seeded.randint(0, 6)), feature.hard[0])


def _rows(answerer: Answerer, count: int) -> list[dict[str, Any]]:
    assert isinstance(answerer.state, Ready)
    features, seeded = answerer.state.predictor.manifest.features, random.Random(7)
    return [{feature.name: _values(feature, seeded) for feature in features} for _ in range(count)]


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("name", list(ROWS))
@pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
@pytest.mark.parametrize("count", [1, 60])
def test_the_same_rows_give_the_same_probabilities_bit_for_bit(build, answerers, way, name, fast_path, count):
    rows = _rows(answerers[name], count)
    app = build(name, fast_path=fast_path)
    native = send(app, NATIVE, name, *NATIVE.body(rows))
    assert native.status == 200
    answer = send(app, way, name, *way.body(rows))
    assert answer.status == 200, answer.body
    assert way.read(answer) == NATIVE.read(native)


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
@pytest.mark.parametrize(
    ("feature", "value", "code"),
    [("bill_depth_mm", 1000.0, "range"), ("flipper_length_mm", 7.13, "unit"), ("body_mass_g", 3.75, "unit")],
    ids=["range", "inches", "kilograms"],
)
def test_a_value_outside_the_domain_has_the_same_code_everywhere(build, way: Way, feature, value, code, fast_path):
    answer = send(build(fast_path=fast_path), way, "penguins", *way.body([ADELIE, {**ADELIE, feature: value}]))
    assert (answer.status, codes(answer)) == (400, [code])


@pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
def test_too_many_instances_are_too_many_everywhere(build, way: Way):
    answer = send(build(max_instances=2), way, "penguins", *way.body([ADELIE] * 3))
    assert (answer.status, codes(answer)) == (413, ["too_many_instances"])


@pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
def test_a_null_that_is_not_allowed_is_refused_everywhere(build, way: Way):
    answer = send(build(), way, "penguins", *way.body([{**ADELIE, "bill_length_mm": None}]))
    assert answer.status == (422 if way is NATIVE else 400)
    assert codes(answer) == ["null"]


@pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
def test_a_text_that_is_not_on_the_list_is_refused_everywhere(build, way: Way):
    answer = send(build("plots"), way, "plots", *way.body([{**PLOT, "soil": "moon"}]))
    assert (answer.status, codes(answer)) == (400, ["range"])


@pytest.mark.parametrize("name", list(WAYS))
def test_a_number_for_a_text_is_refused_everywhere(build, name):
    answer = send(build("plots"), WAYS[name], "plots", *WAYS[name].body([{**PLOT, "soil": 3}]))
    # in a line of CSV a 3 is a text like any other
    assert codes(answer) == (["range"] if "CSV" in name else ["type"])


@pytest.mark.parametrize("name", ["KServe v1, arrays", "SageMaker CSV, no names"])
def test_positional_rows_are_refused_where_that_is_wanted(build, name):
    way, app = WAYS[name], build(positional=False)
    answer = send(app, way, "penguins", *way.body([ADELIE]))
    assert (answer.status, codes(answer)) == (400, ["type"])
    assert "ROOKERY_POSITIONAL" in answer.body.decode()


@pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
def test_named_rows_are_taken_without_positions(build, way: Way):
    if way in (WAYS["KServe v1, arrays"], WAYS["SageMaker CSV, no names"]):
        pytest.skip("has no names")
    assert send(build(positional=False), way, "penguins", *way.body([ADELIE])).status == 200
