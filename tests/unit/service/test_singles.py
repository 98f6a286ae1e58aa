"""What is kept of rows answered one by one comes back as it was, from whichever thread."""

from __future__ import annotations

import threading

import numpy as np

from model.predictor import Answer
from service.monitor import Served
from service.singles import NUMBERS, Singles

ANSWER = Answer(2, [0.125, 0.25, 0.625], [False, True, True], 0.5, True)
ROW = np.array([[39.0, np.nan]], dtype=np.float32)


def _call(began: float) -> Served:
    return Served("rookery", "/predict", 200, "", "id", began, 1.0, 2.0, 3.0, 4.0, 5.0)


def test_what_is_kept_comes_back_once_and_in_order():
    singles = Singles(2)
    for began in (10.0, 20.0):
        singles.note(7, _call(began), ANSWER, ROW)
    numbers, rows = singles.take()
    assert numbers.T.tolist() == [[7.0, began, 1.0, 2.0, 3.0, 4.0, 5.0, 2.0, 2.0, 0.625, 0.5] for began in (10.0, 20.0)]
    np.testing.assert_array_equal(rows, np.concatenate([ROW, ROW]))
    numbers, rows = singles.take()
    assert (numbers.shape, rows.shape) == ((NUMBERS, 0), (0, 2))


def test_none_is_lost_or_torn_when_threads_note_while_another_takes():
    singles, taken, over = Singles(2), [], threading.Event()

    def note(way: int) -> None:
        for began in range(2_000):
            singles.note(way, _call(float(began)), ANSWER, ROW)

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
