"""What is kept of rows answered one by one comes back as it was, from whichever thread."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from model.predictor import Answer
from service.errors import Overloaded
from service.instances import Conversion, Instances
from service.monitor import Served
from service.singles import NUMBERS, Singles

ANSWER = Answer(2, [0.125, 0.25, 0.625], [False, True, True], 0.5, True)
ROW = np.array([[39.0, np.nan]], dtype=np.float32)


def _call(began: float, route: str = "7", **more: Any) -> Served:
    given = {"instances": Instances(ROW, is_single=True), "answers": [ANSWER], **more}
    return Served("rookery", route, 200, "", "id", began, 1.0, 2.0, 3.0, 4.0, 5.0, **given)


def test_what_is_kept_comes_back_once_and_in_order():
    singles = Singles(2, lambda place: int(place[1]))
    for began in (10.0, 20.0):
        assert not singles.note([_call(began)])
    numbers, rows = singles.take()
    assert numbers.T.tolist() == [[7.0, began, 1.0, 2.0, 3.0, 4.0, 5.0, 2.0, 2.0, 0.625, 0.5] for began in (10.0, 20.0)]
    np.testing.assert_array_equal(rows, np.concatenate([ROW, ROW]))
    numbers, rows = singles.take()
    assert (numbers.shape, rows.shape) == ((NUMBERS, 0), (0, 2))


def test_none_is_lost_or_torn_when_threads_note_while_another_takes():
    singles, taken, over = Singles(2, lambda place: int(place[1])), [], threading.Event()

    def note(way: int) -> None:
        for began in range(2_000):
            singles.note([_call(float(began), str(way))])

    def take() -> None:
        while not over.is_set():
            taken.append(singles.take()[0])

    taker = threading.Thread(target=take)
    noters = [threading.Thread(target=note, args=(way,)) for way in range(3)]
    for each in (taker, *noters):
        each.start()
    for each in noters:
        each.join()
    over.set()
    taker.join()
    numbers = np.concatenate([*taken, singles.take()[0]], axis=1)
    for way in range(3):
        # each thread's own in their order
        np.testing.assert_array_equal(numbers[1, numbers[0] == way], np.arange(2_000.0))


OTHERS = {
    "a refusal": {"instances": None, "answers": None},
    "no row": {"answers": []},
    "two rows": {"answers": [ANSWER, ANSWER]},
    "a row of which another is not answered": {"instances": Instances(ROW, False, {1: Overloaded()})},
    "a conversion": {"instances": Instances(ROW, True, conversions={0: (Conversion("a", "in", 1.0, 2.54),)})},
}


@pytest.mark.parametrize("more", OTHERS.values(), ids=OTHERS)
def test_anything_else_is_left_to_others(more):
    singles = Singles(2, lambda place: int(place[1]))
    other, one = _call(1.0, **more), _call(2.0)
    assert [*singles.note([other])] == [other]
    assert singles.take()[1].shape == (0, 2)
    # also where both come together
    assert [*singles.note([one, other, one])] == [other]
    assert singles.take()[0][1].tolist() == [2.0, 2.0]
