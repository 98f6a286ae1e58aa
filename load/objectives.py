"""Judges recorded runs against `slo.toml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from load.sizing import Capacity

Summary = Mapping[str, Any]
PERCENTILES = {"p95_seconds": "p95", "p99_seconds": "p99"}


class Judged(NamedTuple):
    """One objective with what was measured.

    Attributes:
        scenario: what ran.
        what: the measure, in words.
        bound: as it is written.
        measured: likewise; a dash where the run cannot tell.
        verdict: `kept`, `missed` or `not measured`.
    """

    scenario: str
    what: str
    bound: str
    measured: str
    verdict: str


def judge(
    objectives: Mapping[str, Mapping[str, float]], runs: Mapping[str, Summary], capacity: Summary
) -> list[Judged]:
    """Judge everything that has an objective.

    Args:
        objectives: the section `[load]`.
        runs: summaries by scenario.
        capacity: what `load.capacity` found.
    """
    found = [
        judged for name, bounds in objectives.items() if name in runs for judged in _scenario(name, bounds, runs[name])
    ]
    error, most = prediction_error(capacity), objectives["capacity"]["prediction_error_max"]
    found.append(
        _at_most("capacity", "error of the prediction for 2 × 0.25 CPU", most, error, lambda value: f"{value:.1%}")
    )
    return found


def prediction_error(capacity: Summary) -> float:
    """Return how far the model's prediction for the pair is from the measurement, 0..1."""
    predicted = predicted_pair(capacity)
    return abs(predicted - float(capacity["pair"]["rate"])) / float(capacity["pair"]["rate"])


def predicted_pair(capacity: Summary) -> float:
    """Return what the model says of the pair; it was measured on single instances only."""
    return Capacity.measured(capacity["sizes"]).rate(capacity["pair"]["cpu"]) * int(capacity["pair"]["instances"])


def steady(run: Summary) -> Summary:
    """Return the heaviest stage that is held, or the open loop."""
    held = [phase for phase in run["phases"] if phase["name"] != "ramp"]
    return dict(max(held, key=lambda phase: phase["users"]))


def lost(run: Summary) -> int:
    """Return how many requests failed in another way than being refused under overload."""
    refused = {"status 503", "status 429"}
    return sum(count for failure, count in run["failures"].items() if failure not in refused)


def answered(run: Summary) -> float:
    """Return the share of the capacity that was answered under overload."""
    phase = steady(run)
    return float((phase["requests"] - phase["failures"]) / phase["seconds"] / run["capacity"])


def _scenario(name: str, bounds: Mapping[str, float], run: Summary) -> Iterator[Judged]:
    """Judge one scenario by its heaviest held stage; failures count over the whole run."""
    phase = steady(run)
    for key, bound in bounds.items():
        if key in PERCENTILES:
            value = phase["ms"][PERCENTILES[key]]
            yield _at_most(name, f"{PERCENTILES[key]}, {phase['name']}", bound * 1000, value, lambda ms: f"{ms:.1f} ms")
        elif key == "p99_whole_seconds":
            value = run["whole"]["ms"]["p99"]
            yield _at_most(name, "p99, whole run", bound * 1000, value, lambda ms: f"{ms:.1f} ms")
        elif key == "failures_max":
            yield _at_most(name, "failures, whole run", bound, sum(run["failures"].values()), lambda n: f"{n:.0f}")
        elif key == "lost_max":
            yield _at_most(name, "failures other than refusals", bound, lost(run), lambda n: f"{n:.0f}")
        elif key == "users_min":
            yield _at_least(name, "users", bound, phase["users"], lambda n: f"{n:.0f}")
        elif key == "requests_per_second_min":
            yield _at_least(name, "requests/s", bound, phase["rate"], lambda n: f"{n:.1f}")
        elif key == "answered_of_bound_min":
            share = answered(run) / run["refusal"]["bound"] if run["refusal"]["bound"] else 1.0
            yield _at_least(name, "answered, of what refusing leaves", bound, share, lambda value: f"{value:.1%}")
        else:
            raise KeyError(f"slo.toml: [load.{name}] {key} is not known")


def _at_most(name: str, what: str, bound: float, value: float | None, show: Any) -> Judged:
    if value is None:
        return Judged(name, what, f"≤ {show(bound)}", "–", "not measured")
    return Judged(name, what, f"≤ {show(bound)}", show(value), "kept" if value <= bound else "missed")


def _at_least(name: str, what: str, bound: float, value: float, show: Any) -> Judged:
    return Judged(name, what, f"≥ {show(bound)}", show(value), "kept" if value >= bound else "missed")
