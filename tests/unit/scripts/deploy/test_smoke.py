"""What a new revision must answer before anybody is let in."""

from __future__ import annotations

import pytest

from scripts.deploy.smoke import Unfit, note_unfit, smoke
from scripts.rollout import state as states
from scripts.rollout import wiring
from scripts.rollout.cloudrun import CloudRun, Services
from scripts.rollout.gate import Probe, Replay
from scripts.rollout.plan import Plan
from tests.fakes.cloudrun import CloudRun as Fake
from tests.unit.scripts.deploy.test_revision import ROOT, TEMPLATE, release, revision

DIGEST = "sha256:" + "a" * 64
RIGHT = Replay(256, 0, 0, 0, 0.0)


@pytest.fixture
def rules() -> Plan:
    """The repository's own plan."""
    return wiring.read_plan(ROOT / "slo.toml", "canary")


class Asked:
    """Answers one probe after the other, the last one for ever."""

    def __init__(self, *probes: Probe) -> None:
        self.probes = list(probes)

    def probe(self, candidate_url: str, stable_url: str, digest: str, waited_seconds: float) -> Probe:
        assert (candidate_url, stable_url, digest) == ("http://x", "", DIGEST)
        return self.probes.pop(0) if len(self.probes) > 1 else self.probes[0]


def answer(served: str | None = DIGEST, *, ready: bool = True, fallback: bool = False, replay: Replay = RIGHT) -> Probe:
    return Probe(DIGEST, served, ready, 0.0, fallback, replay if ready else None)


def test_a_revision_that_is_what_it_is_meant_to_be_passes_once_it_answers(rules: Plan):
    smoke(Asked(answer(None, ready=False), answer()), "http://x", DIGEST, rules)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (answer("sha256:" + "b" * 64), "intended is"),
        (answer(fallback=True), "fallback"),
        (answer(replay=Replay(256, 1, 0, 0, 0.0)), "1 of 256 golden rows"),
        (answer(None, ready=False), "does not answer 200"),
    ],
    ids=["digest", "fallback", "golden", "silent"],
)
def test_whatever_else_it_answers_it_is_unfit(rules: Plan, probe: Probe, words: str):
    with pytest.raises(Unfit, match=words):
        smoke(Asked(probe), "http://x", DIGEST, rules, patience_seconds=0.1)  # type: ignore[arg-type]


def test_the_revision_after_an_unfit_first_one_takes_its_place(cloud: Fake, services: Services):
    assert revision.deploy(services, TEMPLATE, release("x-1")).is_first
    note_unfit(services, "x", "x-1", "golden", 1000.0)
    assert revision.deploy(services, TEMPLATE, release("x-2")).is_first
    assert cloud.traffic("x") == {"x-2": 100}

    assert not revision.deploy(services, TEMPLATE, release("x-3")).is_first
    assert cloud.traffic("x") == {"x-2": 100}
    found = states.of(CloudRun(services, "x").read())
    assert found is not None
    assert (found.candidate, found.phase) == ("x-1", states.Phase.ROLLED_BACK)
