"""What is computed can be read by the parent process, also after the worker is gone."""

from __future__ import annotations

import os
import signal
import threading

from service import underway
from service.underway import ID_LENGTH, SLOTS, UnderWay


def test_what_begins_is_under_way_until_it_ends():
    found = UnderWay()
    assert found.request_ids() == []
    found.begin("first")
    assert found.request_ids() == ["first"]
    found.begin("2nd")
    assert found.request_ids() == ["2nd"]
    found.end()
    assert (found.request_ids(), found.computations()) == ([], [])


def test_ending_what_never_began_is_nothing():
    found = UnderWay()
    found.end()
    assert found.request_ids() == []


def test_each_computation_of_a_thread_has_its_own_number():
    found = UnderWay()
    found.begin("same")
    (first,) = found.computations()
    found.end()
    found.begin("same")
    (second,) = found.computations()
    assert (first.request_id, second.request_id) == ("same", "same")
    assert first.number < second.number
    assert (first.thread, first.native_id) == (threading.get_ident(), threading.get_native_id())


def test_the_longest_id_fits_and_a_longer_one_is_cut():
    found = UnderWay()
    found.begin("x" * ID_LENGTH + "y")
    assert found.request_ids() == ["x" * ID_LENGTH]


def test_each_thread_has_a_place_and_too_many_harm_nobody():
    found = UnderWay()
    begun, over = threading.Barrier(SLOTS + 3), threading.Event()

    def compute(name: str) -> None:
        found.begin(name)
        begun.wait(60)
        over.wait(60)

    threads = [threading.Thread(target=compute, args=(f"id-{number}",)) for number in range(SLOTS + 2)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    names = found.request_ids()
    over.set()
    for thread in threads:
        thread.join(60)
    assert len(names) == SLOTS
    assert len(set(names)) == SLOTS


def test_the_parent_reads_what_a_killed_child_computed():
    found = underway.share()
    child = os.fork()
    if child == 0:
        underway.begin("lost")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (found.request_ids(), found.is_finished) == (["lost"], False)
    found.close()
    underway.share()


def test_the_parent_knows_that_a_child_ended_in_good_order():
    found = underway.share()
    child = os.fork()
    if child == 0:
        assert underway.begin("done") == "done"
        underway.end()
        found.finish()
        os._exit(0)
    os.waitpid(child, 0)
    assert (found.request_ids(), found.is_finished) == ([], True)
    found.close()
    underway.share()
