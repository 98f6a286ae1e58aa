"""How long a client may take, and how slowly what it sends or reads may move."""

from __future__ import annotations

from dataclasses import dataclass

from service.config import Settings


@dataclass(frozen=True)
class Deadlines:
    """What a client may take, in seconds, and how fast a long body or answer must move.

    Attributes:
        head_seconds: from the first byte of a request to the end of its headers, and from the connection to that byte.
        body_seconds: without a byte of the body; and the window in which `min_rate` must hold.
        idle_seconds: between two requests.
        write_seconds: the window in which an answer must move at `min_rate`.
        min_rate: bytes a second.
    """

    head_seconds: float = 5
    body_seconds: float = 8
    idle_seconds: float = 5
    write_seconds: float = 7
    min_rate: int = 1024

    @classmethod
    def of(cls, settings: Settings) -> Deadlines:
        """Return the deadlines of the settings."""
        return cls(
            settings.header_seconds,
            settings.body_seconds,
            settings.idle_seconds,
            settings.write_seconds,
            settings.min_bytes_per_second,
        )


class Window:
    """Whether something moves fast enough, looked at from time to time."""

    __slots__ = ("_count", "_seconds", "_since")

    def __init__(self, now: float, count: int, seconds: float) -> None:
        """Begin a window of some seconds, with what has moved until now."""
        self._since, self._count, self._seconds = now, count, seconds

    def is_too_slow(self, now: float, count: int, min_rate: int) -> bool:
        """Whether less than the rate has moved in a whole window; begin the next one if not."""
        if now - self._since < self._seconds:
            return False
        if count - self._count < min_rate * (now - self._since):
            return True
        self._since, self._count = now, count
        return False
