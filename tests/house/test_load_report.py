"""The load report says what was recorded, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "docs/load"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the plots are drawn with the versions of one Python")
def test_report_and_plots_are_what_the_recorded_files_say():
    # a child, as matplotlib would stay in this process
    command = [sys.executable, "-m", "load.report", "--check"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout) == (0, ""), found.stdout + found.stderr


def test_every_scenario_is_recorded_in_few_bytes():
    recorded = {path.stem: path.read_text() for path in RECORDED.glob("*.json")}

    assert set(recorded) == {"baseline", "normal", "stress", "spike", "soak", "iris", "overload", "capacity"}
    assert {name: len(text) for name, text in recorded.items() if len(text) > 60_000} == {}
    assert {json.loads(text)["scenario"] for text in recorded.values()} == set(recorded)
    assert all(json.loads(text)["command"][:2] == ["python", "-m"] for text in recorded.values())


def test_nothing_that_serves_knows_locust():
    program = (
        "import sys, service.app, load.run, load.report; print([m for m in ('locust', 'gevent') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert found.stdout == "[]\n"
    sources = [path for folder in ("service", "model", "load", "scripts") for path in (ROOT / folder).rglob("*.py")]
    assert [
        path.name for path in sources if "import locust" in (text := path.read_text()) or "from locust" in text
    ] == ["locustfile.py"]
