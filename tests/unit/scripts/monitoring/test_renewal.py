"""What is there is compared with what is wanted as the platform shows it, and renewed without losing its identity."""

from __future__ import annotations

import pytest

from scripts.monitoring.renewal import as_version_of, is_same


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ({"a": 1}, {"a": 1, "name": "the platform's"}),
        ({"a": 0, "b": False, "c": "", "d": [], "e": {}}, {}),
        ({"a": [{"b": 1, "c": 0}]}, {"a": [{"b": 1, "z": 2}]}),
        ({"a": 0.5}, {"a": 0.5}),
    ],
)
def test_what_is_left_out_or_added_by_the_platform_is_the_same(wanted, there):
    assert is_same(wanted, there)


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": {"b": 1}}, {"a": [1]}),
        ({"a": [1]}, {"a": {"b": 1}}),
        ({"a": 0}, {"a": 1}),
    ],
)
def test_what_says_something_else_is_not_the_same(wanted, there):
    assert not is_same(wanted, there)


def test_a_new_version_keeps_names_etag_and_whether_it_is_switched_off():
    there = {
        "name": "n",
        "etag": "e",
        "enabled": False,
        "mutationRecord": {},
        "conditions": [{"displayName": "A", "name": "n/1"}, {"displayName": "gone", "name": "n/2"}],
    }
    wanted = {"displayName": "d", "conditions": [{"displayName": "A", "x": 1}, {"displayName": "new"}]}
    assert as_version_of(there, wanted) == {
        "displayName": "d",
        "name": "n",
        "etag": "e",
        "enabled": False,
        "conditions": [{"displayName": "A", "x": 1, "name": "n/1"}, {"displayName": "new"}],
    }
    assert as_version_of({"name": "n", "etag": "e"}, {"displayName": "d"}) == {
        "displayName": "d",
        "name": "n",
        "etag": "e",
    }
