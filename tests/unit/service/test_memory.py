"""Limits and counters are found in control groups of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import memory
from service.memory import SMALL_BYTES, Budget, ControlGroup, Hold


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def version_2(folder: Path, limit: str = "1000", used: int = 950, inactive: int = 50, kills: int = 3) -> None:
    write(
        folder,
        memory__max=f"{limit}\n",
        memory__current=f"{used}\n",
        memory__stat=f"anon 900\ninactive_file {inactive}\n",
        memory__events=f"low 0\noom 5\noom_kill {kills}\noom_group_kill 0\n",
    )


def version_1(folder: Path, limit: int = 1000, used: int = 950, inactive: int = 50, kills: int = 3) -> None:
    write(
        folder,
        memory__limit_in_bytes=f"{limit}\n",
        memory__usage_in_bytes=f"{used}\n",
        memory__stat=f"cache 0\ninactive_file 1\ntotal_inactive_file {inactive}\n",
        memory__oom_control=f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n",
    )


def find(tmp_path: Path, membership: str) -> ControlGroup | None:
    (tmp_path / "membership").write_text(membership)
    return memory.find(tmp_path / "membership", tmp_path / "mount")


def test_version_2_in_a_container(tmp_path):
    version_2(tmp_path / "mount")
    group = find(tmp_path, "0::/\n")
    assert group is not None
    assert (group.limit_bytes, group.used_ratio(), group.oom_kills()) == (1000, 0.9, 3)


def test_version_1_of_the_host_seen_from_a_container(tmp_path):
    version_1(tmp_path / "mount" / "memory")
    group = find(tmp_path, "9:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/\n")
    assert group is not None
    assert (group.limit_bytes, group.used_ratio(), group.oom_kills()) == (1000, 0.9, 3)


def test_the_nearest_limit_above_counts(tmp_path):
    version_2(tmp_path / "mount" / "pod", limit="2000", used=1000)
    version_2(tmp_path / "mount" / "pod" / "one", limit="max", used=10, kills=1)
    group = find(tmp_path, "0::/pod/one\n")
    assert group is not None
    assert (group.limit_bytes, group.used_ratio(), group.oom_kills()) == (2000, 0.5, 1)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_without_a_limit_there_is_no_ratio(tmp_path, limit):
    version_2(tmp_path / "mount", limit=limit)
    group = find(tmp_path, "0::/\n")
    assert group is not None
    assert (group.limit_bytes, group.used_ratio(), group.oom_kills()) == (None, None, 3)


@pytest.mark.parametrize("membership", ["", "nonsense\n", "0::/\n", "3:cpu:/\n", "4:memory:/x\n"])
def test_where_nothing_is_accounted_for_there_is_no_group(tmp_path, membership):
    assert find(tmp_path, membership) is None


def test_without_linux_there_is_no_group(tmp_path):
    assert memory.find(tmp_path / "none", tmp_path) is None


def test_files_that_vanish_are_unknown(tmp_path):
    version_2(tmp_path / "mount")
    group = find(tmp_path, "0::/\n")
    assert group is not None
    for name in ("memory.current", "memory.events"):
        (tmp_path / "mount" / name).unlink()
    assert (group.used_ratio(), group.oom_kills()) == (None, None)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("limit", "workers", "expected"),
    [
        (str(512 * MIB), 1, 128 * MIB),
        (str(512 * MIB), 2, 64 * MIB),
        ("max", 1, 128 * MIB),
        (str(16 * MIB), 1, 16 * MIB),
    ],
    ids=["512 MiB", "two workers", "no limit", "less than two bodies"],
)
def test_the_budget_is_a_share_of_the_limit(tmp_path, limit, workers, expected):
    version_2(tmp_path / "mount", limit=limit)
    assert Budget.of(None, workers, 8 * MIB, find(tmp_path, "0::/\n")).limit_bytes == expected


def test_a_budget_needs_no_control_group_and_the_setting_counts_first(tmp_path):
    version_2(tmp_path / "mount", limit=str(512 * MIB))
    assert Budget.of(None, 1, 8 * MIB).limit_bytes == 128 * MIB
    assert Budget.of(20 * MIB, 4, 8 * MIB, find(tmp_path, "0::/\n")).limit_bytes == 20 * MIB


def test_large_bodies_leave_the_last_quarter_to_small_ones():
    budget = Budget(16 * MIB)
    holds = [Hold(budget) for _ in range(3)]
    assert [hold.resize(5 * MIB) for hold in holds] == [True, True, False]
    assert [holds[2].resize(2 * MIB), holds[2].resize(2 * MIB + 1)] == [True, False]
    small = [Hold(budget) for _ in range(4 * MIB // SMALL_BYTES + 1)]
    assert [hold.resize(SMALL_BYTES) for hold in small] == [True] * (len(small) - 1) + [False]
    assert budget.held_bytes == 16 * MIB


def test_a_hold_is_released_however_its_context_is_left():
    budget = Budget(16 * MIB)

    def fail() -> None:
        with Hold(budget) as held:
            assert held.resize(12 * MIB)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    assert (budget.held_bytes, Hold(budget).resize(12 * MIB)) == (0, True)


def test_a_hold_may_always_shrink():
    budget = Budget(16 * MIB)
    one, other = Hold(budget), Hold(budget)
    assert (one.resize(12 * MIB), other.resize(SMALL_BYTES)) == (True, True)
    assert (one.resize(11 * MIB), budget.held_bytes) == (True, 11 * MIB + SMALL_BYTES)
