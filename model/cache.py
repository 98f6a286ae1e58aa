"""Bundles on local disk: downloaded once, the last good one remembered."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from model.bundle import MANIFEST, UNFINISHED, bare, replace, write_folder
from model.quarantine import HEX, Quarantine, WallClock, make_own
from model.signing import SIGNATURE
from model.store import Deadline
from model.verify import VerifiedBundle

LAST_KNOWN_GOOD, THE_ONE_BEFORE = "last-known-good", "the-one-before"
# the longest ROOKERY_LOAD_SECONDS twice over
UNFINISHED_SECONDS = 600.0


class Cache:
    """A folder that belongs to this service: `bundles/<hex>/`, `last-known-good`, `the-one-before`, notes of crashes.

    Attributes:
        quarantine: the bundles that were set aside.
    """

    def __init__(self, root: Path, wall_clock: WallClock = time.time) -> None:
        """Name the folder; it is made when something is kept.

        Args:
            root: MODEL_CACHE_DIR.
            wall_clock: seconds since the epoch.
        """
        self._root, self._wall_clock = root, wall_clock
        self.quarantine = Quarantine(root, wall_clock)

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
        make_own(self._root, home)
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
        for home in (self._root, self._root / "bundles"):
            for left in home.glob(f"{UNFINISHED}*"):
                with contextlib.suppress(OSError):
                    if self._wall_clock() - left.stat().st_mtime > UNFINISHED_SECONDS:
                        shutil.rmtree(left) if left.is_dir() else left.unlink()

    @property
    def last_known_good(self) -> str | None:
        """The digest of the bundle last proven here that is still on disk and not in quarantine, or None."""
        good = (digest for digest in self._proven() if self.find(digest) and not self.quarantine.holds(digest))
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
            make_own(self._root, self._root)
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

    def _proven(self) -> list[str]:
        """Return the hex digests of the bundles last proven here, newest first."""
        found = []
        for name in (LAST_KNOWN_GOOD, THE_ONE_BEFORE):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found.append((self._root / name).read_text().strip())
        return [line for line in found if HEX.fullmatch(line)]


def _try_lock(descriptor: int) -> bool:
    """Take a lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
