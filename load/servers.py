"""Starts what is measured, each in the same way: ours, the limit, the peers."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load import groups
from load.bundles import Bundle, Instance
from load.processes import SERVER_CORE

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
READY_SECONDS = 60
STOP_SECONDS = 20
POLL_SECONDS = 0.002
# XGBoost and ONNX Runtime agree to 1e-6; the peers' float32 reaches JSON unrounded
TOLERANCE = 1e-5
CHECKED_ROWS = 20

PEERS = Path(".venv-peers/bin/python")


class LoadError(Exception):
    """A measurement is worth nothing: something refused, broke or answered wrongly."""


@dataclass(frozen=True)
class Post:
    """A request: path and JSON body."""

    path: str
    body: bytes


def _post_one(instance: Instance) -> Post:
    return Post("/predict", json.dumps(instance).encode())


def _post_batch(instances: Sequence[Instance]) -> Post:
    return Post("/predict", json.dumps({"instances": instances}).encode())


def _post_batch_apart(instances: Sequence[Instance]) -> Post:
    return Post("/predict/batch", json.dumps({"instances": instances}).encode())


def _post_tensor(instance: Instance) -> Post:
    tensor = {"name": "input", "shape": [1, len(instance)], "datatype": "FP32", "data": list(instance.values())}
    return Post("/v2/models/penguins/infer", json.dumps({"inputs": [tensor]}).encode())


def _probabilities(reply: Any) -> list[float]:
    return list(reply["probabilities"].values())


@dataclass(frozen=True)
class Kind:
    """A server that can be measured.

    Attributes:
        name: as it is printed.
        command: `{port}` and `{bundle}` are filled in.
        environment: likewise; nothing else but PATH and HOME reaches the server.
        one: words a request for one instance.
        batch: words a request for many; None where there is no such route.
        probabilities: reads an answer for one instance; None if it never is a prediction.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    one: Callable[[Instance], Post] = _post_one
    batch: Callable[[Sequence[Instance]], Post] | None = None
    probabilities: Callable[[Any], list[float]] | None = _probabilities


@dataclass(frozen=True)
class Running:
    """A server that answers predictions.

    Attributes:
        kind: what it is.
        port: on loopback.
        pid: of its first process.
        start_seconds: from the start of the process to the first prediction.
        output: what it has printed, as long as it runs.
    """

    kind: Kind
    port: int
    pid: int
    start_seconds: float
    output: Path

    @property
    def address(self) -> str:
        """The base URL."""
        return f"http://{HOST}:{self.port}"


_GUNICORN = (sys.executable, "-m", "gunicorn", "-c", "service/gunicorn_conf.py")
_OURS = {"PORT": "{port}", "MODEL_URI": "{bundle}", "MODEL_DIGEST": "{digest}", "MODEL_CACHE_DIR": "{scratch}/cache"}
_UVICORN = (str(PEERS), "-m", "uvicorn", "--port", "{port}")
_PEER = {"BUNDLE": "{bundle}"}

ROOKERY = Kind("rookery", _GUNICORN, _OURS, batch=_post_batch)
LIMIT = Kind("limit", (*_GUNICORN, "--worker-class", "asgi", "load.limit:app"), _OURS, probabilities=None)
TUNED = Kind(
    "tuned",
    (*_UVICORN, "--loop", "uvloop", "--http", "httptools", "--no-access-log", "load.peers.tuned:app"),
    _PEER,
    batch=_post_batch_apart,
)
TUTORIAL = Kind("tutorial", (*_UVICORN, "load.peers.tutorial:app"), _PEER)
# it speaks the Open Inference Protocol
MLSERVER = Kind(
    "mlserver",
    (".venv-mlserver/bin/mlserver", "start", "load/peers/mlserver"),
    {
        **_PEER,
        "PYTHONPATH": str(ROOT),
        "MLSERVER_HTTP_PORT": "{port}",
        "MLSERVER_GRPC_PORT": "{second_port}",
    },
    one=_post_tensor,
    probabilities=lambda reply: list(reply["outputs"][0]["data"]),
)


@contextmanager
def serving(
    kind: Kind,
    bundle: Bundle,
    cores: Collection[int] = (SERVER_CORE,),
    settings: Mapping[str, str] | None = None,
    within: Collection[Path] = (),
) -> Iterator[Running]:
    """Run a server on its own cores until the block ends; it has answered a prediction, and rightly, before that.

    Args:
        kind: what to start.
        bundle: what it serves.
        cores: its affinity.
        settings: environment beyond that of the kind, which it overrides.
        within: control groups that it starts in.

    Raises:
        LoadError: it does not get ready, or answers golden rows otherwise than the manifest.
    """
    with tempfile.TemporaryDirectory(prefix="rookery-bench-") as scratch:
        port = free_port()
        known = {
            "port": str(port),
            "second_port": str(free_port()),
            "bundle": str(bundle.folder),
            "digest": bundle.digest,
            "scratch": scratch,
        }
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {name: value.format_map(known) for name, value in kind.environment.items()} | dict(
            settings or {}
        )
        output = Path(scratch) / "output"
        with output.open("wb") as file:
            begin = time.perf_counter()
            process = subprocess.Popen(
                [word.format_map(known) for word in kind.command],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: _enter(cores, within),
            )
        try:
            _wait_until_it_predicts(kind, bundle, port, process, output)
            running = Running(kind, port, process.pid, time.perf_counter() - begin, output)
            check_answers(running, bundle)
            yield running
        finally:
            _stop(process)


def _enter(cores: Collection[int], within: Collection[Path]) -> None:
    """Confine this process and what it starts."""
    os.sched_setaffinity(0, cores)
    for group in within:
        groups.enter(group, os.getpid())


def free_port() -> int:
    """Let the system choose a port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def send(port: int, post: Post) -> tuple[int, bytes]:
    """Send one request over a connection of its own; return status and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=READY_SECONDS)
    try:
        connection.request("POST", post.path, post.body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def check_answers(running: Running, bundle: Bundle) -> None:
    """Compare answers to golden rows with the known ones: who answers something else is no peer.

    Raises:
        LoadError: they differ.
    """
    read = running.kind.probabilities
    for instance, known in bundle.golden[:CHECKED_ROWS] if read is not None else ():
        status, body = send(running.port, running.kind.one(instance))
        found = read(json.loads(body)) if read is not None and status == 200 else []
        if len(found) != len(known) or max(abs(a - b) for a, b in zip(found, known, strict=True)) > TOLERANCE:
            raise LoadError(f"{running.kind.name} answers {status} {body[:200]!r} where {known} is known")


def _wait_until_it_predicts(
    kind: Kind, bundle: Bundle, port: int, process: subprocess.Popen[bytes], output: Path
) -> None:
    """Poll with a real prediction until it is answered.

    Raises:
        LoadError: the process ended, or the deadline has passed.
    """
    post = kind.one(bundle.golden[0][0])
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if send(port, post)[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        select.select([], [], [], POLL_SECONDS)
    raise LoadError(f"{kind.name} did not get ready:\n{output.read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server as a platform does, and by force if it hangs."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
