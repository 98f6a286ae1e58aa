"""Rolls a candidate out: reads where it stands, judges, makes one move, and begins again.

Every decision starts from what the platform says, and every move writes the traffic and the state that explains it in
one call. So a controller that dies anywhere is continued by the next one, and one that is overruled notices.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from scripts.rollout import state as states
from scripts.rollout.baseline import Baseline, Watch
from scripts.rollout.doors import Clock, Event, Observer, Prober, Recorder
from scripts.rollout.gate import Probe, judge, judge_probe
from scripts.rollout.moves import AT_ONCE_SECONDS, PATIENCE_SECONDS, POLL_SECONDS, Mover, StoodDown
from scripts.rollout.plan import Plan, Policy
from scripts.rollout.platform import Conflict, Platform, PlatformError, Service, Unavailable
from scripts.rollout.state import Phase, RolloutError, State
from scripts.rollout.verdict import Judgement, Verdict, together


class End(StrEnum):
    """How `run` ends."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    UNVERIFIED = "rolled back, but the stable revision does not answer"
    STOOD_DOWN = "stood down"
    HELD = "held"
    ALONE = "held, and the stable revision does not answer"
    UNFIT = "the first revision does not pass its smoke test, and there is none to go back to"
    UNAVAILABLE = "the platform does not answer"


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
        """
        self._observer, self._prober, self._recorder = observer, prober, recorder
        self._clock, self._plan, self._holder = clock, plan, holder
        self._mover = Mover(platform, plan, clock)
        self._baseline, self._watch = Baseline(prober), Watch(prober, clock, plan.look_seconds)

    def run(self, digest: str) -> End:
        """Roll out until an end, or until a person has to decide.

        Args:
            digest: of the bundle that the candidate is meant to serve.

        Raises:
            RolloutError: it cannot begin.
            Refused: the platform does not let us.
        """
        try:
            state = self._begin(digest)
        except Conflict:
            # whoever was quicker has the rollout
            return End.STOOD_DOWN
        except Unavailable:
            return End.UNAVAILABLE
        try:
            return self._until_the_end(state)
        except StoodDown as error:
            return self._stand_down(state, str(error))
        except Unavailable as error:
            self._tell("held", state, str(error))
            return End.UNAVAILABLE
        except PlatformError:
            raise
        except Exception as error:
            # the guard: a candidate does not keep its traffic while nobody judges it
            self._roll_back(self._mover.held(state)[1], f"the controller failed: {error!r}")
            raise

    def _begin(self, digest: str) -> State:
        deadline = self._clock.now() + PATIENCE_SECONDS
        while True:
            try:
                return self._begin_once(digest)
            except Unavailable:
                # it may have been written all the same: then it is found, and it is ours
                if self._clock.now() >= deadline:
                    raise
                self._clock.sleep(POLL_SECONDS)

    def _begin_once(self, digest: str) -> State:
        service = self._mover.settled()
        now = self._clock.now()
        found = states.of(service)
        if found is not None and not found.is_over:
            return self._take_over(service, found, digest)
        if found is not None and states.is_done(service, found):
            return found
        fresh = states.begin(service, self._plan, now, self._holder, digest)
        if found is not None and found.candidate == fresh.candidate and found.phase is not Phase.PROMOTED:
            raise RolloutError(f"{found.candidate} {found.phase.value} before: {found.reason}; to try again: retry")
        state = self._mover.place(service, fresh)
        first = f"{state.candidate} is the first revision of all"
        self._tell(
            "began", state, first if state.is_first else f"{state.candidate} is to take over from {state.stable}"
        )
        return state

    def _take_over(self, service: Service, found: State, digest: str) -> State:
        if found.plan != self._plan.name:
            raise RolloutError(f"a rollout by the plan {found.plan} goes on; run it with --plan {found.plan}")
        candidate = states.candidate_of(service)
        if candidate not in (None, found.candidate):
            raise RolloutError(f"the rollout of {found.candidate} goes on; abort it before {candidate} is rolled out")
        if found.digest != digest:
            raise RolloutError(f"the rollout that goes on is of the bundle {found.digest}, not {digest}")
        ours = replace(found, holder=self._holder)
        # where the traffic is ours the tags are written again too: somebody may have taken one away
        is_as_said = states.shares(service) == states.wanted(found, self._plan)
        state = self._mover.place(service, ours) if is_as_said else self._mover.annotate(service, ours)
        self._tell("resumed", state, f"after the controller {found.holder}")
        return state

    def _until_the_end(self, state: State) -> End:
        while True:
            service, state = self._mover.held(state)
            if state.is_over:
                return self._ended(state)
            if (end := self._advance(service, state)) is not None:
                return end
            self._clock.sleep(self._plan.look_seconds)

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

    def _hold(self, state: State, reason: str, end: End = End.HELD) -> End:
        held = self._mover.move(state, lambda found: replace(found, is_paused=True, reason=f"held: {reason}"))
        self._tell("held", held, f"inconclusive at the deadline: {reason}; then: resume, approve, promote or abort")
        return end

    def _move(self, state: State, phase: Phase, reason: str, step: int | None = None) -> State:
        moved = self._mover.move(
            state,
            # a pause that came in between wins
            lambda found: found if found.is_paused else found.at(phase, self._clock.now(), reason, step),
        )
        self._tell("moved", moved, reason)
        return moved

    def _roll_back(self, state: State, reason: str) -> End | None:
        moved = self._mover.move(
            state, lambda found: found.at(Phase.ROLLED_BACK, self._clock.now(), reason), AT_ONCE_SECONDS
        )
        self._tell("moved", moved, reason)
        return self._ended(moved) if moved.is_over else None

    def _ended(self, state: State) -> End:
        if state.phase is Phase.STOOD_DOWN:
            return End.STOOD_DOWN
        if state.phase is Phase.PROMOTED:
            self._tell("ended", state, state.reason)
            return End.PROMOTED
        if state.is_first:
            self._tell("ended", state, f"{state.reason}; there is none to go back to: deploy another one")
            return End.UNFIT
        trouble = self._prober.verify(self._mover.settled().url)
        self._tell("verified", state, trouble or f"{state.stable} answers")
        self._tell("ended", state, state.reason)
        return End.UNVERIFIED if trouble else End.ROLLED_BACK

    def _stand_down(self, state: State, reason: str) -> End:
        service = self._mover.settled()
        found = states.of(service)
        is_ours = found is not None and (found.rollout, found.holder) == (state.rollout, state.holder)
        if found is not None and is_ours and not found.is_over:
            try:
                self._mover.annotate(service, found.at(Phase.STOOD_DOWN, self._clock.now(), reason))
            except (Conflict, Unavailable) as error:
                reason = f"{reason} (not noted in the service: {error})"
        self._tell("ended", state.at(Phase.STOOD_DOWN, self._clock.now(), reason), reason)
        return End.STOOD_DOWN

    def _tell(self, name: str, state: State, reason: str, **more: object) -> None:
        event = Event(self._clock.now(), name, state, state.percent(self._plan), reason)
        self._recorder.record(replace(event, **more))  # type: ignore[arg-type]


def _urls(service: Service) -> tuple[str, str]:
    """Return the addresses of the candidate's tag and the stable revision's, empty where the platform did not say."""
    found = {target.tag: target.url for target in service.traffic}
    return found.get(states.CANDIDATE, ""), found.get(states.STABLE, "")
