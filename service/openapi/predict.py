"""`POST /predict` in the document."""

from __future__ import annotations

from typing import Any

from model.manifest import Manifest, example
from service.config import Settings
from service.openapi import features, tags
from service.openapi.parts import BODY, REQUEST_ID, TEXT, Paths, Refusals, Schema, closed, ref, response
from service.reply import JSON, PROBLEM

ERRORS = {
    "400": "Not JSON, ambiguous JSON, not what Content-Encoding says, an unknown parameter, "
    "or a value outside the domain (codes: malformed, ambiguous, unknown, type, range, unit)",
    "405": "Wrong method",
    "406": "The caller does not accept JSON",
    "408": "The body did not arrive in time",
    "413": "The body, as it came or decompressed, or the batch is over the limit "
    "(codes: body_too_large, too_many_instances)",
    "415": "A content type or encoding that is not understood; Accept-Encoding names the encodings that are",
    "422": "A feature is missing, unknown, null where it must not be, or of the wrong type "
    "(codes: missing, unknown, null, type)",
    "500": "Our fault: an opaque text and the request id (code: internal)",
    "503": "No verified model (code: no_model; `reason` has the cause), or more to do than can be done in time "
    "(code: overloaded)",
}
RATE = {"429": "This caller sends more than one caller may (code: rate)"}
ACCEPT_ENCODING: Schema = {
    "Accept-Encoding": {"description": "With an encoding that is not taken: those that are", "schema": TEXT}
}


def schemas(manifest: Manifest, max_instances: int) -> dict[str, Schema]:
    """Return the schemas of batches and refusals."""
    rows = {"type": "array", "minItems": 1, "maxItems": max_instances}
    names = list(manifest.feature_names)
    return {
        "Batch": closed({"instances": {**rows, "items": ref("Instance")}}),
        "Table": closed(
            {
                "instances": {**rows, "items": features.row(manifest)},
                "features": {"const": names, "description": "The columns; every other order is taken too"},
            }
        ),
        "Problem": _problem(),
    }


def errors(settings: Settings) -> dict[str, str]:
    """Return every status that a refusal can have, and what it means."""
    return {**ERRORS, **(RATE if settings.rate_limit else {})}


def paths(manifest: Manifest, settings: Settings) -> Paths:
    """Return the path."""
    one = example(manifest)
    examples = {
        "one": {"summary": "One instance", "value": one},
        "batch": {"summary": "A batch", "value": {"instances": [one, one]}},
        "table": {
            "summary": "A batch, columns named once",
            "value": {"instances": [list(one.values())], "features": list(one)},
        },
    }
    refused = Refusals(PROBLEM, "Problem").of(errors(settings))
    refused["415"]["headers"] = {**REQUEST_ID, **ACCEPT_ENCODING}
    operation = {
        "operationId": "predict",
        "tags": [tags.PREDICT],
        "summary": f"Predict {manifest.label}",
        "parameters": [
            _parameter("explain", ["true", "false"], "Add what each feature contributes"),
            _parameter(
                "on_error",
                ["refuse", "row"],
                "`row` answers the good rows of a batch although others are bad; of bad rows 1,000 problems are named",
            ),
            _parameter(
                "on_unit",
                ["refuse", "convert"],
                "`convert` converts a recognised unit mix-up and says so, in up to 1,000 rows of a batch",
            ),
        ],
        "requestBody": {
            "description": BODY,
            "required": True,
            "content": {
                JSON: {"schema": {"anyOf": [ref("Instance"), ref("Batch"), ref("Table")]}, "examples": examples}
            },
        },
        "responses": {
            "200": response("Answered", {JSON: {"anyOf": [ref("Answer"), ref("Answers")]}}),
            **refused,
        },
    }
    return {"/predict": {"post": operation}}


def _parameter(name: str, values: list[str], text: str) -> dict[str, Any]:
    """Return a query parameter with a closed list of values."""
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string", "enum": values}}


def _problem() -> Schema:
    """Return the schema of a refusal (RFC 9457)."""
    suggestion = closed({"unit": TEXT, "value": {"type": "number"}})
    error = closed({"pointer": TEXT, "code": TEXT, "message": TEXT, "suggestion": suggestion}, ("suggestion",))
    members = {
        "type": TEXT,
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "reason": TEXT,
        "request_id": TEXT,
        "errors": {"type": "array", "items": error, "maxItems": 20},
    }
    return closed(members, ("reason", "errors"))
