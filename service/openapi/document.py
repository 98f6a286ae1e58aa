"""The OpenAPI document, generated from the manifest through the same marshmallow schema that judges requests."""

from __future__ import annotations

from typing import Any

from model.manifest import Manifest
from service import ports
from service.config import Settings
from service.openapi import answers, features, invocations, ops, predict, tags, v1, v2
from service.openapi.parts import TEXT, Paths, Schema, closed


def document(manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a service with this model.

    Args:
        manifest: where features, units, ranges and classes come from.
        settings: limits, and what is switched on.
    """
    version = "not released" if settings.commit == "unknown" else settings.commit
    spec = features.described(f"Rookery: {manifest.title}", version, _description(manifest), manifest)
    schemas, paths = _parts(manifest, settings)
    for name, component in schemas.items():
        spec.components.schema(name, component)
    if settings.feedback:
        _add_feedback(spec.components, manifest, settings)
        paths |= ops.feedback(manifest.classes[0])
    here = {
        path: operations for path, operations in paths.items() if settings.ops_port is None or path not in ports.MOVED
    }
    for tag in tags.used(here):
        spec.tag(tag)
    for path, operations in here.items():
        spec.path(path, operations=operations)
    return spec.to_dict()


def _parts(manifest: Manifest, settings: Settings) -> tuple[dict[str, Schema], Paths]:
    """Return the schemas and the paths of everything that is on."""
    on = set(settings.protocols)
    schemas = {**predict.schemas(manifest, settings.max_instances), **answers.schemas(manifest), **ops.schemas()}
    paths = {**predict.paths(manifest, settings), **ops.paths()}
    if on & {"v2", "v1", "vertex"}:
        schemas["TextError"] = closed({"error": TEXT})
    if "v2" in on:
        schemas |= v2.schemas(manifest, settings)
        paths |= v2.paths(manifest, settings)
    if on & {"v1", "vertex"}:
        schemas |= v1.schemas(manifest, settings)
    if "v1" in on:
        paths |= v1.paths(manifest, settings)
    if on & {"mlflow", "sagemaker"}:
        schemas |= invocations.schemas(manifest, settings)
        paths |= invocations.paths(manifest, settings)
    if "vertex" in on:
        paths |= v1.vertex_paths(manifest, settings)
    return schemas, paths


def _add_feedback(components: Any, manifest: Manifest, settings: Settings) -> None:
    """Add the schema that judges feedback."""
    from service.feedback import schema_for

    components.schema("Feedback", schema=schema_for(manifest.classes, settings.max_instances))
    # an expression that ends at the end of the text, in the language of JSON Schema
    components.schemas["Feedback"]["properties"]["request_id"]["pattern"] = "^[A-Za-z0-9._-]{1,128}$"


def _description(manifest: Manifest) -> str:
    """Return intended use and limits as Markdown."""
    limits = "\n".join(f"- {limit}" for limit in manifest.limits)
    return f"{manifest.intended_use}\n\n**Known limits**\n\n{limits}"
