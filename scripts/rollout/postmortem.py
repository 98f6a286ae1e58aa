"""Explains a rollout from its record: in lines, or as the draft of a post-mortem."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from scripts.rollout.doors import Event
from scripts.rollout.verdict import Finding, Judgement
from scripts.rollout.view import line


def explain(events: Sequence[Event]) -> list[str]:
    """Return every event, and under every look that changed something why each gate said what it said."""
    lines: list[str] = []
    last: Judgement | None = None
    for event in _turning_points(events):
        lines.append(line(event))
        if event.judgement is not None and event.judgement != last:
            last = event.judgement
            lines += [f"             {_sentence(finding)}" for finding in event.judgement.findings]
            if event.observation is not None:
                seen = event.observation
                when = "of the same time" if event.is_concurrent else "of the time before"
                windows = f"{len(seen.candidate)} of the candidate, {len(seen.stable)} of the stable revision {when}"
                lines.append(f"             windows: {windows}")
    return lines


def _turning_points(events: Sequence[Event]) -> list[Event]:
    """Leave out the looks after which nothing happened."""
    kept = []
    for event, following in zip(events, [*events[1:], None], strict=True):
        if event.judgement is None or following is None or following.judgement is None:
            kept.append(event)
    return kept


def _sentence(finding: Finding) -> str:
    text = f"{finding.gate} {finding.verdict}: {finding.reason}"
    if finding.evidence is not None and finding.evidence_needed is not None:
        text += f"; evidence {finding.evidence:.2f}, needed {finding.evidence_needed:.2f}"
    return text


def postmortem(events: Sequence[Event], commits: Sequence[str]) -> str:
    """Return a draft in Markdown.

    Args:
        events: of one rollout, at least one.
        commits: between the two revisions, newest first; empty where nobody knows.
    """
    first, last = events[0], events[-1]
    state = last.state
    judged = [event for event in events if event.judgement is not None]
    lines = [
        f"# Rollout {state.rollout}: {state.phase.value.replace('_', ' ')}",
        "",
        f"{state.candidate} was to take over from {state.stable} by the plan `{state.plan}`.",
        f"It began {_moment(first.time_seconds)} and ended {_moment(last.time_seconds)}, with the candidate at most at "
        f"{max(event.percent for event in events)} %.",
        f"Why it ended: {state.reason}.",
        "",
        "## Timeline (UTC)",
        "",
        *(f"- {line(event)}" for event in _turning_points(events)),
        "",
        "## Metrics against baseline, at the last look",
        "",
        "| gate | verdict | candidate | stable | difference, points | why |",
        "|---|---|---|---|---|---|",
        *(_row(finding) for finding in (judged[-1].judgement.findings if judged and judged[-1].judgement else ())),
        "",
        "## Commits between the revisions",
        "",
        *(
            [f"- {commit}" for commit in commits]
            or ["unknown: the revisions did not say, or git does not know them; give both: `--from COMMIT --to COMMIT`"]
        ),
        "",
        "## To be written",
        "",
        "- What users noticed:",
        "- Why it was not found before:",
        "- What will keep it from happening again:",
    ]
    return "\n".join(lines) + "\n"


def _row(finding: Finding) -> str:
    cells = [finding.gate, finding.verdict.value]
    cells += [_share(side) for side in (finding.candidate, finding.stable)]
    known = finding.low is not None and finding.high is not None
    cells.append(f"{(finding.low or 0) * 100:+.2f}..{(finding.high or 0) * 100:+.2f}" if known else "")
    # a bar would end the cell
    return f"| {' | '.join([*cells, finding.reason.replace('|', '/')])} |"


def _share(side: tuple[float, float] | None) -> str:
    return "" if side is None else f"{side[0]:.0f} of {side[1]:.0f}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def commits_between(repository: Path, older: str, newer: str) -> list[str]:
    """Return the commits in `newer` that are not in `older`, one line each; none if git does not know them."""
    command = ["git", "-C", str(repository), "log", "--oneline", "--no-decorate", f"{older}..{newer}", "--"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []
