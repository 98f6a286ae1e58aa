"""How a process ended is known before it is reaped, and a fault of its own is told from a kill."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest

from service import ends
from service.ends import End


def child(code: int | None = None, number: signal.Signals | None = None) -> int:
    """Fork a process that exits with a code, or sends itself a signal."""
    pid = os.fork()
    if pid == 0:
        if number is not None:
            signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
            os.kill(os.getpid(), number)
        os._exit(code or 0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


@pytest.mark.parametrize(
    ("number", "is_fault"),
    [
        (signal.SIGABRT, True),
        (signal.SIGBUS, True),
        (signal.SIGFPE, True),
        (signal.SIGILL, True),
        (signal.SIGSEGV, True),
        (signal.SIGPROF, True),
        (signal.SIGKILL, False),
        (signal.SIGTERM, False),
        (signal.SIGHUP, False),
        (signal.SIGINT, False),
        (signal.SIGUSR1, False),
    ],
    ids=lambda one: getattr(one, "name", str(one)),
)
def test_a_signal_of_the_process_itself_is_a_fault(number, is_fault):
    pid = child(number=number)
    found = ends.peek(pid)
    os.waitpid(pid, 0)
    assert (found, str(found), found.is_fault) == (End(True, number), number.name, is_fault)


@pytest.mark.parametrize("code", [0, 1, 70])
def test_an_exit_that_nobody_was_told_of_is_a_fault(code):
    pid = child(code)
    found = ends.peek(pid)
    os.waitpid(pid, 0)
    assert (found, str(found), found.is_fault) == (End(False, code), f"exit {code}", True)


def test_a_signal_without_a_name_has_its_number():
    assert str(End(True, 62)) == "signal 62"


def test_a_process_that_runs_or_is_reaped_has_no_end():
    pid = child(3)
    os.waitpid(pid, 0)
    assert (ends.peek(pid), ends.peek(os.getpid())) == (None, None)


def test_every_child_is_noted_before_it_is_reaped():
    reaped: list[int] = []
    former = signal.getsignal(signal.SIGCHLD)
    workers = [SimpleNamespace(), SimpleNamespace()]
    server = SimpleNamespace(WORKERS={})
    try:
        # as Gunicorn does
        signal.signal(signal.SIGCHLD, lambda *_: reaped.append(1))
        ends.watch(server)
        for worker, code in zip(workers, (1, 2), strict=True):
            server.WORKERS[child(code)] = worker
        ends.note(server)
        for pid in server.WORKERS:
            os.waitpid(pid, 0)
    finally:
        signal.signal(signal.SIGCHLD, former)
    assert [worker.end for worker in workers] == [End(False, 1), End(False, 2)]
    assert reaped
