"""The identity token that a host asks for: given, or from gcloud, and renewed before it expires."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence

# Google's live for an hour
RENEWED_SECONDS = 45 * 60
GCLOUD = ("gcloud", "auth", "print-identity-token")


class TokenError(Exception):
    """No token can be had; the text is one line that says what to do."""


class Identity:
    """Headers that say who asks."""

    def __init__(
        self, token: str = "", command: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take a token, or a command that prints one; with neither, nobody asks.

        Args:
            token: used as it is.
            command: run when a token is first needed and when the last one gets old.
            clock: seconds.
        """
        self._token, self._command, self._clock = token, command, clock
        self._made: float | None = None

    def headers(self) -> dict[str, str]:
        """Return the header for the next request.

        Raises:
            TokenError: the command failed.
        """
        if self._command and (self._made is None or self._clock() - self._made > RENEWED_SECONDS):
            self._token, self._made = _printed(self._command), self._clock()
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}


def _printed(command: Sequence[str]) -> str:
    """Return what a command prints."""
    try:
        found = subprocess.run(list(command), capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TokenError(f"{command[0]}: {error}; give a token in LOAD_TOKEN") from error
    token = found.stdout.strip()
    if found.returncode or not token:
        said = (found.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise TokenError(f"{' '.join(command)}: {said}; log in, or give a token in LOAD_TOKEN")
    return token
