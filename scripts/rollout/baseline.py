"""Whether the stable revision is alive: one that does not answer is nothing to compare a candidate with."""

from __future__ import annotations

from scripts.rollout.doors import Prober

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
        # who it is, and no prediction: that would count as traffic
        answers = not url or self._prober.identify(url, "").is_ready
        was_lost = self.is_lost
        self._silent_looks = 0 if answers else self._silent_looks + 1
        return answers and was_lost
