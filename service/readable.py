"""A log record as one line for a person at a terminal; imported where one looks on, never by a deployed service.

What a client sent may stand in a line: a control character is written as its escape, never sent to the terminal.
"""

from __future__ import annotations

import logging
import time

from service.structured import HTTP, KNOWN

# what fits beside the message
MOST_FIELDS, TEXT_LENGTH = 8, 60
COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
PLAIN = "\x1b[0m"


class TextFormatter(logging.Formatter):
    """Writes time, severity, message and a few fields; a traceback follows on lines of its own."""

    def __init__(self, *, is_coloured: bool) -> None:
        """Say whether the severity has a colour from a warning on."""
        super().__init__()
        self._colours = COLOURS if is_coloured else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what is nested, and traces, are for machines and left out."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        if colour := self._colours.get(record.levelname):
            level = f"{colour}{level}{PLAIN}"
        line = "  ".join([f"{clock} {level} {shown(record.getMessage(), 1_000)}", *_fields(record)])
        if record.exc_info:
            traceback = self.formatException(record.exc_info).splitlines()
            line = "\n".join([line, *(f"    {shown(text, 1_000)}" for text in traceback)])
        return line


def _fields(record: logging.LogRecord) -> list[str]:
    """Return the request, if it is about one, and the first fields that have a short form."""
    given = vars(record)
    found = []
    if request := given.get(HTTP):
        found.append(shown(f"{request.get('requestMethod', '')} {request['requestUrl']} {request['status']}".lstrip()))
    for name, value in given.items():
        text = None if name in KNOWN else _short(value)
        if text is not None:
            found.append(f"{name}={text}")
    return found[:MOST_FIELDS]


def _short(value: object) -> str | None:
    """Return a value's short form: a digest's first digits, a list's members; what is nested has none."""
    if value is None or isinstance(value, dict):
        return None
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple, set)):
        members = [_short(one) for one in list(value)[:MOST_FIELDS]]
        return None if None in members else ",".join(str(one) for one in members)
    text = str(value)
    if text.startswith("sha256:"):
        text = text.removeprefix("sha256:")[:12]
    return shown(text)


def shown(text: str, length: int = TEXT_LENGTH) -> str:
    """Return text without anything that a terminal would obey, cut to a length."""
    safe = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text[:length])
    return safe if len(text) <= length else f"{safe}…"
