"""Anything may happen in any order (K7): a person, a second controller, a dying one, an API that lies."""

from __future__ import annotations

import functools
import os
import tomllib
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from scripts.rollout import plan
from scripts.rollout import state as states
from scripts.rollout.controller import End
from scripts.rollout.platform import PlatformError, Target
from scripts.rollout.state import RolloutError
from scripts.rollout.verbs import Person
from tests.fakes.platform import NEW, OLD, Killed
from tests.unit.scripts.rollout.conftest import ROOT, World

TRACES = int(os.environ.get("ROLLOUT_TRACES", "40"))
FAULTS = ("conflict", "unavailable", "applied", "slow", "read unavailable")


@functools.cache
def short_plan() -> plan.Plan:
    read = plan.read(tomllib.loads((ROOT / "slo.toml").read_text()))
    return replace(read, look_seconds=400, step_deadline_seconds=2000, warm_seconds=1000)


class Rollouts(RuleBasedStateMachine):
    """A service, and everybody who may touch it."""

    @initialize()
    def begin(self) -> None:
        self.world = World(short_plan())
        self.moved_by_hand: dict[str, int] | None = None
        self.checked = 0
        self.holders = 0

    @rule(
        crossing=st.integers(1, 60),
        health=st.sampled_from(["good", "good", "good", "bad", "few", "missing", "late", "fallback"]),
        faults=st.lists(st.sampled_from(FAULTS), max_size=3),
        trouble=st.sampled_from(["", "503"]),
        stable_answers=st.sampled_from([True, True, True, False]),
    )
    def run_for_a_while(self, crossing, health, faults, trouble, stable_answers):
        """Let a controller work until it ends, or is killed."""
        world = self.world
        before = states.of(world.platform.service)
        world.observer.health, world.prober.trouble = health, trouble
        world.prober.stable_answers = stable_answers
        world.platform.faults = list(faults)
        self.holders += 1
        world.die_at(crossing)
        try:
            end = world.run(f"controller-{self.holders}")
        except Killed:
            end = None
        except (RolloutError, PlatformError):
            end = None
        finally:
            world.die_at(None)
            world.platform.faults = []
        after = states.of(world.platform.service)
        if end is End.PROMOTED:
            assert states.shares(world.platform.service) == {NEW: 100}
        if end in (End.ROLLED_BACK, End.UNVERIFIED):
            assert after is not None
            assert states.shares(world.platform.service) == {after.stable: 100}
        # nobody compares with what is missing, nor with a revision that is dead; one that serves alone already, as a
        # first deploy does or after a person moved everything to it, has none beside it
        is_blind = health in ("missing", "late") or (not stable_answers and self._is_stepping(before))
        if is_blind and before is not None and after is not None and not (before.is_over or before.is_first):
            assert after.percent(world.plan) <= max(before.percent(world.plan), world.plan.steps_percent[0])

    @staticmethod
    def _is_stepping(before):
        return before is not None and before.phase in (states.Phase.SMOKE, states.Phase.STEP)

    @rule(moved=st.sampled_from([{OLD: 100}, {NEW: 100}, {OLD: 40, NEW: 60}, {"svc-00009-other": 100}]))
    def move_traffic_by_hand(self, moved):
        targets = [Target(revision, percent) for revision, percent in moved.items()]
        self.world.platform.put((*targets, Target(NEW, 0, "candidate")))
        self.moved_by_hand = moved

    @rule(verb=st.sampled_from(["pause", "resume", "approve", "abort", "retry", "promote", "rollback"]))
    def say(self, verb):
        person = Person(self.world.platform, self.world.clock, self.world.plan)
        try:
            if verb in ("resume", "approve", "retry"):
                getattr(person, verb)()
            else:
                getattr(person, verb)("because")
        except RolloutError:
            return
        self.moved_by_hand = None if verb in ("abort", "promote", "rollback") else self.moved_by_hand

    @rule()
    def tag_again(self):
        """Deploy the same candidate again, so that there is something to roll out."""
        service = self.world.platform.service
        if states.candidate_of(service) is None and NEW not in states.shares(service):
            self.world.platform.put((*service.traffic, Target(NEW, 0, "candidate")))

    @invariant()
    def traffic_adds_up_and_is_never_above_the_plan(self):
        world = self.world
        for service in world.platform.writes[self.checked :]:
            assert sum(states.shares(service).values()) == 100
            assert all(one.percent or one.tag for one in service.traffic)
            state = states.of(service)
            if state is not None and not state.is_over:
                assert states.shares(service).get(state.candidate, 0) <= max(state.percent(world.plan), 0) or (
                    # a note on a service whose traffic somebody else moved leaves that traffic
                    states.shares(service) == self.moved_by_hand
                )
        self.checked = len(world.platform.writes)

    @invariant()
    def what_a_person_moved_stays(self):
        if self.moved_by_hand is None:
            return
        state = states.of(self.world.platform.service)
        if state is not None and state.is_over and state.phase is states.Phase.STOOD_DOWN:
            assert states.shares(self.world.platform.service) == self.moved_by_hand


def test_invariants_hold_whatever_happens_in_any_order():
    run_state_machine_as_test(
        Rollouts,
        settings=settings(
            max_examples=TRACES,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"K7: {TRACES} traces of 12 steps")
