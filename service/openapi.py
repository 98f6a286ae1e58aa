"""The OpenAPI document, generated from the manifest through the same marshmallow schema that judges requests."""

from __future__ import annotations

from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from model.domain import Feature
from model.manifest import Manifest, example
from service.reply import JSON, PROBLEM
from service.schemas import FeatureField, instance_schema

PREDICT_ERRORS = {
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
    "503": "No verified model (code: no_model; `reason` has the cause)",
}
BODY = (
    "JSON in UTF-8, plain or compressed: Content-Encoding may be gzip or deflate. "
    "The limit in bytes counts for the body as it comes and for what it becomes."
)
REQUEST_ID = {
    "X-Request-Id": {
        "description": "The caller's, if it is well-formed, else a new one",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    }
}
ACCEPT_ENCODING = {
    "Accept-Encoding": {
        "description": "With an encoding that is not taken: those that are",
        "schema": {"type": "string"},
    }
}


def document(
    manifest: Manifest, max_instances: int, service_version: str, *, has_operations: bool = True
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a service with this model.

    Args:
        manifest: where features, units, ranges and classes come from.
        max_instances: the limit of one batch.
        service_version: version of the service itself.
        has_operations: whether drift and metrics are at the same port.
    """
    plugin = MarshmallowPlugin()
    spec = APISpec(
        title=f"Rookery: {manifest.title}",
        version=service_version,
        openapi_version="3.1.0",
        plugins=[plugin],
        info={"description": _description(manifest)},
    )
    converter: Any = plugin.converter  # made by APISpec; its methods carry no types
    converter.add_attribute_function(_feature_attributes)
    spec.components.schema("Instance", schema=instance_schema(manifest.features))
    spec.components.schemas["Instance"]["additionalProperties"] = False
    for name, component in _schemas(manifest, max_instances).items():
        spec.components.schema(name, component)
    spec.path("/predict", operations={"post": _predict(manifest)})
    for path, summary, schema, not_ready in (
        ("/model", "The model card: the manifest without the golden rows", "ModelCard", True),
        ("/model/drift", "What this instance has seen, against the training data", "Drift", True),
        ("/health/live", "200 while the process works", "Health", False),
        ("/health/ready", "200 once a model is verified, loaded and proven on its golden rows", "Health", True),
        ("/version", "Commit, build time, bundle digest, library versions", "Version", False),
        ("/openapi.json", "This document", "Document", True),
    ):
        if has_operations or path != "/model/drift":
            spec.path(path, operations={"get": _get(summary, schema, has_503=not_ready)})
    if has_operations:
        spec.path("/metrics", operations={"get": _metrics()})
    return spec.to_dict()


def _feature_attributes(_: Any, field: Any, **__: Any) -> dict[str, Any]:
    """Describe a feature: type, hard range or values, unit, plausible range, and what is taken for a unit mix-up."""
    if not isinstance(field, FeatureField):
        return {}
    feature = field.feature
    null = ["null"] if feature.nullable else []
    if feature.is_category:
        return {"type": ["string", *null] if null else "string", "enum": [*feature.values, *([None] if null else [])]}
    kind = "integer" if feature.dtype == "int" else "number"
    described: dict[str, Any] = {
        "type": [kind, *null] if null else kind,
        "minimum": feature.hard[0],
        "maximum": feature.hard[1],
        "examples": [_example(feature)],
        "x-plausible": list(feature.plausible),
    }
    if feature.unit:
        described["x-unit"] = feature.unit
    if feature.confused_units:
        low, high = feature.plausible
        mistaken = [
            {"minimum": (low - unit.offset) / unit.factor, "maximum": (high - unit.offset) / unit.factor}
            for unit in feature.confused_units
        ]
        described["anyOf"] = [{"minimum": low, "maximum": high}, {"not": {"anyOf": mistaken}}]
        described["x-confused-units"] = [unit.symbol for unit in feature.confused_units]
        if null:
            described["anyOf"].append({"type": "null"})
    return described


def _example(feature: Feature) -> float | int:
    """Return an ordinary value of a number."""
    middle = sum(feature.plausible) / 2
    return round(middle) if feature.dtype == "int" else round(middle, 1)


def _description(manifest: Manifest) -> str:
    """Return intended use and limits as Markdown."""
    limits = "\n".join(f"- {limit}" for limit in manifest.limits)
    return f"{manifest.intended_use}\n\n**Known limits**\n\n{limits}"


def _schemas(manifest: Manifest, max_instances: int) -> dict[str, dict[str, Any]]:
    """Return the schemas of batches, answers and problems."""
    instance, prediction = {"$ref": "#/components/schemas/Instance"}, {"$ref": "#/components/schemas/Prediction"}
    names = list(manifest.feature_names)
    columns = [{"$ref": f"#/components/schemas/Instance/properties/{name}"} for name in names]
    row = {"type": "array", "prefixItems": columns, "minItems": len(names), "maxItems": len(names)}
    rows = {"type": "array", "minItems": 1, "maxItems": max_instances}
    answer = _answer(manifest)
    return {
        "Batch": _object({"instances": {**rows, "items": instance}}),
        "Table": _object(
            {
                "instances": {**rows, "items": row},
                "features": {"const": names, "description": "The columns; every other order is taken too"},
            }
        ),
        "Prediction": _object(answer, optional=("contributions", "converted")),
        "Answer": _object({**answer, "model": _model()}, optional=("contributions", "converted")),
        "Answers": _object(
            {"predictions": {"type": "array", "items": {"anyOf": [prediction, _row_error()]}}, "model": _model()}
        ),
        "Problem": _problem(),
        "ModelCard": {"type": "object", "required": ["name", "version", "digest", "features", "classes", "engine"]},
        "Drift": _drift(),
        "Health": _object({"status": {"type": "string"}, "digest": {"type": "string"}}, optional=("digest",)),
        "Version": {"type": "object", "required": ["commit", "build_time", "digest", "libraries"]},
        "Document": {"type": "object", "required": ["openapi"]},
    }


def _drift() -> dict[str, Any]:
    """Return the schema of live drift."""
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    number = {"type": ["number", "null"]}
    verdict = {"enum": ["too_few", "steady", "drifting"]}
    values = {"type": ["array", "null"], "items": text}
    bin_ = {"name": text, "low": number, "high": number, "values": values, "live": count}
    variable = {
        "kind": {"enum": ["feature", "label", "confidence", "novelty"]},
        "name": text,
        "verdict": verdict,
        "rows": count,
        "minimum_rows": count,
        "psi": number,
        "chi_square": {"type": ["object", "null"], "description": "statistic, degrees, p"},
        "shift": {"type": ["object", "null"], "description": "moved, in standard deviations; z; p"},
        "bins": {"type": "array", "items": _object({**bin_, "reference": {"type": "number", "minimum": 0}})},
    }
    variables = {"type": "array", "items": _object(variable)}
    return _object({"digest": text, "rows": count, "verdict": verdict, "variables": variables})


def _answer(manifest: Manifest) -> dict[str, Any]:
    """Return the members of one answer."""
    share = {"type": "number", "minimum": 0, "maximum": 1}
    label = {"type": "string", "enum": list(manifest.classes)}
    per_feature = {name: {"type": "number"} for name in (*manifest.feature_names, "base")}
    return {
        "prediction": {
            "type": "integer",
            "minimum": 0,
            "maximum": len(manifest.classes) - 1,
            "description": "Position of the largest probability in the classes: " + ", ".join(manifest.classes),
        },
        "label": label,
        "probabilities": _object(dict.fromkeys(manifest.classes, share)),
        "prediction_set": {
            "type": "array",
            "items": label,
            "minItems": 1,
            "uniqueItems": True,
            "description": f"Every class that cannot be ruled out at {manifest.coverage:.0%} coverage",
        },
        "novelty": {**share, "description": "Share of training rows less unusual than this one"},
        "is_novel": {"type": "boolean"},
        "contributions": {
            "anyOf": [_object(per_feature), {"type": "null"}],
            "description": "With ?explain=true: log-odds of the predicted class per feature, and their base",
        },
        "converted": {"type": "array", "items": {"type": "object"}, "description": "With ?on_unit=convert"},
    }


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a closed object schema."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _model() -> dict[str, Any]:
    """Return the schema of the `model` member."""
    text = {"type": "string"}
    return _object({"name": text, "version": text, "digest": text, "fallback": {"type": "boolean"}})


def _row_error() -> dict[str, Any]:
    """Return the schema of a row that could not be answered."""
    return _object({"error": {"type": "object", "required": ["type", "title", "status", "errors"]}})


def _problem() -> dict[str, Any]:
    """Return the schema of a refusal (RFC 9457)."""
    text = {"type": "string"}
    suggestion = _object({"unit": text, "value": {"type": "number"}})
    error = _object(
        {"pointer": text, "code": text, "message": text, "suggestion": suggestion}, optional=("suggestion",)
    )
    return _object(
        {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "reason": text,
            "request_id": text,
            "errors": {"type": "array", "items": error, "maxItems": 20},
        },
        optional=("reason", "errors"),
    )


def _predict(manifest: Manifest) -> dict[str, Any]:
    """Return the operation of `POST /predict`."""
    one = example(manifest)
    kinds = [{"$ref": f"#/components/schemas/{name}"} for name in ("Instance", "Batch", "Table")]
    answers = [{"$ref": f"#/components/schemas/{name}"} for name in ("Answer", "Answers")]
    examples = {
        "one": {"summary": "One instance", "value": one},
        "batch": {"summary": "A batch", "value": {"instances": [one, one]}},
        "table": {
            "summary": "A batch, columns named once",
            "value": {"instances": [list(one.values())], "features": list(one)},
        },
    }
    refusals = {status: _refusal(text) for status, text in PREDICT_ERRORS.items()}
    refusals["415"]["headers"] = {**REQUEST_ID, **ACCEPT_ENCODING}
    return {
        "operationId": "predict",
        "summary": f"Predict {manifest.label}",
        "parameters": [
            _parameter("explain", ["true", "false"], "Add what each feature contributes"),
            _parameter("on_error", ["refuse", "row"], "`row` answers the good rows of a batch although others are bad"),
            _parameter("on_unit", ["refuse", "convert"], "`convert` converts a recognised unit mix-up and says so"),
        ],
        "requestBody": {
            "description": BODY,
            "required": True,
            "content": {JSON: {"schema": {"anyOf": kinds}, "examples": examples}},
        },
        "responses": {
            "200": _response("Answered", JSON, {"anyOf": answers}),
            **refusals,
        },
    }


def _parameter(name: str, values: list[str], text: str) -> dict[str, Any]:
    """Return a query parameter with a closed list of values."""
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string", "enum": values}}


def _get(summary: str, schema: str, *, has_503: bool) -> dict[str, Any]:
    """Return the operation of a route that only tells."""
    answer = _response(summary, JSON, {"$ref": f"#/components/schemas/{schema}"})
    responses = {"200": answer, "405": _refusal("Wrong method")}
    if has_503:
        responses["503"] = _refusal(PREDICT_ERRORS["503"])
    return {"summary": summary, "responses": responses}


def _metrics() -> dict[str, Any]:
    """Return the operation of the route that Prometheus scrapes."""
    summary = "Everything that is counted, in Prometheus' text format"
    responses = {"200": _response(summary, "text/plain", {"type": "string"}), "405": _refusal("Wrong method")}
    return {"summary": summary, "responses": responses}


def _refusal(text: str) -> dict[str, Any]:
    """Return a response that is a problem document."""
    return _response(text, PROBLEM, {"$ref": "#/components/schemas/Problem"})


def _response(text: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a response with the header that every one has."""
    return {"description": text, "headers": REQUEST_ID, "content": {kind: {"schema": schema}}}
