"""One generation of an object in the fake Cloud Storage, what a caller may demand of it, and how it is refused.

Rules after Cloud Storage's page "Request preconditions": `…Match` refuses with 412, `…NotMatch` with 304.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote

import google_crc32c

REASONS = {
    304: "notModified",
    400: "invalid",
    401: "required",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    412: "conditionNotMet",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
    501: "notImplemented",
}


class Refused(Exception):
    """The store says no. Attributes: `status` (HTTP), `message`, `reason` (Cloud Storage's word for it)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = REASONS.get(status, "backendError")


def digests(content: bytes) -> dict[str, str]:
    """Hash like Cloud Storage: `crc32c` (big-endian) and `md5`, both in base64."""
    crc32c = google_crc32c.value(content).to_bytes(4, "big")
    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    return {"crc32c": base64.b64encode(crc32c).decode(), "md5": base64.b64encode(md5).decode()}


def instant(generation: int) -> datetime:
    """Read a generation as the moment it was made, UTC."""
    return datetime.fromtimestamp(generation / 1e6, UTC)


@dataclass(frozen=True)
class Stored:
    """One generation of one object; never changes."""

    bucket: str
    name: str
    content: bytes
    generation: int
    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)
    metageneration: int = 1

    @cached_property
    def digests(self) -> dict[str, str]:
        """Base64 hashes of the content by name: crc32c and md5."""
        return digests(self.content)

    @property
    def etag(self) -> str:
        """Opaque, another for each generation."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    def resource(self, url: str) -> dict[str, Any]:
        """Describe the object as the JSON API at `url` does; numbers of 64 bits are strings."""
        path = f"/storage/v1/b/{quote(self.bucket, safe='')}/o/{quote(self.name, safe='')}"
        made = instant(self.generation).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        described: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{url}{path}",
            "mediaLink": f"{url}/download{path}?generation={self.generation}&alt=media",
            "bucket": self.bucket,
            "name": self.name,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": str(len(self.content)),
            "md5Hash": self.digests["md5"],
            "crc32c": self.digests["crc32c"],
            "etag": self.etag,
            "timeCreated": made,
            "updated": made,
        }
        return described | ({"metadata": dict(self.metadata)} if self.metadata else {})


@dataclass(frozen=True)
class Preconditions:
    """What a caller demands of the present state; None demands nothing, generation 0 is absence."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Preconditions:
        """Read `ifGenerationMatch` and its kin.

        Raises:
            Refused: 400, a value is no integer.
        """
        return cls(
            integer(query, "ifGenerationMatch"),
            integer(query, "ifGenerationNotMatch"),
            integer(query, "ifMetagenerationMatch"),
            integer(query, "ifMetagenerationNotMatch"),
        )

    def check(self, current: Stored | None) -> None:
        """Hold the demands against an object.

        Raises:
            Refused: 412 for a `…Match` that fails, 304 for a `…NotMatch` that does.
        """
        generation, metageneration = (current.generation, current.metageneration) if current else (0, 0)
        if self.generation_match not in (None, generation) or self.metageneration_match not in (None, metageneration):
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
        if self.generation_not_match == generation or self.metageneration_not_match == metageneration:
            raise Refused(304, "Not Modified")


NO_DEMANDS = Preconditions()


def integer(query: Mapping[str, str], key: str) -> int | None:
    """Read a query parameter of 64 bits; absent is None.

    Raises:
        Refused: 400, it is no integer.
    """
    try:
        return int(query[key]) if key in query else None
    except ValueError as error:
        raise Refused(400, f"Invalid value for {key}: {query[key]!r}") from error
