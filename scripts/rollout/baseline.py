"""Whether the two revisions answer: a dead stable one is nothing to compare with, a dead candidate is rolled back."""

from __future__ import annotations

from dataclasses import replace

from scripts.rollout.doors import Clock, Prober
from scripts.rollout.gate import LOST_LOOKS, Look, Probe, are_lost, are_unready

# where a look lost something the next ones follow so soon, so that a dead candidate is known within two minutes
AGAIN_SECONDS, AGAIN_MAX = 15.0, 4
# looks in a row without an answer, until it is no baseline any more
SILENT_LOOKS = 3


class Baseline:
    """Listens to the stable revision, look by look."""

    def __init__(self, prober: Prober) -> None:
        """Begin as if it had answered.

        Args:
            prober: asks.
        """
        self._prober, self._silent_looks = prober, 0

    @property
    def is_silent(self) -> bool:
        """Whether it did not answer at the last look."""
        return self._silent_looks > 0

    @property
    def is_lost(self) -> bool:
        """Whether it has not answered for so long that it is dead."""
        return self._silent_looks >= SILENT_LOOKS

    def listen(self, url: str) -> bool:
        """Ask it once; returns whether one that was lost answers again.

        Args:
            url: of its tag, empty where the platform did not say: then it counts as answering.
        """
        # who it is, and no prediction: it may have another contract
        answers = not url or self._prober.identify(url, "").is_ready
        was_lost = self.is_lost
        self._silent_looks = 0 if answers else self._silent_looks + 1
        return answers and was_lost


class Watch:
    """Looks at a candidate that has traffic, and remembers the newest looks."""

    def __init__(self, prober: Prober, clock: Clock, pause_seconds: float) -> None:
        """Begin without any look.

        Args:
            prober: asks.
            clock: time.
            pause_seconds: between two looks where all is well.
        """
        self._prober, self._clock, self._pause_seconds = prober, clock, min(AGAIN_SECONDS, pause_seconds)
        self._looks: tuple[Look, ...] = ()
        self._ready_at = 0.0

    @property
    def is_silent(self) -> bool:
        """Whether nothing was answered at the last look."""
        return bool(self._looks) and self._looks[-1].is_silent

    def look(self, url: str, digest: str) -> Probe:
        """Look once, and a few times more where something was not answered.

        Args:
            url: of the candidate's tag, empty where the platform did not say: then nothing is known.
            digest: of the bundle it is meant to serve.
        """
        if not url:
            return Probe(digest, None, False, 0.0, False)
        self._ready_at = self._ready_at or self._clock.now()
        for again in range(AGAIN_MAX + 1):
            if again:
                self._clock.sleep(self._pause_seconds)
            found = self._prober.look(url, digest)
            self._looks = (*self._looks, *found.looks)[-LOST_LOOKS:]
            if found.is_ready:
                self._ready_at = self._clock.now()
            if found.looks[-1].is_whole or are_lost(self._looks) or are_unready(self._looks):
                break
        return replace(found, looks=self._looks, waited_seconds=self._clock.now() - self._ready_at)
