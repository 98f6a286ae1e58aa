"""A service in memory that lies as Cloud Run does, and everything else a controller reaches, with no time passing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from scripts.rollout.doors import Asked, Event
from scripts.rollout.gate import Look, Probe, Replay
from scripts.rollout.platform import Conflict, Refused, Service, Target, Unavailable
from scripts.rollout.windows import Histogram, Observation, Window

DIGEST = "sha256:" + "a" * 64
OLD, NEW, NEWER = "svc-00001-old", "svc-00002-new", "svc-00003-newer"


class Killed(BaseException):
    """The process ended, as with kill -9: nothing catches it."""


class Boundaries:
    """Counts every crossing between a controller and the world, and ends it at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.crossed, self.at = 0, at

    def cross(self) -> None:
        self.crossed += 1
        if self.crossed == self.at:
            raise Killed


@dataclass
class Clock:
    """Time that passes only by sleeping."""

    seconds: float = 1_000_000.0
    boundaries: Boundaries = field(default_factory=Boundaries)

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.boundaries.cross()
        self.seconds += seconds


def tag_url(tag: str) -> str:
    return f"https://{tag}---svc.example.test" if tag else ""


class Platform:
    """One service; `faults` are taken one by one by the calls they fit, `before_write` is somebody else's moment.

    What names the revision `starting` is asked for, and served only when it is `ready`, as Knative's routes are:
    https://github.com/knative/specs/blob/main/specs/serving/knative-api-specification-1.0.md#route
    """

    def __init__(self, traffic: tuple[Target, ...] = ()) -> None:
        traffic = traffic or (Target(NEW, 0, "candidate"), Target(OLD, 100))
        self.service = Service("svc", "1", "https://svc.example.test", self._served(traffic))
        self.boundaries = Boundaries()
        self.faults: list[str] = []
        self.before_write: Callable[[], None] | None = None
        self.unsettled_reads = 0
        self.starting = ""
        self.writes: list[Service] = []

    @staticmethod
    def _served(traffic: tuple[Target, ...]) -> tuple[Target, ...]:
        return tuple(replace(one, url=tag_url(one.tag)) for one in traffic)

    def read(self) -> Service:
        self.boundaries.cross()
        if self._fault("read unavailable"):
            raise Unavailable("503")
        if self._fault("read refused"):
            raise Refused("403")
        if self.unsettled_reads:
            self.unsettled_reads -= 1
            return replace(self.service, settled=False)
        return self.service

    def write(self, service: Service) -> Service:
        self.boundaries.cross()
        if hook := self.before_write:
            self.before_write = None
            hook()
        if self._fault("conflict") or service.etag != self.service.etag:
            raise Conflict("409")
        if self._fault("unavailable"):
            raise Unavailable("503")
        if self._fault("refused"):
            raise Refused("403")
        self.put(service.traffic, dict(service.annotations))
        self.writes.append(self.service)
        if self._fault("applied"):
            raise Unavailable("500 after it was applied")
        if self._fault("slow"):
            self.unsettled_reads = 3
        self.boundaries.cross()
        return self.service

    def put(self, traffic: tuple[Target, ...], annotations: dict[str, str] | None = None) -> None:
        """Change the service as anybody might."""
        notes = self.service.annotations if annotations is None else annotations
        etag = str(int(self.service.etag) + 1)
        self.service = replace(self.service, etag=etag, annotations=notes)
        if self.starting and any(one.revision == self.starting for one in traffic):
            self.service = replace(self.service, asked=traffic, settled=False)
        else:
            self.service = replace(self.service, asked=None, settled=True, traffic=self._served(traffic))

    def deploy(self, revision: str, *, is_ready: bool = True) -> None:
        """Deploy as `scripts.deploy` does: the tag goes to a new revision, traffic stays where it is."""
        others = tuple(one for one in self.service.traffic if one.tag != "candidate" or one.percent)
        pinned = tuple(replace(one, tag="") if one.tag == "candidate" else one for one in others)
        notes = {**self.service.annotations, "rookery.dev/candidate": revision}
        self.starting = "" if is_ready else revision
        self.put((*pinned, Target(revision, 0, "candidate")), notes)
        self.service = replace(self.service, latest_created_revision=revision)

    def ready(self) -> None:
        """Let the revision that starts be ready, and serve what was asked for."""
        self.starting = ""
        if self.service.asked is not None:
            self.put(self.service.asked)

    def shares(self) -> dict[str, int]:
        return {one.revision: one.percent for one in self.service.traffic if one.percent}

    def _fault(self, name: str) -> bool:
        if self.faults and self.faults[0] == name:
            self.faults.pop(0)
            return True
        return False


