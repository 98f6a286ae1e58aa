"""The state machine against a platform that lies (K3 to K6, K8)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from scripts.rollout import state as states
from scripts.rollout.baseline import Watch
from scripts.rollout.controller import End
from scripts.rollout.gate import Replay, are_lost
from scripts.rollout.plan import Policy
from scripts.rollout.platform import Refused, Target
from scripts.rollout.state import Phase, RolloutError
from scripts.rollout.verdict import Verdict
from tests.fakes.platform import DIGEST, NEW, OLD, Clock, Killed, Prober, tag_url
from tests.unit.scripts.rollout.conftest import World


def history(world: World) -> list[dict[str, int]]:
    """Return the shares after every write that moved traffic."""
    found: list[dict[str, int]] = []
    for service in world.platform.writes:
        shares = states.shares(service)
        assert sum(shares.values()) == 100
        if not found or found[-1] != shares:
            found.append(shares)
    return found


def check_never_above_the_plan(world: World) -> None:
    for service in world.platform.writes:
        state = states.of(service)
        assert state is not None
        assert states.shares(service) == states.wanted(state, world.plan)


def smoked(world: World, then: Callable[[], None]) -> None:
    """Let the stable revision answer while the candidate is smoked, and do something once it has traffic."""
    is_lost, world.prober.stable_answers = not world.prober.stable_answers, True
    write = world.platform.write

    def noticed(service):
        written = write(service)
        if states.shares(written).get(NEW):
            world.prober.stable_answers = not is_lost
            world.platform.write = write
            then()
        return written

    world.platform.write = noticed


UP = [{OLD: 100}, {OLD: 95, NEW: 5}, {OLD: 80, NEW: 20}, {OLD: 50, NEW: 50}, {NEW: 100}]


def test_a_good_candidate_goes_up_step_by_step(world):
    assert world.run() is End.PROMOTED
    assert history(world) == UP
    assert [one.tag for one in world.platform.service.traffic] == [""]
    assert next(world.recorder.names()) == "began"


def test_the_old_revision_is_kept_warm_by_a_tag_and_then_let_go(world, blue_green):
    world.plan = replace(blue_green, look_seconds=600)
    assert world.run() is End.PROMOTED
    assert history(world) == [{OLD: 100}, {NEW: 100}]
    switched = next(one for one in world.platform.writes if states.shares(one) == {NEW: 100})
    assert [(one.revision, one.percent, one.tag) for one in switched.traffic] == [
        (OLD, 0, "stable"),
        (NEW, 100, "candidate"),
    ]
    warm = [event.time_seconds for event in world.recorder.events if event.state.phase is Phase.WARM]
    assert warm[-1] - warm[0] >= blue_green.warm_seconds


def test_a_bad_candidate_is_rolled_back_in_one_write_and_that_is_verified(world):
    world.observer.health = "bad"
    assert world.run() is End.ROLLED_BACK
    assert history(world) == [{OLD: 100}, {OLD: 95, NEW: 5}, {OLD: 100}]
    judged = next(event for event in reversed(world.recorder.events) if event.name == "judged")
    verified = next(event for event in world.recorder.events if event.name == "verified")
    assert verified.time_seconds - judged.time_seconds <= 10
    state = states.of(world.platform.service)
    assert state is not None
    assert state.phase is Phase.ROLLED_BACK
    assert "errors" in state.reason


def test_a_candidate_that_turns_bad_at_100_percent_goes_back_to_the_warm_revision(world):
    world.platform.before_write = None
    record = world.recorder.record

    def turn(event):
        record(event)
        if event.state.phase is Phase.WARM:
            world.observer.health = "bad"

    world.recorder.record = turn
    assert world.run() is End.ROLLED_BACK
    assert history(world) == [*UP, {OLD: 100}]


def test_a_stable_revision_that_does_not_answer_is_said_aloud(world):
    world.observer.health = "bad"
    world.prober.trouble = "503 from the service"
    assert world.run() is End.UNVERIFIED
    assert world.platform.shares() == {OLD: 100}


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"digest": "sha256:" + "b" * 64}, "identity"),
        ({"is_fallback": True}, "fallback"),
        ({"replay": Replay(256, 1, 256, 0, 0.0)}, "golden"),
        ({"replay": Replay(256, 0, 256, 40, 0.0)}, "paired"),
        ({"is_ready": False}, "ready"),
    ],
    ids=["digest", "fallback", "golden", "paired", "never-ready"],
)
def test_what_smoke_refuses_never_gets_traffic(world, change, gate):
    for name, value in change.items():
        setattr(world.prober, name, value)
    assert world.run() is End.ROLLED_BACK
    assert history(world) == [{OLD: 100}]
    assert gate in states.of(world.platform.service).reason


@pytest.mark.parametrize("health", ["missing", "late", "few"])
@pytest.mark.parametrize("policy", list(Policy))
def test_metrics_that_are_missing_late_or_few_follow_the_policy_and_missing_ones_never_promote(world, health, policy):
    world.plan = replace(world.plan, policy=policy, step_deadline_seconds=3000)
    world.observer.health = health
    if (health, policy) == ("few", Policy.GOLDEN):
        record = world.recorder.record

        def enough(event):
            record(event)
            world.observer.health = "good" if event.name == "synthetic" else "few"

        world.recorder.record = enough
    end = world.run()
    if policy is Policy.ROLL_BACK:
        assert (end, world.platform.shares()) == (End.ROLLED_BACK, {OLD: 100})
    elif health == "few" and policy in (Policy.PROMOTE, Policy.GOLDEN):
        reached = {Policy.PROMOTE: End.PROMOTED, Policy.GOLDEN: End.HELD}[policy]
        assert end is reached
    else:
        assert (end, world.platform.shares()) == (End.HELD, {OLD: 100})


def test_a_fallback_that_shows_under_traffic_rolls_back(world):
    world.observer.health = "fallback"
    assert world.run() is End.ROLLED_BACK


def test_a_held_rollout_goes_on_after_resume(world):
    world.observer.health = "few"
    assert world.run() is End.HELD
    service = world.platform.service
    held = states.of(service)
    assert held is not None
    assert held.is_paused
    world.platform.put(service.traffic, dict(states.annotated(service, replace(held, is_paused=False))))
    world.observer.health = "good"
    assert world.run("two") is End.PROMOTED


def test_killed_at_every_boundary_it_resumes(world):
    for crossing in range(1, 10_000):
        one = World(world.plan)
        boundaries = one.die_at(crossing)
        try:
            end = one.run()
        except Killed:
            one.die_at(None)
            end = one.run("two")
        assert end is End.PROMOTED, crossing
        assert history(one) == UP, crossing
        check_never_above_the_plan(one)
        if boundaries.crossed < crossing:
            break
    print(f"K4: killed at {crossing - 1} boundaries of a good rollout")
    assert crossing > 50


def test_killed_at_every_boundary_of_a_bad_one_it_rolls_back(world):
    for crossing in range(1, 10_000):
        one = World(world.plan)
        one.observer.health = "bad"
        boundaries = one.die_at(crossing)
        try:
            one.run()
        except Killed:
            one.die_at(None)
            try:
                assert one.run("two") is End.ROLLED_BACK, crossing
            except RolloutError as error:
                assert "rolled_back before" in str(error)  # noqa: PT017 - it was over when it died
        assert one.platform.shares() == {OLD: 100}, crossing
        check_never_above_the_plan(one)
        if boundaries.crossed < crossing:
            break
    assert crossing > 15


@pytest.mark.parametrize("crossing", range(1, 60, 3))
def test_of_two_controllers_the_later_one_wins_and_the_other_stands_down(world, crossing):
    boundaries = world.die_at(crossing)
    ends = []

    def second():
        boundaries.at = None
        ends.append(world.run("two"))

    cross = boundaries.cross

    def crossed():
        try:
            cross()
        except Killed:
            second()

    boundaries.cross = crossed
    ends.append(world.run("one"))
    assert End.PROMOTED in ends
    assert set(ends) <= {End.PROMOTED, End.STOOD_DOWN}
    assert history(world) == UP


def before_write(world, number, happens):
    """Let something happen just before the platform's write of this number."""
    original, numbers = world.platform.write, itertools.count(1)

    def write(service):
        if next(numbers) == number:
            happens()
        return original(service)

    world.platform.write = write


