"""Flask's door to predictions."""

from __future__ import annotations

from flask import Blueprint, Response, request

from service.answer import Answerer
from service.form import Call
from service.monitor import WAITED
from service.reply import Reply


def blueprint(answerer: Answerer) -> Blueprint:
    """Return the routes that predict."""
    routes = Blueprint("predict", __name__)

    @routes.post("/predict", strict_slashes=False)
    def predict() -> Response:
        """Answer one instance or a batch."""
        return to_response(answerer.answer(to_call()))

    return routes


def to_call() -> Call:
    """Return the current request as a call."""
    return Call(
        body=request.get_data(cache=False),
        query=request.query_string.decode("latin-1"),
        content_type=request.headers.get("Content-Type", ""),
        content_encoding=request.headers.get("Content-Encoding", ""),
        accept=request.headers.get("Accept", ""),
        request_id=request.headers.get("X-Request-Id", ""),
        forwarded=request.headers.get("X-Forwarded-For", ""),
        peer=request.remote_addr or "",
        traceparent=request.headers.get("Traceparent", ""),
        cloud_trace=request.headers.get("X-Cloud-Trace-Context", ""),
        wait_seconds=request.environ.get(WAITED, 0.0),
    )


class Answered(Response):
    """What the answerer answered, and noted."""


def to_response(reply: Reply, kind: type[Response] = Answered) -> Response:
    """Turn a reply into Flask's form, header for header.

    Args:
        reply: of the answerer, or one that nobody has noted yet.
        kind: `Response` for the latter.
    """
    response = kind(reply.body, reply.status)
    # the framework's own defaults go, so that both doors send the same headers in the same order
    response.headers.clear()
    response.headers.extend(reply.headers)
    return response
