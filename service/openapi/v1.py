"""KServe's first protocol and Vertex AI's in the document."""

from __future__ import annotations

from typing import Any

from model.manifest import Manifest, example
from service.config import Settings
from service.dialects import OWN
from service.openapi import answers, features, tags, v2
from service.openapi.parts import BODY, TEXT, Operation, Paths, Refusals, Schema, closed, named, ref, response, telling
from service.protocols.v1 import IGNORED
from service.reply import JSON

_REFUSALS = Refusals(JSON, "TextError")


def schemas(manifest: Manifest, settings: Settings) -> dict[str, Schema]:
    """Return the schema of a request."""
    rows: list[Schema] = [{"items": ref("Instance")}]
    if settings.positional:
        names = ", ".join(manifest.feature_names)
        rows.append({"items": features.row(manifest), "description": f"In the order of the manifest: {names}"})
    instances = {"type": "array", "minItems": 1, "maxItems": settings.max_instances, "anyOf": rows}
    passed_over = {name: {"description": "Passed over"} for name in IGNORED}
    return {"PredictRequest": closed({"instances": instances, **passed_over}, IGNORED)}


def paths(manifest: Manifest, settings: Settings) -> Paths:
    """Return KServe's paths."""
    model, group = named("model", manifest.name, "The model that is served"), [tags.V1]
    path = "/v1/models/{model}"
    told = _REFUSALS.of({**v2.WRONG_METHOD, **v2.UNREADY})
    ready = closed({"name": TEXT, "ready": {"const": True}})
    models = closed({"models": {"type": "array", "items": TEXT}})
    refused = {**_REFUSALS.of(v2.OTHER_MODEL), **told}
    predict = _predict(manifest, settings, v2.OTHER_MODEL)
    return {
        "/v1/models": telling("The models there are", models, told, tags=group),
        path: telling("200 once it is ready", ready, refused, parameters=[model], tags=group),
        f"{path}:predict": {"post": {**predict, "parameters": [model], "tags": group}},
    }


def vertex_paths(manifest: Manifest, settings: Settings) -> Paths:
    """Return the paths that Vertex AI names, unless they are our own."""
    health, predict, group = settings.vertex_health_route, settings.vertex_predict_route, [tags.VERTEX]
    found: Paths = {}
    if health and health not in OWN:
        told = _REFUSALS.of({**v2.WRONG_METHOD, **v2.UNREADY})
        found[health] = telling("200 once a model is ready", closed({"status": TEXT}), told, tags=group)
    if predict and predict not in OWN:
        found.setdefault(predict, {})["post"] = {**_predict(manifest, settings, {}), "tags": group}
    return found


def _predict(manifest: Manifest, settings: Settings, others: dict[str, str]) -> Operation:
    """Return the operation that predicts."""
    return {
        "summary": f"Predict {manifest.label}",
        "requestBody": {
            "description": BODY,
            "required": True,
            "content": {JSON: {"schema": ref("PredictRequest"), "examples": _examples(manifest, settings)}},
        },
        "responses": {
            "200": response("Answered", {JSON: answers.predictions()}),
            **_REFUSALS.of({**v2.errors(settings), **others}),
        },
    }


def _examples(manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """Return requests for an ordinary instance."""
    one = example(manifest)
    found = {"named": {"summary": "Instances by name", "value": {"instances": [one]}}}
    if settings.positional:
        rows = [list(one.values())]
        found["rows"] = {"summary": "In the order of the manifest", "value": {"instances": rows}}
    return found
