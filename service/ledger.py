"""Counters that all workers of an instance write and each of them can read, also those of workers that have ended.

One piece of memory, shared with whoever is forked after it was made. Gunicorn's parent process gives each worker a
place of its own, and adds what an ended worker counted to a place that stays: however many workers have come and gone,
there is no more to read. Nothing here needs numpy, as the parent process has none.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# what names the cells of a place, and the cells: far above what any bundle needs, and never touched beyond that
NAMES_BYTES = 1 << 20
CELLS = 1 << 18
CELL_BYTES = 8
# in use (0 or 1), bytes of names, cells that add up, cells of which the earliest place's stay, cells that end with it
HEADER = struct.Struct("5Q")
HEADER_BYTES = 64
# one of them
LENGTH = struct.Struct("Q")
# what a worker tells the others beside its cells: bytes of it, their checksum, and then itself
NOTE_HEADER = struct.Struct("2Q")
NOTE_BYTES = 1 << 18
PLACE_BYTES = HEADER_BYTES + NAMES_BYTES + CELLS * CELL_BYTES + NOTE_HEADER.size + NOTE_BYTES

# places for what ended workers counted, one for each way to name the cells: a fallback has other bins
BASES = 4
# odd while the parent process changes more than one place
VERSION_BYTES = 8
READ_SECONDS = 0.25


class NoRoom(Exception):
    """There are more names or cells than a place holds, or a longer note."""


@dataclass(frozen=True)
class Counted:
    """What one place holds.

    Attributes:
        names: what names the cells, as it was written.
        sums: float64 cells as bytes, that add up over places.
        kept: likewise; of all places those are meant whose first cell is smallest, and not 0.
        gauges: likewise; true only as long as the worker lives, so empty where it has ended.
    """

    names: bytes
    sums: bytes
    kept: bytes
    gauges: bytes


class Place:
    """Where one worker counts."""

    def __init__(self, memory: mmap.mmap, at: int) -> None:
        """Stand at a position in the memory."""
        self._memory, self._at = memory, at

    @property
    def is_taken(self) -> bool:
        """Whether somebody counts, or has counted, here."""
        return self._header()[0] == 1

    @property
    def has_names(self) -> bool:
        """Whether it is known what the cells mean."""
        return self._header()[1] > 0

    def take(self) -> None:
        """Mark an empty place as used."""
        HEADER.pack_into(self._memory, self._at, 1, 0, 0, 0, 0)

    def lay_out(self, names: bytes, sums: int, kept: int, gauges: int) -> memoryview[float]:
        """Say what the cells mean, and return them: float64, the sums first, then what is kept, then the gauges.

        Raises:
            NoRoom: there is not room for all of it.
        """
        if len(names) > NAMES_BYTES or sums + kept + gauges > CELLS:
            raise NoRoom
        begin = self._at + HEADER_BYTES
        self._memory[begin : begin + len(names)] = names
        HEADER.pack_into(self._memory, self._at, 1, 0, sums, kept, gauges)
        # a place without names is not read, so they come last, alone: a whole header is zeros while it is written
        LENGTH.pack_into(self._memory, self._at + LENGTH.size, len(names))
        return self._cells(sums + kept + gauges)

    def read(self) -> Counted:
        """Return a copy of what is counted here."""
        _, name_bytes, *sizes = self._header()
        begin = self._at + HEADER_BYTES
        names = self._memory[begin : begin + name_bytes]
        parts, begin = [], begin + NAMES_BYTES
        for size in sizes:
            parts.append(self._memory[begin : begin + size * CELL_BYTES])
            begin += size * CELL_BYTES
        return Counted(names, *parts)

    def add(self, other: Place) -> None:
        """Add what an ended worker counted; its gauges mean nothing any more."""
        _, _, sums, kept, _ = other._header()
        mine, others = self._cells(sums + kept), other._cells(sums + kept)
        for index in range(sums):
            if others[index]:
                mine[index] += others[index]
        if kept and others[sums] and not 0 < mine[sums] <= others[sums]:
            mine[sums : sums + kept] = others[sums : sums + kept]

    def note(self, text: bytes) -> None:
        """Tell the others something, which is not added up, in place of what was told before.

        Raises:
            NoRoom: it is too long.
        """
        if len(text) > NOTE_BYTES:
            raise NoRoom
        begin = self._note_at + NOTE_HEADER.size
        self._memory[begin : begin + len(text)] = text
        NOTE_HEADER.pack_into(self._memory, self._note_at, len(text), zlib.crc32(text))

    def noted(self) -> bytes:
        """Return what was told last; nothing if it is being written, or its worker has ended."""
        size, checksum = NOTE_HEADER.unpack_from(self._memory, self._note_at)
        begin = self._note_at + NOTE_HEADER.size
        text = self._memory[begin : begin + min(size, NOTE_BYTES)]
        return text if zlib.crc32(text) == checksum else b""

    def has_names_of(self, other: Place) -> bool:
        """Whether the cells mean the same."""
        mine, others = self._header(), other._header()
        begin, end = HEADER_BYTES, HEADER_BYTES + mine[1]
        return (
            mine[1:4] == others[1:4]
            and self._memory[self._at + begin : self._at + end] == self._memory[other._at + begin : other._at + end]
        )

    def be_like(self, other: Place) -> None:
        """Lay the cells out as those of another place, without its gauges."""
        _, name_bytes, sums, kept, _ = other._header()
        begin = other._at + HEADER_BYTES
        self.lay_out(self._memory[begin : begin + name_bytes], sums, kept, 0)

    def clear(self) -> None:
        """Make the place empty."""
        _, _, *sizes = self._header()
        begin, end = self._at + HEADER_BYTES + NAMES_BYTES, sum(sizes) * CELL_BYTES
        self._memory[begin : begin + end] = bytes(end)
        self.note(b"")
        HEADER.pack_into(self._memory, self._at, 0, 0, 0, 0, 0)

    @property
    def _note_at(self) -> int:
        return self._at + PLACE_BYTES - NOTE_BYTES - NOTE_HEADER.size

    def _header(self) -> tuple[int, ...]:
        return HEADER.unpack_from(self._memory, self._at)

    def _cells(self, count: int) -> memoryview[float]:
        begin = self._at + HEADER_BYTES + NAMES_BYTES
        return memoryview(self._memory)[begin : begin + count * CELL_BYTES].cast("d")


class Ledger:
    """All places of an instance."""

    def __init__(self, workers: int = 1) -> None:
        """Make the memory; only what is written takes any.

        Args:
            workers: how many there are at a time, but for those that replace each other.
        """
        # while workers are replaced there are twice as many, and Gunicorn can be told to have more
        count = BASES + 4 * workers + 4
        self._memory = mmap.mmap(-1, VERSION_BYTES + count * PLACE_BYTES)
        places = [Place(self._memory, VERSION_BYTES + index * PLACE_BYTES) for index in range(count)]
        self._bases, self.places = places[:BASES], places[BASES:]
        self.began = time.perf_counter()

    def take(self) -> Place | None:
        """Give a place to a worker that is about to be forked; None if there is none left."""
        found = next((place for place in self.places if not place.is_taken), None)
        if found is not None:
            found.take()
        return found

    def fold(self, place: Place) -> bool:
        """Keep what an ended worker counted, and free its place; False if there is nowhere to keep it."""
        if not place.has_names:
            place.clear()
            return True
        base = next((one for one in self._bases if not one.is_taken or one.has_names_of(place)), None)
        with self._changing():
            if base is not None:
                if not base.is_taken:
                    base.be_like(place)
                base.add(place)
            place.clear()
        return base is not None

    def read(self, wait_seconds: float = READ_SECONDS) -> list[Counted]:
        """Return what all workers have counted, those that have ended first; nothing is missed or there twice.

        Args:
            wait_seconds: how long the parent process may be in the middle of a change before that is looked past.
        """
        deadline = time.monotonic() + wait_seconds
        while True:
            version = self._version()
            found = [place.read() for place in (*self._bases, *self.places) if place.is_taken]
            # a parent process that was stopped meanwhile is not waited for
            if (version % 2 == 0 and version == self._version()) or time.monotonic() > deadline:
                return [one for one in found if one.names]
            os.sched_yield()

    def notes(self) -> list[bytes]:
        """Return what workers that live have told."""
        return [text for place in self.places if (text := place.noted())]

    def _version(self) -> int:
        return int.from_bytes(self._memory[:VERSION_BYTES], "little")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Let nobody read in the middle of a change."""
        version = self._version() | 1
        self._memory[:VERSION_BYTES] = version.to_bytes(VERSION_BYTES, "little")
        try:
            yield
        finally:
            self._memory[:VERSION_BYTES] = (version + 1).to_bytes(VERSION_BYTES, "little")


def alone() -> tuple[Ledger, Place]:
    """Return a ledger that no other process reads, and a place in it."""
    ledger = Ledger()
    place = ledger.places[0]
    place.take()
    return ledger, place


# the instance's, and this worker's place in it, once Gunicorn has set them
current: Ledger | None = None
own: Place | None = None


def share(workers: int) -> Place | None:
    """Give a place to the worker that is about to be forked, in memory made for the first one."""
    global current, own
    if current is None:
        current = Ledger(workers)
    own = current.take()
    return own


def fold(place: Place | None) -> bool:
    """Keep what the worker with a place has counted, in the parent process, after it has ended."""
    return current is None or place is None or current.fold(place)
