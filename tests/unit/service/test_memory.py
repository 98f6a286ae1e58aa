"""Limits and counters are found in control groups of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import memory
from service.memory import ControlGroup


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
