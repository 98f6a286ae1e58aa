"""The Open Inference Protocol in the document.

JSON Schema cannot say that a shape fits the elements: everything that is taken keeps the schema, not all that keeps it
is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.domain import Feature
from model.manifest import Manifest, example
from service.config import Settings
from service.openapi import features, predict, tags
from service.openapi.parts import BODY, TEXT, Operation, Paths, Refusals, Schema, closed, named, ref, response, telling
from service.protocols.tensors import NUMERIC, TAKEN
from service.protocols.tensors import TEXT as TEXTS
from service.protocols.v2 import HEADER_LENGTH, INSTANCES, OUTPUTS, RAW, datatype
from service.reply import JSON

MODEL, VERSIONED = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
WRONG_METHOD = {"405": "Wrong method"}
UNREADY = {"503": "No verified model, or the process is about to end"}
OTHER_MODEL = {"404": "Another model or version than the one served"}
WHOLE: Schema = {"type": "integer", "minimum": 0}

_REFUSALS = Refusals(JSON, "TextError")


def errors(settings: Settings) -> dict[str, str]:
    """Return the statuses of a protocol that knows no 422, and what they mean."""
    found = predict.errors(settings)
    found["400"] = f"{found['400']}. {found.pop('422')}"
    return dict(sorted(found.items()))


def schemas(manifest: Manifest, settings: Settings) -> dict[str, Schema]:
    """Return the schemas of requests, answers and metadata."""
    return {
        "InferRequest": _request(manifest, settings),
        "InferAnswer": _answer(manifest),
        "ServerMetadata": closed({"name": TEXT, "version": TEXT, "extensions": {"type": "array", "items": TEXT}}),
        "ModelMetadata": _metadata(manifest),
    }


def paths(manifest: Manifest, settings: Settings) -> Paths:
    """Return the paths."""
    model = named("model", manifest.name, "The model that is served")
    version = named("version", manifest.version, "Its version")
    group = [tags.V2]
    ready = closed({"name": TEXT, "ready": {"const": True}})
    found = {
        "/v2": telling("The server", ref("ServerMetadata"), _REFUSALS.of(WRONG_METHOD), tags=group),
        "/v2/health/live": telling(
            "200 while the instance is worth keeping",
            closed({"live": {"const": True}}),
            _REFUSALS.of({**WRONG_METHOD, **UNREADY}),
            tags=group,
        ),
        "/v2/health/ready": telling(
            "200 once a model is ready",
            closed({"live": {"const": True}, "ready": {"const": True}}),
            _REFUSALS.of({**WRONG_METHOD, **UNREADY}),
            tags=group,
        ),
        "/v2/models": telling(
            "The models there are",
            closed({"models": {"type": "array", "items": TEXT}}),
            _REFUSALS.of({**WRONG_METHOD, **UNREADY}),
            tags=group,
        ),
    }
    told = _REFUSALS.of({**OTHER_MODEL, **WRONG_METHOD, **UNREADY})
    for path, names in ((MODEL, [model]), (VERSIONED, [model, version])):
        found[path] = telling("The model's tensors", ref("ModelMetadata"), told, parameters=names, tags=group)
        found[f"{path}/ready"] = telling("200 once it is ready", ready, told, parameters=names, tags=group)
        found[f"{path}/infer"] = {"post": {**_infer(manifest, settings, names), "tags": group}}
    return found


def _infer(manifest: Manifest, settings: Settings, names: list[dict[str, Any]]) -> Operation:
    """Return the operation that predicts."""
    header = {
        "name": HEADER_LENGTH,
        "in": "header",
        "description": "Bytes of the JSON part, where raw tensors follow it",
        "schema": WHOLE,
    }
    raw: Schema = {"description": "The JSON part, then the raw bytes of the tensors that have binary_data_size"}
    return {
        "summary": f"Predict {manifest.label}",
        "parameters": [*names, header],
        "requestBody": {
            "description": BODY,
            "required": True,
            "content": {
                JSON: {"schema": ref("InferRequest"), "examples": _examples(manifest, settings)},
                RAW: {"schema": raw},
            },
        },
        "responses": {
            "200": response(
                "Answered; in raw bytes where they are asked for",
                {JSON: ref("InferAnswer"), RAW: {}},
                {HEADER_LENGTH: {"description": "Bytes of the JSON part of an answer in raw bytes", "schema": TEXT}},
            ),
            **_REFUSALS.of({**errors(settings), **OTHER_MODEL}),
        },
    }


def is_together(manifest: Manifest, settings: Settings) -> bool:
    """Whether all rows may stand in one tensor."""
    is_free = INSTANCES not in manifest.feature_names
    return is_free and settings.positional and not any(feature.is_category for feature in manifest.features)


def _request(manifest: Manifest, settings: Settings) -> Schema:
    """Return the schema of a request in JSON."""
    names = manifest.feature_names
    each = {
        "type": "array",
        "description": "A tensor for each feature, in any order",
        "items": {"anyOf": [_tensor(feature) for feature in manifest.features]},
        "minItems": len(names),
        "maxItems": len(names),
        "allOf": [{"contains": {"required": ["name"], "properties": {"name": {"const": name}}}} for name in names],
    }
    together = {"type": "array", "items": _rows(manifest), "minItems": 1, "maxItems": 1}
    output = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"enum": list(OUTPUTS)}, "parameters": {}},
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "description": "Comes back with the answer"},
            "parameters": {"description": "`binary_data_output`: true asks for raw bytes; others are passed over"},
            "inputs": {"anyOf": [each, together]} if is_together(manifest, settings) else each,
            "outputs": {
                "type": ["array", "null"],
                "items": output,
                "description": "All, unless some are named: " + ", ".join(OUTPUTS),
            },
        },
    }


def _tensor(feature: Feature) -> Schema:
    """Return the schema of a feature's tensor."""
    value = features.value(feature.name)
    kinds = [TEXTS] if feature.is_category else list(NUMERIC)
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": feature.name},
            "shape": {"type": "array", "items": WHOLE, "minItems": 1, "maxItems": 2, "description": "[n] or [n, 1]"},
            "datatype": {"enum": kinds},
            "data": {
                "type": "array",
                "minItems": 1,
                "items": {"anyOf": [value, {"type": "array", "items": value, "minItems": 1, "maxItems": 1}]},
            },
        },
    }


