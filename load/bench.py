"""Measures one-row predictions a second against the limit, as a ratio in one run: `python -m load.bench BUNDLE`."""

from __future__ import annotations

import argparse
import json
import os
import re
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SCRIPT = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{body}]]
"""
SERVERS = {"rookery": [], "limit": ["load.limit:app"]}


@contextmanager
def serving(name: str, bundle: Path) -> Iterator[str]:
    """Run one server on the first core until the block ends; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port), "MODEL_URI": str(bundle), "ROOKERY_LOG_LEVEL": "warning"}
    command = [sys.executable, "-m", "gunicorn", "-c", "service/gunicorn_conf.py", *SERVERS[name]]
    process = subprocess.Popen(command, env=environment, preexec_fn=lambda: os.sched_setaffinity(0, {0}))
    try:
        _wait_until_it_answers(f"http://127.0.0.1:{port}/health/ready", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    """Poll until the server answers 200."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            select.select([], [], [], 0.05)
    raise SystemExit(f"error: {url} did not get ready")


def requests_per_second(address: str, body: str, seconds: int, connections: int) -> float:
    """Load one server from the second core with wrk and return the rate of 2xx replies."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(body=body))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name, f"{address}/predict"]
        cores = sorted(os.sched_getaffinity(0))
        printed = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {cores[-1]}),
        ).stdout
    if "Non-2xx" in printed:
        raise SystemExit(f"error: refusals under load:\n{printed}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    return float(found[1]) if found else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run interleaved rounds and print medians and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m load.bench", description=__doc__)
    parser.add_argument("bundle", type=Path, help="bundle folder of the penguins model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of load per server and round")
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        print("error: wrk is not installed; apt-get install wrk", file=sys.stderr)
        return 2
    body = json.dumps({"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750})
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    for _ in range(given.rounds):
        for name in SERVERS:
            with serving(name, given.bundle) as address:
                requests_per_second(address, body, 1, given.connections)
                rates[name].append(requests_per_second(address, body, given.seconds, given.connections))
    for name, found in rates.items():
        print(f"{name:<10}{statistics.median(found):>10.0f} requests/s  ({min(found):.0f}-{max(found):.0f})")
    ratio = statistics.median(rates["rookery"]) / statistics.median(rates["limit"])
    print(f"rookery / limit: {ratio:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
