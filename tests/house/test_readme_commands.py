"""The README's commands, as they stand there."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
DEADLINE_SECONDS = 240

pytestmark = pytest.mark.timeout(600)


def command(start: str) -> str:
    """Return the README's command that starts with some words."""
    lines = [line for block in BLOCKS for line in block.splitlines()]
    return next(line for line in lines if line.startswith(start)).split("  #")[0].strip()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(text: str, port: int, output: Path, root: Path = ROOT) -> Iterator[None]:
    """Run `make run` in a process group of its own until it is ready; end the whole group."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV", "MAKE", "MFLAGS"))}
    environment["MODEL_CACHE_DIR"] = str(output.parent / "cache")
    with output.open("w") as file:
        process = subprocess.Popen(
            [*shlex.split(text), f"PORT={port}"],
            cwd=root,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_ready(port):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            process_wait(process, 0.1)
        yield
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End make and what it started, and wait until the last of them is gone."""
    os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while True:
        process_wait(process, 0.1)
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline


def process_wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait a little for a process to end."""
    if process.poll() is not None:
        select.select([], [], [], seconds)
        return
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return


def is_ready(port: int) -> bool:
    """Whether the service answers that it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def post(curl: str, port: int) -> dict[str, object]:
    """Send what a curl command of the README sends, to another port."""
    words = shlex.split(curl)
    name, value = words[words.index("-H") + 1].split(": ")
    url = next(word for word in words if word.startswith("http")).replace(":8080", f":{port}")
    request = urllib.request.Request(url, words[words.index("-d") + 1].encode(), {name: value})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return dict(json.load(reply))


def test_run_then_curl_gives_adelie_and_a_second_run_does_not_train(tmp_path: Path):
    port = free_port()
    with running(command("make run"), port, tmp_path / "first.txt"):
        answer = post(command("curl"), port)
    assert answer["label"] == "Adelie"
    assert answer["prediction"] == 0

    with running(command("make run"), port, tmp_path / "second.txt"):
        again = post(command("curl"), port)
    assert again == answer
    printed = (tmp_path / "second.txt").read_text()
    assert "is up to date" in printed
    assert f"http://127.0.0.1:{port}/predict -d" in printed

    scored = tmp_path / "scored.csv"
    score = command(".venv/bin/python -m model.predict").replace("scored.csv", str(scored))
    found = subprocess.run(["sh", "-c", score], cwd=ROOT, check=False, capture_output=True, text=True)
    assert found.returncode == 1, found.stderr
    assert len(scored.read_text().splitlines()) == 345
