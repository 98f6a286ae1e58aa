"""The scenarios: how many users when, how long each thinks, on what limits; and their short forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from load.traffic import MIX

# who has less time says so: `make load SCENARIO=soak SOAK=300`
SOAK_SECONDS = 3600.0


@dataclass(frozen=True)
class Stage:
    """A stretch of time.

    Attributes:
        name: `ramp` while users arrive, or what is held.
        seconds: how long.
        users: at its end.
        rate: users that arrive a second.
    """

    name: str
    seconds: float
    users: int
    rate: float


@dataclass(frozen=True)
class Scenario:
    """A load.

    Attributes:
        name: as it is asked for.
        says: what it is, in a sentence.
        stages: in order; empty for an open loop.
        pause_seconds: a user's shortest and longest pause between two requests.
        model: what is served.
        overload: how many times the measured capacity is sent in an open loop; 0 for users.
        open_seconds: for how long.
        cpu: processors of the instance.
        memory_mb: of the instance.
        mix: weights of the kinds of requests.
    """

    name: str
    says: str
    stages: tuple[Stage, ...] = ()
    pause_seconds: tuple[float, float] = (0.5, 1.5)
    model: str = "penguins"
    overload: float = 0
    open_seconds: float = 0
    cpu: float = 1.0
    memory_mb: int = 512
    mix: Mapping[str, int] = field(default_factory=lambda: MIX)

    @property
    def seconds(self) -> float:
        """How long it takes, without starts."""
        return sum(stage.seconds for stage in self.stages) + self.open_seconds

    def stage_at(self, seconds: float) -> Stage | None:
        """Return what is on at some time, None after the end."""
        for stage in self.stages:
            seconds -= stage.seconds
            if seconds < 0:
                return stage
        return None


def _held(users: int, seconds: float) -> tuple[Stage, ...]:
    """Let users arrive within 5 seconds, then hold them."""
    return (Stage("ramp", 5, users, max(users / 4, 1)), Stage("steady", seconds, users, max(users / 4, 1)))


def _iris(seconds: float) -> tuple[Stage, ...]:
    """Two phases of the iris system's test: 150 users at 10 a second, then 300."""
    return (
        Stage("ramp", 15, 150, 10),
        Stage("150 users", seconds, 150, 10),
        Stage("ramp", 15, 300, 10),
        Stage("300 users", seconds, 300, 10),
    )


FULL = {
    scenario.name: scenario
    for scenario in (
        Scenario("baseline", "one user, without hurry", _held(1, 55), pause_seconds=(0.05, 0.15)),
        Scenario("normal", "10 users, about 10 requests a second: the daily load", _held(10, 295)),
        Scenario("stress", "50 users", _held(50, 115)),
        Scenario(
            "spike", "1 to 100 users within a minute", (Stage("ramp", 60, 100, 100 / 58), Stage("steady", 30, 100, 100))
        ),
        Scenario("soak", "10 users for a long time", _held(10, SOAK_SECONDS - 5)),
        Scenario("iris", "150 users, 10 more a second, then 300", _iris(90), model="iris"),
        Scenario("overload", "ten times the capacity, in an open loop", overload=10, open_seconds=30),
    )
}
_SHORT = {
    "baseline": _held(1, 15),
    "normal": _held(10, 30),
    "stress": _held(50, 20),
    "spike": (Stage("ramp", 20, 100, 100 / 18), Stage("steady", 10, 100, 100)),
    "soak": _held(10, 45),
    "iris": _iris(15),
}


def named(name: str, *, quick: bool, soak_seconds: float = SOAK_SECONDS) -> Scenario:
    """Return a scenario, in its short form if that is enough.

    Args:
        name: one of `FULL`.
        quick: the short form.
        soak_seconds: how long the long form of `soak` is.

    Raises:
        KeyError: there is none of this name.
    """
    scenario = FULL[name]
    if not quick:
        return replace(scenario, stages=_held(10, soak_seconds - 5)) if name == "soak" else scenario
    return replace(scenario, stages=_SHORT.get(name, ()), open_seconds=min(scenario.open_seconds, 10))
