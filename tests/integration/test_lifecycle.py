"""Starting, staying alive and stopping: the real server as a process."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Tell

from . import hostile, servers
from .conftest import Shared, Start
from .servers import ROOT, Server, receive

ADELIE = hostile.ADELIE
BODY = hostile.VALID[0]
IN_INCHES = {**ADELIE, "flipper_length_mm": 7.13}


def settings(bundle: Path, **others: str) -> dict[str, str]:
    return {"MODEL_URI": str(bundle), **others}


# --- stopping


def test_sigterm_while_idle_ends_it_with_status_0(start: Start, bundles: dict[str, Path]) -> None:
    server = start(settings(bundles["penguins"]))
    server.wait_until("/health/ready", 200)
    (worker,) = server.workers()

    assert server.stop() == 0
    assert not Path(f"/proc/{worker}").exists()
    assert [line for line in server.stderr_lines if "Traceback" in line] == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    ],
    ids=["after a probe", "after a prediction"],
)
def test_sigterm_with_an_idle_connection_ends_it_with_status_0(
    start: Start, bundles: dict[str, Path], tell: Tell, request_bytes: bytes
) -> None:
    server = start(settings(bundles["penguins"]))
    server.wait_until("/health/ready", 200)
    with server.open_socket() as sock:
        sock.sendall(request_bytes)
        assert receive(sock).status == 200

        begin = time.monotonic()
        assert server.stop() == 0
        tell(f"ended {time.monotonic() - begin:.1f} s after SIGTERM")


def test_request_in_flight_at_sigterm_is_answered(start: Start, bundles: dict[str, Path]) -> None:
    server = start(settings(bundles["penguins"]))
    server.wait_until("/health/ready", 200)
    body = hostile.VALID[0]
    with server.open_socket() as sock:
        sock.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:-1])
        # answered after the head above was read, so the server knows of the request
        assert server.get("/health/live").status == 200
        server.process.terminate()
        sock.sendall(body[-1:])

        assert receive(sock).status == 200
    assert server.stop() == 0


# --- without a model


@pytest.fixture
def damaged(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A bundle in which one bit of the model is not what it was."""
    folder = Path(shutil.copytree(bundles["penguins"], tmp_path / "damaged"))
    payload = bytearray((folder / "model.onnx").read_bytes())
    payload[len(payload) // 2] ^= 1
    (folder / "model.onnx").write_bytes(payload)
    return folder


def test_damaged_bundle_is_not_served_but_the_process_lives_and_says_why(start: Start, damaged: Path) -> None:
    server = start(settings(damaged))
    server.wait_until("/health/live", 200)
    refusals = [
        server.get("/health/ready"),
        server.predict(ADELIE),
        server.predict({"instances": [ADELIE]}),
        server.request("POST", "/predict/", hostile.VALID[0]),
        server.predict(b"["),
        server.get("/model"),
        server.get("/openapi.json"),
    ]

    for refusal in refusals:
        body = refusal.json()
        assert (refusal.status, refusal.content_type) == (503, "application/problem+json")
        assert (refusal.codes, body["reason"]) == ([("", "no_model")], "hash_mismatch")
        assert body["request_id"] == refusal.headers["x-request-id"]
        assert int(refusal.headers["retry-after"]) > 0
        assert "x-model-digest" not in refusal.headers
    assert server.get("/version").json()["digest"] is None
    refused = [line for line in map(json.loads, server.stdout_lines) if line["message"] == "model.refused"]
    assert [(line["severity"], line["code"]) for line in refused] == [("ERROR", "hash_mismatch")]
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("others", "code"),
    [
        ({"MODEL_URI": "/nowhere"}, "bundle_missing"),
        ({"MODEL_DIGEST": "0" * 64}, "digest_mismatch"),
    ],
    ids=["missing", "another digest"],
)
def test_bundle_that_is_not_the_one_asked_for_is_not_served(
    start: Start, bundles: dict[str, Path], others: dict[str, str], code: str
) -> None:
    server = start({**settings(bundles["penguins"]), **others})
    server.wait_until("/health/live", 200)
    ready = server.get("/health/ready")

    assert (ready.status, ready.json()["reason"]) == (503, code)


# --- settings


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("PORT", "0", "must be a whole number from 1 to 65535"),
        ("PORT", "eighty", "must be a whole number"),
        ("MAX_INSTANCES", "1e4", "must be a whole number"),
        ("FAST_PATH", "maybe", "must be true or false"),
        ("ENGINE", "tensorflow", "must be one of tables, onnx, xgboost"),
        ("MODEL_DIGEST", "latest", "must be sha256: and 64 hex digits"),
        ("ROOKERY_WORKERS", "0", "must be a whole number from 1 to 64"),
        ("ROOKERY_LOG_LEVEL", "loud", "must be one of"),
        ("ROOKERY_CORS_ORIGINS", "*", "must be origins"),
        ("ROOKERY_WORKER", "2", "did you mean ROOKERY_WORKERS?"),
        ("ROOKERY_ENGINE", "onnx", "is not a setting"),
        ("ROOKERY_XYZ", "", "is not a setting"),
    ],
    ids=lambda value: value or "empty",
)
def test_wrong_setting_stops_the_start_with_one_line_that_names_it(name: str, value: str, hint: str) -> None:
    result = subprocess.run(
        servers.command(),
        cwd=ROOT,
        env=servers.environment({name: value}),
        capture_output=True,
        text=True,
        timeout=servers.DEADLINE_SECONDS,
        check=False,
    )

    assert result.returncode != 0
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert name in result.stderr
    assert hint in result.stderr