def _rows(manifest: Manifest) -> Schema:
    """Return the schema of the tensor that holds all rows."""
    width = len(manifest.features)
    return {
        "type": "object",
        "description": "All rows, in the order of the manifest: " + ", ".join(manifest.feature_names),
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": INSTANCES},
            "shape": {"type": "array", "prefixItems": [WHOLE, {"const": width}], "minItems": 2, "maxItems": 2},
            "datatype": {"enum": list(NUMERIC)},
            "data": {
                "type": "array",
                "minItems": 1,
                "items": {"anyOf": [{"type": ["number", "null"]}, features.row(manifest)]},
            },
        },
    }


def _answer(manifest: Manifest) -> Schema:
    """Return the schema of an answer; of one in raw bytes it is that of the JSON part."""
    output = {
        "name": {"enum": list(OUTPUTS)},
        "shape": {"type": "array", "items": WHOLE, "minItems": 1, "maxItems": 2},
        "datatype": {"enum": sorted(set(OUTPUTS.values()))},
        "data": {"type": "array", "items": {"anyOf": [{"type": "number"}, {"enum": list(manifest.classes)}]}},
        "parameters": closed({"binary_data_size": WHOLE}),
    }
    outputs = {"type": "array", "items": closed(output, ("data", "parameters")), "minItems": 1}
    model, version = {"const": manifest.name}, {"const": manifest.version}
    return closed({"model_name": model, "model_version": version, "id": TEXT, "outputs": outputs})


def _metadata(manifest: Manifest) -> Schema:
    """Return the schema of the model's metadata."""
    shape: Schema = {"type": "array", "items": {"type": "integer", "minimum": -1}}
    tensor = closed({"name": TEXT, "datatype": {"enum": list(TAKEN)}, "shape": shape})
    tensors: Schema = {"type": "array", "items": tensor}
    versions: Schema = {"type": "array", "items": TEXT}
    members: Mapping[str, Schema] = {
        "name": {"const": manifest.name}, "versions": versions, "platform": TEXT, "inputs": tensors, "outputs": tensors
    }  # fmt: skip
    return closed(members)


def _examples(manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """Return requests for an ordinary instance."""
    one = example(manifest)
    inputs = [{"name": f.name, "shape": [1], "datatype": datatype(f), "data": [one[f.name]]} for f in manifest.features]
    found = {
        "named": {"summary": "A tensor for each feature", "value": {"inputs": inputs}},
        "some": {
            "summary": "Two of the outputs",
            "value": {"id": "mine", "inputs": inputs, "outputs": [{"name": "label"}, {"name": "probabilities"}]},
        },
    }
    if is_together(manifest, settings):
        data = [list(one.values())] * 2
        tensor = {"name": INSTANCES, "shape": [2, len(one)], "datatype": "FP64", "data": data}
        found["together"] = {"summary": "All rows in one tensor", "value": {"inputs": [tensor]}}
    return found
