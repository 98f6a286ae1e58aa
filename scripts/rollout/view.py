"""Shows a rollout: lines in a log, or a picture on a terminal that is drawn again at every look."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from typing import TextIO

from scripts.rollout.doors import Event
from scripts.rollout.notify import message
from scripts.rollout.plan import Plan
from scripts.rollout.state import Phase
from scripts.rollout.verdict import Finding, Judgement, Verdict

WIDTH = 31
MARKS = {Verdict.HEALTHY: "✓", Verdict.UNHEALTHY: "✗", Verdict.INCONCLUSIVE: "…"}


class Lines:
    """One plain line an event, or one JSON object."""

    def __init__(self, file: TextIO, *, is_json: bool = False) -> None:
        """Name where to write."""
        self._file, self._is_json = file, is_json

    def record(self, event: Event) -> None:
        """See `doors.Recorder`."""
        text = json.dumps(message(event), ensure_ascii=False) if self._is_json else line(event)
        print(text, file=self._file, flush=True)


def line(event: Event) -> str:
    """Return an event in one line."""
    verdict = f" {event.judgement.verdict}" if event.judgement else ""
    return f"{clock(event.time_seconds)} {event.percent:>3} % {event.name}{verdict}: {event.reason}"


def clock(seconds: float) -> str:
    """Return a time of day in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


class Screen:
    """A picture that is drawn over the one before; what is no look stays above it as a line."""

    def __init__(self, file: TextIO, plan: Plan) -> None:
        """Name where to draw."""
        self._file, self._plan, self._drawn = file, plan, 0

    def record(self, event: Event) -> None:
        """See `doors.Recorder`."""
        if self._drawn:
            self._file.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0
        if event.judgement is None:
            self._file.write(line(event) + "\n")
        else:
            # a line that wraps would be two, and one would stay
            columns = shutil.get_terminal_size().columns
            lines = [one[:columns] for one in picture(event, event.judgement, self._plan)]
            self._file.write("\n".join(lines) + "\n")
            self._drawn = len(lines)
        self._file.flush()


def picture(event: Event, judgement: Judgement, plan: Plan) -> list[str]:
    """Draw the steps, both revisions, and how each gate's interval closes in."""
    state = event.state
    steps = [
        f"[{percent} %]" if state.phase is not Phase.SMOKE and index == state.step else f"{percent} %"
        for index, percent in enumerate(plan.steps_percent)
    ]
    first = "[smoke]" if state.phase is Phase.SMOKE else "smoke"
    lines = [
        f"{state.rollout}   {first} → {' → '.join(steps)}   {'paused' if state.is_paused else judgement.verdict}",
        f"  stable {state.stable} {100 - event.percent} %   candidate {state.candidate} {event.percent} %",
    ]
    return lines + [_finding(finding, plan) for finding in judgement.findings]


def _finding(finding: Finding, plan: Plan) -> str:
    start = f"  {MARKS[finding.verdict]} {finding.gate:<11}"
    if finding.low is None or finding.high is None:
        return f"{start}{finding.reason}"
    rule = plan.gates[finding.gate]
    bar = interval(finding.low, finding.high, rule.difference_harmful)
    evidence = ""
    if finding.evidence is not None and finding.evidence_needed:
        evidence = f" evidence {max(0.0, finding.evidence):.1f} of {finding.evidence_needed:.1f}"
    return f"{start}{bar}{evidence}  {finding.reason}"


def interval(low: float, high: float, harmful: float) -> str:
    """Draw where a difference surely is, from −harmful to +harmful; `|` is no difference, at the end is harm."""
    cells = []
    for cell in range(WIDTH):
        left = (2 * cell / WIDTH - 1) * harmful
        right = (2 * (cell + 1) / WIDTH - 1) * harmful
        is_inside = low < right and high > left
        cells.append("|" if cell == WIDTH // 2 else "━" if is_inside else "·")
    return f"{'◀' if low < -harmful else '['}{''.join(cells)}{'▶' if high >= harmful else ']'}"
