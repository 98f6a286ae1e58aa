"""A host that is blocked or wants a token is told from one that fails, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from load import preflight
from load.preflight import Stop
from load.servers import free_port

JSON = {"Content-Type": "application/json", "X-Request-Id": "1"}
HTML = {"Content-Type": "text/html; charset=UTF-8"}
CLOUD_RUN = b"<h1>Error: Forbidden</h1><h2>Your client does not have permission to get URL / from this server.</h2>"


@contextmanager
def host(status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    """Answer every request the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "headers", "body", "finding"),
    [
        pytest.param(401, {**HTML, "WWW-Authenticate": 'Bearer error="invalid_token"'}, b"", "unauthorised", id="401"),
        pytest.param(403, HTML, CLOUD_RUN, "unauthorised", id="no invoker"),
        pytest.param(403, HTML, b"<h1>Access forbidden</h1>", "blocked", id="ingress"),
        pytest.param(407, {}, b"", "blocked", id="proxy"),
        pytest.param(302, {"Location": "https://login.example/"}, b"", "blocked", id="login page"),
        pytest.param(503, JSON, json.dumps({"reason": "hash_mismatch"}).encode(), "not ready", id="no model"),
        pytest.param(200, HTML, b"<h1>It works</h1>", "not rookery", id="web page"),
        pytest.param(200, JSON, b"{}", "not rookery", id="other service"),
        pytest.param(200, {**JSON, "X-Model-Digest": "sha256:00"}, b"{}", "not rookery", id="no model card"),
        pytest.param(500, {}, b"", "not rookery", id="500"),
    ],
)
def test_it_says_why_a_host_is_not_fit(status: int, headers: dict[str, str], body: bytes, finding: str):
    with host(status, headers, body) as url, pytest.raises(Stop) as stop:
        preflight.inspect(url, {}, None)

    assert stop.value.finding == finding
    assert str(stop.value).startswith(f"{finding}: {url}")
    assert "\n" not in str(stop.value)


def test_reason_of_a_service_without_model_is_told():
    with host(503, JSON, json.dumps({"reason": "hash_mismatch"}).encode()) as url, pytest.raises(Stop) as stop:
        preflight.inspect(url, {}, None)

    assert "reason hash_mismatch" in str(stop.value)


def test_nobody_there_is_unreachable():
    with pytest.raises(Stop) as stop:
        preflight.inspect(f"http://127.0.0.1:{free_port()}", {}, None)

    assert stop.value.finding == "unreachable"
