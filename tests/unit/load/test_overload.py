"""What a refusal costs, from what two loads took of the processor."""

from __future__ import annotations

from collections import Counter

import pytest

from load import overload
from load.openloop import Outcome
from load.overload import Loaded


def loaded(answered: int, refused: int, seconds: float, cpu_seconds: float) -> Loaded:
    statuses = Counter({200: answered, 503: refused})
    return Loaded(Outcome(seconds, [0.1] * (answered + refused), statuses=statuses), cpu_seconds)


def test_what_answers_do_not_explain_is_the_refusals_and_the_bound_follows():
    # 100 answers a second of 10 ms; then ten times as many come, and a refusal takes 0.1 ms
    alone = loaded(500, 0, 5, 5.0)
    under = loaded(910, 9_000, 10, 10.0)

    found = overload.refusal(alone, under)

    assert (found["answer_us"], found["refusal_us"]) == (10_000, 100)
    assert found["came"] == pytest.approx(9.91)
    # 0.91 of the capacity was answered, all that there was time for
    assert found["bound"] == pytest.approx(0.91, abs=1e-3)


@pytest.mark.parametrize(
    ("answered", "refused", "cpu", "bound"),
    [(500, 0, 5.0, 0.5), (10, 99_990, 10.0, 0.01), (1_000, 9_000, 9.0, 1.0)],
    ids=["less came than could be answered", "refusing takes nearly all there is", "less than nothing cannot be left"],
)
def test_the_bound_is_a_share(answered: int, refused: int, cpu: float, bound: float):
    found = overload.refusal(loaded(500, 0, 5, 5.0), loaded(answered, refused, 10, cpu))

    assert found["bound"] == pytest.approx(bound, abs=1e-3)
    assert found["refusal_us"] >= 0


def test_columns_hold_every_request_lost_ones_too():
    outcome = Outcome(2, [0.1, 0.2], ends=[0.5, 0.6], wrongs=["", "status 503"], unanswered=1)
    found = overload.columns(outcome)

    assert found["start"] == [0.4, 0.4, 0.0]
    assert found["failure"] == ["", "status 503", "lost: no answer"]
    assert {len(column) for column in found.values()} == {3}
