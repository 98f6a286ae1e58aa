"""What goes back to a caller, whatever door it came through."""

from __future__ import annotations

from typing import NamedTuple

Headers = tuple[tuple[str, str], ...]

JSON = "application/json"
PROBLEM = "application/problem+json"


class Reply(NamedTuple):
    """A whole HTTP answer.

    Attributes:
        status: the HTTP status code.
        headers: name and value, without `Content-Length`.
        body: the exact bytes.
    """

    status: int
    headers: Headers
    body: bytes
