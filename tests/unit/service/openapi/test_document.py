"""The OpenAPI document is valid, is about this very model, and every answer keeps it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.openapi.document import document
from tests.unit.service.calls import ADELIE, PLOT, ROWS, request

MODELS = list(ROWS)


@pytest.fixture(scope="module")
def documents(answerers: dict[str, Answerer]) -> dict[str, dict[str, Any]]:
    """The document of every model, as it goes over the wire."""
    return {
        name: json.loads(json.dumps(document(a.require_model().predictor.manifest, Settings(commit="abc"))))
        for name, a in answerers.items()
    }


@pytest.fixture(scope="module")
def apps(answerers: dict[str, Answerer]) -> dict[str, Flask]:
    """The application of every model."""
    return {name: create_app(Settings(), answerer) for name, answerer in answerers.items()}


def _valid(found: dict[str, Any], path: str, method: str, status: int, kind: str, value: object) -> list[str]:
    """Return what the declared schema of a response has against a body."""
    schema = found["paths"][path][method]["responses"][str(status)]["content"][kind]["schema"]
    validator = Draft202012Validator({**schema, "components": found["components"]})
    return [error.message for error in validator.iter_errors(value)]


def _request_errors(found: dict[str, Any], body: object) -> list[str]:
    schema = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": found["components"]})
    return [error.message for error in validator.iter_errors(body)]


@pytest.mark.parametrize("name", MODELS)
def test_the_document_is_valid_openapi_3_1(documents, name):
    assert list(OpenAPIV31SpecValidator(documents[name]).iter_errors()) == []
    assert documents[name]["openapi"] == "3.1.0"


def test_the_document_is_about_the_model_and_this_version(documents):
    info = documents["penguins"]["info"]
    assert (
        info["title"],
        info["version"],
    ) == ("Rookery: Species of an adult Pygoscelis penguin from four body measurements", "abc")
    assert "- Adults only" in info["description"]


def test_a_number_has_its_ranges_unit_and_description(documents):
    mass = documents["penguins"]["components"]["schemas"]["Instance"]["properties"]["body_mass_g"]
    assert {key: value for key, value in mass.items() if key != "anyOf"} == {
        "description": "Body mass",
        "type": "number",
        "minimum": 300,
        "maximum": 30000,
        "examples": [5500.0],
        "x-plausible": [2000, 9000],
        "x-unit": "g",
        "x-confused-units": ["kg", "lb", "oz"],
    }


def test_whole_numbers_nulls_and_texts_are_described(documents):
    members = documents["plots"]["components"]["schemas"]["Instance"]["properties"]
    assert (members["count"]["type"], members["count"]["examples"]) == ("integer", [0])
    assert members["ph"]["type"] == ["number", "null"]
    assert members["soil"] == {
        "type": "string",
        "enum": ["clay", "sand [wet]", "loam: old", 'the "rich", {dark} one'],
        "description": "Kind of soil",
    }


@pytest.mark.parametrize("name", MODELS)
def test_every_feature_is_required_and_nothing_else_allowed(documents, name):
    schema = documents[name]["components"]["schemas"]["Instance"]
    assert (sorted(ROWS[name]), False) == (sorted(schema["required"]), schema["additionalProperties"])


@pytest.mark.parametrize("kind", ["one", "batch", "table"])
@pytest.mark.parametrize("name", MODELS)
def test_every_example_is_answered_and_keeps_both_schemas(documents, apps, name, kind):
    found = documents[name]
    examples = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert {"one", "batch", "table"} == set(examples)
    body = examples[kind]["value"]
    answered = request(apps[name], "POST", "/predict", body)
    assert answered.status == 200
    assert _request_errors(found, body) == []
    assert _valid(found, "/predict", "post", 200, "application/json", answered.json) == []


def test_the_example_of_every_number_is_taken(documents, apps):
    for name in MODELS:
        members = documents[name]["components"]["schemas"]["Instance"]["properties"]
        body = {key: (m["examples"][0] if "examples" in m else m["enum"][0]) for key, m in members.items()}
        assert request(apps[name], "POST", "/predict", body).status == 200


ANSWERS = {
    "single": ("", ADELIE),
    "batch": ("", {"instances": [ADELIE, ADELIE]}),
    "explained": ("?explain=true", ADELIE),
    "explained batch": ("?explain=true", {"instances": [ADELIE]}),
    "converted": ("?on_unit=convert", {**ADELIE, "body_mass_g": 3.75}),
    "row errors": ("?on_error=row", {"instances": [ADELIE, {}, {**ADELIE, "body_mass_g": 1e9}]}),
}


@pytest.mark.parametrize(("query", "body"), ANSWERS.values(), ids=ANSWERS.keys())
def test_every_kind_of_answer_keeps_its_schema(documents, apps, query, body):
    answered = request(apps["penguins"], "POST", f"/predict{query}", body)
    assert answered.status == 200
    assert _valid(documents["penguins"], "/predict", "post", 200, "application/json", answered.json) == []


def test_an_answer_without_a_member_would_not_keep_the_schema(documents, apps):
    whole = request(apps["penguins"], "POST", "/predict", ADELIE).json
    for name in whole:
        part = {key: value for key, value in whole.items() if key != name}
        assert _valid(documents["penguins"], "/predict", "post", 200, "application/json", part) != []


REFUSED = {
    400: ("POST", b"{", {}),
    405: ("DELETE", b"", {}),
    406: ("POST", ADELIE, {"HTTP_ACCEPT": "text/html"}),
    413: ("POST", b"{}" * 20_000, {}),
    415: ("POST", ADELIE, {"CONTENT_TYPE": "text/plain"}),
    422: ("POST", {}, {}),
}


@pytest.mark.parametrize(("status", "call"), REFUSED.items(), ids=map(str, REFUSED))
def test_every_refusal_keeps_its_schema(documents, apps, status, call):
    method, body, headers = call
    answered = request(apps["penguins"], method, "/predict", body, **headers)
    assert status == answered.status
    assert _valid(documents["penguins"], "/predict", "post", status, "application/problem+json", answered.json) == []


def test_a_refusal_without_a_model_keeps_its_schema(documents, unready_app):
    answered = request(unready_app, "POST", "/predict", ADELIE)
    assert answered.status == 503
    assert _valid(documents["penguins"], "/predict", "post", 503, "application/problem+json", answered.json) == []


def test_every_status_of_the_contract_is_declared(documents):
    declared = documents["penguins"]["paths"]["/predict"]["post"]["responses"]
    assert {"200", "400", "405", "406", "408", "413", "415", "422", "500", "503"} == set(declared)
    assert {name for response in declared.values() for name in response["headers"]} == {
        "X-Request-Id",
        "Accept-Encoding",
        "Retry-After",
    }
    assert set(declared["415"]["headers"]) == {"X-Request-Id", "Accept-Encoding"}


def test_compression_is_described(documents):
    body = documents["penguins"]["paths"]["/predict"]["post"]["requestBody"]
    assert "gzip or deflate" in body["description"]


@pytest.mark.parametrize("path", ["/model", "/health/live", "/health/ready", "/version", "/openapi.json"])
def test_every_other_route_keeps_its_schema(documents, apps, path):
    answered = request(apps["penguins"], "GET", path)
    assert answered.status == 200
    assert _valid(documents["penguins"], path, "get", 200, "application/json", answered.json) == []
    refused = request(apps["penguins"], "POST", path)
    assert refused.status == 405
    assert _valid(documents["penguins"], path, "get", 405, "application/problem+json", refused.json) == []


VALUES = {
    "ordinary": ({}, True),
    "unusual": ({"body_mass_g": 9500}, True),
    "out of range": ({"body_mass_g": 30001}, False),
    "in kilograms": ({"body_mass_g": 3.75}, False),
    "a string": ({"body_mass_g": "3750"}, False),
    "null": ({"body_mass_g": None}, False),
    "another feature": ({"island": 1}, False),
}


@pytest.mark.parametrize(("change", "is_valid"), VALUES.values(), ids=VALUES.keys())
def test_the_request_schema_says_what_the_service_does(documents, apps, change, is_valid):
    body = {**ADELIE, **change}
    assert is_valid == (_request_errors(documents["penguins"], body) == [])
    assert is_valid == (request(apps["penguins"], "POST", "/predict", body).status == 200)


@pytest.mark.parametrize(("change", "is_valid"), VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize("shape", ["batch", "table"])
def test_the_request_schema_says_it_of_every_row(documents, apps, change, is_valid, shape):
    row = {**ADELIE, **change}
    table = {"instances": [list(ADELIE.values()), list(row.values())], "features": list(ADELIE)}
    body = {"batch": {"instances": [ADELIE, row]}, "table": table}[shape]
    assert is_valid == (_request_errors(documents["penguins"], body) == [])
    assert is_valid == (request(apps["penguins"], "POST", "/predict", body).status == 200)


@pytest.mark.parametrize(
    ("change", "is_valid"),
    [
        ({"ph": None}, True),
        ({"soil": "peat"}, False),
        ({"count": 7.0}, True),
        ({"count": 7.5}, False),
        ({"depth_m": 325}, False),
    ],
)
def test_the_request_schema_of_other_kinds_says_what_the_service_does(documents, apps, change, is_valid):
    body = {**PLOT, **change}
    assert is_valid == (_request_errors(documents["plots"], body) == [])
    assert is_valid == (request(apps["plots"], "POST", "/predict", body).status == 200)
