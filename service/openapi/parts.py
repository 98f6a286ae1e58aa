"""What every operation of the document is put together from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.reply import JSON

Schema = dict[str, Any]
Operation = dict[str, Any]
Paths = dict[str, dict[str, Operation]]

TEXT: Schema = {"type": "string"}
REQUEST_ID: Schema = {
    "X-Request-Id": {
        "description": "The caller's, if it is well-formed, else a new one",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    }
}
RETRY_AFTER: Schema = {
    "Retry-After": {"description": "Seconds after which it may be sent again", "schema": {"type": "string"}}
}
BODY = (
    "JSON in UTF-8, plain or compressed: Content-Encoding may be gzip or deflate. "
    "The limit in bytes counts for the body as it comes and for what it becomes."
)


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed(properties: Mapping[str, Any], optional: tuple[str, ...] = ()) -> Schema:
    """Return an object schema that allows no other members."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}


def response(text: str, content: Mapping[str, Schema], headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a response with the header that every one has.

    Args:
        text: what it means.
        content: content type → schema of the body.
        headers: further ones.
    """
    return {
        "description": text,
        "headers": {**REQUEST_ID, **(headers or {})},
        "content": {kind: {"schema": schema} for kind, schema in content.items()},
    }


class Refusals:
    """The responses of a protocol's refusals: the same reasons, in a form of its own."""

    def __init__(self, kind: str, schema: str) -> None:
        """Take the form.

        Args:
            kind: content type.
            schema: name of the schema of a body.
        """
        self._kind, self._schema = kind, schema

    def of(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Return responses for statuses and what they mean."""
        return {status: self._one(status, text) for status, text in texts.items()}

    def _one(self, status: str, text: str) -> dict[str, Any]:
        headers = RETRY_AFTER if status in ("429", "503") else {}
        return response(text, {self._kind: ref(self._schema)}, headers)


def telling(summary: str, schema: Schema, refused: Mapping[str, Any], **more: Any) -> dict[str, Operation]:
    """Return a path that only tells something.

    Args:
        summary: what it tells.
        schema: of the JSON.
        refused: its refusals.
        more: further members of the operation.
    """
    return {"get": {"summary": summary, "responses": {"200": response(summary, {JSON: schema}), **refused}, **more}}


def named(name: str, value: str, text: str) -> dict[str, Any]:
    """Return a parameter of a path that can have one value alone."""
    schema = {"type": "string", "enum": [value]}
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema, "example": value}
