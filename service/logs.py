"""One JSON object a line on standard output: a fixed event name, data beside it."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object in Cloud Logging's structured form."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; `extra` becomes members, an exception its traceback under `exception`."""
        line: dict[str, Any] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "logger": record.name,
        }
        line.update({key: value for key, value in vars(record).items() if key not in STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:
            # what orjson does not take: lone surrogates, whole numbers beyond 64 bits
            return json.dumps(line, default=str)


def set_up(level: str) -> None:
    """Send every logger's records to standard output as JSON lines.

    Args:
        level: least severity, such as `info`.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
