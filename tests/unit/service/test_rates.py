"""One caller's rate, where it is limited."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.answer import Answerer
from service.config import Settings
from service.errors import RateLimited
from service.form import Call
from service.rates import Rates, caller_of
from tests.unit.service.calls import ADELIE, codes, encode


def test_so_many_are_taken_and_the_next_is_refused_until_the_window_ends():
    rates = Rates("3/hour")
    for _ in range(3):
        rates.refuse_excess("10.0.0.1")
    with pytest.raises(RateLimited) as refused:
        rates.refuse_excess("10.0.0.1")
    [(name, seconds)] = refused.value.headers
    assert (name, 1 <= int(seconds) <= 3600) == ("Retry-After", True)


def test_each_caller_is_counted_alone():
    rates = Rates("1/hour")
    for caller in ("10.0.0.1", "10.0.0.2", "2001:db8::1"):
        rates.refuse_excess(caller)
    with pytest.raises(RateLimited):
        rates.refuse_excess("10.0.0.2")


@pytest.mark.parametrize(
    ("forwarded", "caller"),
    [
        ("", "10.0.0.9"),
        ("203.0.113.7", "203.0.113.7"),
        ("1.2.3.4, 203.0.113.7", "203.0.113.7"),
        ("anything the caller says,203.0.113.7 ", "203.0.113.7"),
        ("203.0.113.7,", "10.0.0.9"),
    ],
)
def test_the_last_address_forwarded_is_the_caller(forwarded, caller):
    assert caller_of(forwarded, "10.0.0.9") == caller


def test_an_answerer_refuses_with_429_what_is_one_too_many(answerers):
    limited = Answerer(answerers["penguins"].state, replace(Settings(), rate_limit="2/hour"))
    replies = [limited.answer(Call(encode(ADELIE), peer="10.0.0.1")) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert codes(replies[2]) == [("", "rate")]
    assert int(dict(replies[2].headers)["Retry-After"]) >= 1
    assert limited.answer(Call(encode(ADELIE), peer="10.0.0.2")).status == 200


def test_without_a_rate_nobody_is_counted(answerer):
    assert {answerer.answer(Call(encode(ADELIE), peer="10.0.0.1")).status for _ in range(50)} == {200}
