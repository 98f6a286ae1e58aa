"""Begins a rollout, takes one over whose controller died, or ends an older one that a newer candidate supersedes."""

from __future__ import annotations

from dataclasses import replace

from scripts.rollout import state as states
from scripts.rollout.doors import Clock, Tell
from scripts.rollout.moves import PATIENCE_SECONDS, POLL_SECONDS, Mover
from scripts.rollout.plan import Plan
from scripts.rollout.platform import Conflict, Service, Unavailable
from scripts.rollout.state import Phase, RolloutError, State


class Beginner:
    """Finds out where a controller begins, and writes that it is this one's rollout."""

    def __init__(self, mover: Mover, clock: Clock, plan: Plan, holder: str, tell: Tell) -> None:
        """Prepare.

        Args:
            mover: reads and writes the service.
            clock: time.
            plan: what to do.
            holder: the controller's name.
            tell: tells what happened.
        """
        self._mover, self._clock, self._plan, self._holder, self._tell = mover, clock, plan, holder, tell

    def begin(self, digest: str, candidate: str) -> State:
        """Return the state to go on from, written.

        Args:
            digest: of the bundle that the candidate is meant to serve.
            candidate: a revision, if another one is meant than the newest candidate.

        Raises:
            RolloutError: it cannot begin.
            Conflict: somebody else was quicker.
            Unavailable, Refused: the platform does not let us.
        """
        deadline = self._clock.now() + PATIENCE_SECONDS
        while True:
            try:
                if (state := self._begin_once(digest, candidate)) is not None:
                    return state
            except Unavailable:
                # it may have been written all the same: then it is found, and it is this controller's
                if self._clock.now() >= deadline:
                    raise
                self._clock.sleep(POLL_SECONDS)

    def _begin_once(self, digest: str, candidate: str) -> State | None:
        """Return the state to go on from, or None where an older rollout was ended first: look again."""
        service = self._mover.settled()
        now = self._clock.now()
        found = states.of(service)
        if found is not None and not found.is_over:
            chosen = candidate or states.candidate_of(service) or found.candidate
            if chosen != found.candidate:
                self._supersede(service, found, chosen, is_named=bool(candidate))
                return None
            if not candidate:
                # a newer one may have lost the tag to a rollback that could not wait until it was ready
                states.require_newest(service, found.candidate)
            return self._take_over(service, found, digest)
        if found is not None and states.is_done(service, found) and candidate in ("", found.candidate):
            if found.digest not in ("", digest):
                raise RolloutError(f"{found.candidate} was promoted, with the bundle {found.digest}, not {digest}")
            return found
        fresh = states.begin(service, self._plan, now, self._holder, digest, candidate)
        if found is not None and found.candidate == fresh.candidate and not self._may_repeat(found, candidate):
            raise RolloutError(f"{found.candidate} {found.phase.value} before: {found.reason}; to try again: retry")
        if candidate:
            # from now on it is the one that is meant, until another one is deployed
            meant = {states.INTENDED: candidate, states.INTENDED_DIGEST: digest}
            service = replace(service, annotations={**service.annotations, **meant})
        state = self._mover.place(service, replace(fresh, seen_seconds=now))
        first = f"{state.candidate} is the first revision of all"
        self._tell(
            "began", state, first if state.is_first else f"{state.candidate} is to take over from {state.stable}"
        )
        return state

    @staticmethod
    def _may_repeat(found: State, candidate: str) -> bool:
        return found.phase is Phase.PROMOTED or (found.phase is Phase.SUPERSEDED and candidate == found.candidate)

    def _supersede(self, service: Service, found: State, chosen: str, *, is_named: bool) -> None:
        """End an older rollout whose controller is dead, or has not noticed yet: its traffic goes back in one write."""
        if not is_named:
            states.require_newest(service, chosen)
        if states.shares(service) != states.wanted(found, self._plan):
            moved = f"the traffic is {states.say(states.shares(service))}: somebody moved it"
            raise RolloutError(f"the rollout of {found.candidate} goes on, and {moved}; abort it, or: rollback")
        ended = found.at(Phase.SUPERSEDED, self._clock.now(), f"superseded by {chosen}")
        try:
            self._mover.place(service, ended, takes_tag=False)
        except Conflict:
            # its own controller may have done the same
            return
        self._tell("ended", ended, ended.reason)

    def _take_over(self, service: Service, found: State, digest: str) -> State:
        if found.plan != self._plan.name:
            raise RolloutError(f"a rollout by the plan {found.plan} goes on; run it with --plan {found.plan}")
        if found.digest != digest:
            raise RolloutError(f"the rollout that goes on is of the bundle {found.digest}, not {digest}")
        if found.phase is Phase.STEP and found.step + 1 >= len(self._plan.steps_percent):
            raise RolloutError(f"the rollout is at step {found.step + 1}, which the plan has no more; abort it")
        ours = replace(found, holder=self._holder, seen_seconds=self._clock.now())
        # where the traffic is ours the tags are written again too: somebody may have taken one away
        is_as_said = states.shares(service) == states.wanted(found, self._plan)
        is_whole = is_as_said and states.deploying(service, found) is None
        state = self._mover.place(service, ours) if is_whole else self._mover.annotate(service, ours)
        self._tell("resumed", state, f"after the controller {found.holder}")
        return state
