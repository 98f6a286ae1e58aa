"""Negative cases that come with their control: a valid input, and the one change that makes it wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        control: what is answered 200.
        fault: the same with the fault in it, which is not.
    """

    control: bytes
    fault: bytes


def fault(control: bytes, right: bytes, wrong: bytes) -> Case:
    """Return a case in which the only occurrence of some bytes is replaced.

    Raises:
        AssertionError: the bytes do not occur exactly once, or nothing would change.
    """
    assert control.count(right) == 1, (right, control[:200])
    assert right != wrong
    return Case(control, control.replace(right, wrong))
