"""Starts a real Prometheus that scrapes servers of ours, and asks it."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .servers import DEADLINE_SECONDS, HOST, POLL_SECONDS, ROOT, reserve_port

IS_INSTALLED = shutil.which("prometheus") is not None
RULES = ROOT / "deploy/monitoring/drift.rules.yml"
INTERVAL = "500ms"

Vector = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus.

    Attributes:
        process: its own.
        port: on the loopback address.
        output: what it has written.
    """

    process: subprocess.Popen[bytes]
    port: int
    output: Path

    def query(self, expression: str, *labels: str) -> Vector:
        """Return what an expression gives now: values of labels → value."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request("GET", f"/api/v1/query?query={quote(expression)}")
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status == 503:
            raise ConnectionError("Prometheus is not ready yet")
        found: Any = json.loads(body)
        assert found["status"] == "success", found
        return {
            tuple(one["metric"].get(name, "") for name in labels): float(one["value"][1])
            for one in found["data"]["result"]
        }

    def wait_until(self, is_wanted: Callable[[], object]) -> None:
        """Poll until something holds.

        Raises:
            AssertionError: it has ended, or the deadline has passed.
        """
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                if is_wanted():
                    return
            except (OSError, http.client.HTTPException):
                pass
            ended = _has_ended(self.process)
            assert not ended, self.output.read_text()
            assert time.monotonic() < deadline, "what was waited for did not come"


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ends within a moment."""
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def scraping(ports: Sequence[int], folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes these ports of the loopback address, with the rules that ship."""
    targets = [f"{HOST}:{port}" for port in ports]
    configuration = {
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "rookery", "static_configs": [{"targets": targets}]}],
    }
    # JSON is YAML
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    reservation = reserve_port()
    port = reservation.getsockname()[1]
    # Prometheus shares its port with nobody
    reservation.close()
    output = folder / "prometheus.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={HOST}:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    found = Prometheus(process, port, output)
    try:
        found.wait_until(lambda: len(found.query("up == 1", "instance")) == len(ports))
        yield found
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)
