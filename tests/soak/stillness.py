"""Tells a machine that stood still from a server that did: on each core something that wakes up all the time.

    python -m tests.soak.stillness <core>

wakes every 2 ms, with real-time priority where that is allowed, until its input ends, then prints when it was late.
Whoever has that priority waits for no other process, so what held it up was the machine: its host, as a rule.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from load.processes import CORES

ROOT = Path(__file__).resolve().parent.parent.parent
TICK_SECONDS, LATE_SECONDS = 0.002, 0.003
PRIORITY = 50


class Stall(NamedTuple):
    """A time in which one core did not run; seconds on `time.perf_counter`, the same in every process."""

    begin: float
    end: float


@dataclass
class Stillness:
    """What was seen.

    Attributes:
        has_priority: whether the control had real-time priority; without it a stall may be anybody's.
        stalls: of all cores.
    """

    has_priority: bool = False
    stalls: list[Stall] = field(default_factory=list)

    def spared(self, begin: float, end: float) -> bool:
        """Whether a time met no stall, nor the time as long again in which a server works off what came meanwhile."""
        place = bisect_left(self._shadows, (end,)) - 1
        return place < 0 or self._shadows[place].end <= begin

    @cached_property
    def _shadows(self) -> list[Stall]:
        """The stalls, each as long again, in order, those that overlap put together."""
        found: list[Stall] = []
        for begin, end in sorted(self.stalls):
            until = 2 * end - begin
            if found and begin <= found[-1].end:
                found[-1] = Stall(found[-1].begin, max(found[-1].end, until))
            else:
                found.append(Stall(begin, until))
        return found

    def describe(self, begin: float, end: float) -> str:
        """Return in words what the machine did in a time."""
        found = [stall.end - stall.begin for stall in self.stalls if begin <= stall.begin <= end]
        if not self.has_priority:
            return "no real-time priority: nothing is known about the machine"
        if not found:
            return "the machine never stood still"
        share = sum(found) / (end - begin) / len(CORES)
        return f"the machine stood still {len(found)} times, {max(found) * 1000:.0f} ms at most, {share:.1%} of a core"


@contextlib.contextmanager
def watched() -> Iterator[Stillness]:
    """Watch all cores until the block ends; what was seen is there afterwards."""
    found = Stillness()
    controls = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.soak.stillness", str(core)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for core in CORES
    ]
    try:
        for control in controls:
            # the first line comes when it has begun
            found.has_priority = control.stdout is not None and control.stdout.readline() == b"true\n"
        yield found
    finally:
        for control in controls:
            told, _ = control.communicate(timeout=10)
            found.stalls += [Stall(*pair) for pair in json.loads(told)]


def look() -> list[tuple[float, float]]:
    """Wake up all the time until the input ends; returns from when to when that was not possible."""
    late: list[tuple[float, float]] = []
    due = time.perf_counter()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0]:
        now = time.perf_counter()
        if now - due > LATE_SECONDS:
            late.append((due, now))
        due = now + TICK_SECONDS
    return late


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    os.sched_setaffinity(0, {int(arguments[0])})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        print("true", flush=True)
    except PermissionError:
        print("false", flush=True)
    print(json.dumps(look()))


if __name__ == "__main__":
    main(sys.argv[1:])
