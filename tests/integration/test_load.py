"""Locust, as a child, against the real service."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from load import preflight
from load.preflight import Stop
from load.traffic import MIX
from tests.integration import servers
from tests.integration.servers import ROOT, Server

WORDS = [sys.executable, "-m", "locust", "-f", "load/locustfile.py", "--headless", "-u", "4", "-r", "4", "-t", "4s"]


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("load")
    running = servers.start({"MODEL_URI": str(bundles["penguins"]), "MODEL_CACHE_DIR": str(folder / "cache")}, folder)
    try:
        running.wait_until("/health/ready", 200)
        yield running
    finally:
        running.stop()


def locust(host: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Locust for a few seconds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "LOAD_"))}
    return subprocess.run(
        [*WORDS, "--host", host],
        cwd=ROOT,
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("golden", [False, True], ids=["random rows", "golden rows"])
def test_locust_sends_what_the_model_takes_and_finds_every_answer_right(
    server: Server, bundles: dict[str, Path], tmp_path: Path, golden: bool
):
    samples = tmp_path / "samples.json.gz"
    bundle = str(bundles["penguins"]) if golden else ""
    found = locust(server.url, LOAD_SAMPLES=str(samples), LOAD_BUNDLE=bundle, LOAD_TRACED_EVERY="2")
    columns = json.loads(gzip.decompress(samples.read_bytes()))["samples"]

    assert found.returncode == 0, found.stdout + found.stderr
    assert len(columns["start"]) >= 4
    assert {len(column) for column in columns.values()} == {len(columns["start"])}
    assert set(columns["failure"]) == {""}
    pairs = zip(columns["kind"], columns["total_ms"], strict=True)
    assert [total for kind, total in pairs if kind == "single" and total is None] == []
    singles = [trace for kind, trace in zip(columns["kind"], columns["trace_id"], strict=True) if kind == "single"]
    assert sum(map(bool, singles)) == len(singles) // 2
    assert len({trace for trace in columns["trace_id"] if trace}) == len(singles) // 2


def test_locust_stops_before_it_loads_another_model(server: Server, bundles: dict[str, Path]):
    found = locust(server.url, LOAD_BUNDLE=str(bundles["iris"]))

    assert found.returncode == 3
    assert "error: wrong answers:" in found.stderr
    assert sum("POST /predict" in line for line in server.stdout_lines) == 0


def test_preflight_knows_which_kinds_the_service_answers(server: Server, bundles: dict[str, Path]):
    target = preflight.inspect(server.url, {}, bundles["penguins"])

    assert target.mix == MIX
    assert target.bundle.golden


def test_preflight_tells_a_service_without_model(tmp_path: Path):
    running = servers.start({"MODEL_URI": str(tmp_path / "none")}, tmp_path)
    try:
        running.wait_until("/health/ready", 503)
        with pytest.raises(Stop, match="reason bundle_missing"):
            preflight.inspect(running.url, {}, None)
    finally:
        running.stop()
