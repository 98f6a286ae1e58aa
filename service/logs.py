"""One record a line on standard output, written by a thread of its own: a log that nobody reads stops nobody.

A line is a JSON object, unless a person looks on at a terminal.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

from service.structured import JsonFormatter

# what may wait for a log that is not read
WAITING_BYTES = 4 << 20
DRAIN_SECONDS = 0.5

_writer: Writer | None = None
_form = "json"


class Writer(logging.Handler):
    """Hands lines to a thread that writes them; what does not fit while the log is not read is counted, not kept."""

    def __init__(self, stream: TextIO | None, waiting_bytes: int = WAITING_BYTES) -> None:
        """Start the thread.

        Args:
            stream: where to; its file descriptor is written to directly, as a lock on the stream would outlive exit.
            waiting_bytes: how much may wait.
        """
        super().__init__()
        self.stream, self._write = stream, _writer_to(stream)
        self._limit, self._waiting_bytes = waiting_bytes, 0
        self._lines: deque[bytes] = deque()
        self._is_writing = self._is_closed = False
        self._changed = threading.Condition()
        self.dropped = 0
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record. Never waits for the log, never raises."""
        try:
            line = self.format(record).encode(errors="replace") + b"\n"
        except Exception:  # noqa: BLE001 - a log line must not fail because of what is logged
            line = _line("ERROR", "log.record_failed")
        with self._changed:
            if self._waiting_bytes + len(line) > self._limit:
                self.dropped += 1
                return
            self._lines.append(line)
            self._waiting_bytes += len(line)
            self._changed.notify_all()

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until everything is written; says whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._is_writing, timeout_seconds)

    def close(self) -> None:
        """Let the thread end once everything is written."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        super().close()

    def _run(self) -> None:
        """Write line after line."""
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._is_closed)
                if not self._lines:
                    return
                line = self._lines.popleft()
                self._waiting_bytes -= len(line)
                self._is_writing = True
                dropped, self.dropped = self.dropped, 0
            self._write(line)
            if dropped:
                self._write(_line("WARNING", "log.dropped", lines=dropped))


def _line(severity: str, message: str, **extra: object) -> bytes:
    """Return a line that no logger was asked for."""
    given = {"levelname": severity, "msg": message, "name": __name__, **extra}
    return formatter(sys.stdout).format(logging.makeLogRecord(given)).encode(errors="replace") + b"\n"


def _writer_to(stream: TextIO | None) -> Callable[[bytes], None]:
    """Return what writes all of some bytes; a log that is closed takes nothing, and that is all that happens."""
    if stream is None:
        return lambda _: None
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return lambda data: _write_text(stream, data)
    return lambda data: _write_all(descriptor, data)


def _write_all(descriptor: int, data: bytes) -> None:
    """Write bytes to a file, a pipe or a terminal."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        # a full disk, a closed pipe: nobody is left to tell
        return


def _write_text(stream: TextIO, data: bytes) -> None:
    """Write to a stream without a file behind it."""
    try:
        stream.write(data.decode())
        stream.flush()
    except (OSError, ValueError):
        return


def use(form: str) -> None:
    """Choose the form of the lines from now on, in this process and in those it forks.

    Args:
        form: `json`, `text`, or `auto` for text where standard output is a terminal, else JSON.
    """
    global _form
    _form = form


def is_for_people(form: str, stream: TextIO | None) -> bool:
    """Whether lines of a form, see `use`, are text where they go."""
    return form == "text" or (form == "auto" and stream is not None and not stream.closed and stream.isatty())


def formatter(stream: TextIO | None) -> logging.Formatter:
    """Return what writes a record in the chosen form; whoever asked for text by name gets it without colours."""
    if not is_for_people(_form, stream):
        return JsonFormatter()
    from service.readable import TextFormatter

    return TextFormatter(is_coloured=_form == "auto")


def set_up(level: str, form: str = "json") -> None:
    """Send every logger's records to standard output, Gunicorn's worker's among them.

    Args:
        level: least severity, such as `info`.
        form: of the lines, see `use`.
    """
    global _writer
    use(form)
    if _writer is None:
        atexit.register(drain)
    if _writer is None or _writer.stream is not sys.stdout:
        former, _writer = _writer, Writer(sys.stdout)
        _writer.setFormatter(formatter(sys.stdout))
        if former is not None:
            former.close()
    root = logging.getLogger()
    root.handlers[:] = [_writer]
    root.setLevel(level.upper())
    # Gunicorn would write what clients send to standard error, in its own form, and wait for whoever reads that
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.handlers[:] = []
    gunicorn.propagate = True


def drain(timeout_seconds: float = DRAIN_SECONDS) -> None:
    """Wait a moment until what was logged is written."""
    if _writer is not None:
        _writer.drain(timeout_seconds)


def write_now(severity: str, message: str, **extra: object) -> None:
    """Write one line without a thread, for a process that forks; given up at once if standard output is not read."""
    from select import select

    data = _line(severity, message, **extra)
    try:
        descriptor = sys.stdout.fileno()
        # a pipe that can be written to takes 4 KiB without waiting
        if len(data) <= 4096 and select([], [descriptor], [], 0)[1]:
            os.write(descriptor, data)
    except (OSError, ValueError, AttributeError):
        return
