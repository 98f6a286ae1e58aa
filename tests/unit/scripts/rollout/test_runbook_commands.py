"""Every command of the runbooks for a rollout, in its order, against a local Cloud Run: the remedy there is right."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from scripts.deploy import revision
from scripts.deploy.release import Release
from scripts.rollout import state as states
from scripts.rollout import wiring
from scripts.rollout.__main__ import main
from scripts.rollout.cloudrun import CloudRun as Real
from scripts.rollout.cloudrun import Services
from scripts.rollout.controller import Controller, End, OnHold
from scripts.rollout.gate import Probe
from scripts.rollout.state import ANNOTATION
from tests.fakes.cloudrun import CloudRun
from tests.fakes.platform import DIGEST, Boundaries, Clock, Killed, Observer, Prober, Recorder

ROOT = Path(__file__).resolve().parents[4]
TEMPLATE = yaml.safe_load((ROOT / "deploy/cloudrun/service.yaml").read_text())
RUNBOOKS = (ROOT / "docs/runbooks.md").read_text()
ENDED = RUNBOOKS.partition("## A rollout ended\n")[2].partition("\n## ")[0]
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", ENDED + "\n", re.MULTILINE | re.DOTALL))
WHERE = ["--project=demo", "--region=us-central1", "--service=x", f"--slo={ROOT / 'slo.toml'}"]


class AnyUrl(Prober):
    """Answers at every address: those of tags are the local Cloud Run's here."""

    def probe(self, candidate_url: str, stable_url: str, digest: str, waited_seconds: float) -> Probe:
        assert candidate_url
        return Probe(digest, self.digest, self.is_ready, waited_seconds, self.is_fallback, self.replay)

    def require_candidate(self, url: str) -> None:
        assert url.startswith("http://candidate---")

    def identify(self, url: str, digest: str) -> Probe:
        is_ready = self.stable_answers or not url.startswith("http://stable")
        return Probe(digest, self.digest, is_ready, 0, self.is_fallback)


class Walk:
    """A service with a stable revision x-1 and a candidate x-2, and somebody who types commands."""

    def __init__(self, cloud: CloudRun, services: Services, environment: dict[str, str]) -> None:
        self.cloud, self.services, self.environment = cloud, services, environment
        self.observer, self.prober, self.recorder = Observer(), AnyUrl(), Recorder()
        self.on_hold = OnHold.BACK
        self.runs, self.seconds = 0, time.time()
        for name in ("x-1", "x-2"):
            self.deploy(name)

    def deploy(self, name: str) -> None:
        made = Release("x", name, "registry.test/rookery:1", "gs://b/x", DIGEST, "r@demo", "demo", {})
        revision.deploy(self.services, TEMPLATE, made)

    def run(self, candidate: str = "", *, killed_at: int | None = None) -> End | None:
        """Run a controller under a clock of its own; None where it was killed."""
        self.runs += 1
        rules = replace(wiring.read_plan(ROOT / "slo.toml", "canary"), look_seconds=300)
        # verbs write the real time
        clock = Clock(max(self.seconds, time.time()), Boundaries())
        if killed_at:
            record = self.recorder.record

            def die(event):
                record(event)
                if (event.name, event.percent) == ("moved", killed_at):
                    self.recorder.record = record
                    raise Killed

            self.recorder.record = die
        controller = Controller(
            Real(self.services, "x"),
            self.observer,
            self.prober,
            self.recorder,
            clock,
            rules,
            f"controller-{self.runs}",
            on_hold=self.on_hold,
        )
        try:
            return controller.run(DIGEST, candidate)
        except Killed:
            return None
        finally:
            self.seconds = clock.seconds

    def say(self, *words: str) -> int:
        """Type `R` and these words."""
        return main([*words, *WHERE], self.environment)


def held(walk: Walk) -> None:
    walk.observer.health = "few"
    assert walk.run() is End.HELD
    walk.observer.health = "good"


def rolled_back(walk: Walk) -> None:
    walk.observer.health = "bad"
    assert walk.run() is End.ROLLED_BACK
    walk.observer.health = "good"


def overruled(walk: Walk) -> None:
    record = walk.recorder.record

    def move(event):
        record(event)
        if (event.name, event.percent) == ("moved", 20):
            walk.cloud.move_traffic("x", {"x-1": 60, "x-2": 40})

    walk.recorder.record = move
    assert walk.run() is End.STOOD_DOWN
    walk.recorder.record = record


def alone(walk: Walk) -> None:
    record = walk.recorder.record

    def fall_silent(event):
        record(event)
        if (event.name, event.percent) == ("moved", 5):
            walk.prober.stable_answers = False

    walk.recorder.record = fall_silent
    assert walk.run() is End.ALONE
    walk.recorder.record = record
    assert walk.cloud.traffic("x") == {"x-1": 95, "x-2": 5}


def superseded(walk: Walk) -> None:
    record = walk.recorder.record

    def deploy(event):
        record(event)
        if (event.name, event.percent) == ("moved", 20):
            walk.deploy("x-3")

    walk.recorder.record = deploy
    assert walk.run() is End.SUPERSEDED
    walk.recorder.record = record
    assert walk.cloud.traffic("x") == {"x-1": 100}


def damaged(walk: Walk) -> None:
    assert walk.run(killed_at=20) is None
    walk.cloud.annotate("x", ANNOTATION, '{"phase":')
    assert walk.say("abort") == 1


def killed(walk: Walk) -> None:
    assert walk.run(killed_at=20) is None
    assert walk.cloud.traffic("x") == {"x-1": 80, "x-2": 20}