@pytest.mark.parametrize("moved", [{OLD: 100}, {NEW: 100}, {OLD: 70, NEW: 30}, {"svc-00003-x": 100}], ids=str)
@pytest.mark.parametrize("write", range(1, 6))
def test_it_stands_down_when_a_person_moves_traffic(world, moved, write):
    targets = tuple(Target(revision, percent) for revision, percent in moved.items())
    before_write(world, write, lambda: world.platform.put(targets))
    end = world.run()
    assert world.platform.shares() == moved
    assert end is End.STOOD_DOWN
    with pytest.raises(RolloutError):
        world.run("two")
    assert world.platform.shares() == moved


@pytest.mark.parametrize(
    "faults",
    [["conflict"], ["unavailable"], ["applied"], ["slow"], ["unavailable"] * 4, ["applied", "conflict", "applied"]],
    ids=str,
)
@pytest.mark.parametrize("health", ["good", "bad"])
@pytest.mark.parametrize("write", range(2, 7))
def test_errors_of_the_api_end_in_the_right_state(world, faults, health, write):
    world.observer.health = health
    before_write(world, write, lambda: setattr(world.platform, "faults", list(faults)))
    end = world.run()
    assert (end, world.platform.shares()) == (
        (End.PROMOTED, {NEW: 100}) if health == "good" else (End.ROLLED_BACK, {OLD: 100})
    )
    check_never_above_the_plan(world)


