"""Operations with a port of their own are nowhere else, and nothing else is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service import ports
from service.app import create_app
from service.config import Settings
from service.ways import ROUTES
from tests.unit.service.calls import ADELIE, encode, request

OPS_PORT = 9090
FEEDBACK = {"request_id": "test-1", "label": "Adelie"}


@pytest.fixture
def app(answerer):
    """An application of which operations are at a port of their own."""
    return create_app(replace(Settings(), ops_port=OPS_PORT, feedback=True), answerer)


def _status(app, method, path, port, body=b""):
    return request(app, method, path, encode(body), SERVER_PORT=str(port)).status


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/metrics", b"", 200),
        ("HEAD", "/metrics", b"", 200),
        ("GET", "/model/drift", b"", 503),
        ("POST", "/feedback", FEEDBACK, 202),
        # wrong, and told so to nobody else
        ("GET", "/feedback", b"", 405),
        ("OPTIONS", "/metrics", b"", 200),
    ],
)
def test_what_moved_is_at_its_port_and_nowhere_else(app, method, path, body, status):
    assert path in ports.MOVED
    assert _status(app, method, path, OPS_PORT, body) == status
    assert _status(app, method, path, 8080, body) == 404


@pytest.mark.parametrize("path", ports.SHARED)
def test_health_and_version_are_at_both_ports(app, path):
    assert [_status(app, "GET", path, port) for port in (8080, OPS_PORT)] == [200, 200]


@pytest.mark.parametrize("path", ["/", "/model", "/docs", "/openapi.json", "/v2", "/ping"])
def test_pages_and_protocols_stay_where_they_are(app, path):
    assert [_status(app, "GET", path, port) for port in (8080, OPS_PORT)] == [200, 404]


def test_nothing_is_predicted_at_the_port_for_operations(app):
    assert [_status(app, "POST", "/predict", port, ADELIE) for port in (8080, OPS_PORT)] == [200, 404]


def test_what_stays_and_what_moves_are_routes():
    assert {*ports.MOVED, *ports.SHARED} <= set(ROUTES)


def test_the_document_names_what_is_at_its_own_port(app, penguins_app):
    asked = {"own": app, "one": penguins_app}
    paths = {name: set(request(each, "GET", "/openapi.json").json["paths"]) for name, each in asked.items()}
    assert paths["one"] - paths["own"] == {"/metrics", "/model/drift"}
    assert paths["own"] < paths["one"]
