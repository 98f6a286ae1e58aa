"""What the values of the headers Host and Content-Length must look like, so that every server reads them alike."""

from __future__ import annotations

import functools
import re

# as h11 reads it: a longer length is refused, whatever its zeros
LENGTH_DIGITS = 20

# RFC 3986, 3.2.2 and 3.2.3: a name, an address, and a port of up to five digits
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::([0-9]{0,5}))?")
MAX_PORT = 65_535


@functools.lru_cache
def is_host(value: bytes) -> bool:
    """Whether a value of the header `Host` is a host, which may be empty, with an optional port (RFC 9112, 3.2)."""
    found = HOST.fullmatch(value)
    return found is not None and int(found[1] or 0) <= MAX_PORT
