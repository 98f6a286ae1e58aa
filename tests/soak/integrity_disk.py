"""M8: a disk that is full, or read-only, costs the next download and nothing else."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from model.cache import Cache
from service.loader import Loader
from tests.fakes.gcs import FakeStorage
from tests.soak.integrity_stock import Result, Stock, client_of, end_of, load, problems, put, scratch

Squeeze = Callable[[], object]


class _Heard(logging.Handler):
    """Keeps what the loader says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def m8(stock: Stock) -> Result:
    """Load a new bundle on each disk: served, the last known good one kept, one message that names the disk."""
    lines, good = [], 0
    disks = {"full": _full, "read-only": _read_only}
    for name, disk in disks.items():
        with scratch() as folder, disk(folder / "cache", stock) as (how, cache):
            stock.seed(cache)
            heard = _Heard()
            logger = logging.getLogger(Loader.__module__)
            logger.addHandler(heard)
            try:
                with FakeStorage() as fake, client_of(fake.url) as client, how.squeezed():
                    state = load(stock.settings(cache, put(fake, stock.new), stock.new.name), client)
            finally:
                logger.removeHandler(heard)
            messages = [f"{r.getMessage()}: {vars(r).get('reason')}" for r in heard.records]
            kept = Cache(cache).last_known_good
            wrong = problems(cache, stock.keys)
            fine = end_of(state) == "pinned" and kept == f"sha256:{stock.old.name}" and not wrong
            fine = fine and [r.getMessage() for r in heard.records] == ["model.not_kept"]
            good += fine
            lines.append(f"{name:<10} ({how.name}) {end_of(state)}; {' | '.join(messages)} {'; '.join(wrong)}".rstrip())
    return Result("M8", "full, read-only: served, good one kept", f"{good} of {len(disks)}", good == len(disks), lines)


class _How:
    """A way to make a disk unfit."""

    def __init__(self, name: str, on: Squeeze, off: Squeeze) -> None:
        self.name, self._on, self._off = name, on, off

    @contextmanager
    def squeezed(self) -> Iterator[None]:
        self._on()
        try:
            yield
        finally:
            self._off()


def _nothing() -> None:
    pass


@contextmanager
def _full(cache: Path, stock: Stock) -> Iterator[tuple[_How, Path]]:
    """Offer a disk with room for one bundle and a half, or, without the right to mount, a limit on file sizes."""
    sizes = [file.stat().st_size for file in stock.old.iterdir()]
    with _mounted(cache, sum(sizes) * 3 // 2) as is_mounted:
        if is_mounted:
            yield _How("tmpfs", _nothing, _nothing), cache
            return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = max(sizes) // 2
    yield (
        _How(
            "RLIMIT_FSIZE",
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard)),
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        ),
        cache,
    )


@contextmanager
def _read_only(cache: Path, stock: Stock) -> Iterator[tuple[_How, Path]]:
    """Offer a disk that turns read-only, or, without the right to mount, folders without the right to write."""
    with _mounted(cache, 64 << 20) as is_mounted:
        if is_mounted:
            yield _How("tmpfs", lambda: _mount("-o", "remount,ro", cache), _nothing), cache
            return
    if os.geteuid() == 0:
        raise RuntimeError("root without the right to mount cannot make a folder read-only; run as another user")

    def allow(mode: int) -> None:
        for folder in (cache, cache / "bundles"):
            folder.chmod(mode)

    yield _How("mode 0500", lambda: allow(0o500), lambda: allow(0o700)), cache


@contextmanager
def _mounted(folder: Path, size_bytes: int) -> Iterator[bool]:
    """Mount a disk of some size in memory; False where that is not allowed."""
    folder.mkdir()
    if not _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", folder):
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", folder], check=True)


def _mount(*arguments: object) -> bool:
    """Run mount, and tell whether it worked."""
    try:
        return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
