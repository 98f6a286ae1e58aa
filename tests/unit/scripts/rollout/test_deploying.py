"""A newer candidate that is asked for and not ready yet, and what goes wrong while a rollout ends."""

from __future__ import annotations

import pytest

from scripts.rollout import state as states
from scripts.rollout.controller import End
from scripts.rollout.platform import Target
from scripts.rollout.state import ANNOTATION, RolloutError
from tests.fakes.platform import NEW, NEWER, OLD
from tests.unit.scripts.rollout.conftest import World
from tests.unit.scripts.rollout.test_left_traffic import killed_at, never_promoted, person, when


def interrupt(world: World) -> None:
    raise KeyboardInterrupt


def hold(world: World) -> None:
    world.observer.health = "few"


@pytest.mark.parametrize(("happens", "end"), [(interrupt, End.INTERRUPTED), (hold, End.HELD)])
@pytest.mark.parametrize("is_ready", [False, True], ids=["starting", "ready"])
def test_a_superseded_candidate_is_not_promoted_after_an_end_beside_a_newer_one(world, happens, end, is_ready):
    def deploy() -> None:
        world.platform.deploy(NEWER, is_ready=is_ready)
        happens(world)

    when(world, "moved", 20, deploy)
    assert world.run() is (End.SUPERSEDED if is_ready else end)
    # at once, although what names a revision that is starting is not served before it is ready
    assert world.platform.shares() == {OLD: 100}
    world.observer.health = "good"
    if end is End.HELD and not is_ready:
        person(world).resume()
    if not is_ready:
        with pytest.raises(RolloutError, match=f"{NEWER} was deployed after it"):
            world.run("two")
        assert world.platform.shares() == {OLD: 100}
    world.platform.deploy(NEWER)
    assert world.run("three") is End.PROMOTED
    assert world.platform.shares() == {NEWER: 100}
    assert never_promoted(world, NEW)


def test_promote_waits_for_a_newer_candidate_that_is_starting(world):
    killed_at(world, 20)
    world.platform.deploy(NEWER, is_ready=False)
    with pytest.raises(RolloutError, match=f"{NEWER} is being deployed"):
        person(world).promote("")
    world.platform.ready()
    assert world.run() is End.PROMOTED
    assert world.platform.shares() == {NEWER: 100}


def test_the_watch_at_100_percent_does_not_end_while_a_newer_candidate_is_starting(world):
    looks = 0
    record = world.recorder.record

    def count(event) -> None:
        nonlocal looks
        record(event)
        if (event.name, event.percent) == ("moved", 100):
            world.platform.deploy(NEWER, is_ready=False)
        looks += (event.name, event.percent) == ("judged", 100)
        if looks == 30 and world.platform.starting:
            world.platform.ready()

    world.recorder.record = count
    assert world.run() is End.SUPERSEDED
    assert looks == 30
    assert world.platform.shares() == {OLD: 100}
    assert states.candidate_of(world.platform.service) == NEWER


@pytest.mark.parametrize("fault", ["unavailable", "conflict"])
@pytest.mark.parametrize("faults", [0, 5, 10])
def test_a_rollout_that_is_superseded_has_patience_with_the_platform(world, fault, faults):
    def deploy() -> None:
        world.platform.deploy(NEWER)
        world.platform.faults = [fault] * faults

    when(world, "moved", 20, deploy)
    assert world.run() is End.SUPERSEDED
    assert world.platform.shares() == {OLD: 100}


@pytest.mark.parametrize("faults", [0, 5])
def test_a_damaged_annotation_does_too(world, faults):
    def damage() -> None:
        world.platform.put(world.platform.service.traffic, {ANNOTATION: "{"})
        world.platform.faults = ["unavailable"] * faults

    when(world, "moved", 20, damage)
    assert world.run() is End.ROLLED_BACK
    assert world.platform.shares() == {OLD: 100}


def test_retry_does_not_hide_traffic_that_is_split(world):
    when(world, "moved", 20, lambda: world.platform.put((Target(OLD, 60), Target(NEW, 40, "candidate"))))
    assert world.run() is End.STOOD_DOWN
    with pytest.raises(RolloutError, match="the traffic is split"):
        person(world).retry()
    person(world).rollback("", is_sure=True)
    person(world).retry()
    assert world.run() is End.PROMOTED


def test_a_candidate_that_was_named_goes_on_without_its_name_until_another_one_is_deployed(world):
    world.platform.deploy(NEWER)
    # rolled back once, so that it begins anew twice
    when(world, "moved", 20, lambda: setattr(world.observer, "health", "bad"))
    assert world.run("one", NEW) is End.ROLLED_BACK
    world.observer.health = "good"
    person(world).retry()
    when(world, "moved", 20, lambda: world.platform.deploy(NEWER))
    assert world.run("two", NEW) is End.SUPERSEDED
    assert world.run("three") is End.PROMOTED
    assert world.platform.shares() == {NEWER: 100}
