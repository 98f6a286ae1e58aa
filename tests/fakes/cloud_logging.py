"""As much of Cloud Logging's JSON API as its own client needs to list entries, in pages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = 3


@dataclass
class CloudLogging:
    """What is there, and what was asked."""

    entries: Sequence[dict[str, Any]] = ()
    status: int = 200
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def page(self, token: str) -> dict[str, Any]:
        """Return one page of entries."""
        start = int(token or 0)
        shown = [
            {
                "logName": "projects/lab/logs/run.googleapis.com%2Fstdout",
                "resource": {"type": "cloud_run_revision", "labels": {"service_name": "rookery"}},
                "timestamp": "2026-01-01T00:00:00Z",
                "insertId": str(start + offset),
                "jsonPayload": payload,
            }
            for offset, payload in enumerate(self.entries[start : start + PAGE])
        ]
        more = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(self.entries) else {}
        return {"entries": shown, **more}


@contextmanager
def serving(fake: CloudLogging) -> Iterator[CloudLogging]:
    """Serve on a free port of the loopback address until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path.startswith("/v2/entries:list")
            fake.asked.append(asked)
            refusal = {"error": {"code": fake.status, "message": "the project is not yours", "status": "DENIED"}}
            body = json.dumps(fake.page(asked.get("pageToken", "")) if fake.status == 200 else refusal).encode()
            self.send_response(fake.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
