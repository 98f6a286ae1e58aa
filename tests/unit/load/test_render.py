"""The report of a deployed host: nothing is known of its processes, but Cloud Monitoring tells."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from load import render
from load.servers import ROOT

SLO = tomllib.loads((ROOT / "slo.toml").read_text())
CLOUD = {
    "instances, active": {"unit": "", "points": [[60.0, 2.0]], "mean": 2.0, "p50": 2.0, "p95": 2.0, "most": 3.0},
    "start-up": {"unit": "ms", "points": [], "count": 3, "mean": 912.5, "p50": 1000.0, "p95": 2000.0, "most": 2000.0},
}


def recorded(name: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / f"docs/load/{name}.json").read_text()))


def deployed(cloud: dict[str, Any]) -> dict[str, Any]:
    """Return the iris run as it would be of a host."""
    run = recorded("iris")
    unknown = {"cpu": None, "cpu_most": None, "memory_mb": None, "caller_cpu": None}
    phases = [{**phase, **unknown} for phase in run["phases"]]
    host = "https://iris-123456789012.europe-west1.run.app"
    return {**run, "host": host, "limits": None, "instance": None, "cold": None} | {
        "phases": phases,
        "cloud": cloud,
    }


def test_of_a_deployed_host_cloud_monitoring_tells():
    text = render.report({"iris": deployed(CLOUD)}, recorded("capacity"), SLO)

    assert "## From Cloud Monitoring" in text
    assert "| iris | instances, active | – | 2.000 | 2.000 | 2.000 | 3.000 |" in text
    assert "| iris | start-up | ms | 912.500 | 1,000.000 | 2,000.000 | 2,000.000 |" in text
    assert "| its own |" in text
    assert "None" not in text


def test_what_could_not_be_had_is_said():
    text = render.report({"iris": deployed({"missing": "403 see roles/monitoring.viewer"})}, recorded("capacity"), SLO)

    assert "- iris: 403 see roles/monitoring.viewer" in text
