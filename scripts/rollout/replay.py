"""Judges past decisions again, offline, with the thresholds of another `slo.toml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scripts.rollout.doors import Event
from scripts.rollout.gate import judge, judge_probe
from scripts.rollout.plan import Plan
from scripts.rollout.verdict import Judgement, together


@dataclass(frozen=True)
class Again:
    """One decision, then and now."""

    event: Event
    now: Judgement

    @property
    def differs(self) -> bool:
        """Whether the verdict is another one."""
        return self.event.judgement is None or self.event.judgement.verdict is not self.now.verdict


def again(events: Sequence[Event], plan: Plan) -> list[Again]:
    """Judge every judged event of a record by a plan, with the share it had then."""
    return [Again(event, _judge(event, plan)) for event in events if event.judgement is not None]


def _judge(event: Event, plan: Plan) -> Judgement:
    probes = judge_probe(event.probe, plan) if event.probe else ()
    if event.observation is None:
        return together(probes)
    return judge(event.observation, probes, plan, event.percent, is_concurrent=event.is_concurrent)
