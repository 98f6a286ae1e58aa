"""The document tells every route of every protocol that is on, and none that is off; every answer keeps it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.answer import Answerer
from service.app import create_app
from service.loader import NotReady
from service.openapi import tags
from service.values import PROTOCOLS
from tests.unit.service.calls import ROWS, Answered, request
from tests.unit.service.protocols.conftest import ALL

MODELS = list(ROWS)
# for people
PAGES = re.compile(r"/(docs.*|assets/.*)?")
WITHOUT = {
    "v2": ["/v2", "/v2/health/live", "/v2/models/penguins", "/v2/models/penguins/infer"],
    "v1": ["/v1/models", "/v1/models/penguins", "/v1/models/penguins:predict"],
    "vertex": ["/v1/endpoints/1", "/v1/endpoints/1:predict"],
    "mlflow": ["/health"],
    "sagemaker": ["/execution-parameters"],
}


def _document(app: Flask) -> dict[str, Any]:
    return request(app, "GET", "/openapi.json").json


def _operations(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(path, method) for path, methods in found["paths"].items() for method in methods]


def _routes(app: Flask) -> list[tuple[str, str]]:
    """Return what the application itself knows."""
    known = [
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    ]
    return [(path, method) for path, method in known if method in ("get", "post") and not PAGES.fullmatch(path)]


def _concrete(found: dict[str, Any], path: str, method: str) -> str:
    """Return a path with the values that its parameters can have."""
    for parameter in found["paths"][path][method].get("parameters", []):
        if parameter["in"] == "path":
            [value] = parameter["schema"]["enum"]
            path = path.replace("{" + parameter["name"] + "}", value)
    return path


def _errors(found: dict[str, Any], schema: dict[str, Any], value: object) -> list[str]:
    return [
        error.message
        for error in Draft202012Validator({**schema, "components": found["components"]}).iter_errors(value)
    ]


def _faults(found: dict[str, Any], path: str, method: str, answer: Answered) -> list[str]:
    """Return what the document has against an answer."""
    told = found["paths"][path][method]["responses"].get(str(answer.status))
    if told is None:
        return [f"{answer.status} is not declared"]
    kind = str(answer.header("content-type")).partition(";")[0]
    if kind not in told["content"]:
        return [f"{kind} is not declared"]
    return _errors(found, told["content"][kind]["schema"], answer.json) if "json" in kind else []


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("positional", [True, False], ids=["positions", "names alone"])
def test_the_document_of_all_protocols_is_valid_openapi_3_1(build, name, positional):
    found = _document(build(name, feedback=True, positional=positional))
    assert list(OpenAPIV31SpecValidator(found).iter_errors()) == []


@pytest.mark.parametrize("off", ["", *PROTOCOLS, "all", "vertex paths"])
def test_it_tells_the_routes_that_are_on_and_no_others(build, off):
    changes: dict[str, Any] = {"protocols": tuple(name for name in PROTOCOLS if name != off) if off != "all" else ()}
    if off == "vertex paths":
        # what the platform names is a path of our own
        changes |= {"vertex_predict_route": "/predict", "vertex_health_route": "/health/ready"}
    app = build("penguins", feedback=off != "all", **changes)
    assert sorted(_operations(_document(app))) == sorted(_routes(app))


@pytest.mark.parametrize("changes", [{"feedback": True}, {"protocols": ()}, {"ops_port": 9000}], ids=str)
def test_every_operation_has_a_group_and_every_group_says_what_it_is(build, changes):
    found = _document(build(**changes))
    groups = {tag for methods in found["paths"].values() for one in methods.values() for tag in one["tags"]}
    told = [tag["name"] for tag in found["tags"]]
    # in the order of the module, and none without an operation
    assert told == [name for name in tags.TEXTS if name in groups]
    assert set(told) == groups
    assert all("\n" not in tag["description"] and len(tag["description"]) > 20 for tag in found["tags"])
    assert (tags.METRICS in told) == ("ops_port" not in changes)


@pytest.mark.parametrize(("name", "paths"), WITHOUT.items(), ids=WITHOUT)
def test_a_protocol_that_is_off_is_not_found(build, name, paths):
    on, off = build(), build(protocols=tuple(one for one in PROTOCOLS if one != name))
    for path in paths:
        assert request(on, "GET", path).status in (200, 405)
        refused = request(off, "GET", path)
        # where no other protocol has such paths, what answers is our own
        kind = "application/json" if name == "vertex" else "application/problem+json"
        assert (refused.status, refused.header("content-type")) == (404, kind)
        assert request(off, "POST", path).status == 404


def test_invocations_are_there_as_long_as_one_of_their_protocols_is(build):
    for on, status in ((("mlflow",), 200), (("sagemaker",), 200), ((), 404)):
        assert request(build(protocols=on), "GET", "/ping").status == status
        assert request(build(protocols=on), "POST", "/invocations").status == (404 if status == 404 else 400)


@pytest.mark.parametrize("positional", [True, False], ids=["positions", "names alone"])
@pytest.mark.parametrize("name", MODELS)
def test_every_example_is_answered_and_keeps_both_schemas(build, name, positional):
    app = build(name, feedback=True, positional=positional)
    found = _document(app)
    tried = 0
    for path, method in _operations(found):
        operation = found["paths"][path][method]
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            for example in content.get("examples", {}).values():
                body = example["value"]
                assert _errors(found, content["schema"], body) == []
                sent = body.encode() if isinstance(body, str) else body
                answer = request(app, "POST", _concrete(found, path, method), sent, CONTENT_TYPE=kind)
                assert answer.status in (200, 202), answer.body
                assert _faults(found, path, method, answer) == []
                tried += 1
        # nothing is counted here, so there is no drift to tell
        if method == "get" and path != "/model/drift":
            answer = request(app, "GET", _concrete(found, path, method))
            assert (answer.status, _faults(found, path, method, answer)) == (200, [])
    assert tried >= 15


BAD = {
    "not JSON": (b"{", {}),
    "nothing it knows": (b"{}", {}),
    "too many rows": (json.dumps({"instances": [ROWS["penguins"]] * 20}).encode(), {}),
    "too large": (b"[" * 20_000, {}),
    "another type": (b"x", {"CONTENT_TYPE": "text/html"}),
    "another answer": (b"{}", {"HTTP_ACCEPT": "image/png"}),
    "not packed": (b"{}", {"HTTP_CONTENT_ENCODING": "gzip"}),
    "another coding": (b"{}", {"HTTP_CONTENT_ENCODING": "br"}),
}


@pytest.mark.parametrize(("body", "headers"), BAD.values(), ids=BAD)
def test_every_refusal_of_a_body_keeps_its_schema(build, body, headers):
    app = build(feedback=True, max_instances=10)
    found = _document(app)
    for path, method in _operations(found):
        if method == "post":
            answer = request(app, "POST", _concrete(found, path, method), body, **headers)
            assert answer.status in (400, 406, 413, 415, 422)
            assert (path, _faults(found, path, method, answer)) == (path, [])


def test_every_wrong_method_and_other_model_keeps_its_schema(build):
    app = build(feedback=True)
    found = _document(app)
    for path, method in _operations(found):
        answer = request(app, "DELETE", _concrete(found, path, method))
        assert (path, answer.status, _faults(found, path, method, answer)) == (path, 405, [])
        if "{model}" in path:
            for model, version in (("emus", "1"), ("penguins", "2")):
                if model == "emus" or "{version}" in path:
                    other = path.replace("{model}", model).replace("{version}", version)
                    answer = request(app, method.upper(), other)
                    assert (other, answer.status, _faults(found, path, method, answer)) == (other, 404, [])


def test_without_a_model_everything_keeps_the_document_of_one(build):
    found = _document(build())
    app = create_app(ALL, Answerer(NotReady("hash_mismatch", "another"), ALL))
    refused = set()
    for path, method in _operations(found):
        answer = request(app, method.upper(), _concrete(found, path, method), b"{}")
        assert (path, _faults(found, path, method, answer)) == (path, [])
        if answer.status == 503:
            refused.add(path)
            assert answer.header("retry-after") is not None
    alive = {"/health/live", "/version", "/metrics", "/v2", "/v2/health/live", "/execution-parameters"}
    assert refused == set(found["paths"]) - alive


def test_a_rate_that_is_limited_is_told_everywhere(build):
    for rate in (None, "1/hour"):
        found = _document(build(rate_limit=rate))
        told = {
            path: "429" in methods["post"]["responses"] for path, methods in found["paths"].items() if "post" in methods
        }
        assert set(told.values()) == {rate is not None}
        assert len(told) >= 6


def test_raw_answers_and_lines_are_declared(build):
    found = _document(build())
    infer = found["paths"]["/v2/models/{model}/infer"]["post"]
    assert set(infer["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
    assert set(infer["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    invoked = found["paths"]["/invocations"]["post"]["responses"]["200"]
    assert set(invoked["content"]) == {"application/json", "text/csv", "application/jsonlines"}
    assert "Warning" in invoked["headers"]
