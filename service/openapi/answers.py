"""Schemas of answers: the same members, whatever protocol asks."""

from __future__ import annotations

from model.manifest import Manifest
from service.openapi.parts import TEXT, Schema, closed, ref

OPTIONAL = ("contributions", "converted")


def schemas(manifest: Manifest) -> dict[str, Schema]:
    """Return the schemas of answers to one instance, to a batch, and to a protocol's batch."""
    members = _members(manifest)
    rows = {"type": "array", "items": {"anyOf": [ref("Prediction"), _row_error()]}}
    return {
        "Prediction": closed(members, OPTIONAL),
        "Answer": closed({**members, "model": _model()}, OPTIONAL),
        "Answers": closed({"predictions": rows, "model": _model()}),
    }


def predictions() -> Schema:
    """Return the schema of a protocol's answer: a prediction for each instance, in order."""
    return closed({"predictions": {"type": "array", "items": ref("Prediction"), "minItems": 1}})


def _members(manifest: Manifest) -> dict[str, Schema]:
    """Return the members of one answer."""
    share: Schema = {"type": "number", "minimum": 0, "maximum": 1}
    label: Schema = {"type": "string", "enum": list(manifest.classes)}
    per_feature = {name: {"type": "number"} for name in (*manifest.feature_names, "base")}
    return {
        "prediction": {
            "type": "integer",
            "minimum": 0,
            "maximum": len(manifest.classes) - 1,
            "description": "Position of the largest probability in the classes: " + ", ".join(manifest.classes),
        },
        "label": label,
        "probabilities": closed(dict.fromkeys(manifest.classes, share)),
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
            "anyOf": [closed(per_feature), {"type": "null"}],
            "description": "With ?explain=true: log-odds of the predicted class per feature, and their base",
        },
        "converted": {"type": "array", "items": {"type": "object"}, "description": "With ?on_unit=convert"},
    }


def _model() -> Schema:
    """Return the schema of the `model` member."""
    return closed({"name": TEXT, "version": TEXT, "digest": TEXT, "fallback": {"type": "boolean"}})


def _row_error() -> Schema:
    """Return the schema of a row that could not be answered."""
    return closed({"error": {"type": "object", "required": ["type", "status"]}})
