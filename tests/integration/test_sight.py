"""A real server, a real receiver of spans, and what the log says: the same request in each of them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from model.manifest import example
from model.verify import VerifiedBundle
from scripts.quality.__main__ import main as quality
from tests.fakes.otlp import Collector, Span

from .servers import DEADLINE_SECONDS, POLL_SECONDS, Server

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OTHER = "1af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("door", ["short", "Flask"])
def test_one_request_is_seen_as_a_trace_an_event_and_an_exemplar(
    start, bundles: dict[str, Path], penguins: VerifiedBundle, door, tmp_path, capsys
):
    row = example(penguins.manifest)
    with Collector() as collector:
        server = start(
            {
                "MODEL_URI": str(bundles["penguins"]),
                "FAST_PATH": "true" if door == "short" else "false",
                "ROOKERY_TRACE_ENDPOINT": collector.endpoint,
                "ROOKERY_TRACE_RATE": "0",
                "ROOKERY_EVENT_RATE": "1",
                "ROOKERY_PROJECT": "my-project",
                "ROOKERY_FEEDBACK": "true",
            }
        )
        server.wait_until("/health/ready", 200)
        headers = {"Content-Type": "application/json"}
        sampled = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "seen"}
        assert server.predict(row, headers={**headers, **sampled}).status == 200
        # before another sampled call takes its place in the same bin
        scraped = _scrape(server)
        google = {"x-cloud-trace-context": f"{OTHER}/255;o=1"}
        assert server.predict(b"{", headers={**headers, **google}).status == 400
        assert server.predict(row, headers={**headers, "traceparent": f"00-{OTHER}-{PARENT}-00"}).status == 200
        told = server.request(
            "POST", "/feedback", json.dumps({"request_id": "seen", "label": "Adelie"}).encode(), headers
        )
        # the process does not wait for them for longer than a moment in the end, and a busy machine takes its time
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (collector.of(TRACE) and collector.of(OTHER)):
            assert time.monotonic() < deadline
            assert not server.has_ended(POLL_SECONDS)
        server.stop()
        spans = {name: collector.of(name) for name in (TRACE, OTHER)}

    assert (told.status, told.json()["is_known"]) == (202, True)
    _check_spans(spans, penguins)
    assert f'trace_id="{TRACE}"' in scraped
    lines = [json.loads(line) for line in server.stdout_lines if line.startswith("{")]
    [event] = [line for line in lines if line.get("request_id") == "seen" and line["message"] == "prediction.made"]
    [refused] = [line for line in lines if line["message"] == "request.refused"]
    [root] = [span for span in spans[TRACE] if span.parent_id == PARENT]
    assert event["logging.googleapis.com/trace"] == f"projects/my-project/traces/{TRACE}"
    assert (event["logging.googleapis.com/spanId"], event["logging.googleapis.com/trace_sampled"]) == (
        root.span_id,
        True,
    )
    assert (refused["reason"], refused["logging.googleapis.com/trace"][-32:]) == ("malformed-body", OTHER)

    log = tmp_path / "log"
    log.write_text("\n".join(server.stdout_lines))
    assert quality(["--json", str(log)]) == 0
    assert json.loads(capsys.readouterr().out)["bundles"][penguins.digest]["accuracy"]["value"] == 1.0


def test_whichever_worker_is_scraped_shows_the_exemplar(start, bundles: dict[str, Path], penguins: VerifiedBundle):
    with Collector() as collector:
        settings = {"ROOKERY_WORKERS": "2", "ROOKERY_TRACE_ENDPOINT": collector.endpoint, "ROOKERY_TRACE_RATE": "0"}
        server = start({"MODEL_URI": str(bundles["penguins"]), **settings})
        server.wait_until("/health/ready", 200)
        workers = server.wait_for_workers(lambda found: len(found) == 2)
        headers = {"Content-Type": "application/json", "traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert server.predict(example(penguins.manifest), headers=headers).status == 200
        deadline = time.monotonic() + DEADLINE_SECONDS
        while f'trace_id="{TRACE}"' not in _scrape(server):
            assert time.monotonic() < deadline
            assert not server.has_ended(POLL_SECONDS)
        for stopped in workers:
            # so the other one answers
            os.kill(stopped, signal.SIGSTOP)
            try:
                scraped = _scrape(server)
            finally:
                os.kill(stopped, signal.SIGCONT)
            assert f'trace_id="{TRACE}"' in scraped
        assert server.workers() == workers


def _scrape(server: Server) -> str:
    return server.get("/metrics", {"Accept": "application/openmetrics-text;version=1.0.0"}).body.decode()


def _check_spans(spans: dict[str, list[Span]], penguins: VerifiedBundle) -> None:
    """Expect what was asked of the tracing."""
    [root] = [span for span in spans[TRACE] if span.parent_id == PARENT]
    inner = [span for span in spans[TRACE] if span.parent_id == root.span_id]
    assert [span.name for span in inner] == ["decode", "model_prediction_span", "render"]
    assert root.name == "POST /predict"
    assert inner[1].attributes["model.digest"] == penguins.digest
    [refused] = spans[OTHER]
    assert (refused.parent_id, refused.attributes["http.response.status_code"]) == (f"{255:016x}", 400)
