"""What is made once for each of a few kinds, and looked up as fast as a dictionary can."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Kind = TypeVar("Kind")
Made = TypeVar("Made")


class Remembered(dict[Kind, Made]):
    """Makes what belongs to a kind at the first time that it is asked for; whoever has many kinds bounds them."""

    def __init__(self, make: Callable[[Kind], Made]) -> None:
        """Begin with none.

        Args:
            make: kind → what belongs to it.
        """
        super().__init__()
        self._make = make

    def __missing__(self, kind: Kind) -> Made:
        """Make it, and remember it."""
        found = self[kind] = self._make(kind)
        return found
