"""A local Cloud Run with images that start at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.rollout import credentials
from scripts.rollout.cloudrun import Place, Services
from tests.fakes.cloudrun import CloudRun, Image

STAND_IN = Image((sys.executable, "-m", "tests.fakes.cloudrun_stand_in"))
BROKEN = Image((sys.executable, "-c", "raise SystemExit(1)"))


@pytest.fixture
def cloud() -> Iterator[CloudRun]:
    with CloudRun({"registry.test/rookery": STAND_IN, "registry.test/broken": BROKEN}) as running:
        yield running
        assert running.refused == []


@pytest.fixture
def services(cloud: CloudRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    environment = cloud.environment(tmp_path)
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.setenv(name, environment[name])
    return Services(Place.of("demo", "us-central1", environment), credentials.session(environment), patience_seconds=3)
