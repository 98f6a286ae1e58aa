"""Answers as JSON: the members of the contract, exact numbers, rows in their places."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from model.explain import Contributions
from model.predictor import Answer, Prediction
from model.verify import VerifiedBundle
from service.errors import ImplausibleValue, Problem
from service.instances import Conversion, Instances
from service.render import Renderer

PREDICTION = Prediction(
    probabilities=np.array([[0.1 + 0.2, 0.6, 0.1], [1.0, 0.0, 5e-324]]),
    classes=np.array([1, 0]),
    sets=np.array([[True, True, False], [True, False, False]]),
    novelty=np.array([0.31, 1.0]),
    is_novel=np.array([False, True]),
)
ANSWERS = PREDICTION.answers()
FIRST = {
    "prediction": 1,
    "label": "Chinstrap",
    "probabilities": {"Adelie": 0.30000000000000004, "Chinstrap": 0.6, "Gentoo": 0.1},
    "prediction_set": ["Adelie", "Chinstrap"],
    "novelty": 0.31,
    "is_novel": False,
}
SECOND = {
    "prediction": 0,
    "label": "Adelie",
    "probabilities": {"Adelie": 1.0, "Chinstrap": 0.0, "Gentoo": 5e-324},
    "prediction_set": ["Adelie"],
    "novelty": 1.0,
    "is_novel": True,
}
MODEL = {"name": "penguins", "version": "1", "digest": "sha256:ab", "fallback": False}


def _rows(count: int) -> np.ndarray:
    return np.zeros((count, 4), dtype=np.float32)


@pytest.fixture
def renderer(penguins: VerifiedBundle) -> Renderer:
    """A renderer of the penguins bundle."""
    return Renderer(penguins.manifest, "sha256:ab", is_fallback=False)


def test_one_instance_is_answered_with_its_model(renderer):
    body = renderer.render(Instances(_rows(1), is_single=True), ANSWERS[:1], None, explain=False)
    assert json.loads(body) == {**FIRST, "model": MODEL}


def test_a_batch_names_the_model_once(renderer):
    body = renderer.render(Instances(_rows(2), is_single=False), ANSWERS, None, explain=False)
    assert json.loads(body) == {"predictions": [FIRST, SECOND], "model": MODEL}


def test_a_fallback_shows(penguins):
    body = Renderer(penguins.manifest, "sha256:ab", is_fallback=True).render(
        Instances(_rows(1), is_single=True), ANSWERS[:1], None, explain=False
    )
    assert True is json.loads(body)["model"]["fallback"]


def test_contributions_are_named_by_feature(renderer):
    contributions = Contributions(np.array([[1.0, 2.0, 3.0, 4.5], [0.0, -1.0, 0.5, 0.25]]), np.array([0.5, -0.5]))
    body = renderer.render(Instances(_rows(2), is_single=False), ANSWERS, contributions, explain=True)
    assert [row["contributions"] for row in json.loads(body)["predictions"]] == [
        {"bill_length_mm": 1.0, "bill_depth_mm": 2.0, "flipper_length_mm": 3.0, "body_mass_g": 4.5, "base": 0.5},
        {"bill_length_mm": 0.0, "bill_depth_mm": -1.0, "flipper_length_mm": 0.5, "body_mass_g": 0.25, "base": -0.5},
    ]


def test_contributions_that_cannot_be_computed_are_null(renderer):
    body = renderer.render(Instances(_rows(1), is_single=True), ANSWERS[:1], None, explain=True)
    assert None is json.loads(body)["contributions"]


def test_failures_and_conversions_stand_in_their_places(renderer):
    failure = ImplausibleValue([Problem("/instances/1/body_mass_g", "range", "too heavy")])
    converted = (Conversion("body_mass_g", "kg", 3.75, 3750.0),)
    instances = Instances(_rows(2), is_single=False, failures={1: failure}, conversions={2: converted})
    assert json.loads(renderer.render(instances, ANSWERS, None, explain=False))["predictions"] == [
        FIRST,
        {
            "error": {
                "type": "urn:rookery:problem:implausible-value",
                "title": "A value is outside the domain of the model",
                "status": 400,
                "detail": "1 problem",
                "errors": [{"pointer": "/instances/1/body_mass_g", "code": "range", "message": "too heavy"}],
            }
        },
        {**SECOND, "converted": [{"feature": "body_mass_g", "unit": "kg", "given": 3.75, "value": 3750.0}]},
    ]


def test_a_single_instance_says_what_was_converted(renderer):
    instances = Instances(_rows(1), is_single=True, conversions={0: (Conversion("body_mass_g", "kg", 3.75, 3750.0),)})
    body = json.loads(renderer.render(instances, ANSWERS[:1], None, explain=False))
    assert body["converted"] == [{"feature": "body_mass_g", "unit": "kg", "given": 3.75, "value": 3750.0}]
    assert body["model"] == MODEL


@pytest.mark.parametrize("count", [0, 1, 2, 300])
@pytest.mark.parametrize("name", ["penguins", "iris", "plots"])
def test_a_plain_batch_is_rendered_as_row_by_row(answerers, name, count):
    predictor = answerers[name].require_model().predictor
    renderer = Renderer(predictor.manifest, "sha256:ab", is_fallback=False)
    matrix = np.resize(predictor.golden_matrix(), (count, len(predictor.manifest.features)))
    instances = Instances(matrix, is_single=False)
    prediction = predictor.predict(matrix)
    assert renderer.render_batch(prediction) == renderer.render(instances, prediction.answers(), None, explain=False)


def test_a_per_cent_sign_and_a_quote_in_a_class_name_are_no_place_for_a_number(answerers):
    manifest = msgspec.structs.replace(
        answerers["penguins"].require_model().predictor.manifest, classes=('a%b":0,"', "%%", "ä")
    )
    renderer = Renderer(manifest, "sha256:ab", is_fallback=False)
    answer = Answer(1, [0.25, 0.5, 0.25], [True, True, False], 0.125, True)
    whole = json.loads(renderer.render(Instances(_rows(1), is_single=True), [answer], None, explain=False))
    assert (whole["label"], whole["prediction_set"]) == ("%%", ['a%b":0,"', "%%"])
    assert whole["probabilities"] == {'a%b":0,"': 0.25, "%%": 0.5, "ä": 0.25}
