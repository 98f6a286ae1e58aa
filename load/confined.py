"""Our service on this machine under set limits, as a platform would run it, watched once a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from load import groups, processes, servers
from load.bundles import Bundle
from load.servers import ROOKERY, Running

WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Confined:
    """A running instance.

    Attributes:
        running: address, process, start.
        how: how the limits hold, in words.
        processor: the control group of its share of the processor, if there could be one.
    """

    running: Running
    how: str
    processor: Path | None

    def throttled_seconds(self) -> float | None:
        """Return for how long it has waited for its share of the processor; None where nobody counts."""
        return None if self.processor is None else groups.throttled_seconds(self.processor)


@contextmanager
def instance(
    bundle: Bundle, cpu: float, memory_mb: int, settings: Mapping[str, str] | None = None
) -> Iterator[Confined]:
    """Run the service until the block ends.

    Args:
        bundle: what it serves.
        cpu: its share of one core, 0 to 1.
        memory_mb: its memory, in MiB.
        settings: environment beyond the defaults.

    Raises:
        LoadError: it does not get ready or answers wrongly.
    """
    with ExitStack() as stack:
        processor = stack.enter_context(groups.processor(cpu))
        memory = stack.enter_context(groups.memory(memory_mb << 20))
        within = [group for group in (processor, memory) if group is not None]
        running = stack.enter_context(servers.serving(ROOKERY, bundle, settings=settings, within=within))
        yield Confined(running, _words(cpu, memory_mb, processor, memory), processor)


def _words(cpu: float, memory_mb: int, processor: Path | None, memory: Path | None) -> str:
    """Say how the limits hold."""
    share = f"{cpu:g} CPU by control group" if processor else f"one core by affinity (no group for {cpu:g} CPU)"
    size = f"{memory_mb} MiB by control group" if memory else f"memory not limited (no group for {memory_mb} MiB)"
    return f"{share}, {size}"


@dataclass
class Watch:
    """What an instance and its caller used, once a second.

    Attributes:
        server: process id of the instance.
        caller: process id of what loads it.
        began: seconds since the epoch.
        rows: seconds since then, processors used by the instance, its memory in bytes (PSS), processors of the caller.
    """

    server: int
    caller: int
    began: float = field(default_factory=time.time)
    rows: list[tuple[float, float, int, float]] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Watch beside the block, in a thread."""
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()

    def _watch(self, stop: threading.Event) -> None:
        """Read what the kernel says until told to stop, or until one of both is gone."""
        before = (time.time(), *self._used())
        while not stop.wait(WATCH_SECONDS):
            try:
                now = (time.time(), *self._used())
                memory = processes.pss_bytes(self.server)
            except (FileNotFoundError, ProcessLookupError):
                return
            passed = now[0] - before[0]
            used = [round((after - then) / passed, 4) for after, then in zip(now[1:], before[1:], strict=True)]
            self.rows.append((round(now[0] - self.began, 3), used[0], memory, used[1]))
            before = now

    def _used(self) -> tuple[float, float]:
        """Return the seconds of processor time of both; the instance may be a child of its caller."""
        server, caller = processes.cpu_seconds(self.server), processes.cpu_seconds(self.caller)
        return server, caller - server if self.server in processes.family(self.caller) else caller
