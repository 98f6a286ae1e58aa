"""Sampled calls become spans at a real receiver; whatever becomes of them, nobody waits for it."""

from __future__ import annotations

import http.server
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from model.manifest import example
from service.answer import Answerer, Call
from service.config import Settings
from service.monitor import Monitor
from service.trace_export import MOST_WAITING, TraceExport
from service.tracing import span_id_of
from tests.fakes.otlp import Collector, Span

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
SERVER, INTERNAL, ERROR = 2, 1, 2


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A receiver that is listening."""
    with Collector() as collector:
        yield collector


@pytest.fixture(autouse=True)
def theirs() -> Iterator[None]:
    """Put OpenTelemetry's logger back afterwards."""
    logger = logging.getLogger("opentelemetry")
    handlers, propagate = logger.handlers[:], logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate


def _tracing(known: Answerer, endpoint: str, **settings: object) -> tuple[Answerer, TraceExport]:
    given = replace(Settings(trace_endpoint=endpoint, trace_rate=0.0), **settings)
    export = TraceExport(known.state, given, pause_seconds=0.01)
    return Answerer(known.state, given, Monitor([export])), export


def _body(answerer: Answerer, count: int = 0) -> bytes:
    row = example(answerer.require_model().predictor.manifest)
    return json.dumps({"instances": [row] * count} if count else row).encode()


def _ask(known: Answerer, collector: Collector, call: Call, **settings: object) -> list[Span]:
    """Send one call, and return what the collector has seen by the end."""
    answerer, export = _tracing(known, collector.endpoint, **settings)
    answerer.answer(call)
    answerer.monitor.flush()
    export.close(60)
    return sorted(collector.spans, key=lambda span: (span.start_ns, -span.end_ns))


def test_the_receiver_sees_the_spans_with_parent_and_trace_as_sent(answerer, collector):
    before = time.time_ns()
    call = Call(_body(answerer), traceparent=SAMPLED, request_id="r-1", wait_seconds=0.25)
    spans = _ask(answerer, collector, call, commit="abc", project="lab")

    root = spans[0]
    assert [span.name for span in spans] == ["POST /predict", "wait", "decode", "model_prediction_span", "render"]
    assert {span.trace_id for span in spans} == {TRACE}
    assert [span.parent_id for span in spans] == [PARENT] + [root.span_id] * 4
    assert len({span.span_id for span in spans}) == 5
    assert [span.kind for span in spans] == [SERVER] + [INTERNAL] * 4
    assert root.resource == {"service.name": "rookery", "service.version": "abc", "gcp.project_id": "lab"}
    assert root.attributes == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "rookery.request_id": "r-1",
        "rookery.protocol": "rookery",
    }
    assert spans[3].attributes == {
        "prediction.class": "Adelie",
        "model.name": "penguins",
        "model.digest": answerer.digest,
        "rows": 1,
    }
    # the stages follow one another within the call, which began before it was asked as it had waited
    for earlier, later in itertools.pairwise(spans[1:]):
        assert earlier.end_ns == later.start_ns
    assert root.start_ns == spans[1].start_ns < before
    assert before < spans[-1].end_ns <= root.end_ns <= time.time_ns()
    assert abs(spans[1].seconds - 0.25) < 1e-6


def test_googles_header_is_followed(answerer, collector):
    spans = _ask(answerer, collector, Call(_body(answerer), cloud_trace=f"{TRACE}/255;o=1"))
    assert {span.trace_id for span in spans} == {TRACE}
    assert spans[0].parent_id == f"{255:016x}"


@pytest.mark.parametrize(
    "call",
    [Call(b"", traceparent=f"00-{TRACE}-{PARENT}-00"), Call(b"", cloud_trace=f"{TRACE}/1;o=0")],
    ids=["W3C", "Google"],
)
def test_a_caller_who_says_no_is_not_traced(answerer, collector, call):
    assert _ask(answerer, collector, call._replace(body=_body(answerer)), trace_rate=1.0) == []


