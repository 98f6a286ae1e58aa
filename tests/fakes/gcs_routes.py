"""What the fake Cloud Storage answers: from a request to a reply, without a socket in sight."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from tests.fakes.gcs_objects import Store
from tests.fakes.gcs_stored import Preconditions, Refused, Stored, instant, integer
from tests.fakes.gcs_uploads import Sessions, Upload, read, save

OBJECT_OPS = frozenset({"media", "metadata", "list", "delete", "insert", "start", "chunk", "cancel"})
"""Operations on objects. The others: bucket, bucket-insert, layout, unknown."""

_JSON = "application/json; charset=UTF-8"
_UPLOAD = re.compile(r"(?:/resumable)?/upload/storage/v1/b/([^/]+)/o")
_OBJECT = re.compile(r"(/download)?/storage/v1/b/([^/]+)/o/([^/]+)")
_BUCKET = re.compile(r"/storage/v1/b/([^/]+)(/o|/storageLayout)?")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Request:
    """A request, understood as far as its address goes. `name` is the object's, or a listing's prefix."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    op: str
    bucket: str = ""
    name: str = ""
    upload: Upload | None = None
    malformed: Refused | None = None

    @classmethod
    def read(cls, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
        """Understand a request; what is malformed is kept and refused later, so that it is logged like all others.

        Args:
            method: in capitals.
            target: path and query as sent, percent-encoded.
            headers: names in lower case.
            body: whole.
        """
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        op, bucket, name = _classify(method, parts.path, query)
        upload = malformed = None
        if op in ("insert", "start"):
            try:
                upload = read(query, headers, body)
                name = upload.name
            except Refused as refused:
                malformed = refused
        return cls(method, unquote(parts.path), query, headers, body, op, bucket, name, upload, malformed)


def _classify(method: str, path: str, query: Mapping[str, str]) -> tuple[str, str, str]:
    if found := _UPLOAD.fullmatch(path):
        op = {"POST": "insert", "PUT": "chunk", "DELETE": "cancel"}.get(method, "unknown")
        if op == "insert" and query.get("uploadType") == "resumable":
            op = "chunk" if "upload_id" in query else "start"
        return op, unquote(found[1]), query.get("name", "")
    if found := _OBJECT.fullmatch(path):
        media = "media" if found[1] or query.get("alt") == "media" else "metadata"
        return {"GET": media, "DELETE": "delete"}.get(method, "unknown"), unquote(found[2]), unquote(found[3])
    if path == "/storage/v1/b" and method == "POST":
        return "bucket-insert", "", ""
    if (found := _BUCKET.fullmatch(path)) and method == "GET":
        op = {"/o": "list", "/storageLayout": "layout"}.get(found[2], "bucket")
        return op, unquote(found[1]), query.get("prefix", "") if op == "list" else ""
    return "unknown", "", ""


@dataclass(frozen=True)
class Reply:
    """Status, headers and body; the wire adds Content-Length."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = field(default=(("Content-Type", _JSON),))


def refusal(status: int, message: str, op: str = "metadata") -> Reply:
    """Say no like Cloud Storage: a JSON document, but plain text where media were asked for, and nothing with 304."""
    if status == 304:
        return Reply(304, headers=())
    if op == "media":
        return Reply(status, message.encode(), (("Content-Type", "text/html; charset=UTF-8"),))
    reason = Refused(status, message).reason
    error = {"code": status, "message": message, "errors": [{"message": message, "domain": "global", "reason": reason}]}
    return Reply(status, json.dumps({"error": error}).encode())


class Routes:
    """The JSON API over a store."""

    def __init__(self, store: Store, *, versioning: bool) -> None:
        self.store = store
        self.url = ""  # known once the server listens; Location headers need it
        self._versioning = versioning
        self._sessions = Sessions(store)
        self._ops: Mapping[str, Callable[[Request], Reply]] = {
            "bucket": lambda request: _document(self._describe(request.bucket)),
            "bucket-insert": self._create,
            "cancel": self._cancel,
            "chunk": self._chunk,
            "delete": self._delete,
            "insert": self._insert,
            "layout": self._layout,
            "list": self._list,
            "media": self._media,
            "metadata": lambda request: _document(self._find(request).resource(self.url)),
            "start": self._start,
        }

    def answer(self, request: Request) -> Reply:
        """Do what is asked, or refuse; what the fake does not know is refused with 501, never guessed."""
        try:
            if request.malformed is not None:
                raise request.malformed
            if request.op not in self._ops:
                raise Refused(501, f"The fake has no {request.method} {request.path}")
            return self._ops[request.op](request)
        except Refused as refused:
            return refusal(refused.status, refused.message, request.op)

    def _find(self, request: Request) -> Stored:
        demands = Preconditions.from_query(request.query)
        return self.store.find(request.bucket, request.name, integer(request.query, "generation"), demands)

    def _media(self, request: Request) -> Reply:
        stored = self._find(request)
        told = ",".join(f"{kind}={value}" for kind, value in stored.digests.items())
        headers = [
            ("Content-Type", stored.content_type),
            ("ETag", stored.etag),
            ("Last-Modified", format_datetime(instant(stored.generation), usegmt=True)),
            ("X-Goog-Generation", str(stored.generation)),
            ("X-Goog-Metageneration", str(stored.metageneration)),
            ("X-Goog-Hash", told),
            ("X-Goog-Storage-Class", "STANDARD"),
            ("X-Goog-Stored-Content-Encoding", "identity"),
            ("X-Goog-Stored-Content-Length", str(len(stored.content))),
        ]
        size = len(stored.content)
        span = _span(request.headers.get("range", ""), size)
        if span is None:
            return Reply(200, stored.content, tuple(headers))
        if not span:
            reply = refusal(416, "The requested range cannot be satisfied.", "media")
            return Reply(416, reply.body, (*reply.headers, ("Content-Range", f"bytes */{size}")))
        headers.append(("Content-Range", f"bytes {span.start}-{span.stop - 1}/{size}"))
        return Reply(206, stored.content[span.start : span.stop], tuple(headers))

    def _list(self, request: Request) -> Reply:
        for unknown in {"matchGlob", "filter", "softDeleted"} & set(request.query):
            raise Refused(501, f"The fake cannot list by {unknown}")
        page = self.store.page(request.bucket, request.query)
        listing: dict[str, Any] = {"kind": "storage#objects"}
        listing |= {"items": [stored.resource(self.url) for stored in page.items]} if page.items else {}
        listing |= {"prefixes": list(page.prefixes)} if page.prefixes else {}
        listing |= {"nextPageToken": page.token} if page.token else {}
        return _document(listing)

    def _insert(self, request: Request) -> Reply:
        assert request.upload is not None
        demands = Preconditions.from_query(request.query)
        return _document(save(self.store, request.bucket, request.upload, demands).resource(self.url))

    def _start(self, request: Request) -> Reply:
        assert request.upload is not None
        key = self._sessions.start(request.bucket, request.upload, Preconditions.from_query(request.query))
        named = urlencode({"uploadType": "resumable", "name": request.name, "upload_id": key})
        where = f"{self.url}/upload/storage/v1/b/{quote(request.bucket, safe='')}/o?{named}"
        return Reply(200, headers=(("Location", where), ("X-GUploader-UploadID", key)))

    def _chunk(self, request: Request) -> Reply:
        stands = self._sessions.put(request.query.get("upload_id", ""), request.headers, request.body)
        if isinstance(stands, Stored):
            return _document(stands.resource(self.url))
        return Reply(308, headers=(("Range", f"bytes=0-{stands - 1}"),) if stands else ())

    def _cancel(self, request: Request) -> Reply:
        self._sessions.cancel(request.query.get("upload_id", ""))
        return Reply(499, headers=())

    def _delete(self, request: Request) -> Reply:
        demands = Preconditions.from_query(request.query)
        self.store.delete(request.bucket, request.name, integer(request.query, "generation"), demands)
        return Reply(204, headers=())

    def _create(self, request: Request) -> Reply:
        try:
            asked = json.loads(request.body)
            name, versioning = asked["name"], asked.get("versioning", {}).get("enabled", self._versioning)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(400, "Parse Error") from error
        self.store.create(name, versioning=versioning)
        return _document(self._describe(name))

    def _describe(self, bucket: str) -> dict[str, Any]:
        return {
            "kind": "storage#bucket",
            "id": bucket,
            "name": bucket,
            "projectNumber": "0",
            "metageneration": "1",
            "location": "EUROPE-WEST1",
            "locationType": "region",
            "storageClass": "STANDARD",
            "versioning": {"enabled": self.store.versioning(bucket)},
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
        }

    def _layout(self, request: Request) -> Reply:
        self.store.versioning(request.bucket)  # refuses an unknown bucket
        about = {"kind": "storage#storageLayout", "bucket": request.bucket, "hierarchicalNamespace": {"enabled": False}}
        return _document(about | {"location": "EUROPE-WEST1", "locationType": "region"})


def _document(content: Mapping[str, Any]) -> Reply:
    return Reply(200, json.dumps(content).encode())


def _span(header: str, size: int) -> range | None:
    """Read a Range header: None sends the whole, an empty range cannot be satisfied."""
    found = _RANGE.fullmatch(header.strip())
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        return range(max(0, size - int(found[2])), size)
    if found[2] and int(found[2]) < int(found[1]):
        return None
    return range(int(found[1]), min(size, int(found[2]) + 1 if found[2] else size))
