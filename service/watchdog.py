"""Ends a worker whose computation never ends, and says which request it was; tells what became of a lost worker."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, Protocol

from model.errors import BundleError
from service import logs, memory, underway
from service.ends import End
from service.memory import ControlGroup
from service.underway import UnderWay

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
# a tick that took longer found the whole process stopped or starved: nobody else could have come further either
LONGEST_TICK_SECONDS = 2 * TICK_SECONDS
TICKS_PER_LOOK_AT_MEMORY = 10
STUCK_STATUS = 70
STACK_FRAMES = 60
NEARLY_FULL, NO_LONGER_FULL = 0.9, 0.8
# Gunicorn asks once a second whether a worker is alive
LONGEST_ASK_SECONDS = 5.0


class Loop(Protocol):
    """What the watchdog needs of an event loop."""

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> object:
        """Let the loop call something."""
        ...


class Patience:
    """How long one thread has been at the same thing, in seconds in which it could have come further."""

    def __init__(self, waited: Callable[[int], float]) -> None:
        """Begin with nothing.

        Args:
            waited: seconds that a thread (the kernel's id) wanted to run and was not let.
        """
        self._waited = waited
        self._key: object = None
        self._seconds = self._waited_before = 0.0

    def look(self, key: object, native_id: int, elapsed_seconds: float) -> float:
        """Return for how long `key` has been the same, `elapsed_seconds` after the last look."""
        if key != self._key:
            self._key, self._seconds, self._waited_before = key, 0.0, self._waited(native_id)
            return 0.0
        self._seconds += elapsed_seconds
        waited = self._waited(native_id) - self._waited_before
        # whoever shares a processor with one other computes; whoever waits most of the time is starved
        return self._seconds - waited if waited > self._seconds / 2 else self._seconds


class Watchdog:
    """Looks several times a second whether the threads that compute come further."""

    def __init__(
        self,
        limit_seconds: float,
        loop: Loop,
        under_way: UnderWay,
        end: Callable[[], None],
        waited: Callable[[int], float],
        group: ControlGroup | None = None,
    ) -> None:
        """Prepare, in the loop's thread; `start` watches.

        Args:
            limit_seconds: how long a computation, or a turn of the loop, may take.
            loop: asked to answer in every tick.
            under_way: what is computed.
            end: ends the process.
            waited: see `Patience`.
            group: whose memory is watched.
        """
        self._limit_seconds, self._loop, self._under_way, self._end = limit_seconds, loop, under_way, end
        self._waited, self._group = waited, group
        self._patience: dict[int, Patience] = {}
        self._turn = Patience(waited)
        self._asked = self._answered = 0
        # known before the loop turns: a start that gets no processor is not a stuck one
        self._loop_thread, self._loop_native_id = threading.get_ident(), threading.get_native_id()
        self._is_full = False

    def start(self) -> None:
        """Watch from a thread of its own until the process ends."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def look(self, elapsed_seconds: float) -> None:
        """Look at every thread once; `elapsed_seconds` after the last time."""
        for found in self._under_way.computations():
            patience = self._patience.setdefault(found.thread, Patience(self._waited))
            seconds = patience.look(found.number, found.native_id, elapsed_seconds)
            if seconds >= self._limit_seconds:
                self._give_up(found.thread, seconds, found.request_id)
                return
        if self._asked != self._answered:
            seconds = self._turn.look(self._answered, self._loop_native_id, elapsed_seconds)
            if seconds >= self._limit_seconds:
                self._give_up(self._loop_thread, seconds, None)
            return
        self._turn.look(None, 0, 0.0)
        # a loop that is closed answers no more, and has nothing left to do
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._answer, self._asked + 1)
            self._asked += 1

    def look_at_memory(self) -> None:
        """Warn once when the memory is nearly full, and again only after it was not."""
        ratio = self._group.used_ratio() if self._group is not None else None
        if ratio is None or self._group is None:
            return
        if ratio >= NEARLY_FULL and not self._is_full:
            log.warning(
                "memory.nearly_full",
                extra={"used_ratio": round(ratio, 3), "limit_bytes": self._group.limit_bytes},
            )
        self._is_full = ratio >= (NO_LONGER_FULL if self._is_full else NEARLY_FULL)

    def _run(self) -> None:
        """Tick."""
        pause, last, tick = threading.Event(), time.monotonic(), 0
        try:
            while True:
                _limit_time_without_watchdog(self._limit_seconds + TICK_SECONDS)
                pause.wait(TICK_SECONDS)
                now = time.monotonic()
                self.look(min(now - last, LONGEST_TICK_SECONDS))
                last, tick = now, tick + 1
                if tick % TICKS_PER_LOOK_AT_MEMORY == 0:
                    self.look_at_memory()
        finally:
            # a watchdog that fails must not end the process by its silence
            _limit_time_without_watchdog(0)

    def _answer(self, asked: int) -> None:
        """Be called by the loop."""
        self._answered = asked

    def _give_up(self, thread: int, seconds: float, request_id: str | None) -> None:
        """Say what is stuck and end the process: a thread cannot be ended alone."""
        try:
            log.critical(
                "worker.stuck",
                extra={
                    "request_id": request_id,
                    "request_ids": self._under_way.request_ids(),
                    "seconds": round(seconds, 1),
                    "limit_seconds": self._limit_seconds,
                    "stuck_thread": next((one.name for one in threading.enumerate() if one.ident == thread), "unknown"),
                    "stack": stack_of(thread),
                },
            )
        finally:
            self._end()


