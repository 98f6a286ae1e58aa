"""The queue before the answers, with a clock and a loop that the tests turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import CALL_BYTES, RESERVE, ROUNDS, SLICE_SECONDS, TAKING_SECONDS, Admission, Lane, overloaded

BUDGET = 0.25
MOST = 20


class Loop:
    """Time that passes only by work, and callbacks that come in the next turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self._ready: list[Callable[[], None]] = []

    def clock(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._ready.append(callback)

    @property
    def is_idle(self) -> bool:
        return not self._ready

    def turn(self) -> None:
        ready, self._ready = self._ready, []
        for callback in ready:
            callback()

    def settle(self) -> None:
        while not self.is_idle:
            self.turn()


class Door:
    """Requests that come in at one place, and what became of each."""

    def __init__(self, most_waiting: int = MOST) -> None:
        self.loop = Loop()
        self.admission = Admission(BUDGET, most_waiting, self.loop.clock, self.loop.call_soon)
        self.ends: list[tuple[int, str]] = []

    def ask(self, number: int, seconds: float) -> str:
        """Ask as a connection does; says what happens at once."""
        if self.admission.is_free():
            begin = self.loop.now
            self.loop.now += seconds
            self.admission.took(self.loop.now - begin)
            word = "answered"
        elif self.admission.enter(Request(self, number, seconds)):
            return "waits"
        else:
            word = "refused"
        self.ends.append((number, word))
        return word

    @property
    def answered(self) -> list[int]:
        return [number for number, word in self.ends if word == "answered"]


class Request:
    """A request that waits."""

    def __init__(self, door: Door, number: int, seconds: float) -> None:
        self._door, self._number, self._seconds = door, number, seconds

    def take_turn(self, has_expired: bool) -> None:
        if not has_expired:
            self._door.loop.now += self._seconds
        self._door.ends.append((self._number, "expired" if has_expired else "answered"))


@pytest.fixture
def door() -> Door:
    return Door()


def test_requests_are_answered_on_the_spot_while_the_turn_is_short(door):
    assert [door.ask(n, SLICE_SECONDS / 4) for n in range(6)] == ["answered"] * 4 + ["waits"] * 2


def test_the_first_of_a_turn_is_answered_however_long_it_takes(door):
    assert door.ask(0, 1.0) == "answered"
    door.loop.settle()
    assert door.ask(1, 1.0) == "answered"


def test_nobody_overtakes_those_who_wait(door):
    for number in range(10):
        door.ask(number, SLICE_SECONDS)
    door.loop.turn()
    door.ask(10, 0.0)
    door.loop.settle()
    assert door.answered == list(range(11))


def test_one_turn_answers_for_one_slice(door):
    for number in range(20):
        door.ask(number, SLICE_SECONDS / 5)
    assert len(door.answered) == 5
    door.loop.turn()
    # the last one might not have fitted in
    assert len(door.answered) in (9, 10)


def test_a_request_that_fills_a_slice_has_a_turn_of_its_own(door):
    for number in range(4):
        door.ask(number, SLICE_SECONDS * 0.9)
    door.loop.settle()
    before = len(door.answered)
    for number in range(4, 8):
        door.ask(number, SLICE_SECONDS * 0.9)
    door.loop.turn()
    assert len(door.answered) - before <= 3


def test_the_budget_bounds_the_queue():
    door = Door(most_waiting=1_000)
    words = [door.ask(n, 0.01) for n in range(100)]
    assert words.count("waits") == pytest.approx(BUDGET * (1 - RESERVE) / 0.01, abs=1)
    assert words[-1] == "refused"
    assert door.admission.refused == words.count("refused")


def test_the_number_bounds_the_queue(door):
    words = [door.ask(n, 0.006 if n == 0 else 0.0001) for n in range(100)]
    assert (words.count("waits"), door.admission.waiting) == (MOST, MOST)


def test_who_has_waited_for_too_long_is_not_answered(door):
    door.ask(0, 0.02)
    door.ask(1, 0.5)
    door.ask(2, 0.01)
    door.loop.settle()
    assert door.ends == [(0, "answered"), (1, "answered"), (2, "expired")]
    assert door.admission.refused == 1


def test_a_turn_that_blocked_the_loop_counts_as_waiting(door):
    door.ask(0, SLICE_SECONDS)
    door.ask(1, BUDGET * 1.1)
    # it came while request 1 was answered, and is read only afterwards
    door.loop.turn()
    assert door.ask(2, 0.01) in ("waits", "refused")
    door.loop.settle()
    assert (2, "answered") not in door.ends


def test_estimates_include_what_the_loop_does_between_the_turns(door):
    for number in range(4):
        door.ask(number, SLICE_SECONDS)
    while door.admission.waiting:
        door.loop.turn()
        # reading and refusing
        door.loop.now += 0.015
    door.ask(98, SLICE_SECONDS)
    door.ask(99, SLICE_SECONDS)
    assert door.admission.wait_seconds > SLICE_SECONDS * 1.5


def test_the_first_answer_is_the_first_estimate(door):
    door.admission.took(0.02)
    door.ask(0, SLICE_SECONDS)
    door.ask(1, 0.0)
    assert door.admission.wait_seconds == pytest.approx(0.02, rel=0.2)


def test_after_a_stall_it_is_soon_as_before(door):
    door.ask(0, 5.0)
    for number in range(1, 100):
        door.loop.settle()
        door.ask(number, 0.0001)
    door.loop.settle()
    assert door.answered == list(range(100))
    assert [door.ask(n, 0.0001) for n in range(100, 160)].count("refused") == 0


def test_the_loop_goes_round_between_two_slices(door):
    for number in range(10):
        door.ask(number, SLICE_SECONDS)
    door.loop.turn()
    before = len(door.answered)
    for _ in range(ROUNDS - 1):
        door.loop.turn()
    assert len(door.answered) == before
    door.loop.turn()
    assert len(door.answered) == before + 1


def test_the_loop_goes_round_as_long_as_connections_come_up_to_a_bound(door):
    for number in range(10):
        door.ask(number, SLICE_SECONDS)
    door.loop.turn()
    before, rounds, each = len(door.answered), 0, TAKING_SECONDS / 16
    while len(door.answered) == before:
        door.admission.connected()
        door.loop.now += each
        door.loop.turn()
        rounds += 1
    assert rounds == 16
    before = len(door.answered)
    door.admission.connected()
    for _ in range(ROUNDS):
        door.loop.turn()
    assert len(door.answered) == before
    door.loop.turn()
    assert len(door.answered) == before + 1


def test_an_empty_queue_leaves_the_loop_alone(door):
    for number in range(5):
        door.ask(number, SLICE_SECONDS)
    door.loop.settle()
    assert (door.admission.waiting, door.loop.is_idle) == (0, True)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from([0.0, 0.0001, 0.002, 0.005, 0.03, 0.3])),
        st.tuples(st.just("turn"), st.just(0.0)),
        st.tuples(st.just("pass"), st.sampled_from([0.001, 0.05, 1.0])),
    ),
    max_size=200,
)


