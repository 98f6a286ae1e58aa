"""Flask's door to predictions."""

from __future__ import annotations

from flask import Blueprint, Response, request

from service.answer import Answerer
from service.form import Call, to_call
from service.reply import Reply


def blueprint(answerer: Answerer) -> Blueprint:
    """Return the routes that predict."""
    routes = Blueprint("predict", __name__)

    @routes.post("/predict", strict_slashes=False)
    def predict() -> Response:
        """Answer one instance or a batch."""
        return to_response(answerer.answer(this_call()))

    return routes


def this_call() -> Call:
    """Return the current request as a call."""
    return to_call(request.environ, request.get_data(cache=False))


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
