"""Every worker reads what the others of its instance say, until they are gone."""

from __future__ import annotations

import os

from service import fleet
from service.fleet import LEAVING, READY, STARTING, UNREADY, Fleet


def test_what_one_says_all_read():
    found = Fleet(2)
    first, second = found.join(), found.join()
    assert found.others(first) == []
    child = os.fork()
    if child == 0:
        second.say(UNREADY, "hash_mismatch")
        os._exit(0)
    os.waitpid(child, 0)
    assert [(one.says, one.code) for one in found.others(first)] == [(UNREADY, "hash_mismatch")]
    assert found.others(second) == []
    second.say(LEAVING)
    assert [(one.says, one.code) for one in found.others(first)] == [(LEAVING, "")]


def test_an_instance_has_served_once_any_worker_was_ready():
    found = Fleet()
    own = found.join()
    own.say(UNREADY, "bundle_missing")
    assert not found.has_served
    own.say(READY)
    found.leave(own)
    assert (found.has_served, own.says) == (True, STARTING)


def test_places_are_used_again_and_too_many_workers_harm_nobody():
    found = Fleet(1)
    members = [found.join() for _ in range(9)]
    assert (members.count(None), len({id(one) for one in members[:8]})) == (1, 8)
    found.leave(members[3])
    assert found.join() is members[3]
    fleet.leave(None)


def test_a_reason_that_is_too_long_is_cut():
    found = Fleet()
    own = found.join()
    own.say(UNREADY, "x" * 500)
    assert own.code == "x" * 63
