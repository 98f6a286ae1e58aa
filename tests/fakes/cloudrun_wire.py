"""The sockets under the fake Cloud Run: HTTP/1.1 on one event loop, as a forward proxy sees it (absolute form)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

MOST_BYTES = 16 << 20
HOP_BY_HOP = {
    "connection",
    "proxy-connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "upgrade",
    "proxy-authorization",
}


@dataclass(frozen=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    target: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Read the body as JSON."""
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Reply:
    """What is sent back; Content-Length is added."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Reply:
        """Answer with JSON."""
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=UTF-8"})


class Refused(Exception):
    """An error as Google's APIs word it."""

    NAMES: ClassVar = {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        409: "ABORTED",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        503: "UNAVAILABLE",
    }

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    def reply(self) -> Reply:
        """Return the error's body."""
        name = self.NAMES.get(self.status, "UNKNOWN")
        error = {"code": self.status, "message": self.message, "status": name}
        return Reply.json({"error": error}, self.status)


Handler = Callable[[Request], Awaitable[Reply | None]]


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    """Read a start line and headers; None if the other side has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    start, *lines = head.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    return start, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """Read a body by its length or in chunks."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length", 0)))


async def serve_connection(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler, refuse: Callable[[str], None]
) -> None:
    """Answer the requests of one connection; `refuse` is told the target of every CONNECT."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while (head := await read_head(reader)) is not None:
            start, headers = head
            method, target, _ = start.split(" ", 2)
            if method == "CONNECT":
                refuse(target)
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                break
            parts = urlsplit(target)
            host = (parts.netloc or headers.get("host", "")).lower()
            body = await read_body(reader, headers)
            path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            reply = await handle(Request(method, host, parts.path or "/", query, path, headers, body))
            if reply is None:
                break
            await write_reply(writer, reply, is_head=method == "HEAD")
            if headers.get("connection", headers.get("proxy-connection", "")).lower() == "close":
                break
    with contextlib.suppress(ConnectionError):
        writer.close()


async def write_reply(writer: asyncio.StreamWriter, reply: Reply, *, is_head: bool = False) -> None:
    """Send a reply whole."""
    lines = [f"HTTP/1.1 {reply.status} -", f"Content-Length: {len(reply.body)}"]
    lines += [
        f"{name}: {value}"
        for name, value in reply.headers.items()
        if name.lower() not in HOP_BY_HOP | {"content-length"}
    ]
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if is_head else reply.body))
    await writer.drain()
