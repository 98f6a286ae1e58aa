"""A collector on loopback: takes traces by OTLP over HTTP and keeps their spans. `python -m tests.fakes.otlp`."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Span:
    """One span as it came over the wire; ids in hex, `parent_id` empty for none."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e9


def read(payload: bytes) -> list[Span]:
    """Return the spans of a request."""
    found = []
    for of_resource in ExportTraceServiceRequest.FromString(payload).resource_spans:
        resource = _plain(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            found += [
                Span(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code,
                    _plain(span.attributes),
                    resource,
                )
                for span in of_scope.spans
            ]
    return found


def _plain(attributes: Any) -> dict[str, Any]:
    """Return attributes as a dictionary."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


class Collector:
    """The running collector.

    Attributes:
        spans: what came.
        authorizations: the header of each request, empty where there was none.
        fault: None, an HTTP status to refuse everything with, or "hang": never answer.
    """

    def __init__(self, port: int = 0, echo: bool = False) -> None:
        """Listen; `echo` prints every span as a line of JSON."""
        self.spans: list[Span] = []
        self.authorizations: list[str] = []
        self.requests = 0
        self.fault: int | str | None = None
        self.released = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.requests += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.fault == "hang":
                    collector.released.wait(60)
                    return
                status = 404 if self.path != "/v1/traces" else int(collector.fault or 200)
                collector.authorizations.append(self.headers.get("Authorization", ""))
                if status == 200:
                    spans = read(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                    collector.spans += spans
                    if echo:
                        for span in spans:
                            print(json.dumps(asdict(span)), flush=True)
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((HOST, port), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://{HOST}:{self._server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Collector:
        """Serve until the block ends."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def of(self, trace_id: str) -> list[Span]:
        """Return the spans of one trace, the first begun first."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start_ns)


def main() -> None:
    """Print the endpoint, then every span, until standard input ends."""
    with Collector(echo=True) as collector:
        print(collector.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
