"""A record is one line of JSON, whatever was put into it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from datetime import datetime
from threading import Thread

import pytest

from service import logs
from service.logs import LINE_BYTES, JsonFormatter, Writer, set_up
from tests.conftest import ROOT


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
    logs.drain(60)
    out, err = capsys.readouterr()
    assert ([(json.loads(x)["message"], json.loads(x)["code"]) for x in out.splitlines()], err) == ([("shown", 1)], "")


def test_setting_up_twice_does_not_say_everything_twice(capsys, root_logging):
    set_up("info")
    set_up("info")
    logging.getLogger("service.anything").info("once")
    logs.drain(60)
    assert len(capsys.readouterr().out.splitlines()) == 1


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


# --- who reads it


def _logger(writer: Writer) -> logging.Logger:
    writer.setFormatter(JsonFormatter())
    logger = logging.Logger("service.test")
    logger.addHandler(writer)
    return logger


def _read_all(descriptor: int) -> list[dict[str, object]]:
    with open(descriptor, "rb") as pipe:
        return [json.loads(line) for line in pipe.read().splitlines()]


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_what_is_missing_is_told():
    reading, writing = os.pipe()
    with open(writing, "w") as pipe:
        writer = Writer(pipe, waiting_bytes=100_000)
        logger = _logger(writer)
        for number in range(5_000):
            logger.warning("event", extra={"number": number, "text": "x" * 100})
        assert not writer.drain(0)
        reader = Thread(target=lambda: found.extend(_read_all(reading)))
        found: list[dict[str, object]] = []
        reader.start()
        assert writer.drain(60)
        writer.close()
    reader.join(60)
    told = [line["lines"] for line in found if line["message"] == "log.dropped"]
    assert sum(told) > 0
    assert len(found) - len(told) + sum(told) == 5_000


def test_everything_is_written_in_order():
    reading, writing = os.pipe()
    with open(writing, "w") as pipe:
        writer = Writer(pipe)
        logger = _logger(writer)
        for number in range(300):
            logger.warning("event", extra={"number": number})
        assert writer.drain(60)
        writer.close()
    assert [line["number"] for line in _read_all(reading)] == list(range(300))


def test_a_log_that_was_closed_harms_nobody():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        writer = Writer(pipe)
        _logger(writer).warning("nobody.hears")
        assert writer.drain(60)
        writer.close()


@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["none", "closed"])
def test_without_a_log_nothing_is_written(stream):
    if stream is not None:
        stream.close()
    writer = Writer(stream)
    _logger(writer).warning("nobody.hears")
    assert writer.drain(60)
    writer.close()


def test_a_record_that_cannot_be_formatted_is_still_a_line():
    stream = io.StringIO()
    writer = Writer(stream)
    _logger(writer).warning("%d", "not a number")
    assert writer.drain(60)
    assert json.loads(stream.getvalue())["message"] == "log.record_failed"
    writer.close()


def _run(code: str, **options) -> subprocess.CompletedProcess[bytes]:
    start = "import logging, os, sys\nfrom service import logs\n"
    return subprocess.run(
        [sys.executable, "-c", start + code], cwd=ROOT, capture_output=True, timeout=60, check=False, **options
    )


def test_what_was_logged_before_the_end_is_written():
    done = _run("logs.set_up('info')\nfor n in range(2000): logging.info('event', extra={'n': n})\nsys.exit(3)")
    assert ([json.loads(line)["n"] for line in done.stdout.splitlines()], done.returncode) == (list(range(2000)), 3)
    assert done.stderr == b""


def test_a_process_ends_though_nobody_reads_its_log():
    reading, writing = os.pipe()
    code = (
        f"os.dup2({writing}, 1)\nlogs.set_up('info')\nfor n in range(5000): logging.info('e', extra={{'t': 't' * 99}})"
    )
    done = _run(code, pass_fds=(writing,))
    os.close(writing)
    os.close(reading)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_gunicorn_says_in_a_worker_is_json_too(capsys, root_logging):
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.addHandler(logging.StreamHandler(sys.stderr))
    set_up("info")
    gunicorn.warning("Invalid request from ip=%s: %s", "10.0.0.1", "a\nb")
    logs.drain(60)
    out, err = capsys.readouterr()
    assert ([json.loads(line)["message"] for line in out.splitlines()], err) == (
        ["Invalid request from ip=10.0.0.1: a\nb"],
        "",
    )


def test_a_process_that_forks_writes_without_a_thread(capfd):
    logs.write_now("ERROR", "worker.lost", worker=7)
    line = json.loads(capfd.readouterr().out)
    assert (line["severity"], line["message"], line["worker"]) == ("ERROR", "worker.lost", 7)


def test_it_gives_up_where_nobody_reads():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"x" * 65536):
            pass
    os.set_blocking(writing, True)
    done = _run(f"os.dup2({writing}, 1)\nlogs.write_now('ERROR', 'lost')", pass_fds=(writing,))
    os.close(writing)
    os.close(reading)
    assert (done.returncode, done.stderr) == (0, b"")