def stack_of(thread: int) -> str:
    """Return where a thread is: files, lines and functions, innermost last, no values."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    walked = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=STACK_FRAMES, lookup_lines=False)
    return "\n".join(f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in reversed(walked))


def waited_seconds(native_id: int) -> float:
    """Return how long a thread wanted to run and was not let, in seconds; 0 where the kernel does not say."""
    try:
        return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def prepare(worker: Any) -> None:
    """Make what is shared between Gunicorn's parent process and a worker that is about to be forked."""
    group = memory.find()
    worker.under_way = underway.share()
    worker.oom_kills = group.oom_kills() if group is not None else None
    worker.tmp = Heartbeat(worker.tmp)


def start(worker: Any, limit_seconds: float) -> None:
    """Watch a worker from within, once its application is loaded."""
    faulthandler.enable(file=sys.stderr)
    # computing in native code that never lets go of the interpreter starves the watchdog too: the kernel ends that
    faulthandler.register(signal.SIGPROF, file=sys.stderr, chain=True)
    Watchdog(limit_seconds, worker.loop, underway.current, _end_process, waited_seconds, memory.find()).start()


def finish() -> None:
    """Note that a worker ends in good order."""
    underway.current.finish()


def note_exit(worker: Any) -> str | None:
    """Say, in the parent process, what a worker that ended suddenly was doing, and why it ended.

    Returns:
        The digest of the bundle that the end counts against: the worker crashed while it loaded or computed. None for
        a kill from outside, which the kernel's for want of memory is too, and for an end of unknown cause.
    """
    found: UnderWay | None = getattr(worker, "under_way", None)
    if found is None:
        return None
    blamed = None
    if not found.is_finished:
        end: End | None = getattr(worker, "end", None)
        group = memory.find()
        kills = group.oom_kills() if group is not None else None
        reason = "ended suddenly" if end is None or end.is_fault else "killed"
        if None not in (kills, worker.oom_kills) and kills != worker.oom_kills:
            reason = "out of memory"
        elif end is not None and end.is_fault:
            blamed = found.blamed
        logs.write_now(
            "ERROR",
            "worker.lost",
            pid=worker.pid,
            request_ids=found.request_ids(),
            reason=reason,
            end=None if end is None else str(end),
            counts_against=blamed,
            limit_bytes=group.limit_bytes if group is not None else None,
        )
    found.close()
    return blamed


def sets_aside(digest: str, cache_dir: Path) -> bool:
    """Count a crash against a bundle, and say whether it is in quarantine now."""
    from model.quarantine import Quarantine

    try:
        return Quarantine(cache_dir).note_crash(digest)
    except (OSError, BundleError) as error:
        logs.write_now("WARNING", "model.crash_not_counted", digest=digest, reason=str(error))
        return False


def dismiss(workers: Iterable[Any], digest: str) -> None:
    """Replace the workers that use a bundle in quarantine, so that all of an instance serve the same."""
    for worker in list(workers):
        if worker.under_way.digest == digest:
            worker.under_way.dismiss()


def _limit_time_without_watchdog(seconds: float) -> None:
    """Let the kernel end the process if it computes for so long without a turn of the watchdog; 0 for never."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _end_process() -> NoReturn:
    """End at once, as a thread is stuck in a call that nothing interrupts."""
    logs.drain()
    os._exit(STUCK_STATUS)


class Heartbeat:
    """Gunicorn's sign of life of a worker, read with patience.

    A parent process that was stopped itself, as Cloud Run stops an instance between requests, would take every worker
    for dead before one of them could say anything.
    """

    def __init__(self, file: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """Stand before Gunicorn's own `WorkerTmp`."""
        self._file, self._clock = file, clock
        self._asked_at = self._resumed_at = clock()

    def notify(self) -> None:
        """Give a sign of life."""
        self._file.notify()

    def last_update(self) -> float:
        """Return when the last one was given, or when the parent process went on, whichever is later."""
        now = self._clock()
        if now - self._asked_at > LONGEST_ASK_SECONDS:
            self._resumed_at = now
        self._asked_at = now
        return max(float(self._file.last_update()), self._resumed_at)

    def fileno(self) -> int:
        """Return the descriptor of Gunicorn's file."""
        return int(self._file.fileno())

    def close(self) -> None:
        """Close Gunicorn's file."""
        self._file.close()
