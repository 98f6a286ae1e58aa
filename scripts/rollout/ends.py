"""Ends a rollout: held, rolled back, interrupted, or stood down; no traffic stays where nobody judges it, unasked."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from scripts.rollout import state as states
from scripts.rollout.baseline import SILENT_LOOKS
from scripts.rollout.doors import Clock, Prober, Tell
from scripts.rollout.moves import (
    AS_EXPECTED_SECONDS,
    AT_ONCE_SECONDS,
    ATTEMPTS,
    LONGEST_WAIT_SECONDS,
    POLL_SECONDS,
    Mover,
    StoodDown,
)
from scripts.rollout.plan import Plan
from scripts.rollout.platform import Conflict, PlatformError, Service, Unavailable
from scripts.rollout.state import Damaged, Phase, State


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
    SUPERSEDED = "superseded by a newer candidate"
    INTERRUPTED = "interrupted"


class OnHold(StrEnum):
    """What becomes of the candidate's traffic when nobody judges it any more."""

    BACK = "back"
    KEEP = "keep"


class Ender:
    """Makes a controller's last writes."""

    def __init__(self, mover: Mover, prober: Prober, clock: Clock, plan: Plan, on_hold: OnHold, tell: Tell) -> None:
        """Prepare.

        Args:
            mover: reads and writes the service.
            prober: asks the stable revision.
            clock: time.
            plan: what shares the steps have.
            on_hold: what becomes of the candidate's traffic.
            tell: tells what happened.
        """
        self._mover, self._prober, self._clock = mover, prober, clock
        self._plan, self._on_hold, self._tell = plan, on_hold, tell

    def hold(self, state: State, reason: str, end: End = End.HELD) -> End | None:
        """Stop judging: the candidate's traffic goes back, unless it was meant to stay or nobody is there to take it.

        Args:
            state: as the controller knows it.
            reason: why nobody judges any more.
            end: what is returned; at `ALONE` the candidate keeps its share.

        Returns:
            How it ended, None where somebody moved the rollout on meanwhile.
        """
        is_back = self._on_hold is OnHold.BACK and end is not End.ALONE and state.percent(self._plan) > 0
        if is_back and not self._answers(states.urls(self._mover.settled())[1]):
            is_back, end = False, End.ALONE
            reason = f"{state.stable} does not answer; of the candidate: {reason}"

        def to(found: State) -> State:
            back = found.restarted(self._clock.now(), "") if is_back else found
            return replace(back, is_paused=True, reason=f"held: {reason}")

        held = self._mover.move(state, to, AT_ONCE_SECONDS if is_back else AS_EXPECTED_SECONDS)
        if held.is_over:
            return self.ended(held)
        if not held.is_paused:
            # somebody moved it on meanwhile
            return None
        share = f"the candidate has {held.percent(self._plan)} %"
        self._tell("held", held, f"{reason}; {share}; then: resume, approve, promote or abort")
        return end

    def _answers(self, url: str) -> bool:
        """Whether the stable revision answers; one look without an answer is no death."""
        for _ in range(SILENT_LOOKS):
            if not url or self._prober.identify(url, "").is_ready:
                return True
            self._clock.sleep(POLL_SECONDS)
        return False

    def interrupt(self, state: State | None, *, is_begun: bool, is_lost: bool) -> End:
        """End within seconds: the candidate's traffic goes back unless it was meant to stay; the next `run` goes on.

        Args:
            state: the last that this controller found or wrote, None before any.
            is_begun: whether it is known that it began a rollout, or took one over.
            is_lost: the stable revision does not answer: then the candidate keeps its share.
        """
        if state is None:
            return End.INTERRUPTED
        self._mover.hurry()
        reason = "interrupted"
        try:
            _, state = self._mover.held(state, AT_ONCE_SECONDS)
            is_kept = self._on_hold is OnHold.KEEP or is_lost or state.percent(self._plan) == 0
            if not (is_kept or state.is_over):
                state = self._mover.move(
                    state, lambda found: found.restarted(self._clock.now(), reason), AT_ONCE_SECONDS
                )
        except StoodDown as error:
            return self.stand_down(state, str(error)) if is_begun else End.INTERRUPTED
        except PlatformError as error:
            reason = f"interrupted, and {error}"
        if state.is_over:
            return self.ended(state)
        self._tell("held", state, f"{reason}; the candidate has {state.percent(self._plan)} %; then: run, or abort")
        return End.INTERRUPTED

    def roll_back(self, state: State, reason: str) -> End | None:
        """Give the stable revision everything in one write, and prove that it answers."""
        moved = self._mover.move(
            state, lambda found: found.at(Phase.ROLLED_BACK, self._clock.now(), reason), AT_ONCE_SECONDS
        )
        self._tell("moved", moved, reason)
        return self.ended(moved) if moved.is_over else None

    def ended(self, state: State) -> End:
        """Tell how a rollout ended; where the stable revision got everything, prove that it answers."""
        if state.phase is Phase.STOOD_DOWN:
            self._tell("ended", state, state.reason)
            return End.STOOD_DOWN
        if state.phase is Phase.PROMOTED:
            self._tell("ended", state, state.reason)
            return End.PROMOTED
        if state.is_first and state.phase is not Phase.SUPERSEDED:
            self._tell("ended", state, f"{state.reason}; there is none to go back to: deploy another one")
            return End.UNFIT
        trouble = self._prober.verify(self._mover.settled().url)
        self._tell("verified", state, trouble or f"{state.stable} answers")
        self._tell("ended", state, state.reason)
        if state.phase is Phase.SUPERSEDED:
            return End.SUPERSEDED
        return End.UNVERIFIED if trouble else End.ROLLED_BACK

    def give_back(self, state: State, reason: str) -> None:
        """Roll back as far as that can still be done."""
        try:
            self.roll_back(self._mover.held(state)[1], reason)
        except StoodDown as error:
            self.stand_down(state, str(error))
        except PlatformError as error:
            self._tell("held", self._mover.last or state, f"{reason}; and {error}")

    def stand_down(self, state: State, reason: str) -> End:
        """End a rollout that cannot go on: traffic that is still as this controller left it goes back to stable.

        What somebody else moved stays as it is, and so does the rollout of another controller.
        """
        try:
            return self._stand_down(state, reason)
        except PlatformError as error:
            self._tell("held", self._mover.last or state, f"{reason}; nobody judges the candidate any more: {error}")
            raise

    def _stand_down(self, state: State, reason: str) -> End:
        for attempt in range(ATTEMPTS):
            service = self._mover.settled()
            try:
                found, is_damaged = states.of(service), False
            except Damaged:
                found, is_damaged = None, True
            if found is not None and (found.rollout, found.holder) != (state.rollout, state.holder):
                return self._leave(state, found, reason)
            if found is not None and found.is_over:
                return self.ended(found)
            last = found or self._mover.last or state
            is_mine = self._mover.is_mine(service)
            ended = last.at(self._last_phase(service, last, found, is_mine=is_mine), self._clock.now(), reason)
            try:
                if is_mine:
                    self._mover.place(service, ended, takes_tag=False)
                    return self.ended(ended)
                if found is not None or is_damaged:
                    self._mover.annotate(service, ended)
            except (Conflict, Unavailable) as error:
                reason = f"{reason.partition(' (not noted')[0]} (not noted in the service: {error})"
                self._clock.sleep(min(POLL_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS))
                continue
            break
        share = states.shares(service).get(state.candidate, 0)
        ended = (self._mover.last or state).at(Phase.STOOD_DOWN, self._clock.now(), reason)
        self._tell("ended", ended, f"{reason}; the candidate has {share} %, and nobody judges it", percent=share)
        return End.STOOD_DOWN

    @staticmethod
    def _last_phase(service: Service, last: State, found: State | None, *, is_mine: bool) -> Phase:
        if is_mine and states.other_candidate(service, last):
            return Phase.SUPERSEDED
        return Phase.ROLLED_BACK if is_mine and found is None else Phase.STOOD_DOWN

    def _leave(self, state: State, found: State, reason: str) -> End:
        """Leave a service whose rollout is another controller's, or another one."""
        is_superseded = found.candidate != state.candidate
        phase = Phase.SUPERSEDED if is_superseded else Phase.STOOD_DOWN
        share = found.percent(self._plan)
        self._tell("ended", state.at(phase, self._clock.now(), reason), reason, percent=share)
        return End.SUPERSEDED if is_superseded else End.STOOD_DOWN
