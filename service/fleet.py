"""What the workers of an instance say about their models, in shared memory: each of them answers for all of them."""

from __future__ import annotations

import mmap

# what a worker says: a byte, then the reason why it has no model
MEMBER_BYTES = 64
STARTING, READY, UNREADY, LEAVING = range(4)
# whether any worker has ever been ready
SERVED = 0


class Member:
    """One worker."""

    def __init__(self, memory: mmap.mmap, at: int) -> None:
        """Stand at a position in the memory."""
        self._memory, self._at = memory, at
        self.is_taken = False

    @property
    def says(self) -> int:
        """What the worker said last; one that does not take connections yet says nothing, `STARTING`."""
        return self._memory[self._at]

    @property
    def code(self) -> str:
        """The reason code of a worker that is `UNREADY`."""
        return self._memory[self._at + 1 : self._at + MEMBER_BYTES].rstrip(b"\0").decode(errors="replace")

    def say(self, says: int, code: str = "") -> None:
        """Say something, in place of what was said before."""
        raw = code.encode()[: MEMBER_BYTES - 1].ljust(MEMBER_BYTES - 1, b"\0")
        self._memory[self._at + 1 : self._at + MEMBER_BYTES] = raw
        self._memory[self._at] = says
        if says == READY:
            self._memory[SERVED] = 1


class Fleet:
    """All workers of an instance."""

    def __init__(self, workers: int = 1) -> None:
        """Create the memory.

        Args:
            workers: how many there are at a time; while they are replaced there are more.
        """
        count = 4 * workers + 4
        self._memory = mmap.mmap(-1, 1 + count * MEMBER_BYTES)
        self.members = [Member(self._memory, 1 + index * MEMBER_BYTES) for index in range(count)]

    @property
    def has_served(self) -> bool:
        """Whether any worker of the instance has ever been ready."""
        return self._memory[SERVED] == 1

    def join(self) -> Member | None:
        """Return a free place, for a worker that is about to be forked; None if there is none left."""
        found = next((member for member in self.members if not member.is_taken), None)
        if found is not None:
            found.is_taken = True
        return found

    def leave(self, member: Member) -> None:
        """Forget a worker that has ended."""
        member.say(STARTING)
        member.is_taken = False

    def others(self, own: Member | None) -> list[Member]:
        """Return the other workers that take connections, or have been told to stop."""
        return [member for member in self.members if member is not own and member.says != STARTING]


# the instance's, and this worker's place in it, once Gunicorn has set them
current = Fleet()
own: Member | None = None
_is_shared = False


def share(workers: int) -> Member | None:
    """Give a place to the worker that is about to be forked, in memory made for the first one."""
    global current, own, _is_shared
    if not _is_shared:
        current, _is_shared = Fleet(workers), True
    own = current.join()
    return own


def leave(member: Member | None) -> None:
    """Forget, in the parent process, a worker that has ended."""
    if member is not None:
        current.leave(member)


def say(says: int, code: str = "") -> None:
    """Say something for this worker."""
    if own is not None:
        own.say(says, code)
