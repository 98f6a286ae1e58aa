"""Crashes of a bundle, noted on disk: a bundle that keeps ending its process is set aside."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from model.errors import BundleError

CRASHES, CRASH_WINDOW_SECONDS = 3, 60.0
HEX = re.compile(r"[0-9a-f]{64}")

WallClock = Callable[[], float]


class Quarantine:
    """Two folders in MODEL_CACHE_DIR: `crashed/<ns>-<token>-<hex>`, and `quarantine/<hex>`, which says when it began.

    Gunicorn's parent process writes here, so nothing that needs numpy is imported.
    """

    def __init__(self, root: Path, wall_clock: WallClock = time.time) -> None:
        """Name the folder; it is created when something is written.

        Args:
            root: MODEL_CACHE_DIR.
            wall_clock: seconds since the epoch.
        """
        self._root, self._wall_clock = root, wall_clock

    def note_crash(self, digest: str) -> bool:
        """Note one crash, and set the bundle aside at the third within 60 seconds.

        Returns:
            Whether the bundle is in quarantine now.

        Raises:
            OSError: the disk is full or read-only.
            BundleError: `cache_not_ours`.
        """
        now_ns = int(self._wall_clock() * 1e9)
        make_own(self._root, self._root / "crashed")
        (self._root / "crashed" / f"{now_ns}-{secrets.token_hex(4)}-{_hex(digest)}").touch()
        if self._count_recent(_hex(digest), now_ns) >= CRASHES and not self.holds(digest):
            make_own(self._root, self._root / "quarantine")
            self._file(digest).write_text(f"{now_ns}\n")
        return self.holds(digest)

    def holds(self, digest: str) -> bool:
        """Whether a bundle was set aside: three processes crashed within 60 seconds while they loaded or used it."""
        return self._file(digest).exists()

    def left_seconds(self, digest: str, seconds: float) -> float | None:
        """Return how much is left of a quarantine of so many seconds, 0 if it is over, None if there is none."""
        try:
            began_ns = int(self._file(digest).read_text())
        except OSError:
            return None
        except ValueError:
            # nobody knows when it began
            return 0.0
        # a clock that was set back ends it as well
        return max(0.0, seconds - abs(self._wall_clock() - began_ns / 1e9))

    def lift(self, digest: str) -> None:
        """Let a bundle be tried again, as if it had never crashed."""
        with contextlib.suppress(OSError):
            for file in self._crashes():
                if file.name.endswith(f"-{_hex(digest)}"):
                    file.unlink(missing_ok=True)
            self._file(digest).unlink(missing_ok=True)

    def _file(self, digest: str) -> Path:
        """Return the file that says that a bundle is in quarantine."""
        return self._root / "quarantine" / _hex(digest)

    def _crashes(self) -> list[Path]:
        """Return the notes of crashes, and nothing else that may lie there."""
        found = []
        for file in (self._root / "crashed").iterdir():
            moment, digest = file.name.partition("-")[0], file.name.rpartition("-")[2]
            if moment.isdecimal() and HEX.fullmatch(digest):
                found.append(file)
        return found

    def _count_recent(self, digest: str, now_ns: int) -> int:
        """Count a bundle's crashes within the window, and delete older notes; a clock set back deletes all."""
        count = 0
        for file in self._crashes():
            if abs(now_ns - int(file.name.partition("-")[0])) > CRASH_WINDOW_SECONDS * 1e9:
                file.unlink(missing_ok=True)
            else:
                count += file.name.endswith(f"-{digest}")
        return count


def _hex(digest: str) -> str:
    """Return the 64 hex characters of a digest given with or without `sha256:`."""
    return digest.removeprefix("sha256:")


def make_own(root: Path, folder: Path) -> None:
    """Create a folder that only this user can write to.

    Raises:
        BundleError: `cache_not_ours`: the root belongs to somebody else.
        OSError: the disk is full or read-only.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    refuse_foreign(root)


def refuse_foreign(root: Path) -> None:
    """Raise BundleError `cache_not_ours` if MODEL_CACHE_DIR is there and belongs to somebody else."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        owner = root.stat().st_uid
        if owner != os.getuid():
            raise BundleError("cache_not_ours", f"{root} belongs to user {owner}; set MODEL_CACHE_DIR")
