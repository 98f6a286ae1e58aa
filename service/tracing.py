"""Which trace a call belongs to, and whether that is kept: the caller's word, else a share of all.

https://www.w3.org/TR/trace-context/ and https://cloud.google.com/trace/docs/trace-context
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

# version, trace, parent, flags; what later versions append is not for us
W3C = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# the span is a decimal number; `o` is left out by a caller that decides nothing
CLOUD = re.compile(r"(?!0{32})([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]))?")
OWN_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")

ID_SPACE = 1 << 64


class Trace(NamedTuple):
    """Where a call stands in a trace; ids in lower-case hex, as they are on the wire.

    Attributes:
        trace_id: 32 digits.
        parent_id: 16 digits, the caller's span; empty if it named none.
        is_sampled: whether spans are exported.
    """

    trace_id: str
    parent_id: str
    is_sampled: bool


class Sampling:
    """Decides about calls: the same call always in the same way, so that logs, spans and exemplars agree."""

    def __init__(self, rate: float, project: str = "") -> None:
        """Keep a share of the calls about which their callers say nothing.

        Args:
            rate: 0..1.
            project: Google Cloud project that the traces are in, empty if they are in none.
        """
        self._below = round(rate * ID_SPACE)
        self._prefix = f"projects/{project}/traces/" if project else ""

    def trace_of(self, traceparent: str, cloud_trace: str, request_id: str) -> Trace:
        """Return the trace of a call.

        Args:
            traceparent: W3C's header as it came; one that is not well-formed is as good as none.
            cloud_trace: Google's header `X-Cloud-Trace-Context` as it came, read if the other says nothing.
            request_id: as answered; without a caller's trace the id of a new one comes from it.
        """
        if traceparent:
            found = W3C.fullmatch(traceparent)
            # version 00 has nothing after the flags
            if found is not None and not (found[1] == "00" and found[5]):
                return Trace(found[2], found[3], int(found[4], 16) & 1 == 1)
        if cloud_trace:
            found = CLOUD.fullmatch(cloud_trace)
            if found is not None:
                trace_id, span, option = found[1].lower(), int(found[2] or 0), found[3]
                parent_id = f"{span:016x}" if 0 < span < ID_SPACE else ""
                return Trace(trace_id, parent_id, self._keeps(trace_id) if option is None else option == "1")
        trace_id = new_trace_id(request_id)
        return Trace(trace_id, "", self.may_keep(traceparent, cloud_trace) and self._keeps(trace_id))

    def may_keep(self, traceparent: str, cloud_trace: str) -> bool:
        """Whether a call may be sampled, told from the ends of the headers: most calls are not, and cost no more."""
        if traceparent and traceparent[-3:] != "-00":
            return True
        if cloud_trace:
            return cloud_trace[-4:] != ";o=0"
        return self._below > 0 and not traceparent

    def name(self, trace: Trace) -> str:
        """Return a trace's name as Cloud Logging links it; the bare id without a project."""
        return self._prefix + trace.trace_id

    def _keeps(self, trace_id: str) -> bool:
        """Whether a trace is among the share that is kept, the same everywhere (as OpenTelemetry's ratio sampler)."""
        return self._below > 0 and int(trace_id[16:], 16) < self._below


def new_trace_id(request_id: str) -> str:
    """Return the id of a trace that begins here: the request id if it can be one, else its hash."""
    if OWN_ID.fullmatch(request_id):
        return request_id
    return hashlib.blake2b(request_id.encode(), digest_size=16).hexdigest()


def span_id_of(request_id: str, began: float) -> str:
    """Return the id of a call's own span, 16 digits.

    Args:
        request_id: as answered; a caller may send the same one twice.
        began: when it was begun to be answered, in seconds of any clock.
    """
    return hashlib.blake2b(f"{request_id} {began!r}".encode(), digest_size=8).hexdigest()
