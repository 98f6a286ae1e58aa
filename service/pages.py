"""The routes for people: OpenAPI and its page, without anything from another host."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from flask import Blueprint, Response, abort, send_from_directory

from service.answer import Answerer
from service.config import Settings
from service.reply import JSON

ASSETS = frozenset(
    {"swagger-ui.css", "swagger-ui-bundle.js", "index.css", "favicon-16x16.png", "favicon-32x32.png", "LICENSE"}
)
SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rookery: how to call it</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/assets/favicon-32x32.png">
</head>
<body>
<div id="docs">This page shows <a href="/openapi.json">/openapi.json</a>; it needs JavaScript.</div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# every example can be sent at once; light or dark, as the reader's system is
START = """const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
window.addEventListener("load", () => {
  SwaggerUIBundle({
    url: "/openapi.json", dom_id: "#docs", validatorUrl: null, deepLinking: true,
    tryItOutEnabled: true, displayRequestDuration: true, defaultModelsExpandDepth: 0,
  });
});
"""


def blueprint(answerer: Answerer, settings: Settings) -> Blueprint:
    """Return the routes for people."""
    routes = Blueprint("pages", __name__)

    @cache
    def rendered() -> bytes:
        """Generate the document at the first call: apispec is not imported before somebody asks."""
        import orjson

        from service.openapi.document import document

        manifest = answerer.require_model().predictor.manifest
        return orjson.dumps(document(manifest, settings))

    @routes.get("/openapi.json")
    def openapi() -> Response:
        """Return the OpenAPI document."""
        answerer.require_model()
        return Response(rendered(), 200, content_type=JSON)

    @routes.get("/docs", strict_slashes=False)
    def docs() -> Response:
        """Show the OpenAPI document."""
        response = Response(PAGE, 200, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = SECURITY
        return response

    @routes.get("/docs/start.js")
    def start() -> Response:
        """Start Swagger UI; a file of its own, so that the page needs no inline script."""
        return Response(START, 200, content_type="text/javascript; charset=utf-8")

    @routes.get("/docs/assets/<name>")
    def asset(name: str) -> Response:
        """Return one file of Swagger UI, from the installed package."""
        if name not in ASSETS:
            abort(404)
        return send_from_directory(str(files("flask_swagger_ui") / "dist"), name, max_age=86_400)

    return routes
