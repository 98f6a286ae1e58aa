"""What can leave traffic where nobody judges it: a second deployment, a damaged annotation, a signal, a hold."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

from scripts.rollout.state import ANNOTATION
from tests.rehearse.stage import SERVICE, Stage


def _paused(stage: Stage, image: str = "good") -> tuple[str, subprocess.Popen[str]]:
    """Bring a candidate to its first share and pause there; returns the stable revision and the controller."""
    stable = stage.begin(image)
    controller = stage.start_controller()
    stage.until(lambda: stage.share() > 0)
    assert stage.say("pause") == 0, "the rollout could not be paused"
    return stable, controller


def _back(stage: Stage, stable: str, happens: Callable[[], object]) -> None:
    """Let something happen, wait until the stable revision has everything, and print how long that took."""
    began = time.monotonic()
    happens()
    stage.until(lambda: stage.cloud.traffic(SERVICE) == {stable: 100})
    print(f"  traffic back after {time.monotonic() - began:.1f} s", flush=True)


def _newest_is_promoted(stage: Stage, ended: str, superseded: str) -> str:
    promoted = stage.rollout()
    served = {one.revision for one in stage.cloud.log if not one.tag}
    shares = stage.cloud.traffic(SERVICE)
    whole = shares == {stage.newest: 100} and superseded in served
    return f"{ended}, then {promoted}" if whole else f"{ended}, then {promoted}, traffic {shares}"


def second_deploy(stage: Stage) -> str:
    """A newer candidate is deployed while the controller of an older one works."""
    stable, controller = _paused(stage)
    older = stage.newest
    assert stage.deploy("good") == 0, "the second deployment failed"
    _back(stage, stable, lambda: None)
    return _newest_is_promoted(stage, stage.finish(controller), older)


def second_deploy_dead(stage: Stage) -> str:
    """A newer candidate is deployed after the controller of an older one was killed."""
    stable, controller = _paused(stage)
    older = stage.newest
    controller.kill()
    assert stage.deploy("good") == 0, "the second deployment failed"
    left = stage.cloud.traffic(SERVICE)
    ended = "left" if left.get(older) and left.get(stable) else f"traffic {left}"
    return _newest_is_promoted(stage, ended, older)


def damaged(stage: Stage) -> str:
    """The annotation is damaged in the middle of a rollout."""
    stable, controller = _paused(stage)
    _back(stage, stable, lambda: stage.cloud.annotate(SERVICE, ANNOTATION, '{"phase": "step", "step": 1e400'))
    ended = stage.finish(controller)
    return ended if stage.cloud.traffic(SERVICE) == {stable: 100} else f"{ended}, traffic moved again"


def terminated(stage: Stage) -> str:
    """The controller gets SIGTERM, twice, as `timeout` sends it; the next one begins again."""
    stable = stage.begin("good")
    controller = stage.start_controller()
    stage.until(lambda: stage.share() > 0)

    def end() -> None:
        controller.send_signal(signal.SIGTERM)
        controller.send_signal(signal.SIGTERM)

    _back(stage, stable, end)
    ended = stage.finish(controller)
    return f"{ended}, then {stage.rollout()}"


def held(stage: Stage) -> str:
    """Metrics that are missing let the rollout be held: the candidate's share goes back."""
    stable = stage.begin("good")
    stage.cloud.metrics.delay_seconds = 600
    ended = stage.rollout()
    return (
        ended if stage.cloud.traffic(SERVICE) == {stable: 100} else f"{ended}, traffic {stage.cloud.traffic(SERVICE)}"
    )
