"""Who is answered when, and who is told to come back: the queue before the answers, bounded by time and by number."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from service.errors import Overloaded, Problem

# the loop goes on reading, and answering probes, after so long
SLICE_SECONDS = 0.005
# how fast the estimates follow: about the last ten requests
WEIGHT = 0.1
# a stall, or what the first explanation has to build, is forgotten sooner than that
WEIGHT_DOWN = 0.5
# one look makes the estimate grow by no more: a process that was not run for a while is no slower afterwards
GROWTH = 2.0
# the loop goes round so often between two slices: a probe takes several rounds, and need not wait for as many slices
ROUNDS = 4
# uvloop takes one new connection a round, and more may wait behind it: then it goes round for so long
TAKING_SECONDS = 0.001
# the estimate must leave this part of the budget over, or requests that were let in would expire too often
RESERVE = 0.4
# what a call costs whatever its size, counted as bytes of a large body
CALL_BYTES = 4 << 10
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
    sockets nobody has looked at; what lay there during a slice counts as having waited for it.

    Attributes:
        budget_seconds: the longest a request may wait.
        most_waiting: the largest number that may wait.
        slice_seconds: how long the loop may answer without a look at its sockets.
        refused: how many were refused so far.
    """

    def __init__(
        self,
        budget_seconds: float,
        most_waiting: int,
        clock: Callable[[], float] = time.monotonic,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
        slice_seconds: float = SLICE_SECONDS,
    ) -> None:
        """Begin with an empty queue.

        Args:
            budget_seconds: see the class.
            most_waiting: see the class.
            clock: seconds that only grow.
            call_soon: calls back in the loop's next turn; None for the running loop's own.
            slice_seconds: see the class.
        """
        self.budget_seconds, self.most_waiting, self.slice_seconds = budget_seconds, most_waiting, slice_seconds
        self.refused = 0
        self._clock = clock
        self._queue: deque[tuple[Waiting, float]] = deque()
        self._seconds_each = 0.0
        # of the loop's current turn, None while there is nothing to do
        self._turn_began: float | None = None
        # the last two times that the loop looked at its sockets
        self._looked = self._looked_before = 0.0
        self._rounds_left = 0
        self._has_connected = False
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
            self._begin(now)
            return True
        return not self._queue and now - self._turn_began < self.slice_seconds

    def enter(self, request: Waiting) -> bool:
        """Let a request wait for its turn; False if the queue is too long for it."""
        if self._turn_began is None:
            self._begin(self._clock())
        if len(self._queue) >= self.most_waiting or self.wait_seconds > self.budget_seconds * (1 - RESERVE):
            self.refused += 1
            return False
        # it became readable after the loop had looked the last time but one
        self._queue.append((request, self._looked_before))
        return True

    def took(self, seconds: float, count: int = 1) -> None:
        """Note how long some requests occupied the loop, on an average."""
        if not self._seconds_each:
            self._seconds_each = seconds
        found = self._seconds_each + min(1.0, WEIGHT * count) * (seconds - self._seconds_each)
        self._seconds_each = min(found, GROWTH * self._seconds_each)

    def connected(self) -> None:
        """Note a new connection."""
        self._has_connected = True

    def _may_take_more(self) -> bool:
        """Whether the last rounds took a connection, and there is time to look for another."""
        has_connected, self._has_connected = self._has_connected, False
        return has_connected and self._clock() - self._looked < TAKING_SECONDS

    def _begin(self, now: float) -> None:
        """Begin a turn of a loop that had nothing to do."""
        self._turn_began = self._looked = self._looked_before = now
        self._next_turn()

    def _next_turn(self) -> None:
        """Ask to be called once the loop has read what has arrived meanwhile."""
        call_soon = self._call_soon or asyncio.get_running_loop().call_soon
        call_soon(self._turn)

    def _turn(self) -> None:
        """Answer for one slice of time."""
        self._rounds_left -= 1
        if self._rounds_left > 0 or self._may_take_more():
            self._next_turn()
            return
        now = self._clock()
        if not self._queue:
            if now - self._looked < self.slice_seconds:
                self._turn_began = None
                return
            # an answer on the spot took long: who came meanwhile, one by one if they have to be accepted, has waited
            self._linger(now)
            return
        self._turn_began = began = now
        answered = 0
        while self._queue:
            request, arrived = self._queue.popleft()
            has_expired = now - arrived > self.budget_seconds
            self.refused += has_expired
            answered += not has_expired
            request.take_turn(has_expired)
            now = self._clock()
            if now - began + self._seconds_each > self.slice_seconds:
                break
        if answered:
            # reading and refusing others is part of what each one takes
            self.took((now - self._looked) / answered, answered)
        # also with nobody left: who was not read during this slice comes in the next turn, and has waited for it
        self._linger(now)

    def _linger(self, now: float) -> None:
        """Let the loop look at its sockets before the next slice."""
        self._looked_before, self._looked = self._looked, now
        self._rounds_left = ROUNDS
        self._next_turn()


