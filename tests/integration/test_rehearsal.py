"""Three rehearsals of a rollout, of those that `make rehearse` plays: nothing lost, nothing left the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rehearse.__main__ import rehearse
from tests.rehearse.scenarios import SCENARIOS


@pytest.mark.parametrize("name", ["good", "wrong-unasked", "dies-at-5"])
def test_a_rehearsal_ends_as_it_must(name: str, bundles: dict[str, Path]):
    (scenario,) = [one for one in SCENARIOS if one.name == name]

    is_kept, line = rehearse(scenario, bundles["penguins"])

    print(line)
    assert is_kept, line
