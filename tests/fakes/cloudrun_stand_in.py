"""A revision that starts in a moment and knows nothing but that it is ready, for tests of the control plane."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers every GET with its revision's name, and that for readiness with JSON."""

    def do_GET(self) -> None:
        body = b"{}" if self.path == "/health/ready" else os.environ["K_REVISION"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
