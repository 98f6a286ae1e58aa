"""Measures cold starts, process start to first prediction: `MODEL_URI=… python -m load.cold_start --starts 20`."""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

PHASES = ("imports", "fetch", "verify", "load", "golden", "listen", "total")
BODY = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}


@dataclass(frozen=True)
class Start:
    """One cold start.

    Attributes:
        seconds: from the start of the process to its first prediction, seen from outside.
        phases: what the service itself logged, in seconds.
    """

    seconds: float
    phases: dict[str, float]


def start_once() -> Start:
    """Start Gunicorn with an empty cache, get one prediction, stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cache = tempfile.mkdtemp(prefix="rookery-cold-")
    environment = {**os.environ, "PORT": str(port), "MODEL_CACHE_DIR": cache}
    command = [sys.executable, "-m", "gunicorn", "-c", "service/gunicorn_conf.py"]
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        while not _predicts(port):
            if process.poll() is not None or time.perf_counter() - begin > 30:
                raise SystemExit("error: the service did not get ready; start it by hand to see why")
            select.select([], [], [], 0.005)
        seconds = time.perf_counter() - begin
    finally:
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=20)
        shutil.rmtree(cache, ignore_errors=True)
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    told = next(line for line in lines if line["message"] == "service.started")
    return Start(seconds, {phase: told[f"{phase}_seconds"] for phase in PHASES})


def _predicts(port: int) -> bool:
    """Whether a prediction is answered."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", json.dumps(BODY).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the starts one after the other and print medians and the 95th percentile."""
    parser = argparse.ArgumentParser(prog="python -m load.cold_start", description=__doc__)
    parser.add_argument("--starts", type=int, default=20)
    given = parser.parse_args(arguments)
    start_once()  # fills the disk cache
    starts = [start_once() for _ in range(given.starts)]
    seconds = sorted(start.seconds for start in starts)
    p95 = seconds[min(len(seconds) - 1, round(0.95 * len(seconds)))]
    print(
        f"{given.starts} starts: first prediction after {statistics.median(seconds):.3f} s (median), {p95:.3f} s (p95)"
    )
    for phase in PHASES:
        print(f"  {phase:<10}{statistics.median(start.phases[phase] for start in starts):.4f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
