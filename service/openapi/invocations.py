"""MLflow's scoring server and SageMaker's container contract in the document.

What depends on the order or the length of columns JSON Schema cannot say: everything that is taken keeps the schema,
not all that keeps it is taken.
"""

from __future__ import annotations

from typing import Any

from model.manifest import Manifest, example
from service.config import Settings
from service.dialects import MLFLOW_CODES
from service.openapi import answers, features, tags, v2
from service.openapi.parts import BODY, TEXT, Operation, Paths, Refusals, Schema, closed, ref, response, telling
from service.protocols.invocations import CSV, INPUTS, INSTANCES, LINES, RECORDS, SPLIT
from service.reply import JSON

TAGS = [tags.INVOCATIONS]
WARNING: Schema = {"Warning": {"description": "Names the columns that were passed over", "schema": TEXT}}

_REFUSALS = Refusals(JSON, "CodedError")


def schemas(manifest: Manifest, settings: Settings) -> dict[str, Schema]:
    """Return the schemas of requests and refusals."""
    rows: Schema = {"type": "array", "minItems": 1, "maxItems": settings.max_instances}
    records = {**rows, "items": features.with_others(manifest)}
    arrays = {**rows, "items": features.row(manifest), "description": "In the order of the manifest"}
    lists = {"anyOf": [records, arrays]} if settings.positional else records
    shapes = {
        SPLIT: _split(manifest, rows),
        RECORDS: records,
        INSTANCES: lists,
        INPUTS: {"anyOf": [_columns(manifest, settings), lists]},
    }
    params = {"params": {"description": "Passed over"}}
    return {
        "InvocationRequest": {"anyOf": [closed({name: of, **params}, ("params",)) for name, of in shapes.items()]},
        "CodedError": closed({"error_code": {"enum": list(MLFLOW_CODES)}, "message": TEXT}),
    }


def paths(manifest: Manifest, settings: Settings) -> Paths:
    """Return the paths of the protocols that are on."""
    told = _REFUSALS.of({**v2.WRONG_METHOD, **v2.UNREADY})
    ready = telling("200 once a model is ready", closed({"status": TEXT}), told, tags=TAGS)
    found = {"/ping": ready, "/invocations": {"post": _invoke(manifest, settings)}}
    if "mlflow" in settings.protocols:
        found["/health"] = ready
    if "sagemaker" in settings.protocols:
        count: Schema = {"type": "integer", "minimum": 1}
        limits = closed(
            {"MaxConcurrentTransforms": count, "BatchStrategy": {"const": "MULTI_RECORD"}, "MaxPayloadInMB": count}
        )
        found["/execution-parameters"] = telling(
            "What a batch transform may send", limits, _REFUSALS.of(v2.WRONG_METHOD), tags=TAGS
        )
    return found


def _invoke(manifest: Manifest, settings: Settings) -> Operation:
    """Return the operation that predicts."""
    table: Schema = {"type": "string", "description": "With a line of names, or in the order of the manifest"}
    return {
        "summary": f"Predict {manifest.label}",
        "tags": TAGS,
        "requestBody": {
            "description": BODY,
            "required": True,
            "content": {
                JSON: {"schema": ref("InvocationRequest"), "examples": _examples(manifest)},
                CSV: {"schema": table, "examples": _tables(manifest)},
            },
        },
        "responses": {
            "200": response(
                "Answered, as Accept asks: JSON, or a line for each instance",
                {JSON: answers.predictions(), CSV: TEXT, LINES: TEXT},
                WARNING,
            ),
            **_REFUSALS.of(v2.errors(settings)),
        },
    }


def _split(manifest: Manifest, rows: Schema) -> Schema:
    """Return the schema of a data frame: the features among its columns, in any order; an index is passed over."""
    names = [{"contains": {"const": name}} for name in manifest.feature_names]
    columns = {"type": "array", "uniqueItems": True, "allOf": names}
    data = {**rows, "items": {"type": "array", "minItems": len(names)}}
    return {"type": "object", "required": ["columns", "data"], "properties": {"columns": columns, "data": data}}


def _columns(manifest: Manifest, settings: Settings) -> Schema:
    """Return the schema of an array for each column."""
    most: Schema = {"type": "array", "minItems": 1, "maxItems": settings.max_instances}
    columns = {name: {**most, "items": features.value(name)} for name in manifest.feature_names}
    return {**closed(columns), "additionalProperties": {"type": "array"}}


def _examples(manifest: Manifest) -> dict[str, Any]:
    """Return requests for an ordinary instance."""
    one = example(manifest)
    shapes: dict[str, Any] = {
        SPLIT: {"columns": list(one), "data": [list(one.values())]},
        RECORDS: [one],
        INSTANCES: [one],
        INPUTS: {name: [value] for name, value in one.items()},
    }
    return {name: {"summary": name, "value": {name: value}} for name, value in shapes.items()}


def _tables(manifest: Manifest) -> dict[str, Any]:
    """Return CSV for an ordinary instance."""
    import csv
    import io

    one, text = example(manifest), io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([one, one.values()])
    return {"table": {"summary": "With a line of names", "value": text.getvalue()}}
