"""How a load is parted where an instance is added."""

from __future__ import annotations

from load import scale_up
from load.openloop import Outcome
from load.scale_up import Joining


def outcome(refused_at: list[float], seconds: float = 12.0) -> Outcome:
    """Ten answers a second, and refusals."""
    ends = [n / 10 + 0.05 for n in range(int(seconds * 10))]
    codes = [200] * len(ends) + [503] * len(refused_at)
    latencies = [0.02] * len(ends) + [0.001] * len(refused_at)
    return Outcome(seconds, latencies, codes=codes, ends=[*ends, *refused_at])


def test_spin_up_scale_up_and_steady_are_apart():
    found = scale_up._told(outcome([1.0, 2.0, 4.0, 6.5]), Joining(decided=103.0, spin_up_seconds=3.1), began=100.0)
    before, joining, steady = found["stages"]

    assert (found["spin_up_seconds"], found["scale_up_seconds"]) == (3.1, 3.5)
    assert (before["seconds"], before["refused"], before["answered"]) == (3.0, 2, 10.0)
    assert (joining["seconds"], joining["refused"]) == (3.5, 2)
    assert (steady["seconds"], steady["refused"], steady["answered"]) == (5.5, 0, 10.0)


def test_without_calm_there_is_no_steady_state():
    found = scale_up._told(outcome([2.0, 11.5]), Joining(decided=103.0), began=100.0)

    assert found["scale_up_seconds"] is None
    assert [stage["name"] for stage in found["stages"]] == ["one instance, overloaded", "the second starts and joins"]
