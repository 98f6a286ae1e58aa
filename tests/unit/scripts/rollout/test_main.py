"""The command line: what each exit status means, and one line for every mistake."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import pytest

from scripts.rollout import arguments, wiring
from scripts.rollout.__main__ import STATUS, main
from scripts.rollout.controller import End
from scripts.rollout.doors import Event
from scripts.rollout.platform import Target
from scripts.rollout.prometheus import Prometheus
from scripts.rollout.record import Record
from scripts.rollout.state import RolloutError, begin
from scripts.rollout.wiring import UsageError, WallClock
from tests.fakes.platform import NEW, OLD
from tests.unit.scripts.rollout.conftest import ROOT

# gcloud and Google are not to be found
NOWHERE = {"PATH": "", "HOME": "/nonexistent", "GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent", "NO_GCE_CHECK": "true"}
SLO = ["--slo", str(ROOT / "slo.toml")]


@pytest.fixture
def path(world, tmp_path):
    """The record of a rollout that was rolled back."""
    found = tmp_path / "rollouts.jsonl"
    world.recorder = Record(found)
    world.observer.health = "bad"
    assert world.run() is End.ROLLED_BACK
    return found


def test_explain(path, capsys):
    assert main(["explain", "--record", str(path)], NOWHERE) == 0
    assert "errors unhealthy" in capsys.readouterr().out
    assert main(["explain", "--record", str(path), "--json"], NOWHERE) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["name"] == "began"
    assert main(["explain", "--record", str(path), "--postmortem", "--from", "a", "--to", "b"], NOWHERE) == 0
    assert capsys.readouterr().out.startswith("# Rollout svc-00002-new")


def test_replay_tells_by_its_status_whether_anything_differs(path, tmp_path, capsys):
    assert main(["replay", "--record", str(path), *SLO], NOWHERE) == 0
    assert "0 differ" in capsys.readouterr().out
    lenient = tmp_path / "slo.toml"
    text = (ROOT / "slo.toml").read_text()
    lenient.write_text(text.replace("difference_tolerated = 0.002", "difference_tolerated = 0.9"))
    assert main(["replay", "--record", str(path), "--slo", str(lenient)], NOWHERE) == 8
    assert "now inconclusive" in capsys.readouterr().out
    assert main(["replay", "--record", str(path), *SLO, "--json"], NOWHERE) == 0
    assert not json.loads(capsys.readouterr().out.splitlines()[0])["differs"]


def test_simulate(capsys):
    assert main(["simulate", "--rollouts", "2", "--only", "p99 ×2", *SLO], NOWHERE) == 0
    assert "2 rollouts each, seed 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["explain", "--record", "no-such-file"],
            "no-such-file: no rollout was recorded here; name its record with --record",
        ),
        (["simulate", "--slo", "no-such-file"], "no-such-file"),
        (["simulate", *SLO, "--plan", "yolo"], "canary, blue-green"),
        (["simulate", *SLO, "--only", "weather"], "no kind weather; there are: A/A"),
        (["status"], "no project"),
        (["run", "--project", "p", "--region", "r", "--bundle", "no-such-folder"], "no-such-folder is not a folder"),
    ],
    ids=["record", "slo", "plan", "kind", "project", "bundle"],
)
def test_wrong_usage_is_one_line_and_status_2(words, text, capsys):
    assert main(words, NOWHERE) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert text in error
    assert error.count("\n") == 1


def test_every_end_has_a_status_of_its_own():
    assert set(STATUS) == set(End)
    assert len(set(STATUS.values())) == len(End)
    for end, status in STATUS.items():
        assert f"  {status}  " in arguments.EXAMPLES, end


@pytest.mark.parametrize("verb", ["run", "status", "abort", "rollback", "explain", "replay", "simulate", "approve"])
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"], NOWHERE)
    assert ended.value.code == 0
    assert f"example: python -m scripts.rollout {verb}" in capsys.readouterr().out


def test_a_number_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["simulate", "--rollouts", "0"], NOWHERE)
    assert "--rollouts" in capsys.readouterr().err


def test_a_bundle_is_read_through_its_pointer_and_verified(bundles, penguins):
    folder = bundles["penguins"].parent
    given = argparse.Namespace(bundle=str(folder), digest=None)
    if (folder / "current").is_file():
        assert wiring.bundle(given).digest == penguins.digest
    given.bundle = str(bundles["penguins"])
    assert wiring.bundle(given).digest == penguins.digest
    given.digest = "sha256:" + "0" * 64
    with pytest.raises(UsageError):
        wiring.bundle(given)


def test_the_plan_of_a_rollout_under_way_is_the_default(world, blue_green):
    world.plan = replace(blue_green, step_deadline_seconds=0, warm_seconds=0)
    given = argparse.Namespace(plan=None, slo=ROOT / "slo.toml")
    assert wiring.plan_of(world.platform, given).name == "canary"
    world.observer.health = "few"
    assert world.run() is End.HELD
    assert wiring.plan_of(world.platform, given).name == "blue-green"


def test_the_wall_clock_moves():
    clock = WallClock()
    before = clock.now()
    clock.sleep(0.001)
    assert clock.now() > before


def test_the_parts_come_together_from_what_was_given(world, penguins, tmp_path, capsys):
    words = ["run", "--bundle", "x", "--metrics", "http://127.0.0.1:9", "--token", "none", "--webhook", "http://x"]
    given = arguments.parser().parse_args([*words, "--record", str(tmp_path / "r.jsonl"), "--json"])
    controller = wiring.controller(given, NOWHERE, world.platform, world.plan, penguins)
    world.platform.put((Target(OLD, 100),))
    with pytest.raises(RolloutError, match="no revision of svc has the tag candidate"):
        controller.run(penguins.digest)
    assert isinstance(wiring.source(given, NOWHERE), Prometheus)
    given.webhook = ""
    wiring.recorder(given, NOWHERE, world.plan).record(Event(0.0, "began", begin_state(world), 0, "test"))
    assert json.loads(capsys.readouterr().out)["event"] == "began"
    assert (tmp_path / "r.jsonl").is_file()


def begin_state(world):
    world.platform.put((Target(OLD, 100), Target(NEW, 0, "candidate")))
    return begin(world.platform.service, world.plan, 0.0, "one")
