"""The routes for operators, and feedback, in the document."""

from __future__ import annotations

from typing import Any

from service.openapi import predict, tags
from service.openapi.parts import TEXT, Paths, Refusals, Schema, closed, ref, response, telling
from service.reply import JSON, PROBLEM

# path, what it tells, schema, whether it needs a model, and the group it belongs to
ROUTES = (
    ("/model", "The model card: the manifest without the golden rows", "ModelCard", True, tags.MODEL),
    ("/model/drift", "What this instance has seen, against the training data", "Drift", True, tags.MODEL),
    ("/health/live", "200 while the instance is worth keeping", "Health", True, tags.HEALTH),
    (
        "/health/ready",
        "200 once a model is verified, loaded and proven on its golden rows",
        "Health",
        True,
        tags.HEALTH,
    ),
    ("/version", "Commit, build time, bundle digest, library versions", "Version", False, tags.ABOUT),
    ("/openapi.json", "This document", "Document", True, tags.ABOUT),
)
WRONG_METHOD = {"405": "Wrong method"}
UNREADY = {"503": "No verified model (code: no_model; `reason` has the cause)"}
FEEDBACK_ERRORS = {
    "400": "Not JSON, or ambiguous JSON (codes: malformed, ambiguous)",
    **WRONG_METHOD,
    "408": "The body did not arrive in time",
    "413": "The body is over the limit (code: body_too_large)",
    "415": "A content type that is not understood, or a compressed body",
    "422": "A member is missing, unknown, null, of the wrong type or no value that it can have "
    "(codes: missing, unknown, null, type, range)",
    "500": predict.ERRORS["500"],
    "503": predict.ERRORS["503"],
}

_REFUSALS = Refusals(PROBLEM, "Problem")


def schemas() -> dict[str, Schema]:
    """Return the schemas of what the routes tell."""
    return {
        "ModelCard": {"type": "object", "required": ["name", "version", "digest", "features", "classes", "engine"]},
        "Drift": _drift(),
        "Health": closed({"status": TEXT, "digest": TEXT}, ("digest",)),
        "Version": {"type": "object", "required": ["commit", "build_time", "digest", "libraries"]},
        "Document": {"type": "object", "required": ["openapi"]},
    }


def paths() -> Paths:
    """Return the paths that are always there."""
    found = {
        path: telling(text, ref(schema), _REFUSALS.of({**WRONG_METHOD, **(UNREADY if needs_model else {})}), tags=[tag])
        for path, text, schema, needs_model, tag in ROUTES
    }
    summary = "Everything that is counted, in Prometheus' text format"
    responses = {"200": response(summary, {"text/plain": TEXT}), **_REFUSALS.of(WRONG_METHOD)}
    return {**found, "/metrics": {"get": {"summary": summary, "tags": [tags.METRICS], "responses": responses}}}


def feedback(label: str) -> Paths:
    """Return the path of feedback, where that is taken; its body is the schema `Feedback`."""
    told: dict[str, Any] = {"request_id": "the-request", "label": label}
    operation = {
        "operationId": "feedback",
        "tags": [tags.FEEDBACK],
        "summary": "Say what turned out to be true about a prediction",
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": ref("Feedback"), "examples": {"one": {"summary": "A label", "value": told}}}},
        },
        "responses": {
            "202": response(
                "Taken; `is_known` says whether this process remembers the prediction",
                {JSON: closed({"request_id": TEXT, "is_known": {"type": "boolean"}})},
            ),
            **_REFUSALS.of(FEEDBACK_ERRORS),
        },
    }
    return {"/feedback": {"post": operation}}


def _drift() -> Schema:
    """Return the schema of live drift."""
    count: Schema = {"type": "integer", "minimum": 0}
    number: Schema = {"type": ["number", "null"]}
    verdict: Schema = {"enum": ["too_few", "steady", "drifting"]}
    values: Schema = {"type": ["array", "null"], "items": TEXT}
    bin_ = {"name": TEXT, "low": number, "high": number, "values": values, "live": count}
    variable = {
        "kind": {"enum": ["feature", "label", "confidence", "novelty"]},
        "name": TEXT,
        "verdict": verdict,
        "rows": count,
        "minimum_rows": count,
        "psi": number,
        "chi_square": {"type": ["object", "null"], "description": "statistic, degrees, p"},
        "shift": {"type": ["object", "null"], "description": "moved, in standard deviations; z; p"},
        "bins": {"type": "array", "items": closed({**bin_, "reference": {"type": "number", "minimum": 0}})},
    }
    variables = {"type": "array", "items": closed(variable)}
    return closed({"digest": TEXT, "rows": count, "verdict": verdict, "variables": variables})
