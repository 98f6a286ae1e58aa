"""Lately predicted classes are known, each once and not for ever."""

from __future__ import annotations

import json

import pytest

from model.manifest import example
from service.answer import Answerer, Call
from service.config import Settings
from service.monitor import Monitor
from service.recent import MOST_ROWS_EACH, Recent


def _asked(known: Answerer, recent: Recent, bodies: dict[str, object], query: str = "") -> None:
    answerer = Answerer(known.state, Settings(), Monitor([recent]))
    for request_id, body in bodies.items():
        answerer.answer(Call(json.dumps(body).encode(), query, request_id=request_id))
    answerer.monitor.flush()


@pytest.fixture
def row(answerer: Answerer) -> dict[str, object]:
    """An ordinary penguin."""
    return dict(example(answerer.require_model().predictor.manifest))


def test_a_prediction_is_known_once(answerer, row):
    recent = Recent()
    _asked(answerer, recent, {"a": row})
    assert [recent.pop("a", 0), recent.pop("a", 0), recent.pop("b", 0)] == [0, None, None]


def test_of_a_batch_every_answered_row_is_known(answerer, row):
    recent = Recent()
    bad = {**row, "bill_depth_mm": "wide"}
    _asked(answerer, recent, {"a": {"instances": [row, bad, row]}}, "on_error=row")
    assert [recent.pop("a", place) for place in range(4)] == [0, None, 0, None]


@pytest.mark.parametrize("count", [MOST_ROWS_EACH, MOST_ROWS_EACH + 1])
def test_a_large_batch_is_not_remembered(answerer, row, count):
    recent = Recent()
    _asked(answerer, recent, {"a": {"instances": [row] * count}})
    assert (recent.pop("a", 0) is not None) == (count == MOST_ROWS_EACH)


def test_the_oldest_are_forgotten_first(answerer, row):
    recent = Recent(most_rows=10)
    _asked(answerer, recent, {"first": row, "second": {"instances": [row] * 5}, "third": {"instances": [row] * 5}})
    assert [recent.pop(name, 0) for name in ("first", "second", "third")] == [None, 0, 0]
    _asked(answerer, recent, {str(number): row for number in range(30)})
    assert [recent.pop(name, 0) for name in ("third", "19", "20", "29")] == [None, None, 0, 0]


def test_the_same_id_again_stands_for_the_last_request(answerer, row):
    recent = Recent(most_rows=3)
    for _ in range(5):
        _asked(answerer, recent, {"a": {"instances": [row, row]}})
    assert [recent.pop("a", place) for place in range(3)] == [0, 0, None]


def test_who_tells_about_everything_leaves_nothing_behind(answerer, row):
    recent = Recent()
    for number in range(50):
        _asked(answerer, recent, {str(number): {"instances": [row, row]}})
        assert [recent.pop(str(number), place) for place in range(2)] == [0, 0]
    assert len(recent) == 0


def test_a_batch_of_which_nothing_was_answered_leaves_nothing_behind(answerer, row):
    recent = Recent()
    _asked(answerer, recent, {str(number): {"instances": [{}]} for number in range(50)}, "on_error=row")
    assert len(recent) == 0
    _asked(answerer, recent, {"good": {"instances": [{}, row]}}, "on_error=row")
    assert (len(recent), recent.pop("good", 1)) == (1, 0)
