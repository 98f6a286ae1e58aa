"""The way from a new process to the first answer: loads beside the imports, and tells how long each phase took."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from service import stopping, underway
from service.config import Settings
from service.loader import Loader, NotReady, Ready, State

log = logging.getLogger(__name__)

PHASES = ("imports", "fetch", "verify", "load", "golden", "listen", "total")

_under_way: Future[State] | None = None
# when this worker was forked, if that was not part of Gunicorn's own start
_replaced_at: float | None = None


def begin(settings: Settings, *, replaced_at: float | None = None) -> None:
    """Load the model in a thread, while the rest of the program is still being imported; called after the fork.

    Args:
        settings: where the model is.
        replaced_at: when this worker was forked if Gunicorn has been running for a while: then the start began there.
    """
    global _under_way, _replaced_at
    _under_way = Future()
    _replaced_at = replaced_at
    threading.Thread(target=_load, args=(settings, _under_way), name="load", daemon=True).start()


def finish(settings: Settings) -> State:
    """Return what `begin` loaded, waiting for it; without `begin`, and a second time, load now."""
    global _under_way
    begun, _under_way = _under_way, None
    return Loader(settings).load() if begun is None else begun.result()


def _load(settings: Settings, future: Future[State]) -> None:
    """Load, which never raises."""
    future.set_result(Loader(settings).load())


def try_again(settings: Settings, state: NotReady, say: Callable[[NotReady], None]) -> None:
    """Load until there is a model, while this worker says why there is none; then let another worker take its place.

    Everything in a worker is made from one model, so it is replaced and not changed; what was downloaded is on disk.

    Args:
        settings: where the model is.
        state: why there is none.
        say: called with the reason after each try.
    """
    while not stopping.told.wait(state.retry_seconds):
        found = Loader(settings).load()
        if isinstance(found, Ready):
            underway.current.dismiss()
            return
        state = found
        say(state)


class Startup:
    """The clock of one cold start."""

    def __init__(self, state: State, clock: Callable[[], float] = time.time) -> None:
        """Note that everything is imported and the model is loaded, or is not.

        Args:
            state: with the seconds of its own phases.
            clock: seconds since the epoch, as process start times are told.
        """
        self._clock, self._started = clock, process_start() if _replaced_at is None else _replaced_at
        self._built = clock()
        loaded = state.phases if isinstance(state, Ready) else {}
        # loading runs beside the imports: what is left of the time is what the imports took alone
        imports = max(0.0, self._built - self._started - sum(loaded.values()))
        self.phases = {"imports": imports, **loaded}

    def listening(self) -> None:
        """Note that connections are answered, and write the one line that tells it all."""
        now = self._clock()
        self.phases |= {"listen": now - self._built, "total": now - self._started}
        # a phase that was never reached is left out: it did not take 0 seconds
        reached = [name for name in PHASES if name in self.phases]
        log.info("service.started", extra={f"{name}_seconds": round(self.phases[name], 4) for name in reached})


def process_start() -> float:
    """Return when Gunicorn was started, in seconds since the epoch: the parent of a worker, else this process."""
    try:
        parent = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
        pid = os.getppid() if b"gunicorn" in parent else os.getpid()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # started so many ticks after the boot; /proc/stat tells the boot itself in whole seconds only
        age_seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.time() - age_seconds
    except (OSError, ValueError, IndexError, AttributeError):
        # not Linux: the clock begins here
        return time.time()
