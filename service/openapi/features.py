"""Features as schemas: types, ranges, units, and what is taken for a unit mix-up, through the schema that judges."""

from __future__ import annotations

from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from model.domain import Feature
from model.manifest import Manifest
from service.instance_schema import FeatureField, instance_schema
from service.openapi.parts import Schema, closed


def described(title: str, version: str, text: str, manifest: Manifest) -> APISpec:
    """Return an OpenAPI 3.1 document that knows one schema, `Instance`."""
    plugin = MarshmallowPlugin()
    spec = APISpec(title=title, version=version, openapi_version="3.1.0", plugins=[plugin], info={"description": text})
    converter: Any = plugin.converter  # made by APISpec; its methods carry no types
    converter.add_attribute_function(_attributes)
    spec.components.schema("Instance", schema=instance_schema(manifest.features))
    spec.components.schemas["Instance"]["additionalProperties"] = False
    return spec


def value(name: str) -> Schema:
    """Return a reference to one feature's schema."""
    return {"$ref": f"#/components/schemas/Instance/properties/{name}"}


def row(manifest: Manifest) -> Schema:
    """Return the schema of an instance given as an array, in the order of the manifest."""
    names = manifest.feature_names
    return {"type": "array", "prefixItems": [value(n) for n in names], "minItems": len(names), "maxItems": len(names)}


def with_others(manifest: Manifest) -> Schema:
    """Return the schema of an instance beside whose features others are passed over."""
    return {**closed({name: value(name) for name in manifest.feature_names}), "additionalProperties": True}


def _attributes(_: Any, field: Any, **__: Any) -> dict[str, Any]:
    """Describe a feature: type, hard range or values, unit, plausible range, and what is taken for a unit mix-up."""
    if not isinstance(field, FeatureField):
        return {}
    feature = field.feature
    null = ["null"] if feature.nullable else []
    if feature.is_category:
        return {"type": ["string", *null] if null else "string", "enum": [*feature.values, *([None] if null else [])]}
    kind = "integer" if feature.dtype == "int" else "number"
    found: dict[str, Any] = {
        "type": [kind, *null] if null else kind,
        "minimum": feature.hard[0],
        "maximum": feature.hard[1],
        "examples": [_example(feature)],
        "x-plausible": list(feature.plausible),
    }
    if feature.unit:
        found["x-unit"] = feature.unit
    if feature.confused_units:
        low, high = feature.plausible
        mistaken = [
            {"minimum": (low - unit.offset) / unit.factor, "maximum": (high - unit.offset) / unit.factor}
            for unit in feature.confused_units
        ]
        found["anyOf"] = [{"minimum": low, "maximum": high}, {"not": {"anyOf": mistaken}}]
        found["x-confused-units"] = [unit.symbol for unit in feature.confused_units]
        if null:
            found["anyOf"].append({"type": "null"})
    return found


def _example(feature: Feature) -> float | int:
    """Return an ordinary value of a number."""
    middle = sum(feature.plausible) / 2
    return round(middle) if feature.dtype == "int" else round(middle, 1)
