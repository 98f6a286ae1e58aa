"""What clients lost in a rehearsal, and whether that is what the design promises: nothing, or the candidate's share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.fakes.cloudrun import Served

# so many standard deviations the random choice of a revision may stray from its share
STRAY = 5


class Harm(StrEnum):
    """Who may lose a request."""

    NONE = "nobody"
    CANDIDATE = "who the candidate answers"
    STABLE = "who the stable revision answers, too: it dies"


@dataclass(frozen=True)
class Account:
    """What the traffic saw.

    Attributes:
        sent: requests.
        lost: answered otherwise than 200, or not at all.
        wrong: answered 200 with another class than the model's.
        by_stable: lost ones that were not the candidate's.
        exposed: answered by the candidate.
        during: answered by anybody while the candidate had traffic.
    """

    sent: int
    lost: int
    wrong: int
    by_stable: int
    exposed: int
    during: int

    @classmethod
    def of(cls, counts: Mapping[str, int], log: Sequence[Served], candidate: str) -> Account:
        """Count what the load saw and what the platform wrote down of it."""
        traffic = [one for one in log if not one.tag and one.path.startswith("/predict")]
        mine = [one.time for one in traffic if one.revision == candidate]
        return cls(
            sent=counts.get("sent", 0),
            lost=counts.get("failed", 0) + counts.get("broken", 0),
            wrong=counts.get("wrong", 0),
            by_stable=sum(one.status != 200 and one.revision != candidate for one in traffic),
            exposed=len(mine),
            during=sum(mine[0] <= one.time <= mine[-1] for one in traffic) if mine else 0,
        )

    def trouble(self, harm: Harm, percent: int) -> str:
        """Return what was lost beyond what may be, empty if nothing.

        Args:
            harm: who may lose a request.
            percent: the largest share that the candidate may have had, if it is a bad one.
        """
        if harm is Harm.NONE:
            return f"{self.lost} lost and {self.wrong} wrong, none may be" if self.lost or self.wrong else ""
        if self.by_stable and harm is not Harm.STABLE:
            return f"{self.by_stable} lost by the stable revision"
        most = self.during * percent / 100 + STRAY * math.sqrt(self.during) / 2
        if self.exposed > most:
            return f"the candidate answered {self.exposed} of {self.during}, its share is {percent} %"
        if self.lost - self.by_stable + self.wrong > self.exposed:
            return f"{self.lost + self.wrong} lost or wrong, the candidate answered {self.exposed}"
        return ""
