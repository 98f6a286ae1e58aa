"""What can happen to a release, and what must come of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.cloudrun import Fault, Outage
from tests.rehearse import left
from tests.rehearse.account import Harm
from tests.rehearse.stage import FIRST_PERCENT, SERVICE, Stage


@dataclass(frozen=True)
class Scenario:
    """One rehearsal.

    Attributes:
        name: on the command line and in the table.
        expected: what must come of it.
        play: plays it and returns what came of it.
        deadline_seconds: of a step, after which it is held.
        needs_gcloud: whether a person's part is played by the real gcloud.
        harm: who may lose a request, and nobody else.
        first_percent: share of the first step.
        percent: the largest share that a bad candidate may have; None for that of the first step.
    """

    name: str
    expected: str
    play: Callable[[Stage], str]
    deadline_seconds: int = 60
    needs_gcloud: bool = False
    harm: Harm = Harm.NONE
    first_percent: int = FIRST_PERCENT
    percent: int | None = None

    @property
    def can_be_played(self) -> bool:
        """Whether what it needs is installed."""
        return not self.needs_gcloud or shutil.which("gcloud") is not None


def _release(image: str, *more: str) -> Callable[[Stage], str]:
    def play(stage: Stage) -> str:
        stable = stage.begin(image, *more)
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
    # nobody looks whether the bundle is there, as with gcloud's own commands
    status = stage.deploy("good", "--no-smoke", uri=f"gs://models/penguins/{'0' * 64}/")
    return DEPLOYED[status] if stage.cloud.traffic(SERVICE) == before else f"status {status}, traffic moved"


def _unfit(stage: Stage) -> str:
    stage.begin("good")
    before = stage.cloud.traffic(SERVICE)
    status = stage.deploy("wrong")
    return DEPLOYED[status] if stage.cloud.traffic(SERVICE) == before else f"status {status}, traffic moved"


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
    stage.gcloud("update-traffic", SERVICE, f"--to-revisions={stable}=90,{stage.newest}=10")
    ended = stage.finish(controller)
    return ended if stage.share() == 10 else f"{ended}, but took the person's traffic away"


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


def _dead_before(image: str) -> Callable[[Stage], str]:
    """The stable revision dies as soon as the candidate has traffic, long before there is a verdict."""

    def play(stage: Stage) -> str:
        stable = stage.begin(image)
        controller = stage.start_controller()
        stage.until(lambda: stage.share() > 0)
        stage.cloud.kill(stable)
        ended = stage.finish(controller)
        share = stage.share()
        return ended if share == {"unverified": 0, "alone": FIRST_PERCENT}.get(ended) else f"{ended}, share {share}"

    return play


def _dies(percent: int, outage: Outage | None = None, *, metrics: str = "") -> Callable[[Stage], str]:
    """A good candidate dies once it has a share: wholly, its process, or in part."""

    def play(stage: Stage) -> str:
        if metrics:
            stage.metrics = metrics
        stable = stage.begin("good")

        def die(candidate: str) -> None:
            if outage is None:
                stage.cloud.kill(candidate)
            else:
                stage.cloud.break_down(candidate, outage)

        return _with_traffic(stage, stage.rollout_to_the_death(percent, die), stable)

    return play


def _monitoring(image: str, *, has_sidecar: bool = True) -> Callable[[Stage], str]:
    """As `make rollout` does by itself: metrics from Cloud Monitoring, at its worst."""

    def play(stage: Stage) -> str:
        stage.metrics = "monitoring"
        watch = stage.cloud.monitoring
        watch.delay_seconds, watch.spread_seconds, watch.points_per_page, watch.refuse_every = 0.5, 1.5, 10, 9
        watch.has_sidecar = has_sidecar
        ended = _release(image)(stage)
        assert watch.asked.get(429), "the quota was never used up"
        assert stage.entries, "nothing was written to Cloud Logging"
        return ended

    return play


def _first(stage: Stage) -> str:
    status = stage.deploy("good")
    stage.start_load(60)
    ended = stage.rollout()
    shares = stage.cloud.traffic(SERVICE)
    is_whole = list(shares.values()) == [100] and not any(one.get("tag") for one in stage.targets())
    return ended if status == 0 and is_whole else f"deploy {status}, {ended}, traffic {shares}"


def _first_unfit(stage: Stage) -> str:
    """The first revision answers wrongly; the next one takes its place without having to be better than it."""
    unfit, refused = stage.deploy("wrong"), stage.rollout()
    mended = stage.deploy("good")
    stage.start_load(60)
    ended = stage.rollout()
    seen = f"{DEPLOYED[unfit]}, {refused}, then {DEPLOYED[mended]}, {ended}"
    return ended if seen == "unfit, failed, then deployed, promoted" else seen


DEPLOYED = {0: "deployed", 1: "failed", 2: "refused", 3: "outrun", 4: "unfit"}
BAD, DIES = Harm.CANDIDATE, Harm.STABLE
# what only the platform sees: the service counts nothing of it, and golden rows at the tag's address are answered
HIDDEN = Outage(0.5, is_traffic_only=True)
SCENARIOS = (
    Scenario("good", "promoted", _release("good")),
    Scenario("errors", "rolled back", _release("errors"), harm=BAD),
    Scenario("slow", "rolled back", _release("slow")),
    Scenario("wrong", "unfit", _unfit),
    Scenario("wrong-unasked", "rolled back", _release("wrong", "--no-smoke")),
    Scenario("shift", "rolled back", _release("shift"), harm=BAD),
    Scenario("never-ready", "failed", _never_ready),
    Scenario("no-traffic", "held", _no_traffic, deadline_seconds=8),
    Scenario("late-metrics", "held", _late_metrics, deadline_seconds=8),
    Scenario("killed", "promoted", _killed),
    Scenario("two-controllers", "promoted and stood down", _two),
    Scenario("person", "stood down", _person, needs_gcloud=True),
    Scenario("api-errors", "promoted", _api_errors),
    Scenario("dead-stable", "unverified", _dead_stable, harm=DIES),
    Scenario("dead-before", "unverified", _dead_before("errors"), harm=DIES),
    Scenario("dead-before-good", "alone", _dead_before("good"), deadline_seconds=15, harm=DIES),
    Scenario("dies-at-5", "rolled back", _dies(5), harm=BAD, first_percent=5),
    Scenario("dies-at-50", "rolled back", _dies(50), harm=BAD, percent=50),
    Scenario("dies-at-100", "rolled back", _dies(100), harm=BAD, percent=100),
    Scenario("half-dies", "rolled back", _dies(FIRST_PERCENT, Outage(0.5)), harm=BAD),
    Scenario("half-dies-at-100", "rolled back", _dies(100, Outage(0.5)), harm=BAD, percent=100),
    Scenario("no-predict", "rolled back", _dies(FIRST_PERCENT, Outage(path="/predict")), harm=BAD),
    Scenario("no-health", "rolled back", _dies(FIRST_PERCENT, Outage(path="/health"))),
    Scenario("platform-errors", "rolled back", _dies(FIRST_PERCENT, HIDDEN, metrics="monitoring"), harm=BAD),
    Scenario("monitoring", "promoted", _monitoring("good")),
    Scenario("monitoring-errors", "rolled back", _monitoring("errors"), harm=BAD),
    Scenario("no-sidecar", "rolled back", _monitoring("errors", has_sidecar=False), harm=BAD),
    Scenario("first", "promoted", _first),
    Scenario("first-unfit", "promoted", _first_unfit),
    Scenario("second-deploy", "superseded, then promoted", left.second_deploy),
    Scenario("second-dead", "left, then promoted", left.second_deploy_dead),
    Scenario("damaged", "rolled back", left.damaged),
    Scenario("terminated", "interrupted, then promoted", left.terminated),
    Scenario("held-back", "held", left.held, deadline_seconds=8),
)
