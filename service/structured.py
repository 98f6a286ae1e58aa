"""A log record as one JSON object in Cloud Logging's structured form.

The fields are those of `google.cloud.logging_v2.handlers.StructuredLogHandler`, which is not imported: it costs a third
of a second. https://cloud.google.com/logging/docs/structured-logging
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

import orjson

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# what of `extra` has a place of its own, by the names that Google's handler reads
TRACE, SPAN, SAMPLED = "trace", "span_id", "trace_sampled"
HTTP, LABELS, SOURCE = "http_request", "labels", "source_location"
# what is not a member of its own in the line
KNOWN = STANDARD | {TRACE, SPAN, SAMPLED, HTTP, LABELS, SOURCE}

# Cloud Logging takes 256 KiB; who can put a string into a line shall not fill the log with it
LINE_BYTES = 16 << 10
TEXT_LENGTH, TRACEBACK_LENGTH = 1_000, 8_000

_process = ""
_numbers = itertools.count()


def _begin_process() -> None:
    """Give this process's lines ids of their own."""
    global _process, _numbers
    _process, _numbers = os.urandom(6).hex(), itertools.count()


_begin_process()
os.register_at_fork(after_in_child=_begin_process)


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of at most `LINE_BYTES`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; `extra` becomes members, an exception its traceback under `exception`.

        Google's handler writes what is empty, too; Cloud Logging reads a field that is not there the same way.
        """
        own = _fields(record)
        line = {**own, **{key: value for key, value in vars(record).items() if key not in KNOWN}, **own}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = to_json(line)
        if len(text) <= LINE_BYTES // 4 or len(text.encode()) <= LINE_BYTES:
            return text
        cut = {key: _shorten(key, value) for key, value in line.items()}
        text = to_json({**cut, "is_cut": True})
        if len(text.encode()) <= LINE_BYTES:
            return text
        return to_json({**{key: cut[key] for key in own}, "is_cut": True})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the members that Cloud Logging takes out of the line and makes fields of the entry."""
    given = vars(record)
    fields: dict[str, Any] = {
        "severity": record.levelname,
        "message": record.getMessage(),
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        # ordered, as entries of the same moment are shown in the order of their ids
        "logging.googleapis.com/insertId": f"{_process}-{next(_numbers):012x}",
        "logging.googleapis.com/labels": {"python_logger": record.name, **given.get(LABELS, {})},
    }
    if given.get(TRACE):
        fields["logging.googleapis.com/trace"] = given[TRACE]
    if given.get(SPAN):
        fields["logging.googleapis.com/spanId"] = given[SPAN]
    if given.get(SAMPLED):
        fields["logging.googleapis.com/trace_sampled"] = True
    source = given.get(SOURCE) or _source(record)
    if source:
        fields["logging.googleapis.com/sourceLocation"] = source
    if given.get(HTTP):
        fields["httpRequest"] = given[HTTP]
    return fields


def _source(record: logging.LogRecord) -> dict[str, Any]:
    """Return where the record was made, empty if it does not say."""
    if not record.lineno:
        return {}
    return {"line": record.lineno, "file": record.pathname, "function": record.funcName}


def to_json(line: dict[str, Any]) -> str:
    """Return one line of JSON, whatever the values are."""
    try:
        return orjson.dumps(line, default=str).decode()
    except TypeError:
        # what orjson does not take: lone surrogates, whole numbers beyond 64 bits, a `str()` that fails
        return json.dumps(line, default=_describe)


def _describe(value: object) -> str:
    """Return an object's own text, or its type where it has none."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a log line must not fail because of what is logged
        return f"<{type(value).__name__}>"


def _shorten(key: str, value: object) -> object:
    """Cut a long value; of a traceback the end is kept, as it names the cause."""
    if value is None or isinstance(value, (bool, float)):
        return value
    text = value if isinstance(value, str) else to_json({"": value})[4:-1]
    if key in ("exception", "stack"):
        return text[-TRACEBACK_LENGTH:]
    return value if len(text) <= TEXT_LENGTH else text[:TEXT_LENGTH]
