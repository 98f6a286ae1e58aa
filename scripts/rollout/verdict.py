"""What the gates say: three verdicts, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What is known about a candidate."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Finding:
    """What one gate found.

    Attributes:
        gate: its name.
        verdict: what it says.
        reason: one sentence for a person.
        is_missing: it is inconclusive because metrics are missing, not because there are too few yet.
        kind: the kind of event that decided: a class, a bound; empty where there is only one.
        candidate: events of the candidate, and what they are out of.
        stable: the same of the stable revision.
        low: the difference of the rates is surely above this, at all looks together.
        high: and surely below this.
        evidence: natural log of the evidence that the candidate is worse than tolerated.
        evidence_needed: what it must reach.
    """

    gate: str
    verdict: Verdict
    reason: str
    is_missing: bool = False
    kind: str = ""
    candidate: tuple[float, float] | None = None
    stable: tuple[float, float] | None = None
    low: float | None = None
    high: float | None = None
    evidence: float | None = None
    evidence_needed: float | None = None


@dataclass(frozen=True)
class Judgement:
    """What all gates say together.

    Attributes:
        verdict: unhealthy if one is, healthy if all are.
        reason: the sentence of the gate that decided.
        findings: of every gate.
    """

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]

    @property
    def is_missing(self) -> bool:
        """Whether anything is inconclusive for want of metrics."""
        return any(finding.is_missing for finding in self.findings)


def together(findings: Sequence[Finding]) -> Judgement:
    """Say what all gates say together; nothing at all is inconclusive."""
    for verdict in (Verdict.UNHEALTHY, Verdict.INCONCLUSIVE):
        if found := [finding for finding in findings if finding.verdict is verdict]:
            return Judgement(verdict, "; ".join(f"{one.gate}: {one.reason}" for one in found), tuple(findings))
    if not findings:
        return Judgement(Verdict.INCONCLUSIVE, "nothing was looked at", ())
    return Judgement(Verdict.HEALTHY, f"{len(findings)} gates are healthy", tuple(findings))
