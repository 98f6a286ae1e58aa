"""Memory and processor time of all processes of an instance, from /proc (Linux)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

CPU, RESIDENT, VIRTUAL, STARTED = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
)

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# a child that ends while it is looked at is looked for again
TRIES = 5


def usage() -> dict[str, float]:
    """Return what Prometheus' client libraries export of a process, here of all of an instance: name → value.

    Empty where there is no /proc. Memory that processes share is counted in each of them. Processor time of children
    that have ended stays counted, in their parent.
    """
    for _ in range(TRIES):
        with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
            parent = _instance()
            before = _stat(parent)
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            found = [before, *map(_stat, map(int, children))]
            if _ended(_stat(parent)) == _ended(before):
                return _sum(found)
    return {}


def _sum(found: Sequence[Sequence[str]]) -> dict[str, float]:
    """Add up the fields of processes, the parent's first."""
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return {
        CPU: sum(sum(map(int, one[11:13])) for one in found) / TICKS + _ended(found[0]),
        RESIDENT: float(sum(int(one[21]) for one in found) * PAGE_BYTES),
        VIRTUAL: float(sum(int(one[20]) for one in found)),
        STARTED: int(booted.split()[1]) + int(found[0][19]) / TICKS,
    }


def _instance() -> int:
    """Return the first process of the instance: Gunicorn's parent process, else this one."""
    parent = os.getppid()
    return parent if b"gunicorn" in Path(f"/proc/{parent}/cmdline").read_bytes() else os.getpid()


def _stat(pid: int) -> Sequence[str]:
    """Return the fields of a process from its state on, see proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _ended(stat: Sequence[str]) -> float:
    """Return processor seconds of the children of a process that have ended."""
    return sum(map(int, stat[13:15])) / TICKS
