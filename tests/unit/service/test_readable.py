"""A person at a terminal reads lines; a machine goes on reading JSON."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys

import pytest

from service import logs
from service.readable import TextFormatter
from tests.conftest import ROOT

SAY = """
import logging, sys
from service import logs
logs.use(sys.argv[1])
logs.set_up("info", sys.argv[1])
logging.getLogger("service.x").warning("request.slow", extra={"rows": 1})
logs.drain(60)
logs.write_now("ERROR", "worker.lost", worker=7)
"""


def told(message: str = "model.loaded", *arguments: object, level: int = logging.INFO, **extra: object) -> str:
    """Return the line of a record, without its time."""
    record = logging.Logger("service.x").makeRecord(
        "service.x", level, "f.py", 1, message, arguments, None, extra=extra
    )
    line = TextFormatter(is_coloured=False).format(record)
    assert re.match(r"\d\d:\d\d:\d\d ", line)
    return line[9:]


def test_a_line_is_severity_message_and_fields():
    line = told(digest="sha256:" + 64 * "a", engine="tables", total_seconds=0.48712, codes=["unit", "range"])
    assert line == "INFO    model.loaded  digest=aaaaaaaaaaaa  engine=tables  total_seconds=0.4871  codes=unit,range"


def test_a_request_is_named_and_what_is_for_machines_left_out():
    request = {"requestMethod": "POST", "requestUrl": "/predict", "status": 422, "latency": "0.000100s"}
    line = told("request.refused", http_request=request, trace="projects/p/traces/1", seconds={"wait": 0.1}, rows=[{}])
    assert line == "INFO    request.refused  POST /predict 422"


def test_there_are_few_fields():
    assert told(**{f"field_{number}": number for number in range(30)}).count("=") == 8


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\x9b31m", "\u202eabc", "\ud800", "x" * 5_000])
def test_nothing_that_a_client_sent_moves_the_terminal(text):
    line = told("%s", text, reason=text, codes=[text], http_request={"requestUrl": text, "status": 404})
    assert line.isprintable()
    assert len(line.encode()) < 6_000


def test_a_traceback_stands_below_and_is_harmless():
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        record = logging.Logger("x").makeRecord("x", logging.ERROR, "f.py", 1, "failed", (), sys.exc_info())
    first, *rest = TextFormatter(is_coloured=False).format(record).splitlines()
    assert first.endswith("ERROR   failed")
    assert rest[-1] == "    ValueError: \\x1b[2J"


def run(form: str, *, at_a_terminal: bool) -> str:
    """Return what a process writes that logs in a form."""
    ours, theirs = pty.openpty() if at_a_terminal else os.pipe()
    done = subprocess.run([sys.executable, "-c", SAY, form], cwd=ROOT, stdout=theirs, check=False, timeout=60)
    os.close(theirs)
    assert done.returncode == 0
    printed = os.read(ours, 1 << 16).decode()
    os.close(ours)
    return printed


@pytest.mark.parametrize(("form", "at_a_terminal"), [("auto", False), ("json", True)])
def test_machines_read_json(form, at_a_terminal):
    lines = [json.loads(line) for line in run(form, at_a_terminal=at_a_terminal).splitlines()]
    assert [line["message"] for line in lines] == ["request.slow", "worker.lost"]


def test_a_person_at_a_terminal_reads_text_in_colours():
    slow, lost = run("auto", at_a_terminal=True).splitlines()
    assert slow.endswith(" \x1b[33mWARNING\x1b[0m request.slow  rows=1")
    assert lost.endswith(" \x1b[31mERROR  \x1b[0m worker.lost  worker=7")


def test_whoever_asks_gets_text_without_colours_anywhere():
    slow, lost = run("text", at_a_terminal=False).splitlines()
    assert slow.endswith(" WARNING request.slow  rows=1")
    assert lost.endswith(" ERROR   worker.lost  worker=7")


def test_json_imports_nothing_for_people():
    code = "import sys\nfrom service import logs\nlogs.set_up('info', 'auto')\nprint('service.readable' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_form_is_chosen_once_for_all_lines(root_logging, capsys):
    logs.set_up("info", "text")
    try:
        logging.getLogger("service.x").info("once")
        logs.drain(60)
        assert capsys.readouterr().out.endswith("INFO    once\n")
    finally:
        logs.use("json")
        logs.set_up("info")
