"""How many requests one caller may send, where that is limited at all."""

from __future__ import annotations

import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from threading import Lock

from service.errors import Problem, RateLimited

# callers that are counted, those that were silent for longest are forgotten first; `limits` looks at all of them often
MOST_CALLERS = 4096
# an IPv6 network of this size is one caller: its host part is the caller's to choose (RFC 4291, section 2.5.4)
HOST_BITS = 64


class Rates:
    """Counts the requests of each caller in fixed windows, in this process; `limits` does the counting."""

    def __init__(self, rate: str, most_callers: int = MOST_CALLERS) -> None:
        """Take the rate.

        Args:
            rate: such as `100/second`, as the settings check it.
            most_callers: to be counted at a time.
        """
        # imported only where a rate is set: the start does not wait for it
        from limits import parse
        from limits.storage import MemoryStorage
        from limits.strategies import FixedWindowRateLimiter

        self._text, self._rate, self._most_callers = rate, parse(rate), most_callers
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        # the loop and the worker thread count
        self._lock = Lock()
        self._callers: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """Return how many callers are counted."""
        return len(self._callers)

    def refuse_excess(self, caller: str) -> None:
        """Count one request.

        Args:
            caller: an address, from `caller_of`.

        Raises:
            RateLimited: it is one too many; `Retry-After` tells when the window ends.
        """
        with self._lock:
            self._callers[caller] = None
            self._callers.move_to_end(caller)
            if len(self._callers) > self._most_callers:
                oldest, _ = self._callers.popitem(last=False)
                self._limiter.clear(self._rate, oldest)
            if self._limiter.hit(self._rate, caller):
                return
            ends_at = self._limiter.get_window_stats(self._rate, caller).reset_time
        seconds = max(1, round(ends_at - time.time()))
        raise RateLimited(
            [Problem("", "rate", f"one caller may send {self._text}")],
            detail="This caller sends more than one caller may; send it again after `Retry-After` seconds.",
            headers=(("Retry-After", str(seconds)),),
        )


def caller_of(forwarded: str, peer: str, trusted_proxies: int) -> str:
    """Return who sends a request, as an address or an IPv6 network.

    Args:
        forwarded: the header X-Forwarded-For. Each proxy appends the address that it was called from; those before are
            what the caller says of itself.
        peer: the address at the other end of the connection.
        trusted_proxies: addresses at the end of the header that proxies of ours have written; the first of them is the
            caller's. Where it is 0, or fewer addresses or none stand there, the caller is the peer.
    """
    found = forwarded.rsplit(",", trusted_proxies)[-trusted_proxies:] if trusted_proxies else []
    if len(found) == trusted_proxies > 0 and forwarded:
        try:
            return _network(found[0].strip())
        except ValueError:
            # no address: a proxy of ours does not write that
            return peer
    return peer


def _network(text: str) -> str:
    """Return an address in its one spelling, of IPv6 the network; a ValueError says that it is none."""
    address = ip_address(text)
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> HOST_BITS << HOST_BITS)}/{128 - HOST_BITS}"
