"""Deadlines come from the settings; a window tells whether something moves fast enough."""

from __future__ import annotations

from service.config import Settings
from service.deadlines import Deadlines, Window


def test_the_defaults_are_those_of_the_settings():
    assert Deadlines.of(Settings()) == Deadlines()


def test_every_deadline_is_its_own_setting():
    settings = Settings(header_seconds=1, body_seconds=2, idle_seconds=3, write_seconds=4, min_bytes_per_second=5)
    assert Deadlines.of(settings) == Deadlines(1, 2, 3, 4, 5)


def test_nobody_is_too_slow_before_the_window_is_over():
    assert not Window(10.0, 0, 8).is_too_slow(17.9, 0, 100)


def test_at_the_end_of_the_window_the_rate_must_have_been_kept():
    assert Window(10.0, 50, 8).is_too_slow(18.0, 849, 100)
    assert not Window(10.0, 50, 8).is_too_slow(18.0, 850, 100)


def test_what_was_fast_once_must_stay_so():
    window = Window(0.0, 0, 8)
    assert not window.is_too_slow(8.0, 1_000_000, 100)
    assert not window.is_too_slow(15.9, 1_000_000, 100)
    assert window.is_too_slow(16.0, 1_000_000, 100)