@pytest.mark.parametrize("fault", ["unavailable", "applied"])
def test_an_error_of_the_first_write_is_no_obstacle(world, fault):
    world.platform.faults = [fault]
    assert world.run() is End.PROMOTED
    assert history(world) == UP


def test_a_conflict_at_the_first_write_means_somebody_else_was_quicker(world):
    world.platform.faults = ["conflict"]
    assert world.run() is End.STOOD_DOWN
    assert world.platform.writes == []


def test_reads_are_tried_again_and_not_for_ever(world):
    world.platform.faults = ["read unavailable"] * 5
    assert world.run() is End.PROMOTED
    other = World(world.plan)
    other.platform.faults = ["read unavailable"] * 1000
    assert other.run() is End.UNAVAILABLE
    assert other.platform.writes == []


def test_a_platform_that_stops_answering_leaves_everything_as_it_is(world):
    def silence(event):
        if event.state.step == 1:
            world.platform.faults = ["read unavailable"] * 1000

    world.recorder.record = silence
    assert world.run() is End.UNAVAILABLE
    assert world.platform.shares() == {OLD: 80, NEW: 20}
    world.platform.faults = []
    world.recorder = type(world.recorder)()
    assert world.run("two") is End.PROMOTED


def test_a_service_that_does_not_settle_on_what_was_written_is_waited_for_and_not_for_ever(world):
    world.observer.health = "bad"

    def stick(event):
        if event.name == "moved" and event.percent == 5:
            service = world.platform.service
            stuck = replace(service, traffic=(Target(OLD, 100), Target(NEW, 0, "candidate")), settled=False)
            world.platform.read = lambda: stuck

    world.recorder.record = stick
    assert world.run() is End.UNAVAILABLE


