"""What a person says to a rollout."""

from __future__ import annotations

import pytest

from scripts.rollout import state as states
from scripts.rollout import verbs
from scripts.rollout.controller import End, OnHold
from scripts.rollout.platform import Target, Unavailable
from scripts.rollout.state import Phase, RolloutError
from scripts.rollout.verbs import Person
from tests.fakes.platform import NEW, OLD


@pytest.fixture
def held(world):
    """A rollout that is held at 5 %."""
    world.observer.health = "few"
    world.on_hold = OnHold.KEEP
    assert world.run() is End.HELD
    return world


def person(world):
    return Person(world.platform, world.clock, world.plan)


def test_resume_lets_the_next_run_go_on(held):
    assert not person(held).resume().is_paused
    held.observer.health = "good"
    assert held.run("two") is End.PROMOTED


def test_approve_is_for_the_next_step_only(held):
    assert person(held).approve().approved == 1


def test_pause_keeps_the_traffic(held):
    person(held).resume()
    assert person(held).pause("lunch").reason == "lunch"
    assert held.platform.shares() == {OLD: 95, NEW: 5}


@pytest.mark.parametrize(("verb", "phase"), [("abort", Phase.ABORTED), ("rollback", Phase.ROLLED_BACK)])
def test_abort_and_rollback_are_one_write(held, verb, phase):
    count = len(held.platform.writes)
    assert getattr(person(held), verb)("labels").phase is phase
    assert len(held.platform.writes) == count + 1
    assert held.platform.shares() == {OLD: 100}
    with pytest.raises(RolloutError, match="labels; to try again: retry"):
        held.run("two")


def test_retry_lets_a_candidate_begin_again(held):
    with pytest.raises(RolloutError, match="nothing to retry"):
        person(held).retry()
    person(held).abort("")
    person(held).retry()
    held.observer.health = "good"
    assert held.run("two") is End.PROMOTED


def test_promote_gives_everything_and_run_watches(held):
    assert person(held).promote("urgent").phase is Phase.WARM
    assert held.platform.shares() == {NEW: 100}
    held.observer.health = "bad"
    assert held.run("two") is End.ROLLED_BACK
    assert held.platform.shares() == {OLD: 100}


def test_rollback_works_after_the_end_too(world):
    assert world.run() is End.PROMOTED
    for verb in ("pause", "abort", "promote"):
        with pytest.raises(RolloutError, match="is over: promoted"):
            getattr(person(world), verb)("")
    person(world).rollback("complaints")
    assert world.platform.shares() == {OLD: 100}


@pytest.mark.parametrize("faults", [["conflict"], ["unavailable"], ["applied"]], ids=str)
def test_a_verb_is_said_again_when_the_api_fails(held, faults):
    held.platform.faults = faults
    person(held).abort("")
    assert held.platform.shares() == {OLD: 100}


def test_a_verb_is_not_said_for_ever(held):
    held.platform.faults = ["unavailable"] * 1000
    with pytest.raises(Unavailable, match="attempts"):
        person(held).abort("")


def test_without_a_rollout_there_is_nothing_to_say(world):
    with pytest.raises(RolloutError, match="svc has no rollout"):
        person(world).resume()


def test_status_tells_where_it_stands(held):
    table = verbs.status(held.platform.service, held.plan, held.clock.now())
    assert (table["phase"], table["percent"], table["paused"]) == ("step", 5, True)
    assert table["traffic_is_as_the_state_says"]
    held.platform.put((Target(OLD, 100, latest=True),))
    table = verbs.status(held.platform.service, held.plan, held.clock.now())
    assert not table["traffic_is_as_the_state_says"]
    assert table["follows_latest"]
    held.platform.put((Target(OLD, 100),), {})
    assert verbs.status(held.platform.service, held.plan, held.clock.now())["rollout"] is None
    assert states.ANNOTATION not in held.platform.service.annotations
