from __future__ import annotations

import pytest

from load.closedloop import answers_of
from load.servers import LoadError

PRINTED = """Running 3s test @ http://127.0.0.1:9123/predict
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     8.18ms    4.42ms  45.51ms   87.41%
    Req/Sec     2.06k   534.85     2.88k    63.33%
  6204 requests in 3.04s, 1.59MB read
{failures}Requests/sec:   2042.77
Transfer/sec:    534.63KB
"""


def test_answers_and_rate_are_read():
    assert answers_of(PRINTED.format(failures="")) == (6204, 2042.77)


@pytest.mark.parametrize(
    "failures",
    ["  Non-2xx or 3xx responses: 1\n", "  Socket errors: connect 0, read 3, write 0, timeout 0\n"],
    ids=["refusals", "socket errors"],
)
def test_failures_make_a_run_worthless(failures: str):
    with pytest.raises(LoadError, match=failures.strip()):
        answers_of(PRINTED.format(failures=failures))


def test_something_else_is_not_read_as_zero():
    with pytest.raises(LoadError, match="unable to connect"):
        answers_of("unable to connect to 127.0.0.1")