@given(steps=STEPS, most_waiting=st.integers(1, 8))
def test_nothing_is_lost_or_answered_twice_and_the_order_is_kept(steps, most_waiting):
    door, asked = Door(most_waiting), 0
    for what, seconds in steps:
        if what == "ask":
            door.ask(asked, seconds)
            asked += 1
        elif what == "turn":
            door.loop.turn()
        else:
            door.loop.now += seconds
        assert door.admission.waiting <= most_waiting
    door.loop.settle()
    assert sorted(number for number, _ in door.ends) == list(range(asked))
    assert door.answered == sorted(door.answered)
    assert door.admission.refused == asked - len(door.answered)


# --- the lane before the worker thread


def lane(most_waiting: int = MOST) -> tuple[Lane, Loop]:
    loop = Loop()
    return Lane(BUDGET, most_waiting, loop.clock), loop


def work(one: Lane, kind: str, body_bytes: int, seconds: float) -> None:
    place = one.enter(kind, body_bytes)
    assert place is not None
    one.leave(place, seconds)


def test_an_empty_lane_takes_everyone():
    one, _ = lane()
    for _ in range(10):
        work(one, "batch", 1 << 20, 3.0)
    assert one.enter("batch", 8 << 20) is not None


def test_the_lane_is_bounded_by_the_time_of_those_before():
    one, _ = lane()
    work(one, "batch", 1 << 20, 0.1)
    entered = [one.enter("batch", 1 << 20) for _ in range(10)]
    assert [place is not None for place in entered] == [True] * 3 + [False] * 7
    assert (one.waiting, one.refused) == (3, 7)


