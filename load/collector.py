"""A collector of traces for as long as a measurement runs: a child on loopback that writes every span to a file."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load.servers import ROOT, LoadError

MODEL = "model_prediction_span"
# spans are sent once a second
ARRIVE_SECONDS, POLL_SECONDS = 10.0, 0.1

Span = Mapping[str, Any]


@dataclass(frozen=True)
class Collector:
    """A running collector.

    Attributes:
        endpoint: the service's `ROOKERY_TRACE_ENDPOINT`.
        written: its file: the endpoint, then a span a line.
    """

    endpoint: str
    written: Path

    @property
    def settings(self) -> dict[str, str]:
        """Settings with which the service traces here, and only what a caller asks for."""
        return {"ROOKERY_TRACE_ENDPOINT": self.endpoint, "ROOKERY_TRACE_RATE": "0"}

    def spans(self) -> list[Span]:
        """Return what has come so far; a line that is being written does not count yet."""
        whole = self.written.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()[1:]]

    def wait_for(self, wanted: Collection[str]) -> list[Span]:
        """Return the spans as soon as each trace has its root, which is sent last, or when it gets late."""
        deadline = time.monotonic() + ARRIVE_SECONDS
        while True:
            spans = self.spans()
            if set(wanted) <= {span["trace_id"] for span in spans if is_root(span)} or time.monotonic() > deadline:
                return spans
            select.select([], [], [], POLL_SECONDS)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector until the block ends.

    Raises:
        LoadError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="rookery-spans-") as folder:
        written = Path(folder) / "spans"
        with written.open("wb") as out:
            command = [sys.executable, "-m", "tests.fakes.otlp"]
            child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=out)
        try:
            yield Collector(_endpoint(written, child), written)
        finally:
            # it ends with its input
            child.communicate()


def seconds(span: Span) -> float:
    """Return how long a span took."""
    return float(span["end_ns"] - span["start_ns"]) / 1e9


def is_root(span: Span) -> bool:
    """Whether this is a call's own span; it ends last, and is sent after those of its stages."""
    return str(span["name"]).startswith("POST ")


def by_trace(spans: Collection[Span]) -> dict[str, tuple[float, float]]:
    """Return the milliseconds of the model and of the whole call, of each trace that has both."""
    model = {span["trace_id"]: seconds(span) for span in spans if span["name"] == MODEL}
    whole = {span["trace_id"]: seconds(span) for span in spans if is_root(span)}
    return {trace: (round(model[trace] * 1000, 4), round(whole[trace] * 1000, 4)) for trace in whole if trace in model}


def _endpoint(written: Path, child: subprocess.Popen[bytes]) -> str:
    """Wait for the line in which the collector says where it listens."""
    deadline = time.monotonic() + ARRIVE_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        first, end, _ = written.read_text().partition("\n")
        if end:
            return first
        select.select([], [], [], POLL_SECONDS)
    raise LoadError("the collector of traces did not start")
