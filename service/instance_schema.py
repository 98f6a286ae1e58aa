"""The marshmallow schema of one instance, built from the manifest: the one definition of what is valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, ValidationError, fields

from model.domain import Feature, Violation, check
from service.decode import json_type
from service.errors import echo


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem of one field, before its place in the body is known."""

    code: str
    message: str
    violation: Violation | None = None


UNKNOWN = Fault("unknown", "is not a feature of this model")


class FeatureField(fields.Field[Any]):
    """One feature: strict about the type, then judged by `model.domain.check`."""

    def __init__(self, feature: Feature) -> None:
        """Build the field and its messages from the manifest's feature."""
        words = feature.words + (" (null if not measured)" if feature.nullable else "")
        super().__init__(
            required=True,
            allow_none=feature.nullable,
            error_messages={
                "required": [Fault("missing", f"required: {words}")],
                "null": [Fault("null", f"must not be null: {words}")],
            },
            metadata={"description": feature.description},
        )
        self.feature = feature

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        """Return the value as it is, or say what is wrong with it."""
        fault = self.type_fault(value)
        if fault is not None:
            raise ValidationError([fault])
        violation = check(self.feature, value)
        if violation is not None:
            raise ValidationError([Fault(violation.code, violation.message, violation)])
        return value

    def type_fault(self, value: object) -> Fault | None:
        """Judge the JSON type alone; a word that stands for a missing value in files is of no type."""
        if self.feature.nullable and isinstance(value, str) and self.feature.is_null_word(value.strip()):
            return Fault("type", f'"{echo(value.strip())}" stands for missing in files; send null')
        if self.feature.is_category:
            return None if isinstance(value, str) else Fault("type", f"must be a string, not {json_type(value)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return Fault("type", f"must be a number, not {json_type(value)}")
        if self.feature.dtype == "int" and isinstance(value, float) and not value.is_integer():
            return Fault("type", "must be a whole number")
        return None


def instance_schema(features: Sequence[Feature]) -> type[Schema]:
    """Return the schema of one instance; every feature is required, nothing else is allowed."""
    members: dict[str, Any] = {feature.name: FeatureField(feature) for feature in features}
    schema = Schema.from_dict(members, name="Instance")
    schema.error_messages = {"unknown": UNKNOWN}  # type: ignore[dict-item]
    return schema
