"""What a controller reaches the world through, and what it tells; the tests put others in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from scripts.rollout.gate import Probe
from scripts.rollout.state import State
from scripts.rollout.verdict import Judgement
from scripts.rollout.windows import Observation


class Clock(Protocol):
    """The door to time."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True)
class Event:
    """Something that happened, for the record and the view.

    Attributes:
        time_seconds: when.
        name: `began`, `resumed`, `judged`, `moved`, `verified`, `held`, `waits`, `synthetic` or `ended`.
        state: where the rollout stands.
        percent: the candidate's share; at an end after which somebody else moved traffic, what it has all the same.
        reason: one sentence.
        judgement: of `judged`.
        observation: what was judged.
        probe: what the candidate answered on its tag's address.
        is_concurrent: whether the stable windows are of the same time.
    """

    time_seconds: float
    name: str
    state: State
    percent: int
    reason: str = ""
    judgement: Judgement | None = None
    observation: Observation | None = None
    probe: Probe | None = None
    is_concurrent: bool = True


class Tell(Protocol):
    """Makes an event of what happened and passes it on; what is given by name replaces the event's own."""

    def __call__(self, name: str, state: State, reason: str, **more: object) -> None:
        """See `Event`."""
        ...


class Asked(NamedTuple):
    """A request of ours that a revision, or the platform for it, answered.

    Attributes:
        time_seconds: when it was answered.
        status: class of the answer, such as `2xx`.
    """

    time_seconds: float
    status: str


class Observer(Protocol):
    """Knows what revisions were seen to do; what it cannot find out is None, it raises nothing."""

    def observe(
        self,
        candidate: str,
        stable: str,
        since_seconds: float,
        stable_since_seconds: float,
        now_seconds: float,
        asked: Mapping[str, Sequence[Asked]] | None = None,
    ) -> Observation:
        """Return both revisions' windows.

        Args:
            candidate: a revision.
            stable: the other.
            since_seconds: no window of the candidate begins before.
            stable_since_seconds: no window of the stable revision begins before; where it is before `since_seconds`,
                the windows between the two are what is compared with.
            now_seconds: the time now.
            asked: our own requests by revision, which are no traffic; None for none.
        """
        ...


class Prober(Protocol):
    """Asks revisions over HTTP."""

    def probe(self, candidate_url: str, stable_url: str, digest: str, waited_seconds: float) -> Probe:
        """Ask who the candidate is, replay the golden rows on it, and ask the stable revision the same.

        Raises nothing: what does not answer is not ready.
        """
        ...

    def identify(self, url: str, digest: str) -> Probe:
        """Ask who a revision is, and no prediction."""
        ...

    def look(self, url: str, digest: str) -> Probe:
        """Ask who a revision is, and a few golden rows; takes seconds, also where nothing is answered.

        Raises nothing: what does not answer is not ready. The probe has one look.
        """
        ...

    def asked(self, url: str) -> Sequence[Asked]:
        """Return the requests sent to a revision's address that are no traffic, as far as they were answered."""
        ...

    def verify(self, url: str) -> str:
        """Return an empty text if a real request is answered there, or why not."""
        ...

    def synthesize(self, candidate_url: str, stable_url: str, percent: int) -> int:
        """Send golden rows to both in the proportion of the step; return how many the candidate got."""
        ...


class Recorder(Protocol):
    """Keeps what happened."""

    def record(self, event: Event) -> None:
        """Keep one event; raises nothing."""
        ...
