"""Loads a server as fast as it answers, from the load core: wrk, or this repository's own slower client without it."""

from __future__ import annotations

import functools
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from load import processes
from load.connections import request_bytes
from load.openloop import Generator
from load.servers import HOST, LoadError, Post, Running

SCRIPT = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
"""
FAILED = re.compile(r"Non-2xx or 3xx responses: \d+|Socket errors: .*")


@dataclass(frozen=True)
class Throughput:
    """What a server did under a closed loop.

    Attributes:
        rate: answers a second.
        cpu_seconds: of all its processes, per answer.
    """

    rate: float
    cpu_seconds: float


def measure(running: Running, post: Post, seconds: float, connections: int) -> Throughput:
    """Load a server for some seconds.

    Raises:
        LoadError: any request was refused or lost.
    """
    spent, begin = processes.cpu_seconds(running.pid), time.perf_counter()
    run = _with_wrk if has_wrk() else _with_python
    answers, rate = run(running, post, seconds, connections)
    if not answers:
        raise LoadError(f"{running.kind.name} answered nothing in {time.perf_counter() - begin:.1f} s")
    return Throughput(rate, (processes.cpu_seconds(running.pid) - spent) / answers)


@functools.cache
def has_wrk() -> bool:
    """Whether wrk is installed; says once what happens without it."""
    if shutil.which("wrk"):
        return True
    print("wrk is not installed (apt-get install wrk): a slower client in Python loads instead", file=sys.stderr)
    return False


def answers_of(printed: str) -> tuple[int, float]:
    """Read what wrk printed.

    Returns:
        Answers, and answers a second.

    Raises:
        LoadError: there were refusals or socket errors, or it is not what wrk prints.
    """
    failed = FAILED.findall(printed)
    if failed:
        raise LoadError("wrk: " + "; ".join(failed))
    answers = re.search(r"^\s*(\d+) requests in ", printed, re.MULTILINE)
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", printed, re.MULTILINE)
    if answers is None or rate is None:
        raise LoadError(f"wrk printed:\n{printed}")
    return int(answers[1]), float(rate[1])


def _with_wrk(running: Running, post: Post, seconds: float, connections: int) -> tuple[int, float]:
    """Load with wrk, one thread."""
    with tempfile.TemporaryDirectory(prefix="rookery-wrk-") as folder:
        body, script = Path(folder) / "body", Path(folder) / "post.lua"
        body.write_bytes(post.body)
        script.write_text(SCRIPT.format(body=body))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s", "--timeout", "30s"]
        command += ["-s", str(script), running.address + post.path]
        found = processes.run_on([processes.LOAD_CORE], command)
    if found.returncode:
        raise LoadError(f"wrk failed: {found.stderr or found.stdout}")
    return answers_of(found.stdout)


def _with_python(running: Running, post: Post, seconds: float, connections: int) -> tuple[int, float]:
    """Load with the client of `load.openloop` in a closed loop; as many requests as a short trial says."""
    payload = request_bytes(running.address.removeprefix("http://"), post.path, post.body)
    trial = Generator((HOST, running.port), payload, connections).run(None, connections * 2)
    wanted = max(int(trial.rate * seconds), connections)
    outcome = Generator((HOST, running.port), payload, connections).run(None, wanted)
    if outcome.failures or trial.failures:
        raise LoadError(f"{running.kind.name}: {outcome.summary()}")
    return len(outcome.latencies), outcome.rate
