"""No traffic stays at a revision that nobody judges: superseded, held, interrupted, or with a damaged annotation."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from scripts.rollout import state as states
from scripts.rollout import verbs
from scripts.rollout.controller import SEEN_SECONDS, End, OnHold
from scripts.rollout.platform import Target
from scripts.rollout.state import ANNOTATION, INTENDED, Damaged, Phase, RolloutError
from scripts.rollout.verbs import Person
from tests.fakes.platform import DIGEST, NEW, NEWER, OLD, Killed
from tests.unit.scripts.rollout.conftest import World

OTHER = "svc-00009-other"


def when(world: World, name: str, percent: int, happens: Callable[[], object]) -> None:
    """Let something happen once, right after an event at a share."""
    record = world.recorder.record

    def noticed(event):
        record(event)
        if (event.name, event.percent) == (name, percent):
            world.recorder.record = record
            happens()

    world.recorder.record = noticed


def killed_at(world: World, percent: int) -> World:
    """Let the controller die right after it gave the candidate a share."""

    def die():
        raise Killed

    when(world, "moved", percent, die)
    with pytest.raises(Killed):
        world.run("dead")
    assert world.platform.shares() == {OLD: 100 - percent, NEW: percent}
    return world


def phase_of(world: World) -> Phase:
    found = states.of(world.platform.service)
    assert found is not None
    return found.phase


def person(world: World) -> Person:
    return Person(world.platform, world.clock, world.plan)


def never_promoted(world: World, revision: str) -> bool:
    return all(states.shares(one).get(revision, 0) < 100 for one in world.platform.writes)


# a second deployment


def test_a_controller_that_is_superseded_gives_the_traffic_back_and_leaves_the_tag(world):
    when(world, "moved", 20, lambda: world.platform.deploy(NEWER))
    count = len(world.platform.writes)
    assert world.run() is End.SUPERSEDED
    last = world.platform.writes[-1]
    assert states.shares(last) == {OLD: 100}
    assert states.candidate_of(last) == NEWER
    assert phase_of(world) is Phase.SUPERSEDED
    assert len(world.platform.writes) > count
    # traffic and state went in one write
    before = world.platform.writes[-2]
    assert (states.shares(before), states.of(before).phase) == ({OLD: 80, NEW: 20}, Phase.STEP)
    assert world.recorder.events[-1].reason.startswith(f"{NEWER} has the tag")

    assert world.run("two") is End.PROMOTED
    assert world.platform.shares() == {NEWER: 100}
    assert never_promoted(world, NEW)


def test_a_run_of_the_newer_candidate_ends_the_rollout_of_a_dead_controller(world):
    killed_at(world, 20)
    world.platform.deploy(NEWER)
    count = len(world.platform.writes)
    assert world.run("two") is End.PROMOTED
    back = world.platform.writes[count]
    assert (states.shares(back), states.of(back).phase) == ({OLD: 100}, Phase.SUPERSEDED)
    assert states.candidate_of(back) == NEWER
    assert world.platform.shares() == {NEWER: 100}
    assert never_promoted(world, NEW)


def test_of_an_old_controller_and_a_new_one_that_race_the_newer_candidate_wins(world):
    for crossing in range(2, 400, 3):
        one = World(world.plan)
        boundaries = one.die_at(None)
        ends: list[End] = []
        cross = boundaries.cross

        def crossed(one=one, ends=ends, boundaries=boundaries, cross=cross, crossing=crossing):
            cross()
            if boundaries.crossed == crossing and not ends:
                one.platform.deploy(NEWER)
                ends.append(one.run("two"))

        boundaries.cross = crossed
        ended = one.run("one")
        if not ends:
            assert (ended, crossing > 50) == (End.PROMOTED, True)
            break
        if ends == [End.PROMOTED]:
            # the newer one was through before the older one looked again
            assert ended in (End.SUPERSEDED, End.STOOD_DOWN), crossing
            assert one.platform.shares() == {NEWER: 100}, crossing
            if one.recorder.events[0].state.candidate == NEW:
                assert ended is End.SUPERSEDED
        else:
            assert one.platform.shares() == {NEW: 100}, crossing
    else:
        pytest.fail("no end")


def test_what_a_person_says_to_a_superseded_rollout_does_not_take_the_tag_back(world):
    killed_at(world, 20)
    world.platform.deploy(NEWER)
    for verb in ("promote", "pause"):
        with pytest.raises(RolloutError, match=f"superseded: {NEWER}"):
            getattr(person(world), verb)("")
    for verb in ("approve", "resume"):
        with pytest.raises(RolloutError, match=f"superseded: {NEWER}"):
            getattr(person(world), verb)()
    assert "supersedes" in str(verbs.status(world.platform.service, world.plan, world.clock.now())["attention"])
    # the remedy of the runbook
    person(world).rollback("")
    assert world.platform.shares() == {OLD: 100}
    person(world).retry()
    assert world.run("two") is End.PROMOTED
    assert world.platform.shares() == {NEWER: 100}


def test_an_older_candidate_is_rolled_out_only_if_it_is_named(world):
    world.platform.deploy(NEWER)
    world.platform.put((Target(OLD, 100), Target(NEW, 0, "candidate")))
    with pytest.raises(RolloutError, match=f"{NEWER} was deployed after it; name the one you mean: run --candidate"):
        world.run()
    assert world.platform.writes == []
    assert world.run("two", NEW) is End.PROMOTED
    assert world.platform.shares() == {NEW: 100}


def test_a_candidate_is_named_wherever_the_tag_is_and_goes_on_without_its_name(world):
    world.platform.deploy(NEWER)

    def die():
        raise Killed

    when(world, "moved", 20, die)
    with pytest.raises(Killed):
        world.run("one", NEW)
    assert states.candidate_of(world.platform.service) == NEW
    assert world.run("two") is End.PROMOTED
    assert world.platform.shares() == {NEW: 100}


def test_a_revision_that_somebody_made_beside_the_rollout_is_no_newer_candidate(world):
    world.platform.deploy(NEW)
    world.platform.service = replace(world.platform.service, latest_created_revision=OTHER)
    assert world.run() is End.PROMOTED


def test_a_superseded_candidate_that_is_named_begins_again(world):
    when(world, "moved", 20, lambda: world.platform.deploy(NEWER))
    assert world.run() is End.SUPERSEDED
    assert world.run("two", NEW) is End.PROMOTED
    assert world.platform.shares() == {NEW: 100}


def test_a_run_of_the_newer_candidate_leaves_what_a_person_moved(world):
    killed_at(world, 20)
    world.platform.put((Target(OLD, 60), Target(NEW, 40)))
    world.platform.deploy(NEWER)
    with pytest.raises(RolloutError, match="somebody moved it"):
        world.run("two")
    assert world.platform.shares() == {OLD: 60, NEW: 40}
    person(world).rollback("", is_sure=True)
    assert world.run("two") is End.PROMOTED
    assert world.platform.shares() == {NEWER: 100}


@pytest.mark.parametrize(("health", "end"), [("good", End.SUPERSEDED), ("bad", End.ROLLED_BACK)])
def test_while_another_candidate_gets_ready_nothing_is_stepped_but_a_bad_one_goes_back(world, health, end):
    looks = 0
    record = world.recorder.record

    def count(event):
        nonlocal looks
        record(event)
        if (event.name, event.percent) == ("moved", 20) and not looks:
            world.platform.deploy(NEWER, is_ready=False)
            world.observer.health = health
        looks += event.name == "judged" and event.percent == 20
        if looks == 5 and world.platform.starting:
            world.platform.ready()

    world.recorder.record = count
    assert world.run() is end
    assert looks >= 5 or end is End.ROLLED_BACK
    assert world.platform.shares() == {OLD: 100}
    assert max(states.shares(one).get(NEW, 0) for one in world.platform.writes) == 20


def test_an_older_pipeline_does_not_judge_the_newer_candidate_by_its_own_bundle(world):
    world.platform.deploy(NEWER)
    notes = {**world.platform.service.annotations, states.INTENDED_DIGEST: "sha256:" + "b" * 64}
    world.platform.put(world.platform.service.traffic, notes)
    with pytest.raises(RolloutError, match=f"{NEWER} was deployed with the bundle sha256:b+, not sha256:a+"):
        world.run()
    assert world.platform.writes == []
    world.platform.put(world.platform.service.traffic, {**notes, states.INTENDED_DIGEST: DIGEST})
    assert world.run() is End.PROMOTED
    with pytest.raises(RolloutError, match="was promoted, with the bundle"):
        world.controller("two").run("sha256:" + "b" * 64)


# held, interrupted, timed out


def test_a_rollout_that_is_held_goes_back_and_begins_again_after_resume(world):
    when(world, "moved", 20, lambda: setattr(world.observer, "health", "few"))
    assert world.run() is End.HELD
    assert world.platform.shares() == {OLD: 100}
    found = states.of(world.platform.service)
    assert (found.phase, found.step, found.is_paused, found.approved) == (Phase.SMOKE, -1, True, -1)
    assert states.candidate_of(world.platform.service) == NEW
    assert "has 0 %" in world.recorder.events[-1].reason
    person(world).resume()
    world.observer.health = "good"
    assert world.run("two") is End.PROMOTED


@pytest.mark.parametrize(("on_hold", "shares"), [(OnHold.BACK, {OLD: 100}), (OnHold.KEEP, {OLD: 80, NEW: 20})])
def test_what_is_held_keeps_its_share_only_if_that_was_asked_for(world, on_hold, shares):
    world.on_hold = on_hold
    when(world, "moved", 20, lambda: setattr(world.observer, "health", "few"))
    assert world.run() is End.HELD
    assert world.platform.shares() == shares


def test_a_hold_does_not_go_back_to_a_stable_revision_that_does_not_answer(world):
    world.plan = replace(world.plan, step_deadline_seconds=0, warm_seconds=0)

    def fail():
        world.observer.health = "few"
        world.prober.stable_answers = False

    when(world, "moved", 100, fail)
    assert world.run() is End.ALONE
    assert world.platform.shares() == {NEW: 100}
    assert "does not answer" in world.recorder.events[-1].reason


def test_a_rollout_whose_time_is_over_is_held(world):
    world.timeout_seconds = 3000
    world.observer.health = "few"
    assert world.run() is End.HELD
    assert world.platform.shares() == {OLD: 100}
    assert "time that was given" in states.of(world.platform.service).reason


def interrupted(world: World, at: int) -> End | None:
    """Run, and interrupt at a crossing as a signal does; None where it was never reached."""
    boundaries = world.die_at(None)
    cross = boundaries.cross

    def crossed():
        cross()
        if boundaries.crossed == at:
            raise KeyboardInterrupt

    boundaries.cross = crossed
    end = world.run()
    return end if boundaries.crossed >= at else None


def test_interrupted_anywhere_it_gives_the_traffic_back_within_seconds_and_goes_on_later(world):
    for crossing in range(1, 2000):
        one = World(world.plan)
        end = interrupted(one, crossing)
        if end is None:
            break
        if end is End.PROMOTED:
            continue
        assert end is End.INTERRUPTED, crossing
        assert one.platform.shares() == {OLD: 100}, crossing
        assert one.run("two") is End.PROMOTED, crossing
    assert crossing > 50
    print(f"interrupted at {crossing - 1} crossings")


def test_an_interrupted_rollout_takes_seconds_also_where_the_platform_does_not_answer(world):
    def silent():
        world.platform.faults = ["read unavailable"] * 10_000
        world.interrupted_at = world.clock.now()
        raise KeyboardInterrupt

    when(world, "moved", 20, silent)
    assert world.run() is End.INTERRUPTED
    assert world.clock.now() - world.interrupted_at <= 15
    assert world.platform.shares() == {OLD: 80, NEW: 20}
    assert "20 %" in world.recorder.events[-1].reason


@pytest.mark.parametrize(("on_hold", "share"), [(OnHold.BACK, None), (OnHold.KEEP, 20)])
def test_an_interrupt_keeps_the_share_only_if_that_was_asked_for(world, on_hold, share):
    def interrupt():
        raise KeyboardInterrupt

    world.on_hold = on_hold
    when(world, "moved", 20, interrupt)
    assert world.run() is End.INTERRUPTED
    assert world.platform.shares().get(NEW) == share


def test_a_person_who_moved_traffic_keeps_it_and_everybody_is_told(world):
    when(world, "moved", 20, lambda: world.platform.put((Target(OLD, 60), Target(NEW, 40, "candidate"))))
    assert world.run() is End.STOOD_DOWN
    assert world.platform.shares() == {OLD: 60, NEW: 40}
    last = world.recorder.events[-1]
    assert (last.name, last.percent) == ("ended", 40)
    assert "has 40 %, and nobody judges it" in last.reason
    status = verbs.status(world.platform.service, world.plan, world.clock.now())
    assert "nobody judges it" in str(status["attention"])


def test_a_tag_that_is_gone_gives_the_traffic_back(world):
    when(world, "moved", 20, lambda: world.platform.put((Target(OLD, 80, "stable"), Target(NEW, 20))))
    assert world.run() is End.STOOD_DOWN
    assert world.platform.shares() == {OLD: 100}


# heartbeats


def test_a_controller_says_that_it_is_there_and_status_says_when_it_does_not(world):
    world.observer.health = "few"
    looks = 0
    record = world.recorder.record

    def count(event):
        nonlocal looks
        record(event)
        looks += event.name == "judged"
        if looks == 10:
            raise Killed

    world.recorder.record = count
    with pytest.raises(Killed):
        world.run()
    seen = [states.of(one).seen_seconds for one in world.platform.writes]
    assert len(set(seen)) > 5
    assert all(later - earlier <= SEEN_SECONDS + world.plan.look_seconds for earlier, later in itertools.pairwise(seen))
    now = world.clock.now()
    assert "attention" not in verbs.status(world.platform.service, world.plan, now)
    status = verbs.status(world.platform.service, world.plan, now + 901)
    assert str(status["attention"]).startswith("no controller has written for 15 minutes")


def test_a_heartbeat_leaves_what_somebody_else_asked_for(world):
    asked = (Target(OLD, 100), Target(NEWER, 0, "candidate"))
    service = replace(world.platform.service, asked=asked, settled=False)
    assert states.noted(service, states.new(NEW, OLD, "canary", 0.0, "one")).traffic == asked


# a damaged annotation


def damages() -> dict[str, Callable[[dict[str, object]], str]]:
    def put(**values: object) -> Callable[[dict[str, object]], str]:
        return lambda table: json.dumps(table | values)

    def without(name: str) -> Callable[[dict[str, object]], str]:
        return lambda table: json.dumps({key: value for key, value in table.items() if key != name})

    found: dict[str, Callable[[dict[str, object]], str]] = {
        "empty": lambda _: "",
        "no-json": lambda _: "rollout",
        "half": lambda table: json.dumps(table)[:-20],
        "list": lambda _: "[]",
        "null": lambda _: "null",
        "deep": lambda _: "[" * 5000,
        "huge": lambda table: json.dumps(table | {"reason": "x" * 100_000}),
        "nan": lambda table: json.dumps(table | {"since_seconds": float("nan")}),
        "infinity": lambda table: json.dumps(table).replace('"began_seconds": ', '"began_seconds": 1e999, "x": '),
        "surrogate": lambda table: json.dumps(table | {"holder": "\ud800"}),
    }
    found |= {f"without-{name}": without(name) for name in ("candidate", "stable", "phase", "step", "since_seconds")}
    for power in (31, 32, 53, 63, 64):
        found[f"step-{power}"], found[f"share-{power}"] = put(step=2**power), put(share_percent=2**power)
        found[f"version-{power}"] = put(version=2**power)
    found |= {
        "step-text": put(step="1"),
        "step-negative": put(step=-5),
        "step-true": put(step=True),
        "share-negative": put(share_percent=-7),
        "share-101": put(share_percent=101),
        "since-2^64": put(since_seconds=2.0**64),
        "since-text": put(since_seconds="now"),
        "phase": put(phase="dancing"),
        "phase-lines": put(phase="a\nb"),
        "version": put(version=2),
        "candidate-number": put(candidate=5),
        "candidate-markup": put(candidate="<b>"),
        "stable-none": put(stable=None),
        "paused": put(is_paused="yes"),
        "before": put(before=[1]),
    }
    return found


@pytest.mark.parametrize("damage", damages().values(), ids=damages())
def test_a_damaged_annotation_in_the_middle_ends_with_everything_at_the_stable_revision(world, damage):
    def harm():
        service = world.platform.service
        text = damage(json.loads(service.annotations[ANNOTATION]))
        world.platform.put(service.traffic, {**service.annotations, ANNOTATION: text})

    when(world, "moved", 20, harm)
    assert world.run() is End.ROLLED_BACK
    assert world.platform.shares() == {OLD: 100}
    state = states.of(world.platform.service)
    assert (state.phase, state.stable, state.candidate) == (Phase.ROLLED_BACK, OLD, NEW)
    assert "damaged" in state.reason
    # the control: what was there before is read
    assert World(world.plan).run() is End.PROMOTED


def test_an_annotation_that_is_gone_gives_the_traffic_back(world):
    when(world, "moved", 20, lambda: world.platform.put(world.platform.service.traffic, {}))
    assert world.run() is End.ROLLED_BACK
    assert world.platform.shares() == {OLD: 100}


def test_a_damaged_annotation_and_traffic_that_somebody_moved_stay_as_they_are(world):
    def harm():
        world.platform.put((Target(OLD, 50), Target(OTHER, 50)), {ANNOTATION: "{"})

    when(world, "moved", 20, harm)
    assert world.run() is End.STOOD_DOWN
    assert world.platform.shares() == {OLD: 50, OTHER: 50}


@pytest.mark.parametrize("damage", damages().values(), ids=damages())
def test_every_verb_says_in_one_line_that_the_annotation_is_damaged_and_rollback_mends_it(world, damage):
    killed_at(world, 20)
    service = world.platform.service
    text = damage(json.loads(service.annotations[ANNOTATION]))
    world.platform.put(service.traffic, {**service.annotations, ANNOTATION: text})
    says = person(world)
    acts = [lambda: world.run("two"), lambda: says.pause(""), says.resume, says.approve, says.retry]
    acts += [lambda: says.abort(""), lambda: says.promote(""), lambda: says.rollback("")]
    for act in acts:
        with pytest.raises(RolloutError, match="damaged") as error:
            act()
        assert "\n" not in str(error.value)
        assert "rollback" in str(error.value)
    status = verbs.status(world.platform.service, world.plan, world.clock.now())
    assert "damaged" in str(status["attention"])
    assert world.platform.shares() == {OLD: 80, NEW: 20}

    says.rollback("mended", is_sure=True)
    assert world.platform.shares() == {OLD: 100}
    says.retry()
    assert world.run("three") is End.PROMOTED


def test_a_damaged_annotation_of_a_service_with_one_serving_revision_can_be_forgotten(world):
    world.platform.put(world.platform.service.traffic, {ANNOTATION: "{"})
    with pytest.raises(Damaged):
        world.run()
    with pytest.raises(RolloutError, match="rollback --to REVISION"):
        person(world).rollback("")
    person(world).retry()
    assert world.run() is End.PROMOTED


def test_a_plan_that_lost_its_steps_is_no_traceback(world):
    killed_at(world, 50)
    world.plan = replace(world.plan, steps_percent=(5, 100))
    assert states.of(world.platform.service).percent(world.plan) == 50
    with pytest.raises(RolloutError, match="step 3, which the plan has no more"):
        world.run("two")
    person(world).abort("")
    assert world.platform.shares() == {OLD: 100}


# the way back


def promoted(world: World) -> World:
    assert world.run() is End.PROMOTED
    return world


def test_rollback_after_somebody_deployed_elsewhere_returns_to_what_served_before_that(world):
    promoted(world).platform.put((Target(OTHER, 100),))
    status = verbs.status(world.platform.service, world.plan, world.clock.now())
    assert not status["traffic_is_as_the_state_says"]
    assert f"rollback would do this: {NEW} gets 100 %" in str(status["attention"])
    with pytest.raises(verbs.Unsure, match=f"{NEW} gets 100 %; now: {OTHER} 100 %; if that is meant: rollback --yes"):
        person(world).rollback("")
    assert world.platform.shares() == {OTHER: 100}
    state = person(world).rollback("", is_sure=True)
    assert world.platform.shares() == {NEW: 100}
    assert (state.phase, state.candidate, state.stable) == (Phase.ROLLED_BACK, OTHER, NEW)
    # once more changes nothing
    assert person(world).rollback("").stable == NEW
    assert world.platform.shares() == {NEW: 100}
    status = verbs.status(world.platform.service, world.plan, world.clock.now())
    assert (status["traffic_is_as_the_state_says"], "attention" in status) == (True, False)


def test_rollback_without_anybody_else_returns_to_the_revision_before_and_asks_nobody(world):
    person(promoted(world)).rollback("")
    assert world.platform.shares() == {OLD: 100}


def test_rollback_after_somebody_went_back_already_changes_nothing(world):
    promoted(world).platform.put((Target(OLD, 100),))
    person(world).rollback("")
    assert world.platform.shares() == {OLD: 100}


@pytest.mark.parametrize("moved", [{OTHER: 100}, {OTHER: 50, OLD: 50}, {NEW: 100}, {OLD: 60, NEW: 40}], ids=str)
def test_rollback_in_the_middle_of_a_rollout_that_somebody_overruled(world, moved):
    killed_at(world, 20).platform.put(tuple(Target(name, percent) for name, percent in moved.items()))
    with pytest.raises(verbs.Unsure):
        person(world).rollback("")
    person(world).rollback("", is_sure=True)
    assert world.platform.shares() == {OLD: 100}


def test_rollback_to_a_revision_that_is_named(world):
    with pytest.raises(RolloutError, match="rollback --to REVISION"):
        person(world).rollback("")
    person(promoted(world)).rollback("", to=OTHER)
    assert world.platform.shares() == {OTHER: 100}


def test_a_rollback_never_says_of_a_serving_revision_that_it_is_an_unfit_first_one(world):
    world.platform.put((Target(OLD, 100, "candidate"),))
    promoted(world)
    for to in ("", OLD):
        with pytest.raises(RolloutError, match=f"{OLD} serves everything already"):
            person(world).rollback("", to=to)
    assert phase_of(world) is Phase.PROMOTED
    world.platform.put((Target(OTHER, 100),))
    state = person(world).rollback("", is_sure=True)
    assert (world.platform.shares(), state.is_first) == ({OLD: 100}, False)


def test_every_write_of_traffic_says_what_was_before_it(world):
    promoted(world)
    before: dict[str, int] = {OLD: 100}
    for service in world.platform.writes:
        shares = states.shares(service)
        if shares != before:
            assert states.of(service).before == before
            before = shares
    assert states.of(world.platform.service).before == {OLD: 50, NEW: 50} or before == {NEW: 100}


def test_a_promoted_rollout_that_was_held_is_watched_by_run(world):
    world.observer.health = "few"
    assert world.run() is End.HELD
    person(world).promote("")
    world.observer.health = "good"
    assert world.run("two") is End.PROMOTED


def test_what_was_intended_is_known_after_every_write(world):
    world.platform.deploy(NEW)
    promoted(world)
    assert all(service.annotations[INTENDED] == NEW for service in world.platform.writes)