# heading → what happened, what is typed, and where the traffic is then
WALKS: list[tuple[str, Callable[[Walk], None], list[str], dict[str, int]]] = [
    ("3: rolled back", rolled_back, ["retry", "run"], {"x-2": 100}),
    ("4: stood down", overruled, ["status", "rollback --yes", "retry", "run"], {"x-2": 100}),
    ("5: held", held, ["resume", "run"], {"x-2": 100}),
    ("5: held", held, ["promote", "run"], {"x-2": 100}),
    ("5: held", held, ["abort"], {"x-1": 100}),
    ("6: rolled back, but the stable revision does not answer", rolled_back, ["status"], {"x-1": 100}),
    ("9: held, and the stable revision does not answer", alone, ["promote", "run"], {"x-2": 100}),
    ("9: held, and the stable revision does not answer", alone, ["mend", "resume", "run"], {"x-2": 100}),
    ("11: superseded", superseded, ["run"], {"x-3": 100}),
    ("11: superseded", superseded, ["run --candidate x-2"], {"x-2": 100}),
    ("Killed, or the network is gone", killed, ["status", "run"], {"x-2": 100}),
    ("Killed, or the network is gone", killed, ["rollback"], {"x-1": 100}),
    ("The annotation is damaged", damaged, ["status", "rollback --yes", "retry", "run"], {"x-2": 100}),
]


def typed(text: str) -> set[str]:
    """Return the verbs that a section lets somebody type, but those that only read a record."""
    found = set(re.findall(r"`(?:R )?(run|status|rollback|retry|resume|promote|abort|approve|pause)\b", text))
    return found | {"run"} if "run the same command again" in text else found


@pytest.fixture
def walk(cloud: CloudRun, services: Services, tmp_path: Path) -> Walk:
    """A service before its rollout."""
    return Walk(cloud, services, cloud.environment(tmp_path))


@pytest.mark.parametrize(("heading", "happens", "words", "shares"), WALKS, ids=[f"{w[0][:9]}-{w[2]}" for w in WALKS])
def test_what_a_runbook_says_brings_the_traffic_where_it_belongs(walk, heading, happens, words, shares, capsys):
    assert heading in SECTIONS
    happens(walk)
    for line in words:
        verb, *more = line.split()
        if verb == "mend":
            walk.prober.stable_answers = True
        elif verb == "run":
            assert walk.run(*more[1:]) is End.PROMOTED
        else:
            assert walk.say(verb, *more) == 0, capsys.readouterr().err
    assert walk.cloud.traffic("x") == shares
    assert states.of(Real(walk.services, "x").read()) is not None


def test_every_command_of_these_runbooks_was_typed():
    walked: dict[str, set[str]] = {}
    for heading, _, words, _ in WALKS:
        walked.setdefault(heading, set()).update(line.split()[0] for line in words)
    # nothing is typed where a pipeline runs it again, where the cause is outside, or where it is deployed again
    elsewhere = {"7: the platform does not answer", "10: the first revision does not pass its smoke test"}
    for heading, text in SECTIONS.items():
        if heading not in elsewhere and not heading.startswith("130"):
            assert typed(text.partition("**Do**")[2]) <= walked[heading], heading


def test_the_remedy_after_a_second_deployment_does_not_promote_the_older_one(walk):
    killed(walk)
    walk.deploy("x-3")
    for verb in ("rollback", "retry"):
        assert walk.say(verb) == 0
    assert walk.run() is End.PROMOTED
    assert walk.cloud.traffic("x") == {"x-3": 100}


def test_rollback_without_a_terminal_asks_by_its_status(walk, capsys, monkeypatch):
    assert walk.run() is End.PROMOTED
    walk.deploy("x-3")
    walk.cloud.move_traffic("x", {"x-3": 100})
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert walk.say("status") == 0
    assert "somebody moved traffic after Rookery" in capsys.readouterr().out
    assert walk.say("rollback") == 12
    said = capsys.readouterr().err
    assert "rollback: x-2 gets 100 %; now: x-3 100 %" in said
    assert said.splitlines()[-1].startswith("error: somebody moved traffic after Rookery")
    assert walk.cloud.traffic("x") == {"x-3": 100}
    assert walk.say("rollback", "--yes") == 0
    assert walk.cloud.traffic("x") == {"x-2": 100}
    # and where nobody else did anything it asks nobody
    assert walk.say("rollback", "--to", "x-1") == 0
    assert walk.cloud.traffic("x") == {"x-1": 100}
    assert [
        value for _, value in walk.cloud.points.kept["custom.googleapis.com/rookery_rollout_candidate_percent"]
    ] == [0]


class Terminal(io.StringIO):
    """A terminal on which somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdin", "status", "shares"),
    [
        (None, 12, {"x-3": 100}),
        (Terminal(""), 12, {"x-3": 100}),
        (Terminal("n\n"), 12, {"x-3": 100}),
        (Terminal("y\n"), 0, {"x-2": 100}),
    ],
    ids=["closed", "end-of-input", "no", "yes"],
)
def test_rollback_asks_once_and_takes_only_yes(walk, monkeypatch, stdin, status, shares):
    assert walk.run() is End.PROMOTED
    walk.deploy("x-3")
    walk.cloud.move_traffic("x", {"x-3": 100})
    monkeypatch.setattr("sys.stdin", stdin)
    assert walk.say("rollback") == status
    assert walk.cloud.traffic("x") == shares


def test_a_revision_that_does_not_exist_is_refused_in_one_line(walk, capsys):
    assert walk.say("rollback", "--to", "x-9") == 1
    said = capsys.readouterr().err.splitlines()
    assert "does not exist" in said[-1]
    assert walk.cloud.traffic("x") == {"x-1": 100}
