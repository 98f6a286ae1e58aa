"""Puts counts to the recording rules, through the tool that comes with Prometheus: promtool.

    python -m tests.unit.model.drift_rules

writes `deploy/monitoring/tests/drift_test.yml`: a shifted stream raises the alert, an unshifted one does not.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from model import drift
from model.baseline import Baseline, Variable, lay_out
from model.bins import Counts
from model.drift import Critical, Drift

MONITORING = Path(__file__).resolve().parents[3] / "deploy/monitoring"
RULES = MONITORING / "drift.rules.yml"
SHIPPED = MONITORING / "tests/drift_test.yml"
TOLERANCE = 1e-6

INTERVAL, STEPS, END = "5m", 12, "40m"


@dataclass(frozen=True)
class Traffic:
    """What the instances that serve one bundle have counted: per instance and variable shape (b,)."""

    digest: str
    baseline: Baseline
    instances: Sequence[Sequence[Counts]]

    def judge(self, window: str) -> Drift:
        """Judge the sum over the instances by the function."""
        counts = [np.sum(of_one, axis=0) for of_one in zip(*self.instances, strict=True)]
        return drift.judge(self.baseline, counts, drift.WINDOW_LEVELS[window])


def series(traffic: Traffic) -> Iterator[dict[str, str]]:
    """Yield what the instances export, in promtool's notation."""
    limits = {window: drift.critical(traffic.baseline, level) for window, level in drift.WINDOW_LEVELS.items()}
    for index, instance in enumerate(traffic.instances):
        for position, (variable, counts) in enumerate(zip(traffic.baseline.variables, instance, strict=True)):
            of = {"instance": f"i{index}", "digest": traffic.digest, "kind": variable.kind, "name": variable.name}
            for name, count in zip(variable.bins, counts, strict=True):
                # counters begin with 0, so that nothing is extrapolated to the time before
                yield _series("rookery_drift_rows_total", {**of, "bin": name}, f"0 {count}+0x{STEPS}")
            for name, labels, value in gauges(variable, {window: limit[position] for window, limit in limits.items()}):
                yield _series(name, {**of, **labels}, f"{value!r}+0x{STEPS}")


def exposed(text: str, instance: str) -> Iterator[dict[str, str]]:
    """Yield what a real instance exports, likewise: its counters began with 0, its gauges were always so."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            begin = "0 " if sample.name.endswith("_total") else ""
            labels = {"instance": instance, **sample.labels}
            yield _series(sample.name, labels, f"{begin}{sample.value!r}+0x{STEPS}")


def gauges(variable: Variable, limits: dict[str, Critical]) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the gauges of one variable: name, the labels beside those of the variable, value."""
    for name, count in zip(variable.bins, variable.reference.tolist(), strict=True):
        yield "rookery_drift_reference_rows", {"bin": name}, count
    if variable.scores is not None:
        for name, score in zip(variable.bins, variable.scores.tolist(), strict=True):
            if not np.isnan(score):
                yield "rookery_drift_score", {"bin": name}, score
    yield "rookery_drift_minimum_rows", {}, variable.minimum_rows
    for window, limit in limits.items():
        if variable.degrees:
            yield "rookery_drift_critical", {"window": window, "test": "chi_square"}, limit.chi_square
        if variable.scores is not None:
            yield "rookery_drift_critical", {"window": window, "test": "shift"}, limit.shift


def expectations(traffic: Traffic) -> Iterator[dict[str, Any]]:
    """Yield what promtool is to compare: every number of every finding, and what the alert says."""
    for window in drift.WINDOW_LEVELS:
        found = traffic.judge(window)
        numbers: dict[str, dict[tuple[str, str], float]] = {}
        for one in found.findings:
            if one.psi is not None and one.change is not None:
                numbers.setdefault("rows", {})[one.kind, one.name] = one.rows
                numbers.setdefault("psi", {})[one.kind, one.name] = one.psi
                numbers.setdefault("chi_square", {})[one.kind, one.name] = one.change.statistic
            if one.shift is not None:
                numbers.setdefault("shift", {})[one.kind, one.name] = one.shift.moved
                numbers.setdefault("shift_z", {})[one.kind, one.name] = one.shift.z
        where = {"digest": traffic.digest, "window": window}
        if not numbers:
            yield _expect(f"rookery:drift_rows{_braces(where)}", [])
        for record, values in numbers.items():
            count = f"count(rookery:drift_{record}{_braces(where)})"
            yield _expect(count, [("{}", len(values))])
            for (kind, name), value in values.items():
                labels = {**where, "kind": kind, "name": name}
                close = (
                    f"abs(rookery:drift_{record}{_braces(labels)} - {value!r}) < bool {TOLERANCE * max(1, abs(value))}"
                )
                yield _expect(close, [(_braces(labels), 1)])
        drifting = [{**where, "kind": f.kind, "name": f.name} for f in found.findings if f.verdict == "drifting"]
        firing = _braces({**where, "alertname": "RookeryDrift", "alertstate": "firing"})
        yield _expect(f"count by (digest, window, kind, name) (ALERTS{firing})", [(_braces(d), 1) for d in drifting])


