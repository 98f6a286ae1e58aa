"""Cloud Monitoring's `projects.timeSeries.list` on loopback: it answers what it is given, in pages, late if told so."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"
TYPE = re.compile(r'metric\.type = "([^"]+)"')
SERVICE = re.compile(r'resource\.labels\.service_name = "([^"]+)"')


class TimeSeries:
    """The running fake.

    Attributes:
        url: its address.
        asked: the query of every call, a value each.
        late: so many calls do not see the last point of a series yet.
    """

    def __init__(
        self, token: str, service: str, known: Mapping[str, Sequence[Mapping[str, Any]]], late: int = 0
    ) -> None:
        """Listen.

        Args:
            token: without it nobody is answered.
            service: whose series these are.
            known: metric type → series as the API has them.
            late: see the class.
        """
        self.asked: list[dict[str, str]] = []
        self.late = late
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                split = urlsplit(self.path)
                asked = {name: values[0] for name, values in parse_qs(split.query).items()}
                if self.headers["Authorization"] != f"Bearer {token}":
                    self.reply(
                        403, {"error": {"status": "PERMISSION_DENIED", "message": "no monitoring.timeSeries.list"}}
                    )
                elif not re.fullmatch(r"/v3/projects/[\w-]+/timeSeries", split.path):
                    self.reply(404, {"error": {"status": "NOT_FOUND"}})
                else:
                    fake.asked.append(asked)
                    self.reply(200, fake.page(asked, service, known))

            def reply(self, status: int, document: Mapping[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def page(
        self, asked: Mapping[str, str], service: str, known: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> dict[str, Any]:
        """Return one series a page, with the points within the interval."""
        kind, whose = TYPE.search(asked["filter"]), SERVICE.search(asked["filter"])
        found = known.get(kind[1], []) if kind and whose and whose[1] == service else []
        number = int(asked.get("pageToken", "0"))
        if number >= len(found):
            return {}
        begin, end = (datetime.fromisoformat(asked[f"interval.{edge}Time"]) for edge in ("start", "end"))
        within = [
            point
            for point in found[number]["points"]
            if begin < datetime.fromisoformat(point["interval"]["endTime"]) <= end
        ]
        if self.late:
            self.late -= 1
            # newest first, as the API has them
            within = within[1:]
        rest = {"nextPageToken": str(number + 1)} if number + 1 < len(found) else {}
        return {"timeSeries": [{**found[number], "points": within}], **rest}

    def __enter__(self) -> TimeSeries:
        """Serve until the block ends."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
