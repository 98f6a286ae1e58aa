"""Both headers are understood, and every part of the program decides about a call in the same way."""

from __future__ import annotations

import random

import pytest

from service.tracing import Sampling, Trace, new_trace_id, span_id_of

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OWN = "00000000000000000000000000000001"
NEVER, ALWAYS = Sampling(0.0), Sampling(1.0)

TRACEPARENTS = {
    "sampled": (f"00-{TRACE}-{PARENT}-01", Trace(TRACE, PARENT, True)),
    "not sampled": (f"00-{TRACE}-{PARENT}-00", Trace(TRACE, PARENT, False)),
    "other flags": (f"00-{TRACE}-{PARENT}-fe", Trace(TRACE, PARENT, False)),
    "all flags": (f"00-{TRACE}-{PARENT}-ff", Trace(TRACE, PARENT, True)),
    "a later version": (f"cc-{TRACE}-{PARENT}-01-what.ever", Trace(TRACE, PARENT, True)),
}


@pytest.mark.parametrize(("header", "trace"), TRACEPARENTS.values(), ids=TRACEPARENTS)
@pytest.mark.parametrize("sampling", [NEVER, ALWAYS], ids=["never", "always"])
def test_the_caller_decides(sampling, header, trace):
    assert sampling.trace_of(header, f"{OWN}/1;o=1", "id") == trace


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01 ",
        f"00-{TRACE}-{PARENT}",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        "x" * 10_000,
    ],
)
def test_a_malformed_header_is_as_good_as_none(header):
    assert NEVER.trace_of(header, "", OWN) == Trace(OWN, "", False)
    assert NEVER.trace_of(header, f"{TRACE}/1;o=1", OWN) == Trace(TRACE, "0000000000000001", True)


CLOUD = {
    "sampled": (f"{TRACE}/255;o=1", Trace(TRACE, "00000000000000ff", True)),
    "not sampled": (f"{TRACE}/255;o=0", Trace(TRACE, "00000000000000ff", False)),
    "upper case": (f"{TRACE.upper()}/255;o=1", Trace(TRACE, "00000000000000ff", True)),
    "no span": (f"{TRACE};o=1", Trace(TRACE, "", True)),
    "span 0": (f"{TRACE}/0;o=1", Trace(TRACE, "", True)),
    "the largest span": (f"{TRACE}/{2**64 - 1};o=1", Trace(TRACE, "f" * 16, True)),
    "beyond it": (f"{TRACE}/{2**64};o=1", Trace(TRACE, "", True)),
}


@pytest.mark.parametrize(("header", "trace"), CLOUD.values(), ids=CLOUD)
def test_googles_header_is_understood(header, trace):
    assert NEVER.trace_of("", header, "id") == trace


@pytest.mark.parametrize("header", [TRACE, f"{TRACE}/12"])
def test_googles_header_may_leave_the_decision_to_the_rate(header):
    assert (NEVER.trace_of("", header, "id").is_sampled, ALWAYS.trace_of("", header, "id").is_sampled) == (False, True)


@pytest.mark.parametrize("header", [f"{TRACE}/x;o=1", f"{TRACE[1:]}/1;o=1", f"{'0' * 32}/1;o=1", ";o=1"])
def test_a_malformed_one_of_google_is_as_good_as_none(header):
    assert NEVER.trace_of("", header, OWN) == Trace(OWN, "", False)


def test_without_a_caller_the_rate_decides():
    ids = [f"{random.Random(seed).getrandbits(128):032x}" for seed in range(4_000)]
    kept = [Sampling(0.25).trace_of("", "", one).is_sampled for one in ids]
    assert 900 < sum(kept) < 1_100
    assert kept == [Sampling(0.25).trace_of("", "", one).is_sampled for one in ids]


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_what_is_sampled_may_be_kept(rate):
    sampling, drawn = Sampling(rate), random.Random(3)
    ends = ["", "-00", "-01", "-02", "-0", "x"]
    options = ["", ";o=0", ";o=1", "/3;o=1", "/3", "x;o=0"]
    for _ in range(2_000):
        headers = (
            drawn.choice(["", f"00-{TRACE}-{PARENT}"]) + drawn.choice(ends),
            drawn.choice(["", TRACE]) + drawn.choice(options),
        )
        trace = sampling.trace_of(*headers, f"{drawn.getrandbits(128):032x}")
        assert sampling.may_keep(*headers) or not trace.is_sampled


def test_a_new_trace_has_the_id_of_the_request_where_that_is_one():
    assert new_trace_id(TRACE) == TRACE
    assert new_trace_id("0" * 32) != "0" * 32
    assert len({new_trace_id(given) for given in ("a", "b", "a b", TRACE.upper())}) == 4
    assert all(len(new_trace_id(given)) == 32 for given in ("a", "0" * 32))


def test_the_same_request_id_twice_has_two_spans():
    assert len({span_id_of("a", 1.0), span_id_of("a", 1.0), span_id_of("a", 2.0), span_id_of("b", 1.0)}) == 3
    assert len(span_id_of("a", 1.0)) == 16


def test_a_trace_is_named_with_its_project():
    trace = Trace(TRACE, "", False)
    assert (NEVER.name(trace), Sampling(0, "lab").name(trace)) == (TRACE, f"projects/lab/traces/{TRACE}")
