"""The page at `/`: whoever opens the service's address can use the model, from files that come from here alone."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from flask import Blueprint, Response, abort

WEB = Path(__file__).with_name("web")
PAGE = "index.html"
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": SECURITY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
FOR_EVER = "public, max-age=31536000, immutable"


class Assets(NamedTuple):
    """What the page is made of.

    Attributes:
        version: hash over every name and content; part of every asset's address, so that an address never changes.
        files: content by name.
    """

    version: str
    files: dict[str, bytes]


@cache
def assets() -> Assets:
    """Read the files at the first request for them: the start does not wait for it."""
    paths = sorted(path for path in WEB.iterdir() if path.suffix in KINDS)
    files = {path.name: path.read_bytes() for path in paths}
    whole = hashlib.sha256()
    for name, content in files.items():
        whole.update(f"{name} {len(content)} ".encode() + content)
    return Assets(whole.hexdigest()[:16], files)


def blueprint() -> Blueprint:
    """Return the routes of the page."""
    routes = Blueprint("front_page", __name__)

    @routes.get("/")
    def page() -> Response:
        """Show the page; it asks `/model` for everything that depends on the model."""
        version, files = assets()
        content = files[PAGE].replace(b'"assets/', f'"assets/{version}/'.encode())
        return _response(PAGE, content, "no-cache")

    @routes.get("/assets/<version>/<name>")
    def asset(version: str, name: str) -> Response:
        """Return one file; while two revisions serve, one may be asked for the other's, and gives its own unkept."""
        found = assets()
        if name not in found.files or name == PAGE:
            abort(404)
        return _response(name, found.files[name], FOR_EVER if version == found.version else "no-store")

    return routes


def _response(name: str, content: bytes, keeping: str) -> Response:
    """Return a file with its type, how long it may be kept, and what the browser must not do."""
    response = Response(content, 200, content_type=KINDS[Path(name).suffix])
    response.headers.extend({**HEADERS, "Cache-Control": keeping})
    return response