@pytest.mark.parametrize(("health", "end"), [("good", End.PROMOTED), ("bad", End.ROLLED_BACK)])
def test_a_revision_of_somebody_else_that_never_gets_ready_hinders_nothing(world, health, end):
    world.observer.health = health
    world.platform.unsettled_reads = 10**6
    assert world.run() is end
    judged = next(event for event in reversed(world.recorder.events) if event.name == "judged")
    verified = [event.time_seconds for event in world.recorder.events if event.name == "verified"]
    assert all(moment - judged.time_seconds <= 40 for moment in verified)


def test_no_right_to_write_is_an_error_and_no_rollback(world):
    world.platform.faults = ["refused"]
    with pytest.raises(Refused):
        world.run()


def test_a_failing_controller_takes_the_traffic_back_first(world):
    def fail(*_):
        raise ZeroDivisionError

    world.observer.observe = fail
    with pytest.raises(ZeroDivisionError):
        world.run()
    assert world.platform.shares() == {OLD: 100}


def test_a_step_waits_for_approval(world):
    world.plan = replace(world.plan, approve_percent=(50,))
    record = world.recorder.record

    def approve(event):
        record(event)
        if event.name == "waits":
            service = world.platform.service
            state = states.of(service)
            world.platform.put(service.traffic, dict(states.annotated(service, replace(state, approved=2))))

    world.recorder.record = approve
    assert world.run() is End.PROMOTED
    assert [event.percent for event in world.recorder.events if event.name == "waits"] == [20]


def test_a_paused_rollout_makes_no_step_and_still_rolls_back(world):
    record = world.recorder.record
    waits = 0

    def pause(event):
        nonlocal waits
        record(event)
        waits += event.name == "waits"
        if event.name == "moved" and event.percent == 20:
            service = world.platform.service
            state = states.of(service)
            world.platform.put(service.traffic, dict(states.annotated(service, replace(state, is_paused=True))))
        if waits == 20:
            world.observer.health = "bad"

    world.recorder.record = pause
    assert world.run() is End.ROLLED_BACK
    assert waits == 20
    assert history(world)[-2:] == [{OLD: 80, NEW: 20}, {OLD: 100}]


def test_a_pause_that_comes_right_before_a_step_wins(world):
    def pause():
        service = world.platform.service
        state = states.of(service)
        world.platform.put(service.traffic, dict(states.annotated(service, replace(state, is_paused=True))))
        world.observer.health = "bad"

    record = world.recorder.record

    def arm(event):
        record(event)
        if event.name == "moved" and event.percent == 5:
            world.platform.before_write = pause

    world.recorder.record = arm
    assert world.run() is End.ROLLED_BACK
    assert history(world) == [{OLD: 100}, {OLD: 95, NEW: 5}, {OLD: 100}]


@pytest.mark.parametrize(
    ("traffic", "text"),
    [
        ((Target(OLD, 100),), "no revision of svc has the tag"),
        ((Target(OLD, 60), Target("x", 40), Target(NEW, 0, "candidate")), "is split"),
    ],
    ids=["no-candidate", "split"],
)
def test_what_cannot_begin_says_why(world, traffic, text):
    world.platform = type(world.platform)(traffic)
    with pytest.raises(RolloutError, match=text):
        world.run()
    assert world.platform.writes == []


def test_tags_of_others_stay(world):
    others = (Target("svc-00000-x", 0, "v0"), Target(NEW, 0, "candidate"), Target(OLD, 100, "pinned"))
    world.platform = type(world.platform)(others)
    assert world.run() is End.PROMOTED
    kept = {(one.revision, one.percent, one.tag) for one in world.platform.service.traffic}
    assert kept == {(NEW, 100, ""), ("svc-00000-x", 0, "v0"), (OLD, 0, "pinned")}


def test_a_service_that_followed_the_latest_revision_is_pinned(world):
    world.platform = type(world.platform)((Target(OLD, 100, latest=True), Target(NEW, 0, "candidate")))
    assert world.run() is End.PROMOTED
    assert not any(one.latest for service in world.platform.writes for one in service.traffic)


