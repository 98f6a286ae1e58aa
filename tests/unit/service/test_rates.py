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


FORWARDED = {
    "nothing forwarded": ("", 1, "10.0.0.9"),
    "no proxy of ours": ("203.0.113.7", 0, "10.0.0.9"),
    "one proxy": ("203.0.113.7", 1, "203.0.113.7"),
    "one proxy and what the caller says": ("1.2.3.4, 203.0.113.7", 1, "203.0.113.7"),
    "one proxy and anything": (f"{'x' * 5000}, ,203.0.113.7 ", 1, "203.0.113.7"),
    "two proxies": ("1.2.3.4, 203.0.113.7, 198.51.100.1", 2, "203.0.113.7"),
    "two proxies of which one wrote": ("203.0.113.7", 2, "10.0.0.9"),
    "an empty end": ("203.0.113.7,", 1, "10.0.0.9"),
    "no address": ("1.2.3.4, unknown", 1, "10.0.0.9"),
    "a long name": ("x" * 5000, 1, "10.0.0.9"),
    "an address with a port": ("203.0.113.7:1234", 1, "10.0.0.9"),
    "an address in another spelling": ("203.0.113.007", 1, "10.0.0.9"),
    "IPv6, by its network": ("2001:DB8:0:1:aaaa:bbbb:cccc:dddd", 1, "2001:db8:0:1::/64"),
    "IPv6 with a zone of any length": ("fe80::1%" + "z" * 5000, 1, "fe80::/64"),
    "IPv4 as IPv6": ("::ffff:203.0.113.7", 1, "203.0.113.7"),
}


@pytest.mark.parametrize(("forwarded", "proxies", "caller"), FORWARDED.values(), ids=FORWARDED)
def test_the_caller_is_whom_our_proxies_name_and_else_the_peer(forwarded, proxies, caller):
    assert caller_of(forwarded, "10.0.0.9", proxies) == caller


def test_what_a_caller_says_of_itself_changes_nothing(answerers):
    limited = Answerer(answerers["penguins"].state, replace(Settings(), rate_limit="2/hour"))
    told = [Call(encode(ADELIE), peer="10.0.0.1", forwarded=f"203.0.113.{number}") for number in range(4)]
    assert [limited.answer(call).status for call in told] == [200, 200, 429, 429]
    believed = Answerer(answerers["penguins"].state, replace(Settings(), rate_limit="2/hour", trusted_proxies=1))
    assert [believed.answer(call).status for call in told] == [200] * 4


def test_only_so_many_callers_are_counted_and_the_silent_ones_are_forgotten_first():
    rates = Rates("1/hour", most_callers=3)
    for number in range(1000):
        rates.refuse_excess(f"10.0.{number // 256}.{number % 256}")
    assert len(rates) == 3
    with pytest.raises(RateLimited):
        rates.refuse_excess("10.0.3.231")
    # forgotten, so counted anew
    rates.refuse_excess("10.0.0.1")


def test_an_answerer_refuses_with_429_what_is_one_too_many(answerers):
    limited = Answerer(answerers["penguins"].state, replace(Settings(), rate_limit="2/hour"))
    replies = [limited.answer(Call(encode(ADELIE), peer="10.0.0.1")) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert codes(replies[2]) == [("", "rate")]
    assert int(dict(replies[2].headers)["Retry-After"]) >= 1
    assert limited.answer(Call(encode(ADELIE), peer="10.0.0.2")).status == 200


def test_without_a_rate_nobody_is_counted(answerer):
    assert {answerer.answer(Call(encode(ADELIE), peer="10.0.0.1")).status for _ in range(50)} == {200}
