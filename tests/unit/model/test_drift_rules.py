"""The recording rules give what the function gives: evaluated by Prometheus' own tool."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from model import baseline
from model.baseline import Baseline, lay_out
from model.manifest import Manifest
from model.verify import VerifiedBundle
from tests.unit.model import drift_rules
from tests.unit.model.drift_rules import RULES, SHIPPED, Traffic, promtool, shipped

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"),
    reason="promtool is not installed (Debian: apt-get install prometheus)",
)


def drawn(random: np.random.Generator, digest: str, watched: Baseline, rows: int, spread: float) -> Traffic:
    """Return what three instances counted of a population that is `spread` away from the reference."""
    tilts = [np.exp(spread * random.normal(size=len(variable.bins))) for variable in watched.variables]
    weights = [(v.reference + 0.01) * tilt for v, tilt in zip(watched.variables, tilts, strict=True)]
    instances = [[random.multinomial(rows, one / one.sum()) for one in weights] for _ in range(3)]
    return Traffic(digest, watched, instances)


@needs_promtool
def test_rules_agree_with_the_function(manifest: Manifest, toy_bundle: VerifiedBundle, tmp_path: Path):
    random = np.random.default_rng(12)
    penguins, toy = baseline.build(manifest), baseline.build(toy_bundle.manifest)
    large = Baseline((lay_out("feature", "a", list(range(1, 10)), [100_000] * 10, nulls=500),))
    traffics = [
        drawn(random, "sha256:steady", penguins, 100, 0.0),
        drawn(random, "sha256:drifting", penguins, 7_000, 0.5),
        drawn(random, "sha256:few", penguins, 5, 2.0),
        drawn(random, "sha256:none", penguins, 0, 0.0),
        drawn(random, "sha256:toy", toy, 300, 0.8),
        drawn(random, "sha256:small", large, 100_000, 0.05),
        drawn(random, "sha256:shifted", large, 100_000, 0.6),
    ]
    verdicts = {traffic.digest[7:]: traffic.judge("24h").verdict for traffic in traffics}
    expected = {"steady": "steady", "drifting": "drifting", "few": "too_few", "none": "too_few", "toy": "drifting"}
    assert verdicts == {**expected, "small": "steady", "shifted": "drifting"}

    result = drift_rules.run(tmp_path, traffics)

    assert result.returncode == 0, result.stdout + result.stderr
    compared = (tmp_path / "case.yml").read_text().count('"expr"')
    print(f"{compared} numbers compared, each to {drift_rules.TOLERANCE}")
    assert compared > 300


@needs_promtool
def test_a_wrong_number_is_noticed(manifest: Manifest, tmp_path: Path):
    random, watched = np.random.default_rng(13), baseline.build(manifest)
    traffic = drawn(random, "sha256:a", watched, 100, 0.0)
    # the function sees one row more than the rules
    traffic.instances[0][0][0] += 1
    expected = list(drift_rules.expectations(traffic))
    traffic.instances[0][0][0] -= 1

    result = drift_rules.run(tmp_path, [traffic], expected)

    assert result.returncode == 1
    assert "rookery:drift_psi" in result.stdout + result.stderr


@needs_promtool
def test_shifted_stream_alarms_and_unshifted_does_not():
    result = promtool("test", "rules", SHIPPED)

    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_rules_are_sound():
    result = promtool("check", "rules", RULES)

    assert result.returncode == 0, result.stdout + result.stderr


def test_shipped_case_is_up_to_date():
    text = shipped()

    assert SHIPPED.read_text() == text, "python -m tests.unit.model.drift_rules"
    unshifted, shifted = text.split("  - name: ")[1:]
    assert "exp_alerts: []" in unshifted
    assert '"name": "bill_length_mm"' in shifted
    assert '"severity": "ticket"' in shifted