def test_another_plan_bundle_or_candidate_does_not_take_a_rollout_over(world, blue_green):
    world.observer.health = "few"
    assert world.run() is End.HELD
    with pytest.raises(RolloutError, match="of the bundle"):
        world.controller("two").run("sha256:" + "c" * 64)
    other = World(blue_green, platform=world.platform)
    with pytest.raises(RolloutError, match="plan canary goes on"):
        other.run("two")
    assert world.platform.shares() == {OLD: 100}


def test_a_bad_candidate_is_rolled_back_though_the_stable_revision_died_before_the_verdict(world):
    world.prober.stable_answers = False
    smoked(world, lambda: setattr(world.observer, "health", "bad"))
    assert world.run() is End.ROLLED_BACK
    judged = next(event for event in reversed(world.recorder.events) if event.name == "judged")
    assert judged.judgement.verdict is Verdict.UNHEALTHY
    assert history(world) == [{OLD: 100}, {OLD: 95, NEW: 5}, {OLD: 100}]


@pytest.mark.parametrize("policy", list(Policy))
def test_a_dead_stable_revision_gives_the_candidate_no_more_whatever_the_policy(world, policy):
    world.plan = replace(world.plan, policy=policy, step_deadline_seconds=3000)
    world.prober.stable_answers = False
    smoked(world, lambda: None)
    assert world.run() is End.ALONE
    assert history(world) == [{OLD: 100}, {OLD: 95, NEW: 5}]
    told = next(event for event in world.recorder.events if event.name == "waits")
    assert "does not answer" in told.reason
    # told long before the deadline
    assert told.time_seconds - told.state.since_seconds < 3000
    compared = [event.is_concurrent for event in world.recorder.events if event.observation]
    assert compared[:2] == [True, True]
    assert not any(compared[2:])


def test_a_stable_revision_that_answers_again_is_compared_with_from_then_on(world):
    world.prober.stable_answers = False
    record = world.recorder.record

    def mend(event):
        record(event)
        if event.name == "waits":
            world.prober.stable_answers = True

    smoked(world, lambda: None)
    world.recorder.record = mend
    assert world.run() is End.PROMOTED
    assert history(world) == UP
    again = next(event for event in world.recorder.events if "answers again" in event.reason)
    assert (again.name, again.percent, again.state.since_seconds) == ("moved", 5, again.time_seconds)


def test_one_look_without_an_answer_is_no_death(world):
    probe = world.prober.identify
    looks = iter(range(1000))

    def blinking(url, digest):
        world.prober.stable_answers = "stable" not in url or next(looks) % 3 != 0
        return probe(url, digest)

    world.prober.identify = blinking
    assert world.run() is End.PROMOTED
    assert not any(event.name == "waits" for event in world.recorder.events)


DEADLY = {
    "dead": ({"is_ready": False}, 120),
    "half": ({"lost": itertools.cycle((4, 3, 6, 5, 4, 2))}, 120),
    "predict": ({"lost": itertools.repeat(8)}, 120),
    "health": ({"is_ready": False, "lost_unready": 0}, 120),
    "wrong": ({"wrong": 1}, 30),
}


def dies(world, kind):
    for name, value in DEADLY[kind][0].items():
        setattr(world.prober, name, value)


def moved_back(world):
    """Return when the stable revision got everything back."""
    return next(
        event.time_seconds
        for event in world.recorder.events
        if event.name == "moved" and event.state.phase is Phase.ROLLED_BACK
    )


def when(world, is_so, happens):
    """Let something happen once, after the first event that is so."""
    record = world.recorder.record
    moments = []

    def noticed(event):
        record(event)
        if not moments and is_so(event):
            moments.append(event.time_seconds)
            happens()

    world.recorder.record = noticed
    return moments