def test_variables_of_kubernetes_are_no_settings(start: Start, bundles: dict[str, Path]) -> None:
    kubernetes = {"ROOKERY_SERVICE_HOST": "10.0.0.1", "ROOKERY_PORT_8080_TCP": "tcp://10.0.0.1:8080"}
    server = start(settings(bundles["penguins"], **kubernetes))

    assert server.wait_until("/health/ready", 200).status == 200


def test_port_of_the_settings_is_the_one_it_listens_on(fast_server: Server) -> None:
    listening = [line for line in fast_server.stderr_lines if "Listening at" in line]

    assert len(listening) == 1
    assert f"Listening at: http://127.0.0.1:{fast_server.port} " in listening[0]


def test_limits_of_the_settings_hold(start: Start, bundles: dict[str, Path]) -> None:
    server = start(settings(bundles["penguins"], MAX_INSTANCES="2", MAX_BODY_BYTES="1024"))
    server.wait_until("/health/ready", 200)

    assert server.predict({"instances": [ADELIE] * 2}).status == 200
    assert server.predict({"instances": [ADELIE] * 3}).codes == [("", "too_many_instances")]
    assert server.predict(hostile.VALID[0].ljust(1024)).status == 200
    assert server.predict(hostile.VALID[0].ljust(1025)).codes == [("", "body_too_large")]


def test_log_is_one_json_object_a_line(fast_server: Server) -> None:
    lines = list(map(json.loads, fast_server.stdout_lines))
    (loaded,) = [line for line in lines if line["message"] == "model.loaded"]

    assert {"severity", "message", "time", "logging.googleapis.com/labels"} <= set.intersection(
        *(set(line) for line in lines)
    )
    assert (loaded["severity"], loaded["model"], loaded["engine"]) == ("INFO", "penguins", "tables")


# --- many at once


def post(body: bytes, query: str = "") -> bytes:
    return b"POST /predict%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (query.encode(), len(body), body)


def test_large_batch_in_flight_does_not_keep_health_from_answering(plain_server: Server) -> None:
    body = json.dumps({"instances": [IN_INCHES] * 10_000}).encode()
    with plain_server.open_socket() as sock:
        sock.sendall(post(body, "?on_error=row"))
        live, small = plain_server.get("/health/live"), plain_server.predict(ADELIE)
        has_batch_been_answered = bool(select.select([sock], [], [], 0)[0])
        batch = receive(sock)

    assert (live.status, small.status) == (200, 200)
    assert not has_batch_been_answered
    assert (batch.status, len(batch.json()["predictions"])) == (200, 10_000)


def test_body_that_never_ends_does_not_block_others(fast_server: Server) -> None:
    whole = post(hostile.VALID[0])
    with fast_server.open_socket() as first, fast_server.open_socket() as second:
        first.sendall(whole[:-1])
        second.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n")
        found = [fast_server.predict(ADELIE).status for _ in range(20)]
        first.sendall(whole[-1:])

        assert found == [200] * 20
        assert receive(first).status == 200


def test_client_that_leaves_in_the_middle_harms_nobody(fast_server: Server) -> None:
    workers = fast_server.workers()
    for cut in (1, 30, 70, -1):
        with fast_server.open_socket() as sock:
            sock.sendall(post(hostile.VALID[0])[:cut])

    assert fast_server.predict(ADELIE).status == 200
    assert fast_server.workers() == workers


def test_two_workers_serve(shared: Shared, bundles: dict[str, Path]) -> None:
    server = shared(settings(bundles["penguins"], ROOKERY_WORKERS="2"))
    answers = [server.predict(ADELIE) for _ in range(20)]

    assert len(server.workers()) == 2
    assert [answer.status for answer in answers] == [200] * 20
    assert len({answer.body for answer in answers}) == 1


def test_killed_worker_is_replaced(start: Start, bundles: dict[str, Path]) -> None:
    server = start(settings(bundles["penguins"]))
    server.wait_until("/health/ready", 200)
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    server.wait_for_workers(lambda found: len(found) == 1 and found != [worker])

    assert server.wait_until("/health/ready", 200).status == 200
    assert server.predict(ADELIE).status == 200


# --- development


def test_reload_serves_what_changed(start: Start, bundles: dict[str, Path], tmp_path: Path) -> None:
    for package in ("service", "model"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "data"))
    server = start(settings(bundles["penguins"]), root=tmp_path, arguments=("--reload",))
    assert server.wait_until("/health/live", 200).json() == {"status": "live"}
    workers = server.workers()
    ops = tmp_path / "service/ops.py"
    old = ops.read_text()
    assert old.count('"/health/live"') == 1
    ops.write_text(old.replace('"/health/live"', '"/health/changed"'))

    # Gunicorn's reloader knows a file's time from its first look; a change before that is noticed only by the next one
    answer = server.wait_until("/health/changed", 200, between=lambda: os.utime(ops))
    assert answer.json() == {"status": "live"}
    assert server.workers() != workers
