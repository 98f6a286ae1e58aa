"""Flask's door gives what the answerer gives, header for header."""

from __future__ import annotations

import pytest

from service.app import create_app
from service.config import Settings
from service.reply import Reply
from service.routes import to_response
from tests.unit.service.calls import ADELIE, ask, request


def test_a_reply_keeps_its_headers_their_order_and_nothing_more():
    headers = (("Content-Type", "application/json"), ("X-Request-Id", "a"), ("Server-Timing", "total;dur=1"))
    response = to_response(Reply(422, headers, b"{}"))
    assert (422, list(headers), b"{}") == (response.status_code, list(response.headers.items()), response.data)


@pytest.mark.parametrize("path", ["/predict", "/predict/"])
def test_with_and_without_a_slash_a_prediction_is_answered_without_redirect(answerer, path):
    app = create_app(Settings(), answerer)
    answered = request(app, "POST", path, ADELIE, HTTP_X_REQUEST_ID="test-1")
    assert (200, ask(answerer, ADELIE).body) == (answered.status, answered.body)


def test_every_header_reaches_the_answerer(answerer):
    app = create_app(Settings(), answerer)
    for name, value, status in (
        ("CONTENT_TYPE", "text/plain", 415),
        ("HTTP_CONTENT_ENCODING", "br", 415),
        ("HTTP_ACCEPT", "text/html", 406),
        ("QUERY_STRING", "x=1", 400),
    ):
        assert status == request(app, "POST", "/predict", ADELIE, **{name: value}).status
    assert request(app, "POST", "/predict", ADELIE, HTTP_X_REQUEST_ID="mine").header("X-Request-Id") == "mine"