@pytest.fixture
def default(canary) -> World:
    """The default plan as it is, and a candidate that holds every request for as long as it may."""
    world = World(canary)
    world.prober.hangs = lambda: world.clock.sleep(10)
    return world


@pytest.mark.parametrize("health", ["good", "missing"])
@pytest.mark.parametrize("percent", [5, 20, 50, 100])
@pytest.mark.parametrize("kind", DEADLY)
def test_a_candidate_that_dies_is_rolled_back_within_two_minutes(default, kind, percent, health):
    def is_two_minutes_in(event):
        return event.percent == percent and event.time_seconds - event.state.since_seconds >= 120

    def happens():
        dies(default, kind)
        default.observer.health = health

    died = when(default, is_two_minutes_in, happens)
    assert default.run() is End.ROLLED_BACK
    assert default.platform.shares() == {OLD: 100}
    seconds = moved_back(default) - died[0]
    print(f"K9: {kind} at {percent} %: rolled back after {seconds:.0f} s")
    assert seconds <= DEADLY[kind][1]


def test_half_of_the_instances_being_dead_is_seen_within_two_minutes_whatever_chance_does():
    random, seconds = np.random.default_rng(9), []
    for _ in range(1000):
        prober, clock = Prober(), Clock()
        prober.lost = iter(lambda: int(random.binomial(8, 0.5)), None)
        watch, died = Watch(prober, clock, 30), clock.now()
        clock.sleep(30)
        while not are_lost(watch.look(tag_url("candidate"), DIGEST).looks):
            clock.sleep(30)
        seconds.append(clock.now() - died)
    print(f"K9: half dead: median {np.median(seconds):.0f} s, p99 {np.percentile(seconds, 99):.0f} s")
    assert np.percentile(seconds, 99) <= 120


@pytest.mark.parametrize("kind", DEADLY)
def test_a_candidate_that_dies_between_two_steps_is_rolled_back(default, kind):
    died = when(default, lambda event: event.name == "moved" and event.percent == 20, lambda: dies(default, kind))
    assert default.run() is End.ROLLED_BACK
    assert history(default) == [{OLD: 100}, {OLD: 95, NEW: 5}, {OLD: 80, NEW: 20}, {OLD: 100}]
    assert moved_back(default) - died[0] <= 120


@pytest.mark.parametrize("waits", ["paused", "approve"])
def test_a_candidate_that_dies_while_a_person_is_waited_for_is_rolled_back(default, waits):
    if waits == "approve":
        default.plan = replace(default.plan, approve_percent=(50,))
    else:

        def pause():
            service = default.platform.service
            state = states.of(service)
            default.platform.put(service.traffic, dict(states.annotated(service, replace(state, is_paused=True))))

        when(default, lambda event: event.percent == 20, pause)
    count = itertools.count()
    died = when(default, lambda event: event.name == "waits" and next(count) == 50, lambda: dies(default, "dead"))
    assert default.run() is End.ROLLED_BACK
    assert moved_back(default) - died[0] <= 120


def test_a_candidate_that_dies_while_it_is_smoked_gets_no_traffic(default):
    default.prober.replay = Replay(0, 0, 0, 0, 0.0)
    when(default, lambda event: event.name == "judged", lambda: dies(default, "dead"))
    assert default.run() is End.ROLLED_BACK
    assert history(default) == [{OLD: 100}]


@pytest.mark.parametrize("silent", [1, 2])
def test_a_look_or_two_without_an_answer_are_no_death(default, silent):
    default.prober.lost = itertools.cycle([8] * silent + [0] * 5 + [1, 0, 2, 1, 1, 1, 0])
    assert default.run() is End.PROMOTED
    assert history(default) == UP


