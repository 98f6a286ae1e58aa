"""Which requests are being computed, and with which bundle, in memory that the parent process can read afterwards."""

from __future__ import annotations

import mmap
from threading import get_ident, get_native_id
from typing import NamedTuple

# threads that compute: the event loop, and the one for large batches
SLOTS = 8
# the longest request id, and its length before it
ID_LENGTH = 128
SLOT_BYTES = 1 + ID_LENGTH
# after the slots: whether a load is under way, whether the worker is dismissed, the bundle, whether it has finished
LOADING, DISMISSED = SLOTS * SLOT_BYTES, SLOTS * SLOT_BYTES + 1
DIGEST, DIGEST_LENGTH = SLOTS * SLOT_BYTES + 2, 64


class Computation(NamedTuple):
    """A request that is being computed.

    Attributes:
        number: counts the requests of its thread.
        request_id: as it is answered and logged.
        thread: Python's id of the thread.
        native_id: the kernel's.
    """

    number: int
    request_id: str
    thread: int
    native_id: int


class UnderWay:
    """One place for each thread that computes; beginning and ending cost well under a microsecond."""

    def __init__(self) -> None:
        """Make the memory; it is shared with processes that are forked afterwards."""
        self._memory = mmap.mmap(-1, DIGEST + DIGEST_LENGTH + 1)
        self._at: dict[int, int] = {}
        self._numbers = [0] * SLOTS
        self._native_ids = [0] * SLOTS

    def begin(self, request_id: str) -> None:
        """Note what the calling thread computes from now on."""
        slot = self._at.get(get_ident())
        if slot is None:
            slot = self._take_slot()
        raw = request_id.encode()[:ID_LENGTH]
        at, memory = slot * SLOT_BYTES, self._memory
        memory[at + 1 : at + 1 + len(raw)] = raw
        self._numbers[slot] += 1
        memory[at] = len(raw)

    def end(self) -> None:
        """Note that the calling thread has computed it."""
        slot = self._at.get(get_ident())
        if slot is not None:
            self._memory[slot * SLOT_BYTES] = 0

    def computations(self) -> list[Computation]:
        """Return what the threads of this process compute now."""
        return [
            Computation(self._numbers[slot], request_id, thread, self._native_ids[slot])
            for thread, slot in list(self._at.items())
            if (request_id := self._read(slot))
        ]

    def request_ids(self) -> list[str]:
        """Return the ids of what is computed, or was when the process ended."""
        return [found for slot in range(SLOTS) if (found := self._read(slot))]

    def load(self, digest: str) -> None:
        """Note that the process loads a bundle; what crashes from now on, crashes because of this one."""
        raw = digest.removeprefix("sha256:").encode()
        self._memory[DIGEST : DIGEST + DIGEST_LENGTH] = raw.ljust(DIGEST_LENGTH, b"\0")[:DIGEST_LENGTH]
        self._memory[LOADING] = 1

    def end_load(self) -> None:
        """Note that the load has ended, well or not."""
        self._memory[LOADING] = 0

    @property
    def blamed(self) -> str | None:
        """The hex digest of the bundle that is being loaded or computed with; None if neither is under way."""
        is_busy = self._memory[LOADING] or self.request_ids()
        return self.digest if is_busy else None

    @property
    def digest(self) -> str | None:
        """The hex digest of the bundle that was loaded last."""
        raw = self._memory[DIGEST : DIGEST + DIGEST_LENGTH].rstrip(b"\0")
        return raw.decode(errors="replace") or None

    def dismiss(self) -> None:
        """Ask the worker to end in good order, so that another one loads anew; it looks once a second."""
        self._memory[DISMISSED] = 1

    @property
    def is_dismissed(self) -> bool:
        """Whether the worker is asked to end."""
        return self._memory[DISMISSED] == 1

    def finish(self) -> None:
        """Note that the process ends in good order."""
        self._memory[-1] = 1

    @property
    def is_finished(self) -> bool:
        """Whether the process has ended in good order."""
        return self._memory[-1] == 1

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

    def _take_slot(self) -> int:
        """Return a place for a thread that computes for the first time; beyond the last they share it."""
        slot = min(len(self._at), SLOTS - 1)
        self._at[get_ident()] = slot
        self._native_ids[slot] = get_native_id()
        return slot

    def _read(self, slot: int) -> str:
        """Return what a place holds."""
        at = slot * SLOT_BYTES
        return self._memory[at + 1 : at + 1 + self._memory[at]].decode(errors="replace")


current = UnderWay()


def share() -> UnderWay:
    """Make new memory, for the worker that is about to be forked."""
    global current
    current = UnderWay()
    return current


def begin(request_id: str) -> str:
    """Note that the calling thread computes a request, and return its id."""
    current.begin(request_id)
    return request_id


def end() -> None:
    """Note that the calling thread has computed its request."""
    current.end()
