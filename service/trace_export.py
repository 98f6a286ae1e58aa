"""Sends the spans of sampled calls to a collector or to Cloud Trace: OTLP over HTTP, from a thread of its own.

OpenTelemetry is imported with the first sampled call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from service.config import Settings
from service.loader import State
from service.monitor import Served
from service.sampled import trace_of
from service.tracing import Sampling, Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

log = logging.getLogger(__name__)

# calls that may wait to be sent; what comes on top takes the place of the oldest
MOST_WAITING = 512
# between two batches
PAUSE_SECONDS = 1.0
# in which a batch must have been taken, further tries included
EXPORT_SECONDS = 5.0
# by which spans may put off the end of the process
FLUSH_SECONDS = 0.5
# between two lines about spans that nobody takes
SILENCE_SECONDS = 60.0
# what the access token is good for: to write traces, and nothing else
SCOPE = "https://www.googleapis.com/auth/trace.append"

Send = Callable[[Sequence["ReadableSpan"]], bool]


class TraceExport:
    """Reads finished calls, see `service.monitor.Consumer`; whatever becomes of the spans, nobody waits for it."""

    def __init__(self, state: State, settings: Settings, pause_seconds: float = PAUSE_SECONDS) -> None:
        """Wait for a sampled call.

        Args:
            state: the model, or why there is none.
            settings: where spans go, and how many.
            pause_seconds: between two batches.
        """
        self._state, self._settings, self._pause_seconds = state, settings, pause_seconds
        self._sampling = Sampling(settings.trace_rate, settings.project)
        self._waiting: deque[tuple[Served, Trace, int]] = deque(maxlen=MOST_WAITING)
        self._lost, self._told_at = 0, -SILENCE_SECONDS
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, calls: Sequence[Served]) -> None:
        """Keep those for the thread that are sampled."""
        for call in calls:
            trace = trace_of(call, self._sampling)
            if trace is not None:
                self._keep(call, trace)

    def work(self) -> None:
        """See `service.monitor.Consumer`: the thread does it."""

    def close(self, timeout_seconds: float = FLUSH_SECONDS) -> None:
        """Send what waits, and give up soon."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _keep(self, call: Served, trace: Trace) -> None:
        """Hand a call to the thread, with its time on a clock that means something elsewhere."""
        began_ns = time.time_ns() - int((time.perf_counter() - call.began) * 1e9)
        self._lost += len(self._waiting) == MOST_WAITING
        self._waiting.append((call, trace, began_ns))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        """Send batch after batch, and what is left in the end."""
        from service.spans import Maker

        maker, reasons = Maker(self._state, self._settings), _Reasons()
        send: Send | None = None
        is_last = False
        while not is_last:
            is_last = self._end.wait(self._pause_seconds)
            # more may be added meanwhile
            sampled = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not sampled:
                continue
            try:
                send = send or _sender(self._settings)
                is_taken = send([span for each in sampled for span in maker.make(*each)])
            except Exception as error:  # noqa: BLE001 - no credentials, no token: predictions go on, and `_tell` says so
                reasons.text, is_taken = f"{type(error).__name__}: {error}", False
            if not is_taken:
                self._lost += len(sampled)
            self._tell(reasons.text)

    def _tell(self, reason: str) -> None:
        """Say how many calls have no spans, and not too often."""
        now = time.monotonic()
        if self._lost and now - self._told_at >= SILENCE_SECONDS:
            lost, self._lost, self._told_at = self._lost, 0, now
            log.warning("trace.lost", extra={"calls": lost, "reason": reason})


class _Reasons(logging.Handler):
    """Keeps what OpenTelemetry last said, in place of a line for every batch."""

    def __init__(self) -> None:
        """Stand before its loggers."""
        super().__init__(logging.WARNING)
        self.text = ""
        theirs = logging.getLogger("opentelemetry")
        theirs.handlers[:] = [self]
        theirs.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self.text = record.getMessage()


def _sender(settings: Settings) -> Send:
    """Return what sends spans, and says whether they were taken."""
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    session = None
    if settings.trace_auth == "google":
        import google.auth
        from google.auth.transport.requests import AuthorizedSession

        session = AuthorizedSession(google.auth.default(scopes=[SCOPE])[0])  # type: ignore[no-untyped-call]
    exporter = OTLPSpanExporter(
        settings.trace_endpoint, timeout=EXPORT_SECONDS, compression=Compression.Gzip, session=session
    )
    return lambda spans: exporter.export(spans) is SpanExportResult.SUCCESS
