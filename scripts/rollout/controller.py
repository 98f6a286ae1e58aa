"""Rolls a candidate out: reads where it stands, judges, makes one move, and begins again.

Every decision starts from what the platform says, and every move writes the traffic and the state that explains it in
one call. So a controller that dies anywhere is continued by the next one, and one that is overruled notices.
"""

from __future__ import annotations

from dataclasses import replace

from scripts.rollout import state as states
from scripts.rollout.baseline import Baseline, Watch
from scripts.rollout.begin import Beginner
from scripts.rollout.doors import Clock, Event, Observer, Prober, Recorder
from scripts.rollout.ends import End, Ender, OnHold
from scripts.rollout.gate import Probe, judge, judge_probe
from scripts.rollout.moves import Mover, StoodDown
from scripts.rollout.plan import Plan, Policy
from scripts.rollout.platform import Conflict, Platform, PlatformError, Service, Unavailable
from scripts.rollout.state import Phase, State
from scripts.rollout.verdict import Judgement, Verdict, together

__all__ = ["Controller", "End", "OnHold"]

# a controller that is there says so this often, so that one that is not is noticed after `states.SILENT_SECONDS`
SEEN_SECONDS = 240.0

_urls = states.urls


class Controller:
    """Rolls out one service."""

    def __init__(
        self,
        platform: Platform,
        observer: Observer,
        prober: Prober,
        recorder: Recorder,
        clock: Clock,
        plan: Plan,
        holder: str,
        *,
        on_hold: OnHold = OnHold.BACK,
        timeout_seconds: float | None = None,
    ) -> None:
        """Bring the parts together.

        Args:
            platform: the service.
            observer: its metrics.
            prober: its answers.
            recorder: the audit record, and whoever watches.
            clock: time.
            plan: what to do.
            holder: a name for this controller that no other one has.
            on_hold: what becomes of the candidate's traffic when the rollout is held or interrupted.
            timeout_seconds: after so long the rollout is held, None never.
        """
        self._until = None if timeout_seconds is None else clock.now() + timeout_seconds
        self._is_begun = False
        self._observer, self._prober, self._recorder = observer, prober, recorder
        self._clock, self._plan = clock, plan
        self._mover = Mover(platform, plan, clock)
        self._baseline, self._watch = Baseline(prober), Watch(prober, clock, plan.look_seconds)
        self._beginner = Beginner(self._mover, clock, plan, holder, self._tell)
        self._ender = Ender(self._mover, prober, clock, plan, on_hold, self._tell)

    def run(self, digest: str, candidate: str = "") -> End:
        """Roll out until an end, or until a person has to decide.

        Args:
            digest: of the bundle that the candidate is meant to serve.
            candidate: a revision, if another one is meant than the newest candidate.

        Raises:
            RolloutError: it cannot begin.
            Refused: the platform does not let us.
        """
        try:
            return self._run(digest, candidate)
        except KeyboardInterrupt:
            # also where it was about to end otherwise
            return self._ender.interrupt(self._mover.last, is_begun=self._is_begun, is_lost=self._baseline.is_lost)

    def _run(self, digest: str, candidate: str) -> End:
        try:
            state = self._beginner.begin(digest, candidate)
        except Conflict:
            # somebody was quicker and has the rollout
            return End.STOOD_DOWN
        except Unavailable:
            return End.UNAVAILABLE
        self._is_begun = True
        try:
            return self._until_the_end(state)
        except StoodDown as error:
            return self._ender.stand_down(state, str(error))
        except Unavailable as error:
            self._tell("held", self._mover.last or state, str(error))
            return End.UNAVAILABLE
        except PlatformError as error:
            self._tell("held", self._mover.last or state, f"nobody judges the candidate any more: {error}")
            raise
        except Exception as error:
            # the guard: a candidate does not keep its traffic while nobody judges it
            self._ender.give_back(state, f"the controller failed: {error!r}")
            raise

    def _until_the_end(self, state: State) -> End:
        while True:
            service, state = self._mover.held(state)
            if state.is_over:
                return self._ended(state)
            state = self._say_seen(service, state)
            is_late = self._until is not None and self._clock.now() >= self._until
            end = self._hold(state, "the time that was given is over") if is_late else self._advance(service, state)
            if end is not None:
                return end
            self._clock.sleep(self._plan.look_seconds)

    def _say_seen(self, service: Service, state: State) -> State:
        """Write now and then that a controller is there; where that fails the next look tries again."""
        now = self._clock.now()
        if now - state.seen_seconds < SEEN_SECONDS:
            return state
        try:
            return self._mover.annotate(service, replace(state, seen_seconds=now))
        except (Conflict, Unavailable):
            return state

    def _advance(self, service: Service, state: State) -> End | None:
        """Look once, and make at most one move."""
        if state.phase is Phase.SMOKE:
            judgement = self._judge_smoke(service, state)
        else:
            candidate_url, stable_url = _urls(service)
            probe = self._watch.look(candidate_url, state.digest)
            # asked last, so that it is known whether there is anything to go back to
            if self._baseline.listen(stable_url) and state.phase is Phase.STEP:
                self._move(state, Phase.STEP, f"{state.stable} answers again: the step begins again", state.step)
                return None
            judgement = self._judge(service, state, probe)
        # where neither answers it may be the network, and going back would bring nothing
        are_both_silent = self._watch.is_silent and self._baseline.is_silent
        if judgement.verdict is Verdict.UNHEALTHY and not are_both_silent:
            return self._roll_back(state, judgement.reason)
        if state.is_paused:
            self._tell("waits", state, "paused")
            return None
        elapsed = self._clock.now() - state.since_seconds
        if are_both_silent or (state.phase is Phase.STEP and self._baseline.is_silent):
            return self._wait_alone(state, elapsed, judgement.reason)
        if judgement.verdict is Verdict.HEALTHY:
            return self._step(state, elapsed, judgement.reason)
        return self._decide(service, state, judgement) if elapsed >= self._deadline_seconds(state) else None

    def _deadline_seconds(self, state: State) -> float:
        if state.phase is Phase.SMOKE:
            return self._plan.probing.ready_seconds
        return max(self._plan.step_deadline_seconds, self._plan.warm_seconds if state.phase is Phase.WARM else 0)

    def _wait_alone(self, state: State, elapsed: float, reason: str) -> End | None:
        """Wait beside a stable revision that does not answer: nothing gives the candidate more but a person."""
        if not self._baseline.is_lost:
            return None
        told = f"{state.stable} does not answer"
        self._tell("waits", state, f"{told}; the candidate keeps its share until: promote or abort")
        if elapsed < self._deadline_seconds(state):
            return None
        return self._hold(state, f"{told}; of the candidate: {reason}", End.ALONE)

    def _judge_smoke(self, service: Service, state: State) -> Judgement:
        waited = self._clock.now() - state.since_seconds
        probe = self._prober.probe(*_urls(service), state.digest, waited)
        judgement = together(judge_probe(probe, self._plan))
        self._tell("judged", state, judgement.reason, judgement=judgement, probe=probe)
        return judgement

    def _judge(self, service: Service, state: State, probe: Probe) -> Judgement:
        plan, found = self._plan, judge_probe(probe, self._plan)
        judgement, observation = together(found), None
        # a stable revision that does not answer is no baseline; what it did before the step is
        is_concurrent = state.phase is Phase.STEP and not self._baseline.is_lost
        if judgement.verdict is not Verdict.UNHEALTHY:
            # what the looks know already waits for no metrics
            before = state.since_seconds if is_concurrent else state.since_seconds - plan.step_deadline_seconds
            revisions, now = (state.candidate, state.stable), self._clock.now()
            asked = dict(zip(revisions, map(self._prober.asked, _urls(service)), strict=True))
            observation = self._observer.observe(*revisions, state.since_seconds, before, now, asked)
            judgement = judge(observation, found, plan, state.percent(plan), is_concurrent=is_concurrent)
        parts = {"judgement": judgement, "observation": observation, "probe": probe, "is_concurrent": is_concurrent}
        self._tell("judged", state, judgement.reason, **parts)
        return judgement

    def _step(self, state: State, elapsed: float, reason: str) -> End | None:
        plan = self._plan
        least = {Phase.SMOKE: 0, Phase.STEP: plan.step_min_seconds, Phase.WARM: plan.warm_seconds}[state.phase]
        if elapsed < least:
            return None
        if state.phase is Phase.WARM or state.is_first:
            moved = self._move(state, Phase.PROMOTED, reason)
            return self._ended(moved) if moved.is_over else None
        following = state.step + 1
        if plan.needs_approval(following) and state.approved < following:
            self._tell("waits", state, f"the step to {plan.steps_percent[following]} % waits for: approve")
            return None
        self._move(state, Phase.WARM if plan.is_last(following) else Phase.STEP, reason, following)
        return None

    def _decide(self, service: Service, state: State, judgement: Judgement) -> End | None:
        """Follow the policy of a step that is inconclusive at its deadline."""
        policy = self._plan.policy
        if policy is Policy.ROLL_BACK:
            return self._roll_back(state, f"inconclusive at the deadline: {judgement.reason}")
        if state.phase is Phase.SMOKE or judgement.is_missing:
            return self._hold(state, judgement.reason)
        if policy is Policy.PROMOTE:
            return self._step(
                state, float("inf"), f"inconclusive at the deadline, promoted by policy: {judgement.reason}"
            )
        if policy is Policy.GOLDEN and state.phase is Phase.STEP:
            sent = self._prober.synthesize(*_urls(service), state.percent(self._plan))
            self._tell("synthetic", state, f"{sent} golden rows sent to the candidate")
            return None
        return self._hold(state, judgement.reason)

    def _hold(self, state: State, reason: str, end: End = End.HELD) -> End | None:
        return self._ender.hold(state, reason, end)

    def _move(self, state: State, phase: Phase, reason: str, step: int | None = None) -> State:
        moved = self._mover.move(
            state,
            # a pause that came in between wins
            lambda found: found if found.is_paused else found.at(phase, self._clock.now(), reason, step),
        )
        self._tell("moved", moved, reason)
        return moved

    def _roll_back(self, state: State, reason: str) -> End | None:
        return self._ender.roll_back(state, reason)

    def _ended(self, state: State) -> End:
        return self._ender.ended(state)

    def _tell(self, name: str, state: State, reason: str, **more: object) -> None:
        event = Event(self._clock.now(), name, state, state.percent(self._plan), reason)
        self._recorder.record(replace(event, **more))  # type: ignore[arg-type]
