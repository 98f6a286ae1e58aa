"""Records reach standard output, and stop nobody."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from threading import Thread

import pytest

from service import logs
from service.logs import Writer, set_up
from service.structured import JsonFormatter
from tests.conftest import ROOT


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
        for number in range(100):
            logger.warning("event", extra={"number": number})
        assert writer.drain(60)
        writer.close()
    assert [line["number"] for line in _read_all(reading)] == list(range(100))


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
