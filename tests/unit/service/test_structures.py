"""A manifest with an odd value anywhere is refused with a reason, or every route of the service answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Tell
from tests.soak import structures

# `make soak-integrity` tries all of them
PART = 0.02


@pytest.mark.parametrize("name", ["penguins", "iris", "plots"])
def test_no_odd_value_of_a_manifest_is_served_badly(
    name: str, bundles: dict[str, Path], plots_folder: Path, tell: Tell
) -> None:
    outcome = structures.run({**bundles, "plots": plots_folder}[name], seed=1, part=PART)
    tell(f"M2: {name}: {sum(outcome.counts.values())} manifests: {dict(outcome.counts)}")

    assert outcome.faults == []
    assert outcome.counts["served"] > 0
    assert outcome.counts["refused: manifest_inconsistent"] > 0
