"""Asks a WSGI application (PEP 3333) about a request that came by ASGI."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# status, headers, body
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


def to_environ(scope: dict[str, Any]) -> dict[str, Any]:
    """Return a WSGI environ (PEP 3333) for an ASGI request, without its body."""
    server, client = scope.get("server") or ("localhost", 80), scope.get("client") or ("", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope.get("root_path", ""),
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        if name not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            name = f"HTTP_{name}"
        value = raw_value.decode("latin-1")
        environ[name] = f"{environ[name]},{value}" if name in environ else value
    return environ


def call_wsgi(wsgi: WSGIApplication, environ: dict[str, Any]) -> Answer:
    """Call a WSGI application and return status, headers and the whole body."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Callable[[bytes], object]:
        """Keep the last status and headers; a large reply never leaves in part."""
        started[:] = [int(status[:3]), headers]
        return _no_write

    chunks = wsgi(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
        # the framework's own errors refer to themselves: what is left of a request must not hold its body
        if "wsgi.input" in environ:
            environ["wsgi.input"].close()
    status, headers = started
    return status, [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers], body


def _no_write(_: bytes) -> object:
    """Refuse PEP 3333's obsolete write callable."""
    raise NotImplementedError("return the body instead of writing it")