def test_without_a_callers_word_the_rate_decides_and_the_trace_begins_here(answerer, collector):
    assert _ask(answerer, collector, Call(_body(answerer), request_id=TRACE)) == []
    spans = _ask(answerer, collector, Call(_body(answerer), request_id=TRACE), trace_rate=1.0)
    assert ({span.trace_id for span in spans}, spans[0].parent_id) == ({TRACE}, "")


def test_the_span_has_the_id_that_the_log_tells(answerer, collector):
    given = []

    class Keep:
        def note(self, calls):
            given.extend(calls)

        def work(self):
            """Do nothing."""

    settings = Settings(trace_endpoint=collector.endpoint)
    export = TraceExport(answerer.state, settings, pause_seconds=0.01)
    asking = Answerer(answerer.state, settings, Monitor([Keep(), export]))
    asking.answer(Call(_body(answerer), traceparent=SAMPLED, request_id="r-1"))
    asking.monitor.flush()
    export.close(60)
    [root] = [span for span in collector.of(TRACE) if span.parent_id == PARENT]
    assert root.span_id == span_id_of("r-1", given[0].began)


@pytest.mark.parametrize(("count", "named"), [(3, 3), (40, 16), (300, 16)])
def test_a_batch_is_one_span_that_names_its_first_classes(answerer, collector, count, named):
    spans = _ask(answerer, collector, Call(_body(answerer, count), traceparent=SAMPLED))
    model = next(span for span in spans if span.name == "model_prediction_span")
    assert (model.attributes["rows"], model.attributes["prediction.class"].split(",")) == (count, ["Adelie"] * named)


def test_a_refusal_is_a_span_without_stages(answerer, collector):
    [span] = _ask(answerer, collector, Call(b"{", traceparent=SAMPLED))
    assert (span.attributes["error.type"], span.attributes["http.response.status_code"]) == ("malformed-body", 400)
    assert span.status == 0


def _wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


@pytest.mark.parametrize("fault", [503, 400, "hang", "nobody"])
def test_a_receiver_that_fails_touches_no_prediction(answerer, collector, caplog, fault):
    collector.fault = fault if fault != "nobody" else None
    endpoint = collector.endpoint if fault != "nobody" else "http://127.0.0.1:9/v1/traces"
    answering, export = _tracing(answerer, endpoint)
    replies = [answering.answer(Call(_body(answerer), traceparent=SAMPLED)) for _ in range(MOST_WAITING + 300)]
    answering.monitor.flush()
    if fault == "hang":
        _wait_until(lambda: collector.requests)
        export.close(0.01)
        collector.released.set()
    export.close(60)
    if fault != "hang":
        assert [record.message for record in caplog.records] == ["trace.lost"]
        assert caplog.records[0].reason
        assert caplog.records[0].calls > 0
    assert {reply.status for reply in replies} == {200}


def test_missing_credentials_touch_no_prediction(answerer, collector, caplog, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert _ask(answerer, collector, Call(_body(answerer), traceparent=SAMPLED), trace_auth="google") == []
    assert "DefaultCredentialsError" in caplog.records[0].reason


def test_cloud_trace_gets_an_access_token(answerer, collector, monkeypatch, tmp_path: Path):
    class Tokens(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"access_token": "a-token", "expires_in": 3600}')

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Tokens) as tokens:
        threading.Thread(target=tokens.serve_forever, args=(0.01,), daemon=True).start()
        key = rsa.generate_private_key(65537, 2048)
        credentials = {
            "type": "service_account",
            "project_id": "lab",
            "client_email": "rookery@lab.example",
            "token_uri": f"http://127.0.0.1:{tokens.server_port}/token",
        }
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        credentials["private_key"] = pem.decode()
        (tmp_path / "credentials.json").write_text(json.dumps(credentials))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "credentials.json"))
        spans = _ask(answerer, collector, Call(_body(answerer), traceparent=SAMPLED), trace_auth="google")
        tokens.shutdown()
    assert (len(spans), collector.authorizations) == (4, ["Bearer a-token"])
