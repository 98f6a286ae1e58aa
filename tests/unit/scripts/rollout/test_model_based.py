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
        # revision → writes there were when a newer candidate superseded it
        self.superseded: dict[str, int] = {}
        self.deployed = NEW

    @rule(
        crossing=st.integers(1, 120) | st.just(10**6),
        health=st.sampled_from(["good", "good", "good", "bad", "few", "missing", "late", "fallback"]),
        faults=st.lists(st.sampled_from(FAULTS), max_size=3),
        trouble=st.sampled_from(["", "503"]),
        stable_answers=st.sampled_from([True, True, True, False]),
        deploys_at=st.sampled_from([0, 0, 0, 2, 3, 5, 8, 13, 21, 34]),
        signal_at=st.sampled_from([0, 0, 0, 4, 9, 16, 25]),
    )
    def run_for_a_while(self, crossing, health, faults, trouble, stable_answers, deploys_at, signal_at):
        """Let a controller work until it ends, or is killed; somebody may deploy meanwhile, or send a signal."""
        world = self.world
        before = states.of(world.platform.service)
        world.observer.health, world.prober.trouble = health, trouble
        world.prober.stable_answers = stable_answers
        world.platform.faults = list(faults)
        self.holders += 1
        boundaries = world.die_at(crossing)
        cross = boundaries.cross

        def crossed():
            cross()
            if boundaries.crossed == deploys_at:
                self._deploy()
            if boundaries.crossed == signal_at:
                raise KeyboardInterrupt

        boundaries.cross = crossed
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
        self._check_end(end, after)
        # nobody compares with what is missing, nor with a revision that is dead; one that serves alone already, as a
        # first deploy does or after a person moved everything to it, has none beside it
        is_blind = health in ("missing", "late") or (not stable_answers and self._is_stepping(before))
        if is_blind and before is not None and after is not None and not (before.is_over or before.is_first):
            assert after.percent(world.plan) <= max(before.percent(world.plan), world.plan.steps_percent[0])

    def _check_end(self, end, after):
        serving = states.shares(self.world.platform.service)
        if end is End.PROMOTED:
            assert serving == {after.candidate: 100}
        if end in (End.ROLLED_BACK, End.UNVERIFIED):
            assert serving == {after.stable: 100}
        if end in (End.HELD, End.SUPERSEDED) and self.moved_by_hand is None:
            # nobody judges it any more
            assert serving.get(after.candidate, 0) == 0 or after.is_first

    def _deploy(self):
        platform = self.world.platform
        found = states.of(platform.service)
        if found is None or found.phase is not states.Phase.PROMOTED or found.candidate != self.deployed:
            self.superseded[self.deployed] = len(platform.writes)
        self.deployed = f"svc-{len(self.superseded) + 100:05d}-more"
        platform.deploy(self.deployed)

    @staticmethod
    def _is_stepping(before):
        return before is not None and before.phase in (states.Phase.SMOKE, states.Phase.STEP)

    @rule(moved=st.sampled_from([{OLD: 100}, {NEW: 100}, {OLD: 40, NEW: 60}, {"svc-00009-other": 100}]))
    def move_traffic_by_hand(self, moved):
        targets = [Target(revision, percent) for revision, percent in moved.items()]
        self.world.platform.put((*targets, Target(self.deployed, 0, "candidate")))
        self.moved_by_hand = moved

    @rule()
    def deploy_again(self):
        """Deploy another candidate, whatever goes on."""
        self._deploy()

    @rule(crossing=st.integers(5, 60), has_remedy=st.booleans())
    def deploy_during_a_rollout(self, crossing, has_remedy):
        """Deploy another candidate where a controller was killed, and go on, with or without the runbook's remedy."""
        self.run_for_a_while(crossing, "good", [], "", True, 0, 0)
        self._deploy()
        if has_remedy:
            self.say("rollback")
            self.say("retry")
        self.run_for_a_while(10**6, "good", [], "", True, 0, 0)

    @rule(verb=st.sampled_from(["pause", "resume", "approve", "abort", "retry", "promote", "rollback"]))
    def say(self, verb):
        person = Person(self.world.platform, self.world.clock, self.world.plan)
        try:
            if verb in ("resume", "approve", "retry"):
                getattr(person, verb)()
            elif verb == "rollback":
                person.rollback("because", is_sure=True)
            else:
                getattr(person, verb)("because")
        except RolloutError:
            return
        self.moved_by_hand = None if verb in ("abort", "promote", "rollback") else self.moved_by_hand

    @rule()
    def tag_again(self):
        """Deploy the same candidate again, so that there is something to roll out."""
        service = self.world.platform.service
        if states.candidate_of(service) is None and self.deployed not in states.shares(service):
            self.world.platform.put((*service.traffic, Target(self.deployed, 0, "candidate")))

    @invariant()
    def traffic_adds_up_and_is_never_above_the_plan(self):
        world = self.world
        for number, service in enumerate(world.platform.writes[self.checked :], self.checked):
            assert sum(states.shares(service).values()) == 100
            assert all(one.percent or one.tag for one in service.traffic)
            state = states.of(service)
            if state is not None and state.phase in (states.Phase.WARM, states.Phase.PROMOTED):
                assert number < self.superseded.get(state.candidate, 10**9) or state.is_first, "superseded, promoted"
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
