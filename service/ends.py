"""How a worker ended: the exit status, read before Gunicorn reaps it, as no hook is given it."""

from __future__ import annotations

import os
import signal
from typing import Any, NamedTuple

# signals that code raises against its own process; any other one was sent from outside: by an operator, by the kernel
FAULTS = frozenset(
    {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGPROF,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)


class End(NamedTuple):
    """How a process ended.

    Attributes:
        is_signal: whether a signal ended it.
        number: of the signal, else the exit code.
    """

    is_signal: bool
    number: int

    @property
    def is_fault(self) -> bool:
        """Whether the process ended itself: by a crash, or by an exit, such as the watchdog's."""
        return not self.is_signal or self.number in FAULTS

    def __str__(self) -> str:
        """Return `SIGSEGV` or `exit 70`."""
        if not self.is_signal:
            return f"exit {self.number}"
        try:
            return signal.Signals(self.number).name
        except ValueError:
            return f"signal {self.number}"


def watch(server: Any) -> None:
    """Note, in Gunicorn's parent process, how its children end, each time that the kernel says that one did."""
    former = signal.getsignal(signal.SIGCHLD)

    def ended(number: int, frame: Any) -> None:
        note(server)
        if callable(former):
            former(number, frame)

    signal.signal(signal.SIGCHLD, ended)


def note(server: Any) -> None:
    """Note how those workers ended that have, and leave it to Gunicorn to reap them."""
    for pid, worker in list(server.WORKERS.items()):
        end = peek(pid)
        if end is not None:
            worker.end = end


def peek(pid: int) -> End | None:
    """Return how a child ended, None if it runs, is reaped already, or the platform has no `waitid` (macOS)."""
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):
        return None
    return None if found is None else End(found.si_code != os.CLD_EXITED, found.si_status)
