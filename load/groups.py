"""Control groups (Linux, versions 1 and 2) with a limit on memory or processor, for who may make them."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def memory(limit_bytes: int) -> Iterator[Path | None]:
    """Make a group with so much memory, or None where that is not allowed; processes must have left it at the end."""
    limits = {"memory.limit_in_bytes": limit_bytes, "memory.max": limit_bytes}
    with _made("memory", limits) as folder:
        yield folder


@contextlib.contextmanager
def processor(share: float) -> Iterator[Path | None]:
    """Make a group with a share of one processor, or None where that is not allowed."""
    period = 100_000
    quota = round(period * share)
    with _made("cpu", {"cpu.cfs_quota_us": quota, "cpu.max": f"{quota} {period}"}) as folder:
        yield folder


def enter(folder: Path, pid: int) -> None:
    """Put a process into a group; children it has already stay where they are."""
    (folder / "cgroup.procs").write_text(str(pid))


def throttled_seconds(folder: Path) -> float:
    """Return for how long the processes of a group had to wait because its share of the processor was used up."""
    told = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
    return int(told["throttled_usec"]) / 1e6 if "throttled_usec" in told else int(told.get("throttled_time", 0)) / 1e9


def leave(folder: Path) -> None:
    """Put every process of a group into the one above."""
    for pid in (folder / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):
            enter(folder.parent, int(pid))


@contextlib.contextmanager
def _made(controller: str, limits: Mapping[str, object]) -> Iterator[Path | None]:
    """Keep a group while the block runs."""
    folder = _make(controller, limits)
    try:
        yield folder
    finally:
        if folder is not None:
            leave(folder)
            folder.rmdir()


def _make(controller: str, limits: Mapping[str, object]) -> Path | None:
    """Make a group with those limits that this kernel knows, or nothing."""
    name = f"rookery-{os.getpid()}-{secrets.token_hex(4)}"
    for above in _own(controller):
        folder = above / name
        try:
            folder.mkdir()
        except OSError:
            continue
        known = [limit for limit in limits if (folder / limit).exists()]
        try:
            for limit in known:
                (folder / limit).write_text(str(limits[limit]))
        except OSError:
            known = []
        if known:
            return folder
        folder.rmdir()
    return None


def _own(controller: str) -> list[Path]:
    """Return the folders in which a group of ours may be made."""
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    version_1 = [MOUNT / controller / path.strip("/") for _, names, path in lines if controller in names.split(",")]
    version_2 = [MOUNT / path.strip("/") for _, names, path in lines if names == ""]
    return [*version_1, *version_2]
