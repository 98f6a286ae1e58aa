"""What turned out to be true about a prediction: `POST /feedback`, where that is enabled.

It becomes an event, which `python -m scripts.quality` joins with those of predictions, and counts in a confusion matrix
if this process remembers the prediction. Another worker or instance does not: there it is counted apart.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson
from flask import Blueprint, Response, request
from marshmallow import Schema, ValidationError, fields, validate

from service import decode
from service.answer import REQUEST_ID, Answerer
from service.errors import BodyTooLarge, InvalidFeedback, Problem, UnsupportedMediaType, pointer
from service.loader import Ready
from service.recent import Recent
from service.reply import JSON
from service.tally import Tally

log = logging.getLogger(__name__)

BODY_BYTES = 4096
# what marshmallow says, and what that is in the HTTP contract
WORDS = {
    "missing": "is required",
    "null": "must not be null",
    "type": "is of another type",
    "unknown": "is not part of feedback; known: request_id, label, row",
    "range": "is not a value that it can have",
}
CODES: dict[str, Any] = {
    "required": "missing",
    "null": "null",
    "invalid": "type",
    "invalid_utf8": "type",
    "too_large": "range",
}


class Row(fields.Integer):
    """A whole number, and not `true`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        """See `marshmallow.fields.Field`."""
        if isinstance(value, (bool, str)):
            raise self.make_error("invalid")
        # in JSON 6.0 is a whole number
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return int(super()._deserialize(value, attr, data, **kwargs) or 0)


def schema_for(classes: tuple[str, ...], max_instances: int) -> Schema:
    """Return the schema of a body.

    Args:
        classes: one of them turned out to be true.
        max_instances: a row's position is below.
    """
    members: dict[str, Any] = {
        "request_id": fields.String(
            required=True, error_messages=CODES, validate=validate.Regexp(rf"(?:{REQUEST_ID.pattern})\Z", error="range")
        ),
        "label": fields.String(required=True, error_messages=CODES, validate=validate.OneOf(classes, error="range")),
        "row": Row(
            strict=True,
            load_default=0,
            error_messages=CODES,
            validate=validate.Range(0, max_instances - 1, error="range"),
        ),
    }
    schema = Schema.from_dict(members, name="Feedback")
    schema.error_messages = {"unknown": "unknown", "type": "type"}
    return schema()


def blueprint(answerer: Answerer, recent: Recent, tally: Tally, max_instances: int) -> Blueprint:
    """Return the route for feedback."""
    route = Blueprint("feedback", __name__)
    classes = answerer.state.predictor.manifest.classes if isinstance(answerer.state, Ready) else ()
    schema = schema_for(classes, max_instances)

    @route.post("/feedback")
    def feedback() -> Response:
        """Take what turned out to be true about one row."""
        ready = answerer.require_model()
        told = _read(schema)
        # what was answered a moment ago is known, too
        answerer.monitor.flush()
        predicted = recent.pop(told["request_id"], told["row"])
        tally.count_feedback(classes.index(told["label"]), predicted)
        known = {} if predicted is None else {"predicted": classes[predicted], "digest": ready.digest}
        log.info("feedback.received", extra={**told, "is_known": predicted is not None, **known})
        body = {"request_id": told["request_id"], "is_known": predicted is not None}
        return Response(orjson.dumps(body), 202, content_type=JSON)

    return route


def _read(schema: Schema) -> dict[str, Any]:
    """Read the body of the current request.

    Raises:
        ServiceError: it is not feedback.
    """
    if request.mimetype not in ("", JSON) or request.headers.get("Content-Encoding"):
        raise UnsupportedMediaType(detail="send JSON with the header Content-Type: application/json, not compressed")
    body = request.get_data(cache=False)
    if len(body) > BODY_BYTES:
        raise BodyTooLarge([Problem("", "body_too_large", f"at most {BODY_BYTES} bytes are taken")])
    try:
        told: dict[str, Any] = schema.load(decode.strict(body))  # type: ignore[arg-type]
    except ValidationError as error:
        raise InvalidFeedback(_problems(error.messages_dict)) from error
    return told


def _problems(messages: dict[str, Any]) -> list[Problem]:
    """Return what is wrong in the form of the contract; `_schema` is the body itself."""
    return [
        Problem("" if name == "_schema" else pointer(name), code, WORDS[code])
        for name, codes in messages.items()
        for code in codes
    ]
