"""Moves traffic: one write with compare-and-swap, tried again only while the service is still as it was decided on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from scripts.rollout import state as states
from scripts.rollout.doors import Clock
from scripts.rollout.plan import Plan
from scripts.rollout.platform import Conflict, Platform, Service, Unavailable
from scripts.rollout.state import State

SETTLE_SECONDS = 300.0
PATIENCE_SECONDS = 300.0
POLL_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 15.0
ATTEMPTS = 20


class StoodDown(Exception):
    """Somebody else took over, a person or another controller; the text says who or what."""


class Mover:
    """Reads and writes one service for one controller."""

    def __init__(self, platform: Platform, plan: Plan, clock: Clock) -> None:
        """Prepare.

        Args:
            platform: the service.
            plan: what shares the steps have.
            clock: time.
        """
        self._platform, self._plan, self._clock = platform, plan, clock

    def settled(self) -> Service:
        """Read the service until what was asked for is what is served.

        Raises:
            Unavailable: the platform does not answer, or the service does not settle.
            Refused: the platform does not let us.
        """
        deadline = self._clock.now() + SETTLE_SECONDS
        while not (service := self._read()).settled:
            if self._clock.now() >= deadline:
                raise Unavailable(f"{service.name} has not settled for {SETTLE_SECONDS:.0f} s")
            self._clock.sleep(POLL_SECONDS)
        return service

    def _read(self) -> Service:
        return self._patiently(self._platform.read)

    def held(self, expected: State) -> tuple[Service, State]:
        """Read the service, and the state of a rollout that is still ours.

        Args:
            expected: the state as this controller knows it.

        Raises:
            StoodDown: the rollout is not ours any more, or the traffic is not what the state says.
            Unavailable, Refused: see `settled`.
        """
        service = self.settled()
        found = states.of(service)
        if found is None or found.rollout != expected.rollout:
            raise StoodDown("another rollout took the place of this one")
        if found.holder != expected.holder:
            raise StoodDown(f"the controller {found.holder} took over")
        if not found.is_over and states.shares(service) != states.wanted(found, self._plan):
            raise StoodDown(f"the traffic is {_say(states.shares(service))}: somebody moved it")
        if not found.is_over and states.candidate_of(service) != found.candidate:
            raise StoodDown(f"the tag {states.CANDIDATE} is not on {found.candidate} any more: somebody moved it")
        return service, found

    def move(self, expected: State, to: Callable[[State], State]) -> State:
        """Write the traffic and the state that follow from the newest state.

        Args:
            expected: the state as this controller knows it.
            to: returns the state to write; called again after a conflict, with what is found then.

        Returns:
            What holds afterwards, read back: exit codes and errors are no proof. It is another state than the one meant
            if somebody moved the rollout on in between, or if `to` left it as it was.

        Raises:
            StoodDown: see `held`; nothing was written over what others did.
            Unavailable, Refused: the platform does not let us.
        """
        wish: State | None = None
        for attempt in range(ATTEMPTS):
            service, found = self.held(expected)
            if found == wish or (found.phase, found.step) != (expected.phase, expected.step):
                return found
            wish = to(found)
            if wish == found:
                return found
            try:
                self._platform.write(states.with_traffic(service, wish, self._plan))
            except (Conflict, Unavailable):
                self._clock.sleep(min(POLL_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS))
        raise Unavailable(f"no write to {service.name} succeeded in {ATTEMPTS} attempts")

    def write(self, service: Service) -> None:
        """Write a service, in one try.

        Raises:
            Conflict, Unavailable, Refused: see `Platform.write`.
        """
        self._platform.write(service)

    def annotate(self, service: Service, state: State) -> State:
        """Write the state alone and leave the traffic as it was read; one try.

        Raises:
            Conflict, Unavailable, Refused: see `Platform.write`.
        """
        self._platform.write(replace(service, annotations=states.annotated(service, state)))
        return state

    def place(self, service: Service, state: State) -> State:
        """Write traffic and state on a service as it was read, in one try: the first write of a rollout.

        Raises:
            Conflict, Unavailable, Refused: see `Platform.write`.
        """
        self._platform.write(states.with_traffic(service, state, self._plan))
        return state

    def _patiently(self, read: Callable[[], Service]) -> Service:
        deadline, wait = self._clock.now() + PATIENCE_SECONDS, POLL_SECONDS
        while True:
            try:
                return read()
            except Unavailable:
                if self._clock.now() >= deadline:
                    raise
                self._clock.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def _say(shares: dict[str, int]) -> str:
    return ", ".join(f"{name} {percent} %" for name, percent in shares.items()) or "nothing"
