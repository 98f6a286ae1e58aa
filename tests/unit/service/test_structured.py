"""A record is one line of JSON, whatever was put into it, with the fields of Google's own handler."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from datetime import datetime

import pytest
from google.cloud.logging_v2.handlers import StructuredLogHandler

from service.structured import LINE_BYTES, JsonFormatter
from tests.conftest import ROOT

INSERT_ID = "logging.googleapis.com/insertId"


def _line(message: str = "model.loaded", extra: dict[str, object] | None = None, **given: object) -> str:
    record = logging.getLogger("service.test").makeRecord(
        "service.test", logging.WARNING, "file.py", 1, message, (), None, extra=extra
    )
    vars(record).update(given)
    return JsonFormatter().format(record)


def test_a_record_has_severity_event_time_logger_and_data():
    line = json.loads(_line(extra={"digest": "sha256:ab", "rows": 3}))
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line.pop(INSERT_ID)
    assert line == {
        "severity": "WARNING",
        "message": "model.loaded",
        "logging.googleapis.com/labels": {"python_logger": "service.test"},
        "logging.googleapis.com/sourceLocation": {"line": 1, "file": "file.py", "function": None},
        "digest": "sha256:ab",
        "rows": 3,
    }


FIELDS = {
    "trace": "projects/lab/traces/0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "trace_sampled": True,
    "http_request": {"requestMethod": "POST", "requestUrl": "/predict", "status": 503, "latency": "0.25s"},
    "labels": {"model": "penguins"},
    "source_location": {"line": 7, "file": "model.py", "function": "predict"},
}


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING, logging.CRITICAL])
@pytest.mark.parametrize("names", [(), ("trace", "labels"), tuple(FIELDS)], ids=["bare", "some", "all"])
def test_the_fields_are_those_of_googles_own_handler(level, names):
    extra = {name: FIELDS[name] for name in names}
    record = logging.getLogger("service.test").makeRecord(
        "service.test", level, "service/file.py", 12, 'said "%s"\n\u2028', ("it",), None, func="answer", extra=extra
    )
    handler = StructuredLogHandler(stream=io.StringIO())
    handler.filter(record)
    theirs = json.loads(handler.format(record))
    # its filter leaves members of its own in the record
    for name in [name for name in vars(record) if name.startswith("_")]:
        delattr(record, name)
    ours = json.loads(JsonFormatter().format(record))

    assert (ours.pop("time"), ours.pop(INSERT_ID)) != (None, None)
    assert ours == {name: value for name, value in theirs.items() if value not in ("", {}, False)}
    assert len(theirs) == 8


def test_an_exception_stands_beside_the_message_where_googles_handler_appends_it():
    try:
        raise ValueError("broken")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("service.test", logging.ERROR, "file.py", 1, "request.failed", (), info)
    ours = json.loads(JsonFormatter().format(record))
    handler = StructuredLogHandler(stream=io.StringIO())
    handler.filter(record)

    assert json.loads(handler.format(record))["message"] == f"{ours['message']}\n{ours['exception']}"


def test_every_line_has_an_id_of_its_own_in_the_order_of_lines():
    ids = [json.loads(_line())[INSERT_ID] for _ in range(300)]
    assert (sorted(set(ids)), len(set(ids))) == (ids, 300)


def test_a_forked_process_has_ids_of_its_own():
    code = (
        "import logging, os, json\nfrom service.structured import JsonFormatter\n"
        "for _ in range(2):\n    pid = os.fork()\n    if pid: os.waitpid(pid, 0)\n    else: break\n"
        "print(JsonFormatter().format(logging.makeLogRecord({})), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert len({json.loads(line)[INSERT_ID].partition("-")[0] for line in done.stdout.splitlines()}) == 3


def test_data_cannot_take_the_place_of_a_field():
    line = json.loads(_line(extra={"severity": "DEBUG", "time": "never", "httpRequest": {}}))
    assert (line["severity"], line["httpRequest"]) == ("WARNING", {})
    assert line["time"] != "never"


def test_arguments_are_put_into_the_message():
    assert json.loads(_line("%d rows", args=(3,)))["message"] == "3 rows"


def test_an_exception_is_one_member():
    try:
        raise ValueError("broken\nin two lines")
    except ValueError as error:
        line = _line(exc_info=(type(error), error, error.__traceback__))
    assert len(line.splitlines()) == 1
    assert "ValueError: broken\nin two lines" in json.loads(line)["exception"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('"}\n{"severity": "INFO', '"}\n{"severity": "INFO'),
        ("\x00\x1b[31m\u2028", "\x00\x1b[31m\u2028"),
        ("\ud800", "\ud800"),
        (2**70, 2**70),
        (ValueError("x"), "x"),
        ({1}, "{1}"),
    ],
    ids=["a new line", "control characters", "a lone surrogate", "a large number", "an object", "a set"],
)
def test_whatever_is_logged_is_one_valid_line(value, shown):
    line = _line(extra={"value": value})
    assert ([line], shown) == (line.split("\n"), json.loads(line)["value"])


# --- limits


class Nameless:
    """Has no text of its own."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


LONG = {
    "text": {"value": "x" * 10**6},
    "control characters": {"value": "\x00" * 10**6},
    "many": {f"value_{number}": "y" * 900 for number in range(100)},
    "a list": {"value": ["z" * 100] * 1000},
    "beyond the first plane": {"value": "\U0001f427" * 10**5},
    "a lone surrogate": {"value": "\ud800" * 10**5},
    "stack": {"stack": "frame\n" * 10**5},
}


@pytest.mark.parametrize("extra", LONG.values(), ids=LONG)
def test_a_line_is_never_longer_than_16_kib_and_says_that_it_was_cut(extra):
    line = _line(extra=extra)
    found = json.loads(line)
    assert len(line.encode(errors="replace")) <= LINE_BYTES
    assert (found["message"], found["severity"], found["is_cut"]) == ("model.loaded", "WARNING", True)


def test_a_long_message_is_cut():
    found = json.loads(_line("%s", args=("\x00" * 10**6,)))
    assert (found["message"], found["is_cut"]) == ("\x00" * 1000, True)


def test_of_a_long_traceback_the_end_is_kept():
    try:
        raise ValueError("x" * 10**6 + "the cause")
    except ValueError as error:
        line = _line(exc_info=(type(error), error, error.__traceback__), extra={"rows": 3, "ratio": 0.5, "none": None})
    found = json.loads(line)
    assert found["exception"].endswith("the cause")
    assert (found["rows"], found["ratio"], found["none"]) == (3, 0.5, None)


@pytest.mark.parametrize("value", [Nameless(), {"inner": Nameless(), "large": 2**70}], ids=["alone", "inside"])
def test_what_has_no_text_is_named_by_its_type(value):
    assert "<Nameless>" in _line(extra={"value": value, "large": 2**70})
