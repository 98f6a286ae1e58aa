"""Where a rollout stands: kept in one annotation of the service, written together with the traffic it describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum

from scripts.rollout.plan import Plan
from scripts.rollout.platform import Service, Target

ANNOTATION = "rookery.dev/rollout"
CANDIDATE, STABLE = "candidate", "stable"


class Phase(StrEnum):
    """What a rollout is doing; the first three go on, the others are ends."""

    SMOKE = "smoke"
    STEP = "step"
    WARM = "warm"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    STOOD_DOWN = "stood_down"


GOING_ON = (Phase.SMOKE, Phase.STEP, Phase.WARM)


class RolloutError(Exception):
    """A rollout cannot begin, go on or do what was asked; the text is one line for a person."""


@dataclass(frozen=True)
class State:
    """Where a rollout stands.

    Attributes:
        rollout: its name: the candidate, and when it began.
        plan: the plan's name.
        candidate: the revision that is judged.
        stable: the revision that had the traffic before, and gets it back.
        phase: see `Phase`.
        step: index of the step, -1 before the first.
        began_seconds: when the rollout began, seconds since the epoch.
        since_seconds: when the phase or step began.
        holder: the controller that acts; another one that finds itself replaced stands down.
        is_paused: nothing is stepped until `resume`; rolling back goes on.
        approved: highest step that a person let begin.
        reason: why it is where it is.
        digest: of the bundle the candidate is meant to serve, or empty: the one it pins.
    """

    rollout: str
    plan: str
    candidate: str
    stable: str
    phase: Phase
    step: int
    began_seconds: float
    since_seconds: float
    holder: str
    is_paused: bool = False
    approved: int = -1
    reason: str = ""
    digest: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is done by itself."""
        return self.phase not in GOING_ON

    @property
    def is_first(self) -> bool:
        """Whether it is of the first revision of all, which has the traffic because there is no other."""
        return self.candidate == self.stable

    def percent(self, plan: Plan) -> int:
        """Return the candidate's share of the traffic."""
        if self.phase is Phase.STEP:
            return plan.steps_percent[self.step]
        return 100 if self.phase in (Phase.WARM, Phase.PROMOTED) else 0

    def at(self, phase: Phase, now_seconds: float, reason: str, step: int | None = None) -> State:
        """Return the state after a move."""
        return replace(
            self, phase=phase, step=self.step if step is None else step, since_seconds=now_seconds, reason=reason
        )


def of(service: Service) -> State | None:
    """Return the state a service carries, or None if it never saw a rollout.

    Raises:
        RolloutError: the annotation cannot be read.
    """
    text = service.annotations.get(ANNOTATION)
    if text is None:
        return None
    try:
        table = json.loads(text)
        known = {field.name for field in fields(State)}
        return State(
            **{name: value for name, value in table.items() if name in known} | {"phase": Phase(table["phase"])}
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RolloutError(
            f"the annotation {ANNOTATION} of {service.name} is not a rollout's state; remove it"
        ) from error


def annotated(service: Service, state: State) -> Mapping[str, str]:
    """Return the service's annotations with the state in them."""
    return {**service.annotations, ANNOTATION: json.dumps(asdict(state), separators=(",", ":"))}


def shares(service: Service) -> dict[str, int]:
    """Return percent by revision, of those that have any."""
    found: dict[str, int] = {}
    for target in service.traffic:
        if target.percent:
            found[target.revision] = found.get(target.revision, 0) + target.percent
    return found


def candidate_of(service: Service) -> str | None:
    """Return the revision that has the tag `candidate`."""
    return next((target.revision for target in service.traffic if target.tag == CANDIDATE), None)


def is_done(service: Service, state: State) -> bool:
    """Whether the rollout was promoted, still serves everything, and no other candidate waits."""
    is_promoted = state.phase is Phase.PROMOTED and shares(service) == {state.candidate: 100}
    return is_promoted and candidate_of(service) is None


def wanted(state: State, plan: Plan) -> dict[str, int]:
    """Return what `shares` must be in this state."""
    percent = state.percent(plan)
    found = {state.candidate: percent, state.stable: 100 - percent}
    return {revision: share for revision, share in found.items() if share}


def with_traffic(service: Service, state: State, plan: Plan) -> Service:
    """Return the service as it is to be written: traffic and state in one.

    The stable revision keeps a tag until the end, so that its minimum of instances stays warm at 0 % as well; the
    tags of others stay, at 0 %.
    """
    percent = state.percent(plan)
    kept = [replace(one, percent=0) for one in service.traffic if one.tag and one.tag not in (CANDIDATE, STABLE)]
    tags = ("", "") if state.phase is Phase.PROMOTED else (STABLE, CANDIDATE)
    ours = [Target(state.stable, 100 - percent, tags[0]), Target(state.candidate, percent, tags[1])]
    traffic = [target for target in ours if target.percent or target.tag] + kept
    return replace(service, traffic=tuple(traffic), annotations=annotated(service, state))


def begin(service: Service, plan: Plan, now_seconds: float, holder: str, digest: str = "") -> State:
    """Return the state of a new rollout of the revision tagged `candidate`.

    A service that never saw a rollout, or only one of a first revision, may have a first revision as its candidate.

    Raises:
        RolloutError: there is no candidate, or the traffic is split.
    """
    serving = shares(service)
    candidate = candidate_of(service)
    if candidate is None:
        raise RolloutError(f"no revision of {service.name} has the tag {CANDIDATE}; deploy one: make deploy")
    if len(serving) != 1:
        split = ", ".join(f"{name} {percent} %" for name, percent in serving.items())
        raise RolloutError(f"the traffic of {service.name} is split ({split}); give one revision all of it first")
    (stable,) = serving
    before = of(service)
    if stable == candidate and before is not None and not before.is_first:
        raise RolloutError(f"{candidate} serves everything already")
    return new(candidate, stable, plan.name, now_seconds, holder, digest)


def new(candidate: str, stable: str, plan: str, now_seconds: float, holder: str, digest: str = "") -> State:
    """Return the state of a rollout that begins now; see the attributes of `State`."""
    return State(
        rollout=f"{candidate}@{now_seconds:.0f}",
        plan=plan,
        candidate=candidate,
        stable=stable,
        phase=Phase.SMOKE,
        step=-1,
        began_seconds=now_seconds,
        since_seconds=now_seconds,
        holder=holder,
        reason="began",
        digest=digest,
    )
