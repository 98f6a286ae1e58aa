"""Calls an answerer or an application the way a door does, and reads what comes back."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from typing import Any

from flask import Flask

from service.answer import Answerer
from service.form import Call
from service.reply import Reply
from service.wsgi import call_wsgi

ADELIE = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}
SETOSA = {"sepal_length_cm": 5.1, "sepal_width_cm": 3.5, "petal_length_cm": 1.4, "petal_width_cm": 0.2}
PLOT = {"depth_m": 3.25, "count": 7, "ph": 6.5, "soil": "clay"}
ROWS = {"penguins": ADELIE, "iris": SETOSA, "plots": PLOT}


def encode(body: object) -> bytes:
    """Return a body as bytes; bytes stay as they are."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def ask(answerer: Answerer, body: object, **options: str) -> Reply:
    """Ask an answerer, with a request id that is always the same."""
    return answerer.answer(Call(encode(body), **{"request_id": "test-1", **options}))


def read(reply: Reply) -> dict[str, Any]:
    """Return the body of a reply."""
    found: dict[str, Any] = json.loads(reply.body)
    return found


def codes(reply: Reply) -> list[tuple[str, str]]:
    """Return the pointer and code of every error."""
    return [(error["pointer"], error["code"]) for error in read(reply)["errors"]]


@dataclass(frozen=True)
class Answered:
    """What came out of an application."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the only value of a header, None if it is not there."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.body)


def environ(method: str, path: str, body: bytes = b"", **extra: str) -> dict[str, Any]:
    """Return a WSGI environ."""
    path, _, query = path.partition("?")
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BytesIO(body),
        **extra,
    }


def request(app: Flask, method: str, path: str, body: object = b"", **extra: str) -> Answered:
    """Send a request to an application; `extra` are members of the environ such as HTTP_ACCEPT."""
    status, headers, payload = call_wsgi(app, environ(method, path, encode(body), **extra))
    return Answered(status, [(name.decode(), value.decode("latin-1")) for name, value in headers], payload)
