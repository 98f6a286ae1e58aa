"""What a rollout is meant to do, from `slo.toml`: the steps, how long, and what every gate tolerates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class PlanError(Exception):
    """`slo.toml` does not say how to roll out; the text names the key."""


class Policy(StrEnum):
    """What to do with a step that is still inconclusive at its deadline.

    Never more than `HOLD` is done while metrics are missing: what was not measured is not promoted.
    """

    HOLD = "hold"
    PROMOTE = "promote"
    ROLL_BACK = "rollback"
    GOLDEN = "golden"


@dataclass(frozen=True)
class Rule:
    """What one gate tolerates of a rate; ratios are 0..1.

    Attributes:
        ratio_tolerated: the candidate's rate may be so many times the stable one's.
        difference_tolerated: and at least so much above it before anything is rolled back.
        difference_harmful: promoted only if the difference is surely below this.
        requests_to_roll_back: least requests of the candidate before it is called unhealthy.
        requests_to_promote: least requests of the candidate before it is called healthy.
    """

    ratio_tolerated: float
    difference_tolerated: float
    difference_harmful: float
    requests_to_roll_back: int
    requests_to_promote: int


@dataclass(frozen=True)
class Probing:
    """What answers over HTTP on the tag's address must be like.

    Attributes:
        ready_seconds: it may take so long to become ready.
        golden_differences_max: golden rows whose answer may differ from the known one.
        probability_tolerance: largest difference of a golden row's probability that is none.
        pairs_min: least rows asked of both revisions before the comparison counts.
        changed_max: largest share of rows to which the candidate gives another class than the stable revision.
        shift_max: largest mean |Δp| of the class the stable revision predicts.
    """

    ready_seconds: int
    golden_differences_max: int
    probability_tolerance: float
    pairs_min: int
    changed_max: float
    shift_max: float


@dataclass(frozen=True)
class Plan:
    """One way to roll out.

    Attributes:
        name: `canary` or `blue-green`.
        steps_percent: growing, the last is 100.
        approve_percent: the steps that wait for `approve` before they begin.
        window_seconds: length of one window.
        look_seconds: between two looks; looking often costs no certainty.
        metrics_delay_seconds: what is younger is not expected to be known yet.
        metrics_stale_seconds: what is known may end so much earlier than expected.
        step_min_seconds: shortest step.
        step_deadline_seconds: after that the policy decides.
        policy: see `Policy`.
        warm_seconds: how long the old revision is kept warm, and the new one watched, at 100 %.
        share_seen_min: the candidate's share of the requests in the metrics, as a share of what the step gives it,
            below which metrics count as incomplete.
        false_rollback_max: probability that a good candidate is rolled back, over all gates, looks and steps.
        false_promotion_max: probability that a harmful one is promoted by one gate in one step.
        gates: the rules by gate.
        slow_seconds: latencies below are all the same to the latency gate.
        tail: the latency gate promotes on the quantiles beyond which at most this share of the stable requests lies.
        probing: what golden and paired answers must be like.
    """

    name: str
    steps_percent: tuple[int, ...]
    approve_percent: tuple[int, ...]
    window_seconds: int
    look_seconds: int
    metrics_delay_seconds: int
    metrics_stale_seconds: int
    step_min_seconds: int
    step_deadline_seconds: int
    policy: Policy
    warm_seconds: int
    share_seen_min: float
    false_rollback_max: float
    false_promotion_max: float
    gates: Mapping[str, Rule]
    slow_seconds: float
    tail: float
    probing: Probing

    @property
    def rollback_alpha(self) -> float:
        """The error probability of one gate in one step: the whole, split evenly."""
        return self.false_rollback_max / (len(self.gates) * len(self.steps_percent))

    def is_last(self, step: int) -> bool:
        """Whether a step is the one that gives the candidate everything."""
        return step == len(self.steps_percent) - 1

    def needs_approval(self, step: int) -> bool:
        """Whether a person must approve a step before it begins."""
        return self.steps_percent[step] in self.approve_percent


GATES = ("errors", "latency", "refusals", "classes", "confidence", "novelty")


def read(slo: Mapping[str, Any], name: str = "canary") -> Plan:
    """Read a plan from the tables of `slo.toml`.

    Args:
        slo: the parsed file.
        name: `canary`, or a table under `[rollout.plans]`, whose keys win over those of `[rollout]`.

    Raises:
        PlanError: a key is missing, unknown, or out of its range.
    """
    table = dict(_table(slo, "rollout"))
    plans, gates, probing = table.pop("plans", {}), table.pop("gates", {}), table.pop("probing", {})
    if name != "canary" and name not in plans:
        raise PlanError(f"slo.toml has no [rollout.plans.{name}]; there are: {', '.join(['canary', *sorted(plans)])}")
    table |= plans.get(name, {})
    if tuple(sorted(gates)) != tuple(sorted(GATES)):
        raise PlanError(f"[rollout.gates] must have exactly: {', '.join(GATES)}")
    rules = {gate: _fill(Rule, gates[gate], f"rollout.gates.{gate}") for gate in GATES}
    table |= {"name": name, "gates": rules, "probing": _fill(Probing, probing, "rollout.probing")}
    return _checked(_fill(Plan, table, "rollout"))


def _table(slo: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name not in slo:
        raise PlanError(f"slo.toml has no [{name}]")
    found: Mapping[str, Any] = slo[name]
    return found


def _fill(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    names = {field.name for field in fields(kind)}
    if missing := sorted(names - table.keys()):
        raise PlanError(f"[{where}] has no {', '.join(missing)}")
    if unknown := sorted(table.keys() - names):
        raise PlanError(f"[{where}] has no use for {', '.join(unknown)}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in table.items()})


def _checked(plan: Plan) -> Plan:
    steps = plan.steps_percent
    if not steps or steps[-1] != 100 or list(steps) != sorted(set(steps)) or steps[0] < 1:
        raise PlanError(f"[rollout] steps_percent must grow from at least 1 to 100, not {list(steps)}")
    if plan.policy not in tuple(Policy):
        raise PlanError(f"[rollout] policy must be one of {', '.join(Policy)}, not {plan.policy}")
    if not 0 < plan.false_rollback_max < 1 or not 0 < plan.false_promotion_max < 1:
        raise PlanError("[rollout] false_rollback_max and false_promotion_max are probabilities between 0 and 1")
    if any(rule.ratio_tolerated < 1 for rule in plan.gates.values()):
        raise PlanError("[rollout.gates] ratio_tolerated is at least 1")
    return plan
