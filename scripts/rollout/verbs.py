"""What a person says to a rollout: each is one write, and the controller that runs it notices at the next look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from scripts.rollout import state as states
from scripts.rollout.doors import Clock
from scripts.rollout.moves import ATTEMPTS, LONGEST_WAIT_SECONDS, POLL_SECONDS, Mover
from scripts.rollout.plan import Plan
from scripts.rollout.platform import Conflict, Platform, Service, Unavailable
from scripts.rollout.state import Damaged, Phase, RolloutError, State

NAME_IT = "rollback --to REVISION"


class Unsure(RolloutError):
    """What a rollback would do is not what the annotation alone says; a person, or `--yes`, has to agree."""


@dataclass(frozen=True)
class Destination:
    """Where a rollback leads.

    Attributes:
        revision: gets everything.
        serving: percent by revision now.
        doubt: why a person has to agree first; empty where the annotation and the platform say the same.
    """

    revision: str
    serving: Mapping[str, int]
    doubt: str = ""

    def __str__(self) -> str:
        """Say what a rollback would do."""
        return f"{self.revision} gets 100 %; now: {states.say(self.serving)}"


def destination(service: Service, plan: Plan, named: str = "") -> Destination:
    """Return what served everything before the last change of traffic that is known.

    The annotation knows what a rollout did. Where the platform serves something else, somebody moved traffic since:
    then that was the last change, and before it was what the annotation says, as far as one revision had everything.

    Args:
        service: as it is.
        plan: what shares the steps have.
        named: a revision, if a person named it.

    Raises:
        RolloutError: nobody knows.
    """
    serving = states.shares(service)
    if named:
        return Destination(named, serving)
    try:
        found = states.of(service)
    except Damaged as error:
        stable = next((one.revision for one in service.traffic if one.tag == states.STABLE), "")
        if not stable:
            reason = str(error).rpartition(";")[0]
            raise RolloutError(f"{reason}, and no revision has the tag {states.STABLE}; name one: {NAME_IT}") from error
        return Destination(stable, serving, f"{str(error).rpartition(';')[0]}; {stable} has the tag {states.STABLE}")
    if found is None:
        raise RolloutError(f"{service.name} has no rollout; name the revision that is to get everything: {NAME_IT}")
    expected = states.wanted(found, plan)
    if serving in (expected, {found.stable: 100}):
        return Destination(found.stable, serving)
    before = found.candidate if found.phase is Phase.PROMOTED else found.stable
    moved = f"somebody moved traffic after Rookery: it left {states.say(expected)}, now it is {states.say(serving)}"
    return Destination(before, serving, moved)


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

        def promoted(found: State) -> State:
            return replace(found.at(Phase.WARM, self._clock.now(), because, last), is_paused=False)

        return self._change(promoted, is_forward=True)

    def rollback(self, reason: str, *, to: str = "", is_sure: bool = False) -> State:
        """Give everything to what served before the last change of traffic that is known; see `destination`.

        Args:
            reason: why, for the record.
            to: a revision, if a person named it.
            is_sure: whether a person agreed where the annotation and the platform say different things.

        Raises:
            Unsure: nobody agreed; nothing was done.
        """
        because = reason or "rolled back by a person"

        def back(service: Service) -> Service:
            goal = destination(service, self._plan, to)
            if goal.doubt and not is_sure:
                raise Unsure(f"{goal.doubt}; a rollback would do this: {goal}; if that is meant: rollback --yes")
            now = self._clock.now()
            state = _known(service)
            if state is None or state.stable != goal.revision or (state.is_first and state.is_over):
                left = _left(service, goal, state)
                state = states.new(left, goal.revision, self._plan.name, now, "a person")
            return states.with_traffic(service, state.at(Phase.ROLLED_BACK, now, because), self._plan)

        return self._write(back)

    def retry(self) -> None:
        """Let a candidate that was rolled back, aborted or left alone be rolled out again by `run`."""

        def forget(service: Service) -> Service:
            try:
                found = states.of(service)
            except Damaged:
                if len(states.shares(service)) != 1:
                    raise
                found = None
            if found is None and states.ANNOTATION not in service.annotations:
                raise RolloutError(f"{service.name} has no rollout")
            if found is not None and not found.is_over:
                raise RolloutError(f"the rollout of {found.candidate} goes on; there is nothing to retry")
            if len(states.shares(service)) != 1:
                split = states.say(states.shares(service))
                raise RolloutError(
                    f"the traffic is split ({split}), and forgetting the rollout would hide it; rollback"
                )
            notes = {name: text for name, text in service.annotations.items() if name != states.ANNOTATION}
            traffic = service.traffic if service.asked is None else service.asked
            return replace(service, traffic=traffic, annotations=notes)

        self._write_until(forget)

    def _note(self, to: Callable[[State], State]) -> State:
        """Change the state and leave the traffic."""

        def change(service: Service) -> Service:
            found = _going_on(service)
            _require_not_superseded(service, found)
            return states.noted(service, to(found))

        return self._write(change)

    def _change(self, to: Callable[[State], State], *, is_forward: bool = False) -> State:
        """Change the state of a rollout that goes on, and the traffic with it."""

        def change(service: Service) -> Service:
            found = _going_on(service)
            if is_forward:
                _require_not_superseded(service, found)
            return states.with_traffic(service, to(found), self._plan)

        return self._write(change)

    def _write(self, change: Callable[[Service], Service]) -> State:
        found = states.of(self._write_until(change))
        if found is None:
            raise RolloutError("the rollout was forgotten meanwhile")
        return found

    def _write_until(self, change: Callable[[Service], Service]) -> Service:
        """Write until it is read back; returns the service as it was read then."""
        wish: Service | None = None
        for attempt in range(ATTEMPTS):
            service = self._mover.settled()
            if wish is not None and service.annotations == wish.annotations:
                # it was written: by this call, or by one that ended in an error all the same
                return service
            wish = change(service)
            try:
                self._mover.write(wish)
            except (Conflict, Unavailable):
                self._clock.sleep(min(POLL_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS))
        raise Unavailable(f"no write succeeded in {ATTEMPTS} attempts")


def _left(service: Service, goal: Destination, state: State | None) -> str:
    """Return the revision that a rollback leaves: that with the most traffic, or what was to be rolled out.

    It is never the one that gets everything: that would say of it that it is an unfit first revision.
    """
    others = {name: percent for name, percent in goal.serving.items() if name != goal.revision}
    waiting = [states.candidate_of(service), state.candidate if state else None]
    found = [*sorted(others, key=lambda name: -others[name]), *(one for one in waiting if one)]
    left = next((name for name in found if name != goal.revision), None)
    if left is None:
        raise RolloutError(f"{goal.revision} serves everything already; to forget its rollout: retry")
    return left


def _known(service: Service) -> State | None:
    """Return the state, None where there is none or it is damaged."""
    try:
        return states.of(service)
    except Damaged:
        return None


def _going_on(service: Service) -> State:
    found = states.of(service)
    if found is None:
        raise RolloutError(f"{service.name} has no rollout")
    if found.is_over:
        raise RolloutError(f"the rollout of {found.candidate} is over: {found.phase.value}")
    return found


def _require_not_superseded(service: Service, found: State) -> None:
    if newer := states.other_candidate(service, found):
        raise RolloutError(
            f"{found.candidate} is superseded: {newer} has the tag {states.CANDIDATE} now; run, or abort"
        )
    if newer := states.deploying(service, found):
        raise RolloutError(f"{newer} is being deployed and supersedes {found.candidate}; wait until it is ready")


def status(service: Service, plan: Plan, now_seconds: float) -> dict[str, object]:
    """Return what `status` prints."""
    table: dict[str, object] = {"service": service.name, "url": service.url, "traffic": states.shares(service)}
    if any(target.latest for target in service.traffic):
        table["follows_latest"] = True
    try:
        found = states.of(service)
    except Damaged as error:
        return table | {"rollout": None, "attention": str(error)}
    if found is None:
        return table | {"rollout": None}
    is_as_said = states.shares(service) == states.wanted(found, plan)
    table |= {
        "rollout": found.rollout,
        "phase": found.phase.value,
        "percent": found.percent(plan),
        "stable": found.stable,
        "candidate": found.candidate,
        "paused": found.is_paused,
        "plan": found.plan,
        "since_seconds": found.since_seconds,
        "seen_seconds": found.seen_seconds,
        "holder": found.holder,
        "reason": found.reason,
        "traffic_before": dict(found.before),
        "traffic_is_as_the_state_says": is_as_said,
    }
    trouble = _attention(service, found, plan, now_seconds)
    return table | ({"attention": "; ".join(trouble)} if trouble else {})


def unjudged(service: Service, plan: Plan) -> int:
    """Return the candidate's share that only a controller may watch over: 0 where there is nothing left to judge."""
    found = _known(service)
    if found is None or found.is_first or (found.is_over and len(states.shares(service)) < 2):
        return 0
    return found.percent(plan) if not found.is_over else states.shares(service).get(found.candidate, 0)


def _attention(service: Service, found: State, plan: Plan, now_seconds: float) -> list[str]:
    """Return what a person should know: a disagreement, a newer candidate, traffic that nobody judges."""
    serving = states.shares(service)
    trouble = []
    goal = destination(service, plan)
    if goal.doubt:
        trouble.append(f"{goal.doubt}; rollback would do this: {goal}")
    newer = states.other_candidate(service, found)
    if newer and not found.is_over:
        trouble.append(f"{newer} was deployed since and supersedes {found.candidate}: run")
    share = serving.get(found.candidate, 0)
    silent = found.silent_seconds(now_seconds)
    if share and not found.is_over and silent > states.SILENT_SECONDS:
        minutes = f"no controller has written for {silent / 60:.0f} minutes"
        trouble.append(f"{minutes}, and {found.candidate} has {share} %: run, or rollback")
    if share and len(serving) > 1 and found.is_over:
        trouble.append(f"{found.candidate} has {share} %, and nobody judges it: rollback")
    return trouble
