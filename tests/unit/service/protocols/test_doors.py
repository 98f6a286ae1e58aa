"""What is the same at every protocol's door: limits, lanes, packed bodies, labels, and a form of its own."""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from itertools import count
from typing import Any

import pytest
from flask import Flask

from service import dialects
from service.admission import Admission
from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.loader import Ready
from service.monitor import Monitor
from service.server import LOOP_BODY_BYTES, Bridge
from service.tally import Tally
from tests.unit.service.calls import ADELIE, Answered, request

from .conftest import ALL
from .ways import WAYS, Way, codes, send

# rows of a body that is answered beside the loop, whatever its form
LARGE = 2_000
LABELS = {
    "/predict": ("rookery", "/predict"),
    "OIP JSON": ("v2", "/v2/models/{model}/infer"),
    "OIP binary": ("v2", "/v2/models/{model}/infer"),
    "KServe v1": ("v1", "/v1/models/{model}:predict"),
    "Vertex": ("vertex", "vertex/predict"),
    "MLflow split": ("mlflow", "/invocations"),
    "SageMaker CSV": ("sagemaker", "/invocations"),
}
SERIES = re.compile(r"^rookery_requests_total\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
every_way = pytest.mark.parametrize("name", list(LABELS))


def check_form(name: str, answer: Answered) -> None:
    """See that a refusal is in the form of its protocol, whole and with nothing more."""
    kind, members = str(answer.header("content-type")), set(answer.json)
    if name == "/predict":
        assert (kind, members >= {"type", "title", "status", "detail"}) == ("application/problem+json", True)
    elif LABELS[name][0] in ("mlflow", "sagemaker"):
        assert (kind, members) == ("application/json", {"error_code", "message"})
        assert answer.json["error_code"] in dialects.MLFLOW_CODES
    else:
        assert (kind, members) == ("application/json", {"error"})


def cross(bridge: Bridge, way: Way, body: bytes, headers: dict[str, str]) -> Answered:
    """Send a body through the bridge, as Gunicorn does."""
    sent: list[dict[str, Any]] = []
    names = {name.removeprefix("HTTP_").replace("_", "-").lower().encode(): value for name, value in headers.items()}
    scope = {
        "type": "http",
        "method": "POST",
        "path": way.path.format("penguins"),
        "query_string": b"",
        "headers": [(name, value.encode()) for name, value in names.items()],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 8080),
        "client": ("10.0.0.9", 1234),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def keep(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(bridge(scope, receive, keep))
    found = [(key.decode(), value.decode()) for key, value in sent[0]["headers"]]
    return Answered(sent[0]["status"], found, sent[1]["body"])


def _bridge(app: Flask, answerers: dict[str, Answerer], admission: Admission | None = None) -> Bridge:
    return Bridge(app, answerers["penguins"], Settings.max_body_bytes, admission=admission)


@every_way
def test_a_caller_over_the_rate_is_told_so_in_the_form_of_the_protocol(build, name):
    way, app, caller = WAYS[name], build(rate_limit="1/hour", trusted_proxies=1), f"10.0.0.{list(LABELS).index(name)}"
    body, headers = way.body([ADELIE])
    first, second = (send(app, way, "penguins", body, {**headers, "HTTP_X_FORWARDED_FOR": caller}) for _ in range(2))
    assert (first.status, second.status, codes(second)) == (200, 429, ["rate"])
    assert int(second.header("retry-after") or 0) > 0
    check_form(name, second)


@every_way
def test_a_full_queue_is_told_in_the_form_of_the_protocol(build, answerers, name):
    # a turn that has lasted for too long already, and a queue without a place
    ticks = count()
    admission = Admission(0.25, 0, clock=lambda: float(next(ticks)), call_soon=lambda _: None)
    assert admission.is_free()
    app = _bridge(build(), answerers, admission)
    answer = cross(app, WAYS[name], *WAYS[name].body([ADELIE]))
    assert (answer.status, codes(answer), answer.header("retry-after")) == (503, ["overloaded"], "1")
    check_form(name, answer)


@every_way
def test_a_full_lane_for_large_bodies_is_told_in_the_form_of_the_protocol(build, answerers, name):
    app = _bridge(build(), answerers, Admission(0.25, 1))
    assert app.lane.enter("batch", 1) is not None
    answer = cross(app, WAYS[name], *WAYS[name].body([ADELIE] * LARGE))
    assert (answer.status, codes(answer), answer.header("retry-after")) == (503, ["overloaded"], "1")
    check_form(name, answer)


@every_way
def test_a_large_batch_is_answered_beside_the_loop_and_the_same(build, answerers, name):
    rows = [{**ADELIE, "body_mass_g": 3000 + index} for index in range(LARGE)]
    app, way, native = build(), WAYS[name], WAYS["/predict"]
    body, headers = way.body(rows)
    assert len(body) > LOOP_BODY_BYTES
    bridge = _bridge(app, answerers)
    answer = cross(bridge, way, body, headers)
    bridge._thread.shutdown()
    assert answer.status == 200
    assert way.read(answer) == native.read(send(app, native, "penguins", *native.body(rows)))


@every_way
def test_a_body_over_the_limit_is_told_in_the_form_of_the_protocol(build, answerers, name):
    body, headers = WAYS[name].body([ADELIE] * 60)
    answer = cross(Bridge(build(), answerers["penguins"], 1024), WAYS[name], body, headers)
    assert (answer.status, codes(answer)) == (413, ["body_too_large"])
    check_form(name, answer)


PACKED = {
    "gzip": (gzip.compress, "gzip"),
    "deflate": (zlib.compress, "deflate"),
}


@pytest.mark.parametrize(("pack", "coding"), PACKED.values(), ids=PACKED)
@every_way
def test_a_packed_body_is_answered_like_a_plain_one(build, name, pack, coding):
    way, app = WAYS[name], build()
    body, headers = way.body([ADELIE] * 3)
    plain = send(app, way, "penguins", body, headers)
    packed = send(app, way, "penguins", pack(body), {**headers, "HTTP_CONTENT_ENCODING": coding})
    assert (packed.status, way.read(packed)) == (200, way.read(plain))


FALSE = {
    "not packed": (lambda body: body, 400, ["malformed"]),
    "cut off": (lambda body: gzip.compress(body)[:-9], 400, ["malformed"]),
    "a bomb": (lambda body: gzip.compress(b" " * (9 << 20)), 413, ["body_too_large"]),
}


@pytest.mark.parametrize(("pack", "status", "expected"), FALSE.values(), ids=FALSE)
@every_way
def test_what_is_not_what_its_coding_says_is_refused(build, name, pack, status, expected):
    body, headers = WAYS[name].body([ADELIE] * 3)
    answer = send(build(), WAYS[name], "penguins", pack(body), {**headers, "HTTP_CONTENT_ENCODING": "gzip"})
    assert (answer.status, codes(answer)) == (status, expected)
    check_form(name, answer)


@pytest.mark.parametrize("status", [200, 400], ids=["answered", "refused"])
def test_calls_are_counted_under_protocol_and_route(answerers, status):
    state = answerers["penguins"].state
    assert isinstance(state, Ready)
    tally = Tally(state)
    app = create_app(ALL, Answerer(state, ALL, Monitor([tally])), tally)
    row = ADELIE if status == 200 else {**ADELIE, "body_mass_g": 1e9}
    for name in LABELS:
        assert send(app, WAYS[name], "penguins", *WAYS[name].body([row])).status == status
    counted = {
        (labels["protocol"], labels["route"]): float(value)
        for found, value in SERIES.findall(request(app, "GET", "/metrics").body.decode())
        if (labels := dict(LABEL.findall(found)))["status"] == f"{status // 100}xx" and float(value)
    }
    counted.pop(("rookery", "/metrics"), None)
    assert counted == {LABELS[name]: 2.0 if "OIP" in name else 1.0 for name in LABELS}
