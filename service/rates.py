"""How many requests one caller may send, where that is limited at all."""

from __future__ import annotations

import time

from service.errors import Problem, RateLimited


class Rates:
    """Counts the requests of each caller in fixed windows, in this process; `limits` does the counting."""

    def __init__(self, rate: str) -> None:
        """Take the rate.

        Args:
            rate: such as `100/second`, as the settings check it.
        """
        # imported only where a rate is set: the start does not wait for it
        from limits import parse
        from limits.storage import MemoryStorage
        from limits.strategies import FixedWindowRateLimiter

        self._text, self._rate = rate, parse(rate)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def refuse_excess(self, caller: str) -> None:
        """Count one request.

        Args:
            caller: an address, from `caller_of`.

        Raises:
            RateLimited: it is one too many; `Retry-After` tells when the window ends.
        """
        if self._limiter.hit(self._rate, caller):
            return
        ends_at = self._limiter.get_window_stats(self._rate, caller).reset_time
        seconds = max(1, round(ends_at - time.time()))
        raise RateLimited(
            [Problem("", "rate", f"one caller may send {self._text}")],
            detail="This caller sends more than one caller may; send it again after `Retry-After` seconds.",
            headers=(("Retry-After", str(seconds)),),
        )


def caller_of(forwarded: str, peer: str) -> str:
    """Return who sends a request.

    Args:
        forwarded: the header X-Forwarded-For. Only its last address was written by the proxy in front of the service;
            those before it are what the caller says of itself.
        peer: the address at the other end of the connection.
    """
    return forwarded.rpartition(",")[2].strip() or peer