BOUNDS = (0.005, 0.05, 0.5)


def window(start: float, requests: int, errors: int = 0, seconds: float = 60, **parts: object) -> Window:
    """Return a window of ordinary answers, `errors` of them 5xx."""
    tenth = requests // 10
    spread = (requests - 3 * tenth, 2 * tenth, tenth, 0)
    found = Window(
        start_seconds=start,
        end_seconds=start + seconds,
        requests=requests,
        errors=errors,
        refusals=requests // 50,
        latency=Histogram(BOUNDS, (requests - requests // 100, requests // 100, 0, 0)),
        confidence=Histogram((0.5, 0.9, 0.99), (tenth, tenth, tenth, requests - 3 * tenth)),
        novelty=Histogram((0.5, 0.9, 0.99), spread),
        labels={"Adelie": requests - 4 * tenth, "Gentoo": 4 * tenth},
    )
    return replace(found, **parts)  # type: ignore[arg-type]


class Observer:
    """Shows what it is told to: `health` is good, bad, few, missing, late or fallback."""

    def __init__(self, health: str = "good") -> None:
        self.health, self.boundaries = health, Boundaries()
        self.percent = 50

    def observe(
        self,
        candidate: str,
        stable: str,
        since_seconds: float,
        stable_since_seconds: float,
        now_seconds: float,
        asked: Mapping[str, Sequence[Asked]] | None = None,
    ) -> Observation:
        self.boundaries.cross()
        if self.health == "missing":
            return Observation((), (), None, now_seconds)
        starts = [since_seconds + 60 * index for index in range(3)]
        requests = 3 if self.health == "few" else 1000
        bad = requests // 10 if self.health == "bad" else 0
        return Observation(
            tuple(window(start, requests, bad) for start in starts),
            tuple(window(start, requests) for start in starts),
            now_seconds - (10_000 if self.health == "late" else 0),
            now_seconds,
            self.health == "fallback",
        )


class Prober:
    """Answers as it is told to; `lost` and `wrong` are golden rows of a look, `hangs` seconds of a silent one."""

    def __init__(self) -> None:
        self.lost: Iterator[int] = itertools.repeat(0)
        self.lost_unready = 8
        self.wrong, self.hangs = 0, lambda: None
        self.boundaries = Boundaries()
        self.digest, self.is_ready, self.is_fallback = DIGEST, True, False
        self.replay = Replay(256, 0, 256, 0, 0.0)
        self.trouble = ""
        self.stable_answers = True
        self.synthesized = 0

    def probe(self, candidate_url: str, stable_url: str, digest: str, waited_seconds: float) -> Probe:
        self.boundaries.cross()
        assert candidate_url == tag_url("candidate")
        # somebody may have taken the tag away
        assert stable_url in ("", tag_url("stable"))
        replay = (
            self.replay if self.stable_answers and stable_url else replace(self.replay, pairs=0, changed=0, shift=0.0)
        )
        return Probe(digest, self.digest, self.is_ready, waited_seconds, self.is_fallback, replay)

    def identify(self, url: str, digest: str) -> Probe:
        self.boundaries.cross()
        if url == tag_url("stable"):
            return Probe(digest, DIGEST, self.stable_answers, 0, False)
        return Probe(digest, self.digest, self.is_ready, 0, self.is_fallback)

    def look(self, url: str, digest: str) -> Probe:
        self.boundaries.cross()
        self.require_candidate(url)
        lost = next(self.lost) if self.is_ready else self.lost_unready
        if lost == 8:
            self.hangs()
        look = Look(8, 8 - lost, self.wrong, self.is_ready)
        return Probe(digest, self.digest, self.is_ready, 0, self.is_fallback, looks=(look,))

    def require_candidate(self, url: str) -> None:
        """Fail unless it is the address of the candidate's tag."""
        assert url == tag_url("candidate")

    def asked(self, url: str) -> Sequence[Asked]:
        return ()

    def verify(self, url: str) -> str:
        self.boundaries.cross()
        return self.trouble

    def synthesize(self, candidate_url: str, stable_url: str, percent: int) -> int:
        self.synthesized += 1
        return 50


class Recorder:
    """Remembers events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        self.events.append(event)

    def names(self) -> Iterator[str]:
        return (name for name, _ in itertools.groupby(event.name for event in self.events))
