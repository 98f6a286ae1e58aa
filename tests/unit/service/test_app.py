"""The application as a whole: fast accept and schema answer alike, refusals have our form, CORS is closed."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from flask import Flask
from hypothesis import given, note, settings
from hypothesis import strategies as st

from service.answer import Answerer
from service.app import asgi, create_app
from service.config import SettingError, Settings
from service.server import Bridge
from tests.unit.service.bodies import write_body
from tests.unit.service.calls import ADELIE, ROWS, Answered, request
from tests.unit.service.failing import failing

# calls a model; raise it for a long run
EXAMPLES = 250

SETTINGS = Settings()
ORIGIN = "https://lab.example"


@pytest.fixture(scope="module")
def doors(answerers: dict[str, Answerer]) -> dict[str, dict[str, Flask]]:
    """For every model, the application with fast accept, and the one with the schema alone."""
    small = replace(SETTINGS, max_instances=3, max_body_bytes=4096)
    plain = replace(small, fast_path=False)
    return {
        name: {
            "fast": create_app(small, Answerer(a.state, small)),
            "plain": create_app(plain, Answerer(a.state, plain)),
        }
        for name, a in answerers.items()
    }


QUERIES = (
    "",
    "",
    "explain=true",
    "on_error=row",
    "on_unit=convert",
    "on_error=row&on_unit=convert&explain=true",
    "x=1",
    "explain=1",
    "explain=true&explain=true",
    "%ff=\xe4",
    "&",
)
ENVIRONS: dict[str, tuple[str, ...]] = {
    "CONTENT_TYPE": (
        "",
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "Application/JSON;charset=x",
    ),
    "HTTP_ACCEPT": ("", "*/*", "application/json", "text/html", "text/html;q=0.9, */*;q=0.1", ";;,q=x"),
    "HTTP_CONTENT_ENCODING": ("", "identity", "gzip"),
}


def _headers(random: Random) -> dict[str, str]:
    """Return the rest of a call: mostly what an ordinary client sends."""
    chosen = {name: random.choice(values) for name, values in ENVIRONS.items() if random.random() < 0.2}
    return {**chosen, "HTTP_X_REQUEST_ID": "test-1", "QUERY_STRING": random.choice(QUERIES)}


def _comparable(answered: Answered) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return everything but the times of Server-Timing."""
    headers = [(name, "" if name == "server-timing" else value) for name, value in answered.headers]
    return answered.status, headers, answered.body


@pytest.mark.parametrize("name", ROWS)
@given(seed=st.integers(0, 2**63))
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_fast_accept_and_the_schema_give_the_same_bytes(doors, answerers, name, seed):
    features = answerers[name].require_model().predictor.manifest.features
    body, extra = write_body(features, seed), _headers(Random(seed))
    note(f"{body!r} {extra}")
    fast = request(doors[name]["fast"], "POST", "/predict", body, **extra)
    # a browser's Origin means nothing while CORS is closed
    browser = request(doors[name]["fast"], "POST", "/predict", body, **extra, HTTP_ORIGIN=ORIGIN)
    plain = request(doors[name]["plain"], "POST", "/predict", body, **extra)
    assert _comparable(fast) == _comparable(browser)
    assert _comparable(fast) == _comparable(plain)
    assert fast.status < 500


def test_the_compared_calls_have_every_status(doors, answerers):
    features = answerers["penguins"].require_model().predictor.manifest.features
    found = {
        request(
            doors["penguins"]["fast"], "POST", "/predict", write_body(features, seed), **_headers(Random(seed))
        ).status
        for seed in range(300)
    }
    assert {200, 400, 406, 415, 422} <= found


@pytest.mark.parametrize("body", [b" " * 4097, b"[]" * 100, b""], ids=["too long", "too many marks", "empty"])
def test_fast_accept_and_the_schema_refuse_excess_with_the_same_bytes(doors, body):
    apps = doors["penguins"]
    fast = request(apps["fast"], "POST", "/predict", body, HTTP_X_REQUEST_ID="a")
    plain = request(apps["plain"], "POST", "/predict", body, HTTP_X_REQUEST_ID="a")
    assert _comparable(fast) == _comparable(plain)
    assert fast.status in (400, 413)