def test_a_candidate_whose_address_the_platform_does_not_say_is_not_dead(world):
    world.plan = replace(world.plan, step_deadline_seconds=3000)
    read = world.platform.read

    def without_url():
        service = read()
        has_traffic = bool(states.shares(service).get(NEW))
        return (
            replace(service, traffic=tuple(replace(one, url="") for one in service.traffic)) if has_traffic else service
        )

    world.platform.read = without_url
    assert world.run() is End.HELD
    assert history(world) == [{OLD: 100}, {OLD: 95, NEW: 5}, {OLD: 100}]


@pytest.mark.parametrize("percent", [5, 100])
@pytest.mark.parametrize("health", ["bad", "missing"])
def test_where_both_are_dead_nothing_moves_and_a_person_is_told(default, percent, health):
    def both():
        dies(default, "dead")
        default.prober.stable_answers = False
        default.observer.health = health

    when(default, lambda event: event.name == "moved" and event.percent == percent, both)
    assert default.run() is End.ALONE
    assert default.platform.shares() == ({NEW: 100} if percent == 100 else {OLD: 95, NEW: 5})
    told = next(event for event in default.recorder.events if event.name == "waits")
    assert "does not answer" in told.reason


@pytest.mark.parametrize("percent", [5, 100])
def test_where_both_were_dead_the_stable_revision_gets_everything_once_it_answers(default, percent):
    def both():
        dies(default, "dead")
        default.prober.stable_answers = False

    when(default, lambda event: event.name == "moved" and event.percent == percent, both)
    mended = when(default, lambda event: event.name == "waits", lambda: setattr(default.prober, "stable_answers", True))
    assert default.run() is End.ROLLED_BACK
    assert moved_back(default) - mended[0] <= 120


def test_a_candidate_that_answers_beside_a_dead_stable_revision_and_is_bad_goes_all_the_same(default):
    """The control of the two above: decision 0045 stays."""

    def happens():
        default.prober.stable_answers = False
        default.observer.health = "bad"

    default.prober.trouble = "503"
    when(default, lambda event: event.name == "moved" and event.percent == 5, happens)
    assert default.run() is End.UNVERIFIED


def first(world):
    world.platform.put((Target(OLD, 100, "candidate"),))
    return world


def test_the_first_revision_of_all_is_smoked_and_then_it_is_the_stable_one(world):
    assert first(world).run() is End.PROMOTED
    assert [(one.revision, one.percent, one.tag) for one in world.platform.service.traffic] == [(OLD, 100, "")]
    assert world.run("two") is End.PROMOTED

    world.platform.put((Target(NEW, 0, "candidate"), Target(OLD, 100)))
    assert world.run("three") is End.PROMOTED
    assert world.platform.shares() == {NEW: 100}


def test_a_first_revision_that_is_unfit_has_a_status_of_its_own_and_the_next_one_is_first_again(world):
    world.prober.replay = Replay(256, 1, 256, 0, 0.0)
    assert first(world).run() is End.UNFIT
    assert world.platform.shares() == {OLD: 100}
    assert "golden" in world.recorder.events[-1].reason
    with pytest.raises(RolloutError, match="retry"):
        world.run("two")

    world.prober.replay = Replay(256, 0, 256, 0, 0.0)
    world.platform.put((Target(NEW, 100, "candidate"),))
    assert world.run("three") is End.PROMOTED


def test_a_revision_that_got_everything_past_a_rollout_is_not_rolled_out(world):
    assert world.run() is End.PROMOTED
    world.platform.put((Target("svc-00003-by-hand", 100, "candidate"),))
    with pytest.raises(RolloutError, match="serves everything already"):
        world.run("two")


def test_a_tag_that_somebody_took_away_comes_back_with_the_next_controller(world):
    world.die_at(4)
    with pytest.raises(Killed):
        world.run()
    world.die_at(None)
    (stable,) = world.platform.shares()
    world.platform.put((Target(stable, 100), Target(NEW, 0, "candidate")))
    assert world.run("two") is End.PROMOTED
    assert history(world) == UP
