"""What can go wrong on the way from Cloud Storage, on demand: a queue of faults, used up by the requests they match."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, replace
from typing import Literal, get_args

from tests.fakes.gcs_routes import OBJECT_OPS, Reply, Request, refusal
from tests.fakes.gcs_stored import digests

Kind = Literal[
    "status", "reset", "truncate", "stall", "drip", "flip", "replace", "length", "size", "hash", "endless", "slow-start"
]
HashLie = Literal["stored", "sent", "wrong", "absent"]

HTML = b"<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>"
MESSAGES = {
    401: "Anonymous caller does not have storage.objects.get access to the Google Cloud Storage object.",
    403: "Permission 'storage.objects.get' denied on resource (or it may not exist).",
    404: "No such object",
    408: "Request timed out.",
    429: "The rate of requests to this object exceeds the limit.",
    500: "We encountered an internal error. Please try again.",
    502: "Bad Gateway",
    503: "We encountered an internal error. Please try again.",
    504: "Gateway Timeout",
}
_ANY_OBJECT: frozenset[str] = OBJECT_OPS
_DEFAULT_OPS: dict[str, frozenset[str]] = {
    "status": _ANY_OBJECT,
    "reset": _ANY_OBJECT,
    "slow-start": _ANY_OBJECT,
    "size": frozenset({"metadata"}),
}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Kinds:
        status: answer `status`; with `after`, only once the request has done its work.
        reset: RST in place of any reply (with `after`, once the work is done); with `at`, after k bytes of the body.
        truncate: close cleanly after `at` bytes. Content-Length is the full one; a short one with `declared=at`,
            none with `chunked` (which ends well-formed).
        stall: send `at` bytes, then nothing for `seconds`, or until the client leaves or the fake stops.
        drip: send `at` bytes, then one byte every `seconds`.
        flip: turn over bit `bit` of the byte at `at` of the body sent.
        replace: send `content` as text/html; told are its own Content-Length and the stored object's hash.
        length: tell `declared` as Content-Length and send the whole body.
        size: tell `declared` as the object's size (JSON), or with op="media" as X-Goog-Stored-Content-Length.
        hash: tell wrong hashes, or none with hash="absent".
        endless: send the body, then zeros until the client leaves; without Content-Length unless `declared`.
        slow-start: send nothing for `seconds`, then everything.

    Attributes:
        match: a substring, or a compiled pattern to search for, of the object's name or the decoded path; a listing's
            name is its prefix.
        method: HTTP method; None is any.
        op: media, metadata, list, delete, insert, start, chunk, cancel, bucket, bucket-insert, layout, any.
            None is any operation on objects for status, reset and slow-start, metadata for size, media for the rest:
            the client's background look at the bucket uses no fault up.
        times: requests it hits before it is used up; None is all there are.
        at: bytes of the body, or an offset in it; see the kinds.
        seconds: see the kinds; None is 0.05 for drip and slow-start, for ever for stall.
        declared: Content-Length told in place of the true one, with every kind but size.
        chunked: send with Transfer-Encoding: chunked in place of Content-Length.
        hash: X-Goog-Hash (in JSON: crc32c, md5Hash) is of the `stored` object, of what is `sent`, `wrong`, `absent`.
        headers: added to the reply. `drop`: names of headers left out.
    """

    kind: Kind
    match: str | re.Pattern[str] = ""
    method: str | None = None
    op: str | None = None
    times: int | None = 1
    status: int = 503
    after: bool = False
    at: int | None = None
    bit: int = 0
    seconds: float | None = None
    declared: int | None = None
    chunked: bool = False
    content: bytes = HTML
    hash: HashLie | None = None
    headers: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a fault that would do nothing, so that no test passes for want of it."""
        if self.kind not in get_args(Kind) or (self.hash is not None and self.hash not in get_args(HashLie)):
            raise ValueError(f"unknown kind of fault or of hash: {self.kind!r}, {self.hash!r}")
        if self.op is not None and self.op not in _ANY_OBJECT | {"bucket", "bucket-insert", "layout", "any"}:
            raise ValueError(f"unknown op: {self.op!r}")
        if self.kind in ("length", "size") and self.declared is None:
            raise ValueError(f"{self.kind} needs declared=")
        if self.times is not None and self.times < 1:
            raise ValueError("times is at least 1")

    def hits(self, request: Request) -> bool:
        """Tell whether a request is meant."""
        ops = _DEFAULT_OPS.get(self.kind, frozenset({"media"})) if self.op is None else {self.op}
        if (request.op not in ops and self.op != "any") or self.method not in (None, request.method):
            return False
        if isinstance(self.match, re.Pattern):
            return any(self.match.search(text) for text in (request.name, request.path))
        return self.match in request.name or self.match in request.path

    @property
    def replaces_work(self) -> bool:
        """True when the request is never carried out."""
        return (self.kind == "status" and not self.after) or (
            self.kind == "reset" and self.at is None and not self.after
        )

    def bend(self, reply: Reply | None, request: Request) -> Reply | None:
        """Turn the true reply (None: the work was not done) into the one to send; None sends a reset at once."""
        if self.kind == "reset" and self.at is None:
            return None
        if self.kind == "status":
            reply = refusal(self.status, MESSAGES.get(self.status, "Error"), request.op)
        assert reply is not None
        reply = self._bend_hash(self._bend_body(reply), request)
        kept = tuple((name, value) for name, value in reply.headers if name.lower() not in map(str.lower, self.drop))
        return replace(reply, headers=(*kept, *self.headers))

    def _bend_body(self, reply: Reply) -> Reply:
        if self.kind == "flip":
            body = bytearray(reply.body)
            body[self.at or 0] ^= 1 << self.bit
            return replace(reply, body=bytes(body))
        if self.kind == "replace":
            return _with_header(replace(reply, body=self.content), "Content-Type", "text/html; charset=UTF-8")
        if self.kind == "size" and self.op == "media":
            return _with_header(reply, "X-Goog-Stored-Content-Length", str(self.declared))
        if self.kind == "size":
            return replace(reply, body=_with_fields(reply.body, {"size": str(self.declared)}))
        return reply

    def _bend_hash(self, reply: Reply, request: Request) -> Reply:
        lie = self.hash or ("wrong" if self.kind == "hash" else "stored")
        if lie == "stored":
            return reply
        told = {} if lie == "absent" else digests(reply.body if lie == "sent" else reply.body + b"?")
        if request.op != "media":
            return replace(
                reply, body=_with_fields(reply.body, {"crc32c": told.get("crc32c"), "md5Hash": told.get("md5")})
            )
        return _with_header(reply, "X-Goog-Hash", ",".join(f"{kind}={value}" for kind, value in told.items()))


def _with_header(reply: Reply, name: str, value: str) -> Reply:
    """Set a header; an empty value removes it."""
    kept = tuple(pair for pair in reply.headers if pair[0] != name)
    return replace(reply, headers=(*kept, (name, value)) if value else kept)


def _with_fields(body: bytes, fields: dict[str, str | None]) -> bytes:
    """Set fields of an object's JSON, and of each item's in a listing; None removes one."""
    found = json.loads(body)
    for resource in found.get("items", [found]):
        resource.update(fields)
        for key in [key for key, value in fields.items() if value is None]:
            del resource[key]
    return json.dumps(found).encode()


class FaultQueue:
    """Faults in order of their adding; a request uses up one turn of the first that it matches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        """Queue faults."""
        with self._lock:
            self._waiting.extend(faults)

    def clear(self) -> None:
        """Forget all faults that are left."""
        with self._lock:
            self._waiting.clear()

    @property
    def waiting(self) -> tuple[Fault, ...]:
        """What is left, `times` counted down."""
        with self._lock:
            return tuple(self._waiting)

    def take(self, request: Request) -> Fault | None:
        """Find the fault for a request and count it down."""
        with self._lock:
            for index, fault in enumerate(self._waiting):
                if fault.hits(request):
                    if fault.times is not None:
                        self._waiting[index : index + 1] = (
                            [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                        )
                    return fault
        return None
