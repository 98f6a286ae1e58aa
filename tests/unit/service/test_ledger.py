"""Workers share what they count, and nothing is lost or counted twice when they come and go."""

from __future__ import annotations

import os

import pytest

from service.ledger import BASES, CELLS, NOTE_BYTES, NOTE_HEADER, Ledger, NoRoom, Place

SUMS, KEPT, GAUGES = 3, 2, 1


def worker(ledger: Ledger, *counts: float, listening_at: float = 0.0, names: bytes = b"a") -> Place:
    """Take a place and count."""
    place = ledger.take()
    assert place is not None
    cells = place.lay_out(names, SUMS, KEPT, GAUGES)
    cells[:SUMS] = memoryview(bytearray(SUMS * 8)).cast("d")
    for index, count in enumerate(counts):
        cells[index] = count
    cells[SUMS], cells[SUMS + 1], cells[SUMS + KEPT] = listening_at, listening_at / 10, 7.0
    return place


def summed(ledger: Ledger) -> list[float]:
    """Add up what all places hold."""
    # a busy machine may give this process its turns only while the other one changes something
    parts = [memoryview(one.sums).cast("d").tolist() for one in ledger.read(60)]
    return [sum(column) for column in zip(*parts, strict=True)]


def kept(ledger: Ledger) -> list[list[float]]:
    return [memoryview(one.kept).cast("d").tolist() for one in ledger.read()]


def test_a_forked_process_is_read():
    ledger = Ledger()
    place = ledger.take()
    child = os.fork()
    if child == 0:
        place.lay_out(b"a", 1, 0, 0)[0] = 42.0
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert summed(ledger) == [42.0]


def test_what_an_ended_worker_counted_stays_and_its_gauges_do_not():
    ledger = Ledger()
    ended, _ = worker(ledger, 1, 2, 3), worker(ledger, 10, 20, 30)
    assert ledger.fold(ended)
    assert summed(ledger) == [11, 22, 33]
    assert [len(one.gauges) for one in ledger.read()] == [0, 8]


def test_however_many_workers_end_there_is_no_more_to_read():
    ledger = Ledger()
    for _ in range(1000):
        assert ledger.fold(worker(ledger, 1, 2, 3))
    assert summed(ledger) == [1000, 2000, 3000]
    assert len(ledger.read()) == 1


def test_a_place_is_empty_for_the_next_worker():
    ledger = Ledger()
    first = worker(ledger, 1, 2, 3)
    ledger.fold(first)
    second = ledger.take()
    assert second is not None
    assert list(second.lay_out(b"a", SUMS, KEPT, GAUGES)) == [0.0] * (SUMS + KEPT + GAUGES)


@pytest.mark.parametrize("order", [(5.0, 3.0), (3.0, 5.0), (0.0, 3.0), (3.0, 0.0)])
def test_what_is_kept_is_the_earliest(order):
    ledger = Ledger()
    for listening_at in order:
        ledger.fold(worker(ledger, listening_at=listening_at))
    assert kept(ledger) == [[3.0, pytest.approx(0.3)]]


def test_workers_with_other_names_are_kept_apart():
    ledger = Ledger()
    for names in (b"a", b"b", b"a"):
        ledger.fold(worker(ledger, 1, names=names))
    found = {one.names: memoryview(one.sums).cast("d")[0] for one in ledger.read()}
    assert found == {b"a": 2.0, b"b": 1.0}


def test_more_kinds_of_names_than_can_be_kept_are_said_to_be_lost():
    ledger = Ledger()
    assert [ledger.fold(worker(ledger, 1, names=b"%d" % index)) for index in range(BASES + 1)] == [
        *[True] * BASES, False,
    ]  # fmt: skip


def test_a_worker_that_ended_before_it_counted_takes_no_room():
    ledger = Ledger()
    place = ledger.take()
    assert (ledger.fold(place), ledger.read(), place.is_taken) == (True, [], False)


def test_there_is_a_place_for_twice_as_many_workers_and_not_for_any_number():
    ledger = Ledger(workers=4)
    assert [ledger.take() for _ in range(9)].count(None) == 0
    assert any(ledger.take() is None for _ in range(100))


@pytest.mark.parametrize(("names", "sums"), [(b"x" * (2 << 20), 1), (b"a", CELLS + 1)], ids=["names", "cells"])
def test_what_does_not_fit_is_refused(names, sums):
    place = Ledger().take()
    with pytest.raises(NoRoom):
        place.lay_out(names, sums, 0, 0)


def test_what_is_read_while_workers_end_is_whole():
    ledger = Ledger()
    counted = worker(ledger, *[1.0] * SUMS)
    writer = os.fork()
    if writer == 0:
        # the parent process of Gunicorn: folds a worker, and another one has counted as much meanwhile
        for _ in range(3000):
            ledger.fold(counted)
            counted = worker(ledger)
        os._exit(0)
    seen = set()
    while os.waitpid(writer, os.WNOHANG) == (0, 0):
        seen.add(tuple(summed(ledger)))
    assert seen <= {(1.0, 1.0, 1.0)}


def test_a_note_of_a_forked_process_is_read_until_it_has_ended():
    ledger = Ledger()
    place, other = ledger.take(), ledger.take()
    other.note(b"of another")
    child = os.fork()
    if child == 0:
        place.note(b"x" * 1000)
        place.note(b"short")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.notes() == [b"short", b"of another"]
    place.lay_out(b"a", 1, 0, 0)
    assert ledger.fold(place)
    assert ledger.notes() == [b"of another"]
    assert ledger.take().noted() == b""


def test_a_note_that_is_only_half_written_is_not_read():
    ledger = Ledger()
    place = ledger.take()
    place.note(b"a whole note")
    ledger._memory[place._note_at + NOTE_HEADER.size] = ord("b")
    assert (place.noted(), ledger.notes()) == (b"", [])


def test_notes_are_bounded_and_keep_out_of_the_next_place():
    ledger = Ledger()
    first, second = ledger.take(), ledger.take()
    second.note(b"second")
    first.note(b"1" * NOTE_BYTES)
    with pytest.raises(NoRoom):
        first.note(b"2" * (NOTE_BYTES + 1))
    assert ledger.notes() == [b"1" * NOTE_BYTES, b"second"]
    assert (first.has_names, second.has_names) == (False, False)
