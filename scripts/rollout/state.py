"""Where a rollout stands: kept in one annotation of the service, written together with the traffic it describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Annotated

import msgspec

from scripts.rollout.plan import Plan
from scripts.rollout.platform import Service, Target

ANNOTATION = "rookery.dev/rollout"
# the revision that was deployed last to be rolled out and its bundle, written by `scripts.deploy` with the revision
INTENDED, INTENDED_DIGEST = "rookery.dev/candidate", "rookery.dev/candidate-digest"
CANDIDATE, STABLE = "candidate", "stable"
VERSION = 1
# a state has some 700 characters; what is longer was not written here
LONGEST_STATE, LONGEST_REASON = 8192, 1000
# a controller that has written nothing for so long is taken for dead
SILENT_SECONDS = 600

Name = Annotated[str, msgspec.Meta(pattern="^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
Text = Annotated[str, msgspec.Meta(max_length=2000)]
Digest = Annotated[str, msgspec.Meta(pattern="^(sha256:[0-9a-f]{64})?$")]
Step = Annotated[int, msgspec.Meta(ge=-1, le=99)]
Percent = Annotated[int, msgspec.Meta(ge=-1, le=100)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class Phase(StrEnum):
    """What a rollout is doing; the first three go on, the others are ends."""

    SMOKE = "smoke"
    STEP = "step"
    WARM = "warm"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    STOOD_DOWN = "stood_down"
    SUPERSEDED = "superseded"


GOING_ON = (Phase.SMOKE, Phase.STEP, Phase.WARM)


class RolloutError(Exception):
    """A rollout cannot begin, go on or do what was asked; the text is one line for a person."""


class Damaged(RolloutError):
    """The annotation is not a rollout's state; the text says why, and what mends it."""


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
        share_percent: the share that a step gave the candidate, -1 in other phases: `slo.toml` may change meanwhile.
        before: percent by revision before the last write that moved traffic.
        seen_seconds: when a controller last wrote that it is there.
        version: of this form.
    """

    rollout: Text
    plan: Text
    candidate: Name
    stable: Name
    phase: Phase
    step: Step
    began_seconds: Seconds
    since_seconds: Seconds
    holder: Text
    is_paused: bool = False
    approved: Step = -1
    reason: Text = ""
    digest: Digest = ""
    share_percent: Percent = -1
    before: Mapping[Name, Percent] = field(default_factory=dict)
    seen_seconds: Seconds = 0.0
    version: Annotated[int, msgspec.Meta(ge=VERSION, le=VERSION)] = VERSION

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
        if self.phase is Phase.STEP and self.share_percent >= 0:
            return self.share_percent
        if self.phase is Phase.STEP:
            return plan.steps_percent[min(self.step, len(plan.steps_percent) - 1)]
        return 100 if self.phase in (Phase.WARM, Phase.PROMOTED) else 0

    def at(self, phase: Phase, now_seconds: float, reason: str, step: int | None = None) -> State:
        """Return the state after a move."""
        return replace(
            self,
            phase=phase,
            step=self.step if step is None else step,
            since_seconds=now_seconds,
            reason=reason,
            share_percent=-1,
        )

    def restarted(self, now_seconds: float, reason: str) -> State:
        """Return the state without traffic from which a rollout begins again: its smoke test, and no approval."""
        return replace(self.at(Phase.SMOKE, now_seconds, reason, -1), approved=-1)

    def silent_seconds(self, now_seconds: float) -> float:
        """Return for how long no controller has written."""
        return now_seconds - max(self.seen_seconds, self.since_seconds)


def of(service: Service) -> State | None:
    """Return the state a service carries, or None if it never saw a rollout.

    Raises:
        Damaged: the annotation cannot be read.
    """
    text = service.annotations.get(ANNOTATION)
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        remedy = "to give the stable revision everything, and write it anew: rollback"
        raise Damaged(f"the annotation {ANNOTATION} of {service.name} is damaged: {error}; {remedy}") from error


def parse(text: str) -> State:
    """Read a state.

    Raises:
        ValueError: it is none, or one that cannot be; the text is part of a line.
    """
    if len(text) > LONGEST_STATE:
        raise ValueError(f"it has {len(text)} characters")
    try:
        found = msgspec.json.decode(text, type=State)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
    if (found.phase is Phase.STEP) != (found.step >= 0) and found.phase in (Phase.SMOKE, Phase.STEP):
        raise ValueError(f"step {found.step} in phase {found.phase.value}")
    if found.share_percent >= 0 and found.phase is not Phase.STEP:
        raise ValueError(f"share {found.share_percent} in phase {found.phase.value}")
    return found


def annotated(service: Service, state: State) -> Mapping[str, str]:
    """Return the service's annotations with the state in them."""
    table = asdict(state) | {"reason": state.reason[:LONGEST_REASON]}
    return {**service.annotations, ANNOTATION: json.dumps(table, separators=(",", ":"))}


