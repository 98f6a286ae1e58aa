"""What a person says to a rollout: each is one write, and whoever runs it notices at the next look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from scripts.rollout import state as states
from scripts.rollout.doors import Clock
from scripts.rollout.moves import ATTEMPTS, LONGEST_WAIT_SECONDS, POLL_SECONDS, Mover
from scripts.rollout.plan import Plan
from scripts.rollout.platform import Conflict, Platform, Service, Unavailable
from scripts.rollout.state import Phase, RolloutError, State


class Person:
    """Changes a rollout by hand."""

    def __init__(self, platform: Platform, clock: Clock, plan: Plan) -> None:
        """Prepare.

        Args:
            platform: the service.
            clock: time.
            plan: the one that the rollout follows.
        """
        self._mover, self._clock, self._plan = Mover(platform, plan, clock), clock, plan

    def pause(self, reason: str) -> State:
        """Step no further until `resume`; a bad candidate is still rolled back."""
        return self._note(lambda found: replace(found, is_paused=True, reason=reason or "paused"))

    def resume(self) -> State:
        """Go on; the step begins again, and so does its deadline."""
        return self._note(lambda found: replace(found, is_paused=False, since_seconds=self._clock.now()))

    def approve(self) -> State:
        """Let the next step begin, once the gates are healthy."""
        return self._note(lambda found: replace(found, approved=found.step + 1))

    def abort(self, reason: str) -> State:
        """Give the stable revision everything, and end."""
        return self._change(lambda found: found.at(Phase.ABORTED, self._clock.now(), reason or "aborted by a person"))

    def promote(self, reason: str) -> State:
        """Give the candidate everything now; it is watched, and the old revision kept warm, as at the last step."""
        last = len(self._plan.steps_percent) - 1
        because = reason or "promoted by a person"
        return self._change(lambda found: found.at(Phase.WARM, self._clock.now(), because, last))

    def rollback(self, reason: str) -> State:
        """Give the revision that was stable everything, also after the end of a rollout."""
        because = reason or "rolled back by a person"
        return self._change(lambda found: found.at(Phase.ROLLED_BACK, self._clock.now(), because), also_over=True)

    def retry(self) -> State:
        """Let a candidate that was rolled back, aborted or left alone be rolled out again by `run`."""

        def forget(service: Service, found: State) -> Service:
            if not found.is_over:
                raise RolloutError(f"the rollout of {found.candidate} goes on; there is nothing to retry")
            notes = {name: text for name, text in service.annotations.items() if name != states.ANNOTATION}
            return replace(service, annotations=notes)

        return self._write(forget)

    def _note(self, to: Callable[[State], State]) -> State:
        """Change the state and leave the traffic."""

        def noted(service: Service, found: State) -> Service:
            _require_going_on(found)
            return replace(service, annotations=states.annotated(service, to(found)))

        return self._write(noted)

    def _change(self, to: Callable[[State], State], *, also_over: bool = False) -> State:
        """Change the state and the traffic with it."""

        def changed(service: Service, found: State) -> Service:
            if not also_over:
                _require_going_on(found)
            return states.with_traffic(service, to(found), self._plan)

        return self._write(changed)

    def _write(self, change: Callable[[Service, State], Service]) -> State:
        wish: Service | None = None
        state: State | None = None
        for attempt in range(ATTEMPTS):
            service = self._mover.settled()
            found = states.of(service)
            if wish is not None and state is not None and service.annotations == wish.annotations:
                # it was written: by this call, or by one that ended in an error all the same
                return found or state
            if found is None:
                raise RolloutError(f"{service.name} has no rollout")
            wish, state = change(service, found), found
            try:
                self._mover.write(wish)
            except (Conflict, Unavailable):
                self._clock.sleep(min(POLL_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS))
        raise Unavailable(f"no write succeeded in {ATTEMPTS} attempts")


def _require_going_on(found: State) -> None:
    if found.is_over:
        raise RolloutError(f"the rollout of {found.candidate} is over: {found.phase.value}")


def status(service: Service, plan: Plan) -> dict[str, object]:
    """Return what `status` prints."""
    found = states.of(service)
    table: dict[str, object] = {"service": service.name, "url": service.url, "traffic": states.shares(service)}
    if any(target.latest for target in service.traffic):
        table["follows_latest"] = True
    if found is None:
        return table | {"rollout": None}
    is_as_said = found.is_over or states.shares(service) == states.wanted(found, plan)
    return table | {
        "rollout": found.rollout,
        "phase": found.phase.value,
        "percent": found.percent(plan),
        "stable": found.stable,
        "candidate": found.candidate,
        "paused": found.is_paused,
        "plan": found.plan,
        "since_seconds": found.since_seconds,
        "holder": found.holder,
        "reason": found.reason,
        "traffic_is_as_the_state_says": is_as_said,
    }
