"""What a run says in a few kilobytes: percentiles from the raw samples, fine histograms, and figures over time."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from load.percentiles import percentile

MARKS = (50, 95, 99, 99.9)
# a bucket's upper edge is 2 % above its lower one
GROWTH = 1.02
# an instance's first seconds, as the service's own metrics count them
COLD_SECONDS = 10.0
POINTS = 120
KEPT = (
    *("format", "scenario", "says", "quick", "stages", "date", "command", "commit", "machine", "versions", "host"),
    *("bundle", "limits", "instance", "overload", "capacity", "refusal", "cloud"),
)
FORMAT = 2


class Sample(NamedTuple):
    """One request."""

    start: float
    seconds: float
    kind: str
    failure: str
    trace_id: str
    predict_ms: float | None
    total_ms: float | None

    @property
    def is_answered(self) -> bool:
        """Whether there was an answer at all, right or wrong."""
        return not self.failure.startswith("lost")


def of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Sum a run up.

    Args:
        run: as `load.run` writes it, samples by column.

    Raises:
        SystemExit: another version of this program wrote it.
    """
    if run.get("format") != FORMAT:
        raise SystemExit(
            f"error: the run of {run.get('date')} has format {run.get('format')}, not {FORMAT}; run it again"
        )
    samples = [Sample(*row) for row in zip(*(run["samples"][name] for name in Sample._fields), strict=True)]
    spans = _spans(run, samples)
    instance = run.get("instance")
    cold_until = COLD_SECONDS - instance["ready_before_seconds"] if instance else 0.0
    return {
        **{name: run[name] for name in KEPT if name in run},
        "phases": [_phase(run, name, users, begin, end, samples) for name, users, begin, end in spans],
        "cold": figures([s for s in samples if s.start < cold_until]) if instance else None,
        "warm": figures([s for s in samples if s.start >= cold_until]),
        "whole": figures(samples),
        "kinds": {kind: figures(found) for kind, found in sorted(_by(samples, "kind").items())},
        "failures": dict(sorted(Counter(s.failure for s in samples if s.failure).items())),
        "histogram": histogram(s.seconds for s in samples if not s.failure),
        "series": _series(run, samples),
    }


def figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return counts and percentiles in milliseconds; a percentile that so few samples cannot tell is None."""
    good = [s.seconds for s in samples if not s.failure]
    refused = [s.seconds for s in samples if s.failure and s.is_answered]
    return {
        "requests": len(samples),
        "failures": len(samples) - len(good),
        "ms": _marks(good),
        "refused_ms": _marks(refused) if refused else None,
    }


def histogram(values: Iterable[float]) -> dict[str, int]:
    """Count seconds in buckets; bucket i holds what is above `GROWTH` ** i µs and not above `GROWTH` ** (i + 1) µs."""
    counts = Counter(math.ceil(math.log(max(value, 1e-6) * 1e6, GROWTH)) - 1 for value in values)
    return {str(bucket): counts[bucket] for bucket in sorted(counts)}


def _marks(seconds: Sequence[float]) -> dict[str, float | None]:
    """Return percentiles in milliseconds, and the largest."""
    ordered = sorted(seconds)
    found: dict[str, float | None] = {
        f"p{mark:g}": round(percentile(ordered, mark) * 1000, 3) if len(ordered) * (100 - mark) >= 100 else None
        for mark in MARKS
    }
    return {**found, "max": round(ordered[-1] * 1000, 3) if ordered else None}


def _spans(run: Mapping[str, Any], samples: Sequence[Sample]) -> list[tuple[str, int, float, float]]:
    """Return name, users, begin and end of each stage; an open loop has one."""
    if not run["stages"]:
        return [("open loop", 0, 0.0, max(s.start + s.seconds for s in samples))]
    spans, begin = [], 0.0
    for name, seconds, users in run["stages"]:
        spans.append((name, users, begin, begin + seconds))
        begin += seconds
    return spans


def _phase(
    run: Mapping[str, Any], name: str, users: int, begin: float, end: float, samples: Sequence[Sample]
) -> dict[str, Any]:
    """Sum one stage up: what users met, where the time went, what was used."""
    within = [s for s in samples if begin <= s.start < end]
    used = [row for row in run["resources"] if begin + 1 <= row[0] < end]
    return {
        "name": name,
        "users": users,
        "seconds": round(end - begin, 3),
        "rate": round(len(within) / (end - begin), 2),
        **figures(within),
        "share": _share(run.get("traces") or {}, [s for s in within if s.kind == "single" and not s.failure]),
        "in_flight": round(sum(s.seconds for s in within) / (end - begin), 3),
        "cpu": _mean([row[1] for row in used]),
        "cpu_most": max((row[1] for row in used), default=None),
        "memory_mb": round(max(row[2] for row in used) / 2**20, 1) if used else None,
        "caller_cpu": _mean([row[3] for row in used]),
    }


def _share(traces: Mapping[str, Sequence[float]], singles: Sequence[Sample]) -> dict[str, Any] | None:
    """Say where the time of single rows went: model, service, and the whole as the caller saw it; mean milliseconds.

    Args:
        traces: milliseconds of the model's span and of the call's, by trace; without any, the answers' own
            `Server-Timing` is taken.
        singles: those that were answered.
    """
    timed = [(*traces[s.trace_id], s.seconds) for s in singles if s.trace_id in traces]
    source = "traces"
    if not traces:
        found = [(s.predict_ms, s.total_ms, s.seconds) for s in singles]
        timed = [
            (model, service, whole) for model, service, whole in found if model is not None and service is not None
        ]
        source = "Server-Timing"
    if not timed:
        return None
    model, service, whole = zip(*timed, strict=True)
    means = {"model_ms": _mean(model), "service_ms": _mean(service), "whole_ms": _mean([each * 1000 for each in whole])}
    return {"from": source, "requests": len(timed), **means}


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _series(run: Mapping[str, Any], samples: Sequence[Sample]) -> dict[str, list[Any]]:
    """Return figures over time, in at most `POINTS` steps of whole seconds."""
    seconds = max((s.start + s.seconds for s in samples), default=0.0)
    step = max(math.ceil(seconds / POINTS), 1)
    slots = [_slot(run, samples_in, at, step) for at, samples_in in _slots(samples, step)]
    return {name: [slot[name] for slot in slots] for name in slots[0]} if slots else {}


def _slots(samples: Sequence[Sample], step: int) -> list[tuple[int, list[Sample]]]:
    """Sort samples into steps by when they began."""
    found: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.is_answered:
            found[int(sample.start // step) * step].append(sample)
    return sorted(found.items())


def _slot(run: Mapping[str, Any], samples: Sequence[Sample], at: int, step: int) -> dict[str, Any]:
    """Return one step's figures."""
    good = sorted(s.seconds for s in samples if not s.failure)
    used = [row for row in run["resources"] if at <= row[0] < at + step]
    return {
        "at": at,
        "rate": round(len(samples) / step, 2),
        "failures": sum(bool(s.failure) for s in samples),
        "p50_ms": round(percentile(good, 50) * 1000, 3) if good else None,
        "worst_ms": round(good[-1] * 1000, 3) if good else None,
        "in_flight": round(sum(s.seconds for s in samples) / step, 3),
        "cpu": _mean([row[1] for row in used]),
        "memory_mb": round(max(row[2] for row in used) / 2**20, 1) if used else None,
    }


def _by(samples: Sequence[Sample], column: str) -> dict[str, list[Sample]]:
    """Sort samples by a column."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[getattr(sample, column)].append(sample)
    return found
