"""Which cores servers and load run on, and what the kernel says about a process and all its descendants."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


# as this process was started, before anything pins itself
CORES = sorted(os.sched_getaffinity(0))
# with a single core they are the same, and figures are worth little
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


def become_load() -> None:
    """Take the load's core, and let SIGTERM end this process as Ctrl-C does: what it has started is stopped too."""
    os.sched_setaffinity(0, {LOAD_CORE})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def run_on(
    cores: Sequence[int], command: Sequence[str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command on some cores to its end, whatever its status, and return what it said.

    Args:
        cores: the only ones it may use.
        command: what is run.
        folder: where it runs, None for here.
    """
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it; those that end meanwhile are left out."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found.extend(map(int, (task / "children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process and its descendants, in steps of 10 ms."""
    return sum(map(ticks_of, _told(pid, "stat"))) / TICKS


def ticks_of(stat: str) -> int:
    """Return user and system time from a line of `/proc/<pid>/stat`; the name may hold blanks and brackets."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process and its descendants: shared pages are divided among their users."""
    return sum(map(pss_of, _told(pid, "smaps_rollup")))


def _told(pid: int, file: str) -> list[str]:
    """Return what the kernel says in one file about each of a family; who ends meanwhile has nothing more to say."""
    texts = []
    for one in family(pid):
        try:
            texts.append(Path(f"/proc/{one}/{file}").read_text())
        except (FileNotFoundError, ProcessLookupError):
            if one == pid:
                raise
    return texts


def pss_of(rollup: str) -> int:
    """Return the bytes that `/proc/<pid>/smaps_rollup` gives as Pss."""
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    if found is None:
        raise ValueError("no Pss in smaps_rollup")
    return int(found[1]) * 1024