class Place(NamedTuple):
    """A place in the lane.

    Attributes:
        since: when it was taken.
        kind: calls of one kind take about the same time for each byte.
        size_bytes: of the body, and what a call costs whatever its size.
        seconds: how long it was thought to take.
        is_first: whether nobody was there before: nobody else's work makes it wait.
    """

    since: float
    kind: str
    size_bytes: int
    seconds: float
    is_first: bool


class Lane:
    """The queue before the one thread for large bodies: bounded by the time it would take, and by number.

    Not thread-safe: `enter` and `leave` are called from the loop, around the work in the thread.
    """

    def __init__(self, budget_seconds: float, most_waiting: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin empty."""
        self._budget_seconds, self._most_waiting, self._clock = budget_seconds, most_waiting, clock
        self._seconds_per_byte: dict[str, float] = {}
        self._wait_seconds = 0.0
        self.waiting = 0
        self.refused = 0

    def enter(self, kind: str, body_bytes: int) -> Place | None:
        """Take a place; None if those before would take longer than the budget, or are too many."""
        if self.waiting and (self._wait_seconds > self._budget_seconds or self.waiting >= self._most_waiting):
            self.refused += 1
            return None
        size_bytes = body_bytes + CALL_BYTES
        seconds = size_bytes * self._seconds_per_byte.get(kind, 0.0)
        place = Place(self._clock(), kind, size_bytes, seconds, is_first=not self.waiting)
        self.waiting += 1
        self._wait_seconds += place.seconds
        return place

    def has_expired(self, place: Place) -> bool:
        """Whether who holds a place has waited for too long; may be asked from the thread."""
        return not place.is_first and self._clock() - place.since > self._budget_seconds

    def leave(self, place: Place, work_seconds: float | None) -> None:
        """Give a place back; `work_seconds` tells how long the work itself took, None if it was not done."""
        self.waiting -= 1
        # nothing is left over of the sums of floats
        self._wait_seconds = self._wait_seconds - place.seconds if self.waiting else 0.0
        if work_seconds is not None:
            found = work_seconds / place.size_bytes
            known = self._seconds_per_byte.get(place.kind, found)
            weight = WEIGHT_DOWN if found < known else WEIGHT
            self._seconds_per_byte[place.kind] = known + weight * (found - known)


def overloaded() -> Overloaded:
    """Return the refusal of a service with more to do than it can do in time."""
    return Overloaded(
        [Problem("", "overloaded", "too many requests wait already")],
        detail="More requests wait than can be answered in time; send it again after `Retry-After` seconds.",
        headers=(("Retry-After", RETRY_SECONDS),),
    )


def no_room_for_body() -> Overloaded:
    """Return the refusal of a request whose body would exceed `service.memory.Budget`."""
    return Overloaded(
        [Problem("", "overloaded", "the bodies of other requests hold the memory that there is for bodies")],
        detail="There is no memory for this body at the moment; send it again after `Retry-After` seconds.",
        headers=(("Retry-After", RETRY_SECONDS),),
    )