def noted(service: Service, state: State) -> Service:
    """Return the service as it is to be written where only the state changes: what was asked for stays as it is."""
    traffic = service.traffic if service.asked is None else service.asked
    return replace(service, traffic=traffic, annotations=annotated(service, state))


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


def urls(service: Service) -> tuple[str, str]:
    """Return the addresses of the candidate's tag and the stable revision's, empty where the platform did not say."""
    found = {target.tag: target.url for target in service.traffic}
    return found.get(CANDIDATE, ""), found.get(STABLE, "")


def other_candidate(service: Service, state: State) -> str | None:
    """Return the revision that has the tag `candidate`, if it is another one than this rollout's."""
    tagged = candidate_of(service)
    return None if tagged == state.candidate else tagged


def deploying(service: Service, state: State) -> str | None:
    """Return another candidate that was asked for and is neither ready nor failed yet, None if there is none."""
    if service.asked is None or service.settled or service.failed:
        return None
    return other_candidate(replace(service, traffic=service.asked), state)


def require_newest(service: Service, candidate: str) -> None:
    """Refuse a candidate that is not the newest one: not the last that was deployed, nor the last that was created.

    Raises:
        RolloutError: it is an older one, such as one that was superseded.
    """
    newest = [one for one in (service.annotations.get(INTENDED), service.latest_created_revision) if one]
    if newest and candidate not in newest:
        later = f"{candidate} has the tag {CANDIDATE}, but {newest[0]} was deployed after it"
        raise RolloutError(f"{later}; name the one you mean: run --candidate REVISION")


def is_done(service: Service, state: State) -> bool:
    """Whether the rollout was promoted, still serves everything, and no other candidate waits."""
    is_promoted = state.phase is Phase.PROMOTED and shares(service) == {state.candidate: 100}
    return is_promoted and candidate_of(service) is None


def wanted(state: State, plan: Plan) -> dict[str, int]:
    """Return what `shares` must be in this state."""
    percent = state.percent(plan)
    found = {state.candidate: percent, state.stable: 100 - percent}
    return {revision: share for revision, share in found.items() if share}


def with_traffic(service: Service, state: State, plan: Plan, *, takes_tag: bool = False) -> Service:
    """Return the service as it is to be written: traffic and state in one.

    The stable revision keeps a tag until the end, so that its minimum of instances stays warm at 0 % as well; the
    tags of others stay, at 0 %, and so does the tag `candidate` of a newer candidate unless `takes_tag`. That of one
    which is not ready yet goes: nothing of what names it would be served before it is ready.
    """
    percent = state.percent(plan)
    newer = None if takes_tag else other_candidate(service, state)
    kept = [replace(one, percent=0) for one in service.traffic if one.tag and one.tag not in (CANDIDATE, STABLE)]
    kept += [Target(newer, 0, CANDIDATE)] if newer else []
    tags = ("", "") if state.phase is Phase.PROMOTED else (STABLE, "" if newer else CANDIDATE)
    ours = [Target(state.stable, 100 - percent, tags[0]), Target(state.candidate, percent, tags[1])]
    traffic = [target for target in ours if target.percent or target.tag] + kept
    written = replace(state, share_percent=percent if state.phase is Phase.STEP else -1)
    if shares(service) != wanted(written, plan):
        written = replace(written, before=shares(service))
    return replace(service, traffic=tuple(traffic), annotations=annotated(service, written))


def begin(
    service: Service, plan: Plan, now_seconds: float, holder: str, digest: str = "", candidate: str = ""
) -> State:
    """Return the state of a new rollout of the revision tagged `candidate`, or of one that was named.

    A service that never saw a rollout, or only one of a first revision, may have a first revision as its candidate.

    Raises:
        RolloutError: there is no candidate, it is not the newest one, or the traffic is split.
    """
    serving = shares(service)
    chosen = candidate or candidate_of(service)
    if chosen is None:
        raise RolloutError(f"no revision of {service.name} has the tag {CANDIDATE}; deploy one: make deploy")
    if not candidate:
        require_newest(service, chosen)
    deployed = service.annotations.get(INTENDED_DIGEST, "")
    if digest and deployed not in ("", digest) and service.annotations.get(INTENDED) == chosen:
        raise RolloutError(f"{chosen} was deployed with the bundle {deployed}, not {digest}")
    if len(serving) != 1:
        raise RolloutError(
            f"the traffic of {service.name} is split ({say(serving)}); give one revision all of it first: rollback"
        )
    (stable,) = serving
    before = of(service)
    if stable == chosen and before is not None and not before.is_first:
        raise RolloutError(f"{chosen} serves everything already")
    return new(chosen, stable, plan.name, now_seconds, holder, digest)


def say(serving: Mapping[str, int]) -> str:
    """Return percent by revision as a person reads it."""
    return ", ".join(f"{name} {percent} %" for name, percent in serving.items()) or "nothing"


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