def run(
    folder: Path,
    traffics: Sequence[Traffic],
    expected: Sequence[dict[str, Any]] | None = None,
    exported: Sequence[dict[str, str]] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Let promtool evaluate the rules on what the instances counted, and compare with the function.

    Args:
        folder: where the case is written.
        traffics: what was counted.
        expected: None for what the function says.
        exported: what the instances really export, from `exposed`; None for what they should.
    """
    case = {
        "interval": INTERVAL,
        "input_series": exported or [one for traffic in traffics for one in series(traffic)],
        "promql_expr_test": expected or [one for traffic in traffics for one in expectations(traffic)],
    }
    written = {"rule_files": [str(RULES)], "evaluation_interval": INTERVAL, "tests": [case]}
    path = folder / "case.yml"
    # JSON is YAML
    path.write_text(json.dumps(written, indent=1))
    return promtool("test", "rules", path)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Prometheus' own tool."""
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120)


def shipped() -> str:
    """Return the test that stands beside the rules, from counts of two instances drawn at random."""
    random = np.random.default_rng(20140305)
    sample = random.normal(size=342)
    edges = np.quantile(sample, np.linspace(0, 1, 11)[1:-1])
    parts = np.bincount(np.searchsorted(edges, sample, side="right"), minlength=10)
    baseline = Baseline(
        (lay_out("feature", "bill_length_mm", edges, parts), lay_out("label", "", None, [151, 68, 123]))
    )
    lines = [
        "# Generated by `python -m tests.unit.model.drift_rules`: counts that two instances drew from a population.",
        "# `promtool test rules drift_test.yml`",
        "rule_files: [../drift.rules.yml]",
        f"evaluation_interval: {INTERVAL}",
        "tests:",
    ]
    for name, rows, by in (("unshifted, 100,000 rows", 50_000, 0.0), ("half a deviation, 400 rows", 200, 0.5)):
        instances = [
            [
                baseline.variables[0].count(random.normal(by, size=rows)),
                random.multinomial(rows, [151 / 342, 68 / 342, 123 / 342]),
            ]
            for _ in range(2)
        ]
        traffic = Traffic("sha256:1dbd", baseline, instances)
        lines += [f"  - name: {name}", f"    interval: {INTERVAL}", "    input_series:"]
        lines += [f"      - {json.dumps(one)}" for one in series(traffic)]
        lines += ["    alert_rule_test:", f"      - eval_time: {END}", "        alertname: RookeryDrift"]
        alerts = [
            f"          - {json.dumps(one)}" for window in drift.WINDOW_LEVELS for one in _alerts(traffic, window)
        ]
        lines += ["        exp_alerts:", *alerts] if alerts else ["        exp_alerts: []"]
    return "\n".join(lines) + "\n"


def _alerts(traffic: Traffic, window: str) -> Iterator[dict[str, Any]]:
    """Yield what the alert manager is told."""
    for one in traffic.judge(window).findings:
        if one.verdict == "drifting":
            labels = {"digest": traffic.digest, "kind": one.kind, "name": one.name, "window": window}
            yield {
                "exp_labels": {**labels, "severity": "ticket"},
                "exp_annotations": {
                    "summary": f"The traffic of {traffic.digest} drifts: {one.kind} {one.name}",
                    "description": f"Over {window} it is unlike the reference, significantly and not only a little.",
                    "runbook": "DEPLOYMENT.md, section Drift",
                },
            }


def _series(name: str, labels: dict[str, str], values: str) -> dict[str, str]:
    """Return one input series."""
    return {"series": name + _braces(labels), "values": values}


def _expect(expr: str, samples: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Return one comparison."""
    listed = [{"labels": labels, "value": value} for labels, value in samples]
    return {"expr": expr, "eval_time": END, "exp_samples": listed}


def _braces(labels: dict[str, str]) -> str:
    """Return labels as PromQL writes them; an empty one is one that is not there."""
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items() if value) + "}"


if __name__ == "__main__":
    SHIPPED.write_text(shipped())
