"""Who is answered when, and who is told to come back: the queue before the answers, bounded by time and by number."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from service.errors import Overloaded, Problem

# the loop goes on reading, and answering probes, after so long
SLICE_SECONDS = 0.005
# how fast the estimates follow: about the last ten requests
WEIGHT = 0.1
RETRY_SECONDS = "1"


class Waiting(Protocol):
    """A request in the queue."""

    def take_turn(self, has_expired: bool) -> None:
        """Answer it now, or refuse it because it has waited for too long; a caller who has left is passed over."""
        ...


class Admission:
    """The queue of one worker's event loop; used from the loop alone.

    A request is answered at once while nobody waits and the loop's current turn is short. Else it waits, in order,
    unless those before it will take longer than the budget: then it is refused at once, which costs the caller
    nothing but the call. Between slices of work the loop reads what has arrived, so the queue is here and not in
    sockets nobody has looked at.

    Attributes:
        budget_seconds: the longest a request may wait.
        most_waiting: the largest number that may wait.
        refused: how many were refused so far.
    """

    def __init__(
        self,
        budget_seconds: float,
        most_waiting: int,
        clock: Callable[[], float] = time.monotonic,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """Begin with an empty queue.

        Args:
            budget_seconds: see the class.
            most_waiting: see the class.
            clock: seconds that only grow.
            call_soon: calls back in the loop's next turn; None for the running loop's own.
        """
        self.budget_seconds, self.most_waiting = budget_seconds, most_waiting
        self.refused = 0
        self._clock = clock
        self._queue: deque[tuple[Waiting, float]] = deque()
        self._seconds_each = 0.0
        self._turn_began: float | None = None
        self._call_soon = call_soon

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def wait_seconds(self) -> float:
        """How long a request that comes now would wait, judged by the last ones."""
        return len(self._queue) * self._seconds_each

    def is_free(self) -> bool:
        """Whether a request may be answered on the spot."""
        now = self._clock()
        if self._turn_began is None:
            self._turn_began = now
            self._next_turn()
            return not self._queue
        return not self._queue and now - self._turn_began < SLICE_SECONDS

    def enter(self, request: Waiting) -> bool:
        """Let a request wait for its turn; False if the queue is too long for it."""
        if len(self._queue) >= self.most_waiting or self.wait_seconds > self.budget_seconds:
            self.refused += 1
            return False
        self._queue.append((request, self._clock()))
        if self._turn_began is None:
            self._turn_began = self._clock()
            self._next_turn()
        return True

    def took(self, seconds: float) -> None:
        """Note how long one request occupied the loop."""
        self._seconds_each += WEIGHT * (seconds - self._seconds_each)

    def _next_turn(self) -> None:
        """Ask to be called once the loop has read what has arrived meanwhile."""
        call_soon = self._call_soon or asyncio.get_running_loop().call_soon
        call_soon(self._turn)

    def _turn(self) -> None:
        """Answer for one slice of time."""
        self._turn_began = now = self._clock()
        while self._queue:
            request, arrived = self._queue.popleft()
            has_expired = now - arrived > self.budget_seconds
            self.refused += has_expired
            request.take_turn(has_expired)
            before, now = now, self._clock()
            if not has_expired:
                self.took(now - before)
            if now - self._turn_began > SLICE_SECONDS:
                break
        if self._queue:
            self._next_turn()
        else:
            self._turn_began = None


class Lane:
    """The queue before the one thread for large bodies: bounded by the time it would take.

    Not thread-safe: `enter` and `leave` are called from the loop, around the work in the thread.
    """

    def __init__(self, budget_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin empty."""
        self._budget_seconds, self._clock = budget_seconds, clock
        self._seconds_per_byte = 0.0
        self._bytes_waiting = 0
        self.waiting = 0
        self.refused = 0

    def enter(self, size_bytes: int) -> float | None:
        """Take a place; returns when it was taken, None if those before would take longer than the budget."""
        if self.waiting and self._bytes_waiting * self._seconds_per_byte > self._budget_seconds:
            self.refused += 1
            return None
        self.waiting += 1
        self._bytes_waiting += size_bytes
        return self._clock()

    def leave(self, size_bytes: int, work_seconds: float | None) -> None:
        """Give the place back; `work_seconds` tells how long the work itself took, None if it was not done."""
        self.waiting -= 1
        self._bytes_waiting -= size_bytes
        if work_seconds is not None and size_bytes:
            self._seconds_per_byte += WEIGHT * (work_seconds / size_bytes - self._seconds_per_byte)


def overloaded() -> Overloaded:
    """Return the refusal of a service with more to do than it can do in time."""
    return Overloaded(
        [Problem("", "overloaded", "too many requests wait already")],
        detail="More requests wait than can be answered in time; send it again after `Retry-After` seconds.",
        headers=(("Retry-After", RETRY_SECONDS),),
    )
