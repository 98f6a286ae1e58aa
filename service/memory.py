"""Memory of this process: limit and use of its control group (Linux, versions 1 and 2), and a budget for bodies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

MEMBERSHIP, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# version 1 writes "no limit" as the largest number of pages
NO_LIMIT_BYTES = 1 << 60

# the share of the limit that request bodies may hold, and the memory assumed where no control group has a limit
BODIES_SHARE, ASSUMED_BYTES = 1 / 4, 512 << 20

# requests of this size (single rows, small batches) use the whole budget, larger ones this share of it
SMALL_BYTES, LARGE_SHARE = 32 << 10, 3 / 4


@dataclass(frozen=True)
class Names:
    """What the files of a version are called."""

    limit: str
    used: str
    inactive: str
    events: str


VERSION_1 = Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "memory.oom_control")
VERSION_2 = Names("memory.max", "memory.current", "inactive_file", "memory.events")


@dataclass(frozen=True)
class ControlGroup:
    """The control group of this process.

    Attributes:
        folder: its own.
        limiting: the nearest one that has a limit, itself or one above.
        limit_bytes: that limit, None if there is none.
    """

    folder: Path
    names: Names
    limiting: Path
    limit_bytes: int | None

    def used_ratio(self) -> float | None:
        """Return how much of the limit is used, 0..1, without what the kernel can drop; None if nobody says."""
        used = _number(self.limiting / self.names.used)
        if not self.limit_bytes or used is None:
            return None
        if used >= 0.8 * self.limit_bytes:
            # read only where it matters: the kernel adds it up over all processors
            used -= _member(self.limiting / "memory.stat", self.names.inactive) or 0
        return used / self.limit_bytes

    def oom_kills(self) -> int | None:
        """Return how many processes of the group the kernel has killed for want of memory, None if nobody counts."""
        return _member(self.folder / self.names.events, "oom_kill")


def find(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> ControlGroup | None:
    """Return the control group of this process, or None if its memory is not accounted for in one that can be read."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except (OSError, UnicodeDecodeError):
        return None
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if "memory" in controllers.split(","):
            names, top = VERSION_1, mount / "memory"
        elif controllers == "":
            names, top = VERSION_2, mount
        else:
            continue
        # in a container the path may be the host's, while the mount shows the container's own group at its top
        for folder in (top / path.strip("/"), top):
            if (folder / names.used).is_file():
                return _limited(folder, top, names)
    return None


def _limited(folder: Path, top: Path, names: Names) -> ControlGroup:
    """Return a group with the nearest limit."""
    for one in (folder, *folder.parents):
        limit = _number(one / names.limit)
        if limit is not None and limit < NO_LIMIT_BYTES:
            return ControlGroup(folder, names, one, limit)
        if one == top:
            break
    return ControlGroup(folder, names, folder, None)


def _number(file: Path) -> int | None:
    """Return the whole number in a file, None if there is none (`max`)."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _member(file: Path, name: str) -> int | None:
    """Return a value from lines of `name value`."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, ValueError):
        return None
    found = (line.split() for line in lines)
    return next((int(pair[1]) for pair in found if len(pair) == 2 and pair[0] == name and pair[1].isdecimal()), None)


class Budget:
    """Bytes that all requests of one worker may hold together.

    The last quarter is for small requests alone, so that large bodies cannot keep single rows out.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Start with nothing held."""
        self.limit_bytes, self.held_bytes = limit_bytes, 0

    @classmethod
    def of(
        cls, given_bytes: int | None, workers: int, max_body_bytes: int, group: ControlGroup | None = None
    ) -> Budget:
        """Return the budget of one worker.

        Args:
            given_bytes: from the settings; None for a quarter of the memory limit, shared by the workers.
            workers: number of worker processes in the control group.
            max_body_bytes: the default always has room for one body of this size.
            group: of this process; None if it has none.
        """
        if given_bytes is not None:
            return cls(given_bytes)
        limit_bytes = (group.limit_bytes if group else None) or ASSUMED_BYTES
        return cls(max(int(limit_bytes * BODIES_SHARE) // workers, 2 * max_body_bytes))


class Hold:
    """What one request, or one connection, holds of a budget; leaving the context releases it."""

    def __init__(self, budget: Budget) -> None:
        """Hold nothing yet."""
        self._budget, self.size_bytes = budget, 0

    def resize(self, size_bytes: int) -> bool:
        """Hold this many bytes instead; returns False, and changes nothing, if there is no room for more."""
        budget, growth = self._budget, size_bytes - self.size_bytes
        limit_bytes = budget.limit_bytes * (LARGE_SHARE if size_bytes > SMALL_BYTES else 1)
        if growth > 0 and budget.held_bytes + growth > limit_bytes:
            return False
        budget.held_bytes += growth
        self.size_bytes = size_bytes
        return True

    def __enter__(self) -> Self:
        """Return the hold."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release what is held."""
        self.resize(0)
