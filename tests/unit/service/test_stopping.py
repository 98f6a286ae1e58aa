"""Once the process has been told to stop it is not ready any more."""

from __future__ import annotations

import pytest

from service import stopping
from service.errors import document
from service.stopping import Stopping


@pytest.fixture
def told():
    stopping.told.set()
    yield
    stopping.told.clear()


def test_before_it_is_told_it_may_be_ready():
    stopping.refuse_if_told()


def test_afterwards_it_says_why_not(told):
    with pytest.raises(Stopping) as refused:
        stopping.refuse_if_told()
    found = document(refused.value)
    assert (found["status"], found["type"], found["reason"]) == (503, "urn:rookery:problem:stopping", "stopping")
    assert refused.value.headers == (("Retry-After", "1"),)
