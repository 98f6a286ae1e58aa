"""What can happen to a release, and what must come of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.cloudrun import Fault
from tests.rehearse.stage import SERVICE, Stage


@dataclass(frozen=True)
class Scenario:
    """One rehearsal.

    Attributes:
        name: on the command line and in the table.
        expected: what must come of it.
        play: plays it and returns what came of it.
        deadline_seconds: of a step, after which it is held.
        needs_gcloud: whether a person's part is played by the real gcloud.
        stable_dies: whether the stable revision is meant to lose requests.
    """

    name: str
    expected: str
    play: Callable[[Stage], str]
    deadline_seconds: int = 60
    needs_gcloud: bool = False
    stable_dies: bool = False

    @property
    def can_be_played(self) -> bool:
        """Whether what it needs is installed."""
        return not self.needs_gcloud or shutil.which("gcloud") is not None


def _release(image: str) -> Callable[[Stage], str]:
    def play(stage: Stage) -> str:
        stable = stage.begin(image)
        return _with_traffic(stage, stage.rollout(), stable)

    return play


def _with_traffic(stage: Stage, ended: str, stable: str) -> str:
    """Say how it ended, and warn where traffic is not as the end says."""
    shares = stage.cloud.traffic(SERVICE)
    whole = {"promoted": shares.get(stable, 0) == 0, "rolled back": shares == {stable: 100}}
    return ended if whole.get(ended, True) else f"{ended}, but traffic is {shares}"


def _never_ready(stage: Stage) -> str:
    stage.begin("good")
    before = stage.cloud.traffic(SERVICE)
    status = stage.deploy("good", uri=f"gs://models/penguins/{'0' * 64}/")
    return "refused" if status == 1 and stage.cloud.traffic(SERVICE) == before else f"status {status}"


def _no_traffic(stage: Stage) -> str:
    stable = stage.begin("good", rate=0)
    return _with_traffic(stage, stage.rollout(), stable)


def _late_metrics(stage: Stage) -> str:
    stable = stage.begin("good")
    stage.cloud.metrics.delay_seconds = 600
    return _with_traffic(stage, stage.rollout(), stable)


def _killed(stage: Stage) -> str:
    stable = stage.begin("good")
    for percent in (20, 50, 100):
        controller = stage.start_controller()
        stage.until(lambda percent=percent: stage.share() >= percent)  # type: ignore[misc]
        controller.kill()
    return _with_traffic(stage, stage.rollout(), stable)


def _two(stage: Stage) -> str:
    stage.begin("good")
    first, second = stage.start_controller(), stage.start_controller()
    return " and ".join(sorted((stage.finish(first), stage.finish(second))))


def _person(stage: Stage) -> str:
    stable = stage.begin("good")
    controller = stage.start_controller()
    stage.until(lambda: stage.share() > 0)
    stage.gcloud(
        "update-traffic", SERVICE, f"--to-revisions={stable}=90,candidate=10".replace("candidate", _new(stage))
    )
    ended = stage.finish(controller)
    return ended if stage.share() == 10 else f"{ended}, but took the person's traffic away"


def _new(stage: Stage) -> str:
    return stage.cloud.resources.find(SERVICE).latest_created


def _api_errors(stage: Stage) -> str:
    stable = stage.begin("good")
    for fault in (Fault(429), Fault(503), Fault(500, applies=True), Fault(503, method="GET", times=3), Fault(429)):
        stage.cloud.fail(fault)
    return _with_traffic(stage, stage.rollout(), stable)


def _dead_stable(stage: Stage) -> str:
    stable = stage.begin("errors")
    controller = stage.start_controller()
    stage.until(lambda: stage.share() > 0)
    # the next write is the rollback
    stage.cloud.fail(Fault(status=0, before=lambda: stage.cloud.kill(stable)))
    ended = stage.finish(controller)
    return (
        ended if stage.cloud.traffic(SERVICE) == {stable: 100} else f"{ended}, traffic {stage.cloud.traffic(SERVICE)}"
    )


def _first(stage: Stage) -> str:
    status = stage.deploy("good")
    shares = stage.cloud.traffic(SERVICE)
    stage.start_load(60)
    return "serves" if status == 0 and list(shares.values()) == [100] else f"status {status}, traffic {shares}"


SCENARIOS = (
    Scenario("good", "promoted", _release("good")),
    Scenario("errors", "rolled back", _release("errors")),
    Scenario("slow", "rolled back", _release("slow")),
    Scenario("wrong", "rolled back", _release("wrong")),
    Scenario("shift", "rolled back", _release("shift")),
    Scenario("never-ready", "refused", _never_ready),
    Scenario("no-traffic", "held", _no_traffic, deadline_seconds=8),
    Scenario("late-metrics", "held", _late_metrics, deadline_seconds=8),
    Scenario("killed", "promoted", _killed),
    Scenario("two-controllers", "promoted and stood down", _two),
    Scenario("person", "stood down", _person, needs_gcloud=True),
    Scenario("api-errors", "promoted", _api_errors),
    Scenario("dead-stable", "unverified", _dead_stable, stable_dies=True),
    Scenario("first", "serves", _first),
)