def test_the_lane_is_bounded_by_number():
    one, _ = lane(most_waiting=4)
    assert sum(one.enter("batch", 0) is not None for _ in range(10)) == 4


def test_small_explanations_do_not_make_batches_look_slow():
    one, _ = lane()
    for _ in range(50):
        work(one, "explanation", 100, 0.02)
    work(one, "batch", 1 << 20, 0.05)
    one.enter("explanation", 100)
    one.enter("batch", 1 << 20)
    assert one.enter("batch", 1 << 20) is not None


def test_a_call_costs_something_whatever_its_size():
    one, _ = lane()
    work(one, "explanation", 0, 0.1)
    place = one.enter("explanation", 0)
    assert place is not None
    assert (place.size_bytes, place.seconds) == (CALL_BYTES, pytest.approx(0.1))


def test_a_slow_first_call_is_soon_forgotten():
    one, _ = lane()
    work(one, "explanation", 100, 1.0)
    for _ in range(6):
        work(one, "explanation", 100, 0.01)
    assert sum(one.enter("explanation", 100) is not None for _ in range(10)) >= 8


def test_who_has_waited_in_the_lane_for_too_long_has_expired():
    one, loop = lane()
    alone, second = one.enter("batch", 1), one.enter("batch", 1)
    assert alone is not None
    assert second is not None
    assert not one.has_expired(second)
    loop.now += BUDGET + 0.001
    assert one.has_expired(second)
    # nobody else's work made this one wait
    assert not one.has_expired(alone)


def test_work_that_was_not_done_teaches_nothing():
    one, _ = lane()
    work(one, "batch", 1 << 20, 0.1)
    place = one.enter("batch", 1 << 20)
    assert place is not None
    one.leave(place, None)
    after = one.enter("batch", 1 << 20)
    assert (after is not None and after.seconds, one.waiting) == (pytest.approx(0.1, rel=0.01), 1)


def test_the_refusal_says_when_to_come_again():
    assert (overloaded().status, overloaded().headers) == (503, (("Retry-After", "1"),))


def test_a_stall_is_no_pace():
    door = Door(most_waiting=100)
    for number in range(20):
        door.ask(number, 0.001)
        door.loop.settle()
    door.ask(20, 0.006)
    door.ask(21, 0.001)
    # the process is not run for a while, in the middle of a turn
    door.loop.now += 0.14
    door.loop.turn()
    for _ in range(ROUNDS + 1):
        door.loop.turn()
    # what has come meanwhile, at 300 a second
    words = [door.ask(number, 0.001) for number in range(22, 64)]

    assert "refused" not in words
    assert 0 < door.admission.wait_seconds < BUDGET * (1 - RESERVE)


def test_who_comes_one_by_one_after_a_long_answer_on_the_spot_waits(door):
    assert door.ask(0, 0.02) == "answered"
    words = []
    for number in range(1, 60):
        # uvloop takes one new connection a round
        door.loop.turn()
        words.append(door.ask(number, 0.02))

    assert words[0] == "waits"
    assert "refused" in words
    assert "answered" not in words
