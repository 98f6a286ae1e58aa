"""Bundles on local disk: downloaded once, the last good one remembered, one that keeps crashing set aside."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model.bundle import MANIFEST, UNFINISHED, bare, replace, write_folder
from model.errors import BundleError
from model.signing import SIGNATURE
from model.store import Deadline
from model.verify import VerifiedBundle

LAST_KNOWN_GOOD, THE_ONE_BEFORE = "last-known-good", "the-one-before"
CRASHES, CRASH_WINDOW_SECONDS = 3, 60.0
# the longest ROOKERY_LOAD_SECONDS twice over
UNFINISHED_SECONDS = 600.0
HEX = re.compile(r"[0-9a-f]{64}")

WallClock = Callable[[], float]

# the mark of this process and its descriptor: the lock on it ends with the process, however that ends
_own_mark: tuple[Path, int] | None = None


@dataclass(frozen=True)
class _Mark:
    """A note on disk about one process and the bundle it served; the number is its id, or the time of its crash."""

    file: Path
    number: int
    digest: str


class Cache:
    """A folder that belongs to this service: `bundles/<hex>/`, `last-known-good`, `the-one-before`, notes."""

    def __init__(self, root: Path, wall_clock: WallClock = time.time) -> None:
        """Name the folder; it is made when something is kept.

        Args:
            root: MODEL_CACHE_DIR.
            wall_clock: seconds since the epoch.
        """
        self._root, self._wall_clock = root, wall_clock

    def find(self, digest: str) -> Path | None:
        """Return the folder of a bundle that was kept, or None; it is verified again before it is used."""
        folder = self._root / "bundles" / bare(digest)
        return folder if (folder / MANIFEST).is_file() else None

    def keep(self, bundle: VerifiedBundle) -> None:
        """Write a bundle, whole or not at all.

        Raises:
            OSError: the disk is full or read-only; nothing is left behind.
        """
        home = self._root / "bundles"
        self._make(home)
        files = {**bundle.files, MANIFEST: bundle.raw_manifest}
        if bundle.raw_signature is not None:
            files[SIGNATURE] = bundle.raw_signature
        if self.find(bundle.digest) is None:
            self.drop(bundle.digest)
            write_folder(home, home / bare(bundle.digest), files)

    def drop(self, digest: str) -> None:
        """Take a copy out of the way, damaged or too old, at once: who is killed meanwhile leaves no half of it."""
        with contextlib.suppress(OSError):
            aside = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self._root / "bundles"))
            # on a disk too full for another folder the copy goes file by file
            with contextlib.suppress(OSError):
                (self._root / "bundles" / bare(digest)).rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(self._root / "bundles" / bare(digest), ignore_errors=True)

    def _sweep(self) -> None:
        """Delete what processes that were killed left unfinished, unless it is so new that one may be at work on it."""
        for home in (self._root, self._root / "bundles", self._root / "running"):
            for left in home.glob(f"{UNFINISHED}*"):
                with contextlib.suppress(OSError):
                    if self._wall_clock() - left.stat().st_mtime > UNFINISHED_SECONDS:
                        shutil.rmtree(left) if left.is_dir() else left.unlink()

    @property
    def last_known_good(self) -> str | None:
        """The digest of the bundle last proven here that is still on disk and not in quarantine, or None."""
        good = (digest for digest in self._proven() if self.find(digest) and not self.is_quarantined(digest))
        return next((f"sha256:{digest}" for digest in good), None)

    def remember(self, digest: str) -> list[str]:
        """Make a bundle the last known good one; only the latest two bundles stay on disk.

        Returns:
            The digests of those that were deleted for it.

        Raises:
            OSError: the disk is full or read-only; the former one is kept.
        """
        # the one before stays named: a bundle that proved itself and then crashes thrice must leave something behind
        former = [proven for proven in self._proven() if proven != bare(digest) and self.find(proven)]
        kept = [bare(digest), *former[:1]]
        if kept != self._proven():
            for name, proven in reversed(list(zip((LAST_KNOWN_GOOD, THE_ONE_BEFORE), kept, strict=False))):
                replace(self._root / name, f"{proven}\n".encode())
        self._sweep()
        names = sorted(folder.name for folder in (self._root / "bundles").iterdir())
        older = [name for name in names if HEX.fullmatch(name) and name not in kept]
        for name in older:
            self.drop(name)
        return [f"sha256:{name}" for name in older]

    @contextlib.contextmanager
    def lock(self, digest: str, deadline: Deadline) -> Iterator[None]:
        """Let one process at a time download a bundle; the others wait and then find it here.

        Where no lock can be taken (a read-only disk), everybody downloads for himself.

        Raises:
            BundleError: `fetch_timeout` if the other one takes too long.
        """
        try:
            self._make(self._root)
            descriptor = os.open(
                self._root / f".lock-{bare(digest)[:16]}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError:
            yield
            return
        try:
            while not _try_lock(descriptor):
                if deadline.remaining() <= 0:
                    raise deadline.error()
                threading.Event().wait(min(0.02, deadline.remaining()))
            yield
        finally:
            os.close(descriptor)

    def begin(self, digest: str) -> None:
        """Note that this process serves a bundle, in place of any other, so that a sudden end can be seen by the next.

        The mark is locked for as long as the process lives.
        A process id would not do: after a restart of a container another process has the same one.
        """
        global _own_mark
        self.end()
        with contextlib.suppress(OSError):
            home = self._root / "running"
            self._make(home)
            descriptor, unfinished = tempfile.mkstemp(prefix=UNFINISHED, dir=home)
            mark = home / f"{os.getpid()}-{secrets.token_hex(4)}-{bare(digest)}"
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # nobody sees the mark before it is locked
                Path(unfinished).rename(mark)
            except OSError:
                os.close(descriptor)
                Path(unfinished).unlink(missing_ok=True)
                raise
            _own_mark = (mark, descriptor)

    def end(self) -> None:
        """Note that this process ends in good order."""
        global _own_mark
        own, _own_mark = _own_mark, None
        if own is not None:
            mark, descriptor = own
            with contextlib.suppress(OSError):
                mark.unlink(missing_ok=True)
            os.close(descriptor)

    def count_crashes(self) -> None:
        """Note processes that ended suddenly since the last start, and quarantine a bundle that keeps ending them."""
        with contextlib.suppress(OSError):
            crashed = self._root / "crashed"
            now_ns = int(self._wall_clock() * 1e9)
            for number, mark in enumerate(self._marks("running")):
                if _is_left(mark.file):
                    self._make(crashed)
                    # another process may note it first; the number keeps two of the same moment apart
                    with contextlib.suppress(FileNotFoundError):
                        mark.file.rename(crashed / f"{now_ns + number}-{mark.digest}")
            recent = Counter(mark.digest for mark in self._recent_crashes(now_ns))
            for digest, count in recent.items():
                if count >= CRASHES:
                    self._make(self._root / "quarantine")
                    (self._root / "quarantine" / digest).touch()

    def _recent_crashes(self, now_ns: int) -> list[_Mark]:
        """Return the crashes that still count, and forget the others; a clock set back forgets as well."""
        marks = self._marks("crashed")
        recent = [mark for mark in marks if abs(now_ns - mark.number) <= CRASH_WINDOW_SECONDS * 1e9]
        for mark in marks:
            if mark not in recent:
                mark.file.unlink(missing_ok=True)
        return recent

    def is_quarantined(self, digest: str) -> bool:
        """Whether processes that served a bundle ended suddenly three times within 60 seconds."""
        return (self._root / "quarantine" / bare(digest)).exists()

    def _proven(self) -> list[str]:
        """Return the hex digests of the bundles last proven here, newest first."""
        found = []
        for name in (LAST_KNOWN_GOOD, THE_ONE_BEFORE):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found.append((self._root / name).read_text().strip())
        return [line for line in found if HEX.fullmatch(line)]

    def _marks(self, folder: str) -> list[_Mark]:
        """Return what was noted in a folder: `<number>-<digest>`, with something unique between them or not."""
        try:
            files = list((self._root / folder).iterdir())
        except OSError:
            return []
        split = [(file, file.name.partition("-")[0], file.name.rpartition("-")[2]) for file in files]
        return [
            _Mark(file, int(number), digest)
            for file, number, digest in split
            if number.isdecimal() and HEX.fullmatch(digest)
        ]

    def _make(self, folder: Path) -> None:
        """Make a folder that only this user can write to, and refuse one that belongs to somebody else."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = self._root.stat().st_uid
        if owner != os.getuid():
            raise BundleError("cache_not_ours", f"{self._root} belongs to user {owner}; set MODEL_CACHE_DIR")


def _try_lock(descriptor: int) -> bool:
    """Take a lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_left(mark: Path) -> bool:
    """Whether the process that made a mark is gone, and its lock with it."""
    try:
        descriptor = os.open(mark, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # it has just ended in good order
        return False
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)
