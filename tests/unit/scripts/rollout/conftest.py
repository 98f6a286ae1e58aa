"""Plans that take no time, and a controller with everything around it in memory."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from scripts.rollout import plan
from scripts.rollout.controller import Controller, End, OnHold
from scripts.rollout.plan import Plan
from tests.fakes.platform import DIGEST, Boundaries, Clock, Observer, Platform, Prober, Recorder

ROOT = Path(__file__).resolve().parents[4]


@dataclass
class World:
    """Everything a controller reaches."""

    plan: Plan
    platform: Platform = field(default_factory=Platform)
    observer: Observer = field(default_factory=Observer)
    prober: Prober = field(default_factory=Prober)
    recorder: Recorder = field(default_factory=Recorder)
    clock: Clock = field(default_factory=Clock)
    on_hold: OnHold = OnHold.BACK
    timeout_seconds: float | None = None

    def controller(self, holder: str = "one") -> Controller:
        return Controller(
            self.platform,
            self.observer,
            self.prober,
            self.recorder,
            self.clock,
            self.plan,
            holder,
            on_hold=self.on_hold,
            timeout_seconds=self.timeout_seconds,
        )

    def run(self, holder: str = "one", candidate: str = "") -> End:
        return self.controller(holder).run(DIGEST, candidate)

    def die_at(self, crossing: int | None) -> Boundaries:
        """Let the controller be killed at one crossing to the world."""
        boundaries = Boundaries(crossing)
        for door in (self.platform, self.observer, self.prober, self.clock):
            door.boundaries = boundaries
        return boundaries


@pytest.fixture(scope="session")
def slo() -> dict[str, Any]:
    """The repository's own slo.toml."""
    return tomllib.loads((ROOT / "slo.toml").read_text())


@pytest.fixture
def canary(slo: dict[str, Any]) -> Plan:
    """The default plan."""
    return plan.read(slo)


@pytest.fixture
def blue_green(slo: dict[str, Any]) -> Plan:
    """The other one."""
    return plan.read(slo, "blue-green")


@pytest.fixture
def world(canary: Plan) -> World:
    """A good candidate of the default plan, with few looks."""
    return World(replace(canary, look_seconds=300))
