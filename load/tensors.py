"""Batches sent by Triton's own client, against MLServer: what the Open Inference Protocol costs.

Raw tensors where the server takes them, which MLServer does not over HTTP: there, and for comparison here, JSON.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from load import processes, servers
from load.parts import BATCH_ROWS, WARM_UP_SECONDS, Bench, say
from load.servers import HOST, MLSERVER, ROOKERY, ROOT, LoadError, Running
from load.verdicts import Demand

CLIENT = (".venv-mlserver/bin/python", "load/peers/triton.py")
# server, the tensor that holds all rows, form, and how that is called
CONTESTANTS = (
    (ROOKERY, "instances", "raw", "rookery"),
    (ROOKERY, "instances", "json", "rookery, JSON"),
    (MLSERVER, "input", "json", "mlserver"),
)
CONNECTIONS = 4
TOLERANCE = 1e-5
MUST, AIM = 2.0, 3.0


def tensors(bench: Bench) -> None:
    """Batches of 1,000 rows in raw tensors a second; only where MLServer takes part, whose environment has the client.

    Raises:
        LoadError: one was refused, or the two answer differently.
    """
    if not bench.with_mlserver:
        return
    for title, name, must, aim in (
        ("batches in tensors", "rookery", MUST, AIM),
        ("both in JSON", "rookery, JSON", 1, 2),
    ):
        over, under = (name, "tensor_rate"), ("mlserver", "tensor_rate")
        bench.demands.append(Demand(f"{title} / MLServer", "tensors", over, under, must, aim, at_least=True))
    rows = np.array([list(one.values()) for one in bench.bundle.instances(BATCH_ROWS)], np.float32)
    with tempfile.TemporaryDirectory(prefix="rookery-tensors-") as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, rows)
        for number in range(bench.rounds):
            first, *others = [_measure(bench, *contestant, path) for contestant in CONTESTANTS]
            if any(np.abs(first - other).max() > TOLERANCE for other in others):
                raise LoadError("the same rows are answered differently")
            say(f"tensors {number + 1}/{bench.rounds}")


def _measure(bench: Bench, kind: servers.Kind, tensor: str, form: str, name: str, path: Path) -> np.ndarray:
    """Load one server, keep rate and processor time, and return the probabilities of the rows."""
    with servers.serving(kind, bench.bundle) as running:
        _send(running, tensor, form, path, min(WARM_UP_SECONDS, bench.seconds))
        before = processes.cpu_seconds(running.pid)
        told = _send(running, tensor, form, path, bench.seconds)
        spent = processes.cpu_seconds(running.pid) - before
    rate = told["answers"] / told["seconds"]
    bench.add(name, "tensor_rate", rate)
    bench.add(name, "tensor_cpu", spent / told["answers"])
    say(f"tensors: {name} {rate:.0f} batches/s")
    return np.array(told["probabilities"]).reshape(BATCH_ROWS, -1)


def _send(running: Running, tensor: str, form: str, path: Path, seconds: float) -> dict[str, float]:
    """Run the client on the load's core."""
    words = [f"{HOST}:{running.port}", tensor, str(path), str(seconds), str(CONNECTIONS), form]
    done = processes.run_on([processes.LOAD_CORE], [*CLIENT, *words], ROOT)
    if done.returncode:
        raise LoadError(f"{running.kind.name}, tensors: {done.stderr.strip()[-500:]}")
    return dict(json.loads(done.stdout))
