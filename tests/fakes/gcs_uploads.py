"""How bytes come into the fake Cloud Storage: simple, multipart and resumable uploads."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.gcs_objects import Store
from tests.fakes.gcs_stored import Preconditions, Refused, Stored, digests

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^;\s]+))""", re.IGNORECASE)
_SPAN = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_HEADER_NAMES = {"crc32c": "crc32c", "md5": "md5Hash"}


@dataclass(frozen=True)
class Upload:
    """What a client wants stored; `told` are the base64 hashes it vouches for."""

    name: str
    content: bytes
    content_type: str
    metadata: Mapping[str, str]
    told: Mapping[str, str]

    def check(self) -> None:
        """Compare the hashes the client told with the content.

        Raises:
            Refused: 400, one differs.
        """
        for kind, value in self.told.items():
            if digests(self.content)[kind] != value:
                raise Refused(400, f"Provided {kind.upper()} hash {value!r} doesn't match calculated one.")


def read(query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Upload:
    """Take apart a simple or multipart upload, or the POST that starts a resumable one (its content is empty).

    Args:
        query: of the URL.
        headers: names in lower case.
        body: of the request, whole.

    Raises:
        Refused: 400, malformed, or there is no name.
    """
    kind, about = query.get("uploadType"), dict[str, Any]()
    content_type, content = headers.get("content-type"), body
    if kind == "multipart":
        about, content_type, content = _split(headers.get("content-type", ""), body)
    elif kind == "resumable":
        about, content_type, content = _json(body or b"{}"), headers.get("x-upload-content-type"), b""
    elif kind != "media":
        raise Refused(400, f"Invalid value for uploadType: {kind!r}")
    name = query.get("name") or about.get("name")
    if not name:
        raise Refused(400, "Required parameter: name")
    told = {short: about[long] for short, long in _HEADER_NAMES.items() if about.get(long)} | hashes_told(headers)
    chosen = about.get("contentType") or content_type or "application/octet-stream"
    return Upload(name, content, chosen, about.get("metadata") or {}, told)


def hashes_told(headers: Mapping[str, str]) -> dict[str, str]:
    """Read the hashes a client vouches for out of `X-Goog-Hash`."""
    pairs = (part.strip().partition("=") for part in headers.get("x-goog-hash", "").split(",") if part.strip())
    return {name: value for name, _, value in pairs if name in _HEADER_NAMES}


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Refused(400, "Parse Error") from error
    if not isinstance(found, dict):
        raise Refused(400, "Parse Error")
    return found


def _split(content_type: str, body: bytes) -> tuple[dict[str, Any], str | None, bytes]:
    """Take multipart/related apart; gcloud ends lines with LF, the Python client with CRLF."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise Refused(400, "Multipart body without a boundary")
    mark = b"--" + next(group for group in found.groups() if group).encode()
    opening = body.find(mark)
    end = b"\r\n" if body[opening + len(mark) :].startswith(b"\r\n") else b"\n"
    parts = (end + body).split(end + mark)
    if opening < 0 or len(parts) != 4 or not parts[3].startswith(b"--"):
        raise Refused(400, "Malformed multipart body: two parts and a closing boundary are needed")
    (_, about), (head, content) = _part(parts[1], end), _part(parts[2], end)
    typed = re.search(rb"(?im)^content-type:\s*(.*?)\s*$", head)
    return _json(about), typed[1].decode() if typed else None, content


def _part(part: bytes, end: bytes) -> tuple[bytes, bytes]:
    head, blank, content = part.partition(end + end)
    if not blank:
        raise Refused(400, "Malformed multipart body: a part without an empty line")
    return head, content


@dataclass
class _Session:
    bucket: str
    upload: Upload
    demands: Preconditions
    received: bytearray = field(default_factory=bytearray)
    done: Stored | None = None


class Sessions:
    """Resumable uploads under way, by their upload_id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._sessions: dict[str, _Session] = {}

    def start(self, bucket: str, upload: Upload, demands: Preconditions) -> str:
        """Open a session and name it; raises like `Store.check`."""
        self._store.check(bucket, upload.name, demands)
        with self._lock:
            key = f"upload-{next(self._numbers)}"
            self._sessions[key] = _Session(bucket, upload, demands)
            return key

    def cancel(self, key: str) -> None:
        """Forget a session.

        Raises:
            Refused: 404, there is none.
        """
        with self._lock:
            self._session(key)
            del self._sessions[key]

    def put(self, key: str, headers: Mapping[str, str], body: bytes) -> Stored | int:
        """Add a chunk, or answer where the upload stands (`bytes */N`).

        Returns:
            The object once all its bytes are there, else the number of bytes received.

        Raises:
            Refused: 404 no such session; 400 the range is malformed, has a gap or denies its body; 412 as ever.
        """
        with self._lock:
            session = self._session(key)
            if session.done is not None:
                return session.done
            total = self._receive(session.received, headers.get("content-range"), body)
            if total is None or len(session.received) < total:
                return len(session.received)
            told = {**session.upload.told, **hashes_told(headers)}
            whole = Upload(
                session.upload.name,
                bytes(session.received),
                session.upload.content_type,
                session.upload.metadata,
                told,
            )
            session.done = save(self._store, session.bucket, whole, session.demands)
            return session.done

    @staticmethod
    def _receive(received: bytearray, span: str | None, body: bytes) -> int | None:
        """Append what is new and return the total length, None while it is unknown."""
        if span is None:
            received[:] = body
            return len(body)
        found = _SPAN.fullmatch(span)
        if found is None:
            raise Refused(400, f"Failed to parse Content-Range header: {span!r}")
        total = None if found[3] == "*" else int(found[3])
        if found[1] is not None:
            first, last = int(found[1]), int(found[2])
            if last - first + 1 != len(body) or first > len(received) or (total is not None and last >= total):
                raise Refused(400, f"Invalid request: {len(body)} bytes do not fit Content-Range {span!r}")
            received[first : last + 1] = body
        if total is not None and len(received) > total:
            raise Refused(400, f"Invalid request: {len(received)} bytes are there, Content-Range says {span!r}")
        return total

    def _session(self, key: str) -> _Session:
        if key not in self._sessions:
            raise Refused(404, f"No such upload: {key}")
        return self._sessions[key]


def save(store: Store, bucket: str, upload: Upload, demands: Preconditions) -> Stored:
    """Check the hashes the client told, then store; raises like `Upload.check` and `Store.insert`."""
    upload.check()
    return store.insert(
        bucket,
        upload.name,
        upload.content,
        content_type=upload.content_type,
        metadata=upload.metadata,
        demands=demands,
    )
