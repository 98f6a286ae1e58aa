"""A record is one line of JSON, whatever was put into it."""

from __future__ import annotations

import json
import logging
from datetime import datetime

import pytest

from service.logs import JsonFormatter, set_up


def _line(message: str = "model.loaded", extra: dict[str, object] | None = None, **given: object) -> str:
    record = logging.getLogger("service.test").makeRecord(
        "service.test", logging.WARNING, "file.py", 1, message, (), None, extra=extra
    )
    vars(record).update(given)
    return JsonFormatter().format(record)


def test_a_record_has_severity_event_time_logger_and_data():
    line = json.loads(_line(extra={"digest": "sha256:ab", "rows": 3}))
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "severity": "WARNING",
        "message": "model.loaded",
        "logger": "service.test",
        "digest": "sha256:ab",
        "rows": 3,
    }


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


def test_records_go_to_standard_output_from_the_level_on(capsys, root_logging):
    set_up("warning")
    logging.getLogger("service.anything").info("not.shown")
    logging.getLogger("service.anything").error("shown", extra={"code": 1})
    out, err = capsys.readouterr()
    assert ([(json.loads(x)["message"], json.loads(x)["code"]) for x in out.splitlines()], err) == ([("shown", 1)], "")


def test_setting_up_twice_does_not_say_everything_twice(capsys, root_logging):
    set_up("info")
    set_up("info")
    logging.getLogger("service.anything").info("once")
    assert len(capsys.readouterr().out.splitlines()) == 1
