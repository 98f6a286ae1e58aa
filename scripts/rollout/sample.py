"""Lays windows out as the gate's statistics want them: kinds of event, by window, of both revisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.rollout.evidence import Floats
from scripts.rollout.windows import Histogram, Observation, Window

LIVE = ("errors", "latency", "refusals", "classes", "confidence", "novelty")
# what can be compared with the time before, when nothing runs beside the candidate
BEFORE = ("errors", "latency")
# what a paired replay tells as well
MODEL = ("classes", "confidence", "novelty")


@dataclass(frozen=True)
class Sample:
    """Counts of kinds of event; a batch of samples has leading dimensions.

    Attributes:
        kinds: k names.
        candidate: events, shape (..., w, k).
        candidate_of: what they are out of, shape (..., w).
        stable: as `candidate`.
        stable_of: as `candidate_of`.
        is_tail: the kinds are tails of a distribution, in order, the last the rarest.
        is_partial: windows with requests lack this metric.
    """

    kinds: tuple[str, ...]
    candidate: Floats
    candidate_of: Floats
    stable: Floats
    stable_of: Floats
    is_tail: bool = False
    is_partial: bool = False


@dataclass(frozen=True)
class _Row:
    """One window of one revision: events by kind, and what they are out of."""

    kinds: tuple[str, ...]
    events: tuple[float, ...]
    of: float


def gather(gate: str, observation: Observation, slow_seconds: float, *, is_concurrent: bool) -> Sample | None:
    """Return a gate's sample, or None if its metric is known in no window of either revision, or of one of them.

    Args:
        gate: one of `LIVE`.
        observation: the windows of both revisions.
        slow_seconds: bounds of latencies below this are left out.
        is_concurrent: pair the windows by their start; otherwise all of each revision are taken together.
    """
    candidate = {window.start_seconds: window for window in observation.candidate}
    stable = {window.start_seconds: window for window in observation.stable}
    rows = [{start: _row(gate, one, slow_seconds) for start, one in side.items()} for side in (candidate, stable)]
    known = [{start: row for start, row in side.items() if row is not None} for side in rows]
    if is_concurrent:
        starts = sorted(known[0].keys() & known[1].keys())
        busy = [start for start in candidate.keys() & stable.keys() if _is_busy(candidate[start], stable[start])]
        lacking = [start for start in busy if start not in starts]
        chosen = [[side[start] for start in starts] for side in known]
        is_partial = bool(lacking)
    else:
        chosen = [list(side.values()) for side in known]
        is_partial = False
    kinds = _kinds(gate, chosen)
    if not all(chosen) or not kinds:
        return None
    return _laid_out(gate, kinds, chosen, is_concurrent=is_concurrent, is_partial=is_partial)


def is_unknown(gate: str, observation: Observation) -> bool:
    """Whether no window of either revision has a gate's metric: nobody collects it."""
    return not any(_row(gate, window, 0) for window in (*observation.candidate, *observation.stable))


def _is_busy(candidate: Window, stable: Window) -> bool:
    # a stand-in has bad news, and is no proof that the service's own metrics are missing: they may be late
    return bool(candidate.requests and stable.requests) and not (candidate.is_stand_in or stable.is_stand_in)


def _kinds(gate: str, chosen: Sequence[Sequence[_Row]]) -> tuple[str, ...]:
    """Return the classes that anybody answered, or the bounds that all histograms have: releases may differ in them."""
    found = [set(row.kinds) for side in chosen for row in side]
    if not found:
        return ()
    kinds = set.union(*found) if gate == "classes" else set.intersection(*found)
    return tuple(sorted(kinds, key=_order))


def _laid_out(
    gate: str, kinds: tuple[str, ...], chosen: Sequence[Sequence[_Row]], *, is_concurrent: bool, is_partial: bool
) -> Sample:
    counts, totals = [], []
    for side in chosen:
        by_kind = [dict(zip(row.kinds, row.events, strict=True)) for row in side]
        events = np.array([[row.get(kind, 0) for kind in kinds] for row in by_kind], dtype=np.float64)
        of = np.array([row.of for row in side], dtype=np.float64)
        counts.append(events if is_concurrent else events.sum(axis=0, keepdims=True))
        totals.append(of if is_concurrent else of.sum(keepdims=True))
    return Sample(kinds, counts[0], totals[0], counts[1], totals[1], gate == "latency", is_partial)


def _order(kind: str) -> tuple[float, str]:
    """Sort bounds by number and everything else by name."""
    return (float(kind.rsplit(" ", 1)[-1]), kind) if kind.startswith(("above ", "at most ")) else (0.0, kind)


def _row(gate: str, window: Window, slow_seconds: float) -> _Row | None:
    if gate in ("errors", "refusals"):
        count = window.errors if gate == "errors" else window.refusals
        if count is None or window.requests is None:
            return None
        return _Row(("",), (count,), window.requests)
    if gate == "latency":
        return _above(window.latency, slow_seconds)
    if gate == "classes":
        if window.labels is None:
            return None
        row = _Row(tuple(window.labels), tuple(window.labels.values()), sum(window.labels.values()))
    else:
        found = _above(window.novelty, 0) if gate == "novelty" else _at_most(window.confidence)
        if found is None:
            return None
        row = found
    return _by_request(row, window.requests)


def _above(histogram: Histogram | None, least: float) -> _Row | None:
    if histogram is None:
        return None
    chosen = [index for index, bound in enumerate(histogram.bounds) if bound >= least]
    kinds = tuple(f"above {histogram.bounds[index]:g}" for index in chosen)
    return _Row(kinds, tuple(histogram.above(index) for index in chosen), histogram.total)


def _at_most(histogram: Histogram | None) -> _Row | None:
    if histogram is None:
        return None
    total = histogram.total
    kinds = tuple(f"at most {bound:g}" for bound in histogram.bounds)
    return _Row(kinds, tuple(total - histogram.above(index) for index in range(len(kinds))), total)


def _by_request(row: _Row, requests: int | None) -> _Row:
    """Let the rows of one request count as one: a caller's batch of a thousand like rows is one witness."""
    if requests is None or row.of <= requests:
        return row
    scale = requests / row.of
    return _Row(row.kinds, tuple(events * scale for events in row.events), requests)