@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("POST", "/predict/"), ("GET", "/model")])
def test_a_failure_is_opaque_on_every_route_and_logged_with_the_request_id(answerer, caplog, method, path):
    app = create_app(SETTINGS, failing(answerer, RuntimeError("secret of /work/model"), SETTINGS))
    answered = request(app, method, path, ADELIE if method == "POST" else b"", HTTP_X_REQUEST_ID="test-1")
    assert (
        answered.status,
        answered.json["request_id"],
        answered.json["errors"][0]["code"],
    ) == (500, "test-1", "internal")
    assert b"secret" not in answered.body
    assert b"Traceback" not in answered.body
    assert [("request.failed", "test-1", path.rstrip("/"))] == [
        (r.message, vars(r)["request_id"], vars(r)["route"]) for r in caplog.records
    ]


ROUTES = {
    "/predict": "POST",
    "/model": "GET",
    "/health/live": "GET",
    "/health/ready": "GET",
    "/version": "GET",
    "/openapi.json": "GET",
    "/docs": "GET",
    "/docs/start.js": "GET",
    "/docs/assets/swagger-ui.css": "GET",
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "TRACE", "BREW", "wrong"])
def test_a_wrong_method_is_refused_with_the_methods_there_are(penguins_app, path, method):
    answered = request(
        penguins_app,
        "GET" if (method, ROUTES[path]) == ("wrong", "POST") else "POST" if method == "wrong" else method,
        path,
    )
    allowed = "GET, HEAD, OPTIONS" if ROUTES[path] == "GET" else "OPTIONS, POST"
    assert (405, allowed) == (answered.status, answered.header("Allow"))
    assert ("application/problem+json", f"allowed: {allowed}") == (
        answered.header("Content-Type"),
        answered.json["detail"],
    )


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/predictx",
        "/predict/x",
        "/predict//",
        "/healthy",
        "/health/live/",
        "/health//live",
        "/docs//start.js",
        "/PREDICT",
        "/\xff\xfe",
        "/%2e%2e/predict",
        "/" + "x" * 5000,
        "/predict\x00",
        "/v3/models/penguins:predict",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_route_is_refused_without_repeating_it(penguins_app, path, method):
    answered = request(penguins_app, method, path, HTTP_X_REQUEST_ID="test-1")
    assert answered.status == 404
    assert answered.json == {
        "type": "urn:rookery:problem:not-found",
        "title": "There is no such route",
        "status": 404,
        "detail": "see /docs for the routes there are",
        "request_id": "test-1",
    }


@pytest.mark.parametrize("path", [*ROUTES, "/predict/", "/docs/", "//predict", "/health//live", "/model/"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
def test_nothing_redirects_and_everything_has_an_id_and_the_digest(penguins_app, answerer, path, method):
    answered = request(penguins_app, method, path, HTTP_X_REQUEST_ID="test-1")
    assert None is answered.header("Location")
    assert not 300 <= answered.status < 400
    assert ("test-1", answerer.digest) == (answered.header("X-Request-Id"), answered.header("X-Model-Digest"))


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ä", '"<script>'])
def test_a_request_id_of_another_form_is_replaced_everywhere_alike(penguins_app, given):
    for path, method in (*ROUTES.items(), ("/nothing", "GET")):
        answered = request(penguins_app, method, path, b"", HTTP_X_REQUEST_ID=given)
        found = answered.header("X-Request-Id") or ""
        assert (len(found), found != given) == (32, True)
        if answered.status >= 400:
            assert found == answered.json["request_id"]


@pytest.mark.parametrize("host", ["..", "a" * 300, "a b", "a:b:c", "[::1", "\xe4", "xn--\xff", ""])
def test_an_odd_host_is_never_our_failure(penguins_app, host):
    for path, method in (("/health/live", "GET"), ("/predict/", "POST"), ("/nothing", "GET")):
        answered = request(penguins_app, method, path, b"", HTTP_HOST=host)
        assert answered.status in (200, 400, 404)


def test_the_framework_s_other_refusals_have_our_form(penguins_app):
    answered = request(penguins_app, "GET", "/docs/assets/index.css", HTTP_RANGE="bytes=999999999-")
    assert (
        answered.status,
        answered.header("Content-Type"),
        answered.json["type"],
    ) == (416, "application/problem+json", "urn:rookery:problem:http")


@pytest.mark.parametrize("length", ["9" * 5000, "-5", "1e3", "ten", "+5", "0x10", " "])
def test_a_length_that_is_no_number_is_never_our_failure(penguins_app, length):
    answered = request(penguins_app, "POST", "/predict", ADELIE, CONTENT_LENGTH=length)
    assert answered.status in (200, 400, 413)


def test_an_empty_length_is_an_empty_body(penguins_app):
    answered = request(penguins_app, "POST", "/predict", ADELIE, CONTENT_LENGTH="")
    assert (answered.status, answered.json["errors"][0]["code"]) == (400, "malformed")


CORS = ("Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers")


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", ["/predict", "/model"])
def test_cors_is_closed_by_default(penguins_app, method, path):
    answered = request(penguins_app, method, path, ADELIE, HTTP_ORIGIN=ORIGIN)
    assert [answered.header(name) for name in (*CORS, "Vary")] == [None, None, None, None]


@pytest.fixture(scope="module")
def opened(answerers: dict[str, Answerer]) -> Flask:
    """The application open to one origin."""
    return create_app(replace(SETTINGS, cors_origins=(ORIGIN, "http://localhost:3000")), answerers["penguins"])


@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:3000"])
def test_a_named_origin_may_call_and_read(opened, origin):
    answered = request(opened, "POST", "/predict", ADELIE, HTTP_ORIGIN=origin)
    assert (200, origin, "Origin") == (
        answered.status,
        answered.header("Access-Control-Allow-Origin"),
        answered.header("Vary"),
    )
    assert (
        answered.header("Access-Control-Expose-Headers")
        == "X-Request-Id, X-Model-Digest, X-Model-Fallback, Server-Timing"
    )


def test_a_named_origin_may_read_a_refusal(opened):
    answered = request(opened, "POST", "/predict", {}, HTTP_ORIGIN=ORIGIN)
    assert (answered.status, answered.header("Access-Control-Allow-Origin")) == (422, ORIGIN)


def test_a_preflight_of_a_named_origin_is_allowed(opened):
    answered = request(opened, "OPTIONS", "/predict", HTTP_ORIGIN=ORIGIN, HTTP_ACCESS_CONTROL_REQUEST_METHOD="POST")
    assert [
        answered.status,
        *(answered.header(name) for name in CORS),
    ] == [200, ORIGIN, "GET, POST", "Content-Type, X-Request-Id"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://lab.example.evil", "null", "http://lab.example", "*", ""]
)
@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
def test_any_other_origin_is_told_nothing(opened, origin, method):
    answered = request(opened, method, "/predict", ADELIE, HTTP_ORIGIN=origin)
    assert [answered.header(name) for name in CORS] == [None, None, None]


def test_caches_are_told_that_pages_depend_on_the_origin(opened):
    assert request(opened, "GET", "/model").header("Vary") == "Origin"


def test_credentials_are_never_allowed(opened):
    answered = request(opened, "OPTIONS", "/predict", HTTP_ORIGIN=ORIGIN)
    assert None is answered.header("Access-Control-Allow-Credentials")


def test_without_an_answerer_the_bundle_of_the_settings_is_loaded(bundles, private):
    app = create_app(replace(private, model_uri=str(bundles["iris"])))
    assert request(app, "GET", "/model").json["name"] == "iris"


def test_without_a_model_predictions_are_refused_with_and_without_a_slash(unready_app):
    for path in ("/predict", "/predict/"):
        answered = request(unready_app, "POST", path, ADELIE)
        assert (answered.status, answered.json["reason"], answered.header("Retry-After")) == (503, "hash_mismatch", "5")


def test_gunicorn_gets_a_bridge_over_the_bundle_in_the_environment(
    monkeypatch, bundles, private_environment, capsys, root_logging
):
    monkeypatch.setenv("MODEL_URI", str(bundles["penguins"]))
    monkeypatch.setenv("ROOKERY_LOG_LEVEL", "info")
    assert isinstance(asgi(), Bridge)
    line = json.loads(capsys.readouterr().out)
    assert (line["message"], line["model"]) == ("model.loaded", "penguins")


def test_a_wrong_setting_stops_the_start(monkeypatch):
    monkeypatch.setenv("FAST_PATH", "maybe")
    with pytest.raises(SettingError):
        asgi()
