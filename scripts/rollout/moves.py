"""Moves traffic: one write with compare-and-swap, tried again only while the service is still as it was decided on."""

from __future__ import annotations

from collections.abc import Callable

from scripts.rollout import state as states
from scripts.rollout.doors import Clock
from scripts.rollout.plan import Plan
from scripts.rollout.platform import Conflict, Platform, Service, Unavailable
from scripts.rollout.state import Damaged, Phase, State

SETTLE_SECONDS = 300.0
# how long a service may be unsettled although its traffic is as expected, before that is believed
AS_EXPECTED_SECONDS = 30.0
AT_ONCE_SECONDS = 3.0
PATIENCE_SECONDS = 300.0
POLL_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 15.0
ATTEMPTS = 20
# of everything together, when whoever ends this process waits: Docker's grace is 10 s
HURRIED_SECONDS = 8.0


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
        self._hurry_until: float | None = None
        # what this controller knows it wrote or found, and what it may have written since
        self._mine: tuple[State, ...] = ()

    @property
    def last(self) -> State | None:
        """The newest state that this controller found or tried to write."""
        return self._mine[-1] if self._mine else None

    def hurry(self) -> None:
        """Let everything from now on end within `HURRIED_SECONDS`."""
        self._hurry_until = self._clock.now() + HURRIED_SECONDS

    def is_mine(self, service: Service) -> bool:
        """Whether the traffic is as this controller left it; then nobody else moved it."""
        return states.shares(service) in [states.wanted(one, self._plan) for one in self._mine]

    def _by(self, seconds: float) -> float:
        """Return when something must be done that may take so long."""
        due = self._clock.now() + seconds
        return due if self._hurry_until is None else min(due, self._hurry_until)

    def settled(self) -> Service:
        """Read the service until what was asked for is what is served, or as it is if that takes too long.

        Raises:
            Unavailable: the platform does not answer.
            Refused: the platform does not let us.
        """
        deadline = self._by(AS_EXPECTED_SECONDS)
        while not (service := self._read()).settled and self._clock.now() < deadline:
            self._clock.sleep(POLL_SECONDS)
        return service

    def held(self, expected: State, patience_seconds: float = AS_EXPECTED_SECONDS) -> tuple[Service, State]:
        """Read the service, and the state of a rollout that is still ours.

        Args:
            expected: the state as this controller knows it.
            patience_seconds: how long to wait for a service that does not settle although its traffic is as expected:
                another revision that never becomes ready must not keep this one from being rolled back.

        Raises:
            StoodDown: the rollout is not ours any more, or the traffic is not what the state says.
            Unavailable, Refused: see `settled`; or the service does not settle.
        """
        patient, deadline = self._by(patience_seconds), self._by(SETTLE_SECONDS)
        while True:
            service = self._read()
            found = _owned(service, expected)
            trouble = "" if found.is_over else self._trouble(service, found)
            now = self._clock.now()
            # what failed does not change by itself any more
            if service.settled or (now >= patient and (service.failed or not trouble)):
                break
            if now >= deadline:
                raise Unavailable(f"{service.name} has not settled for {SETTLE_SECONDS:.0f} s")
            self._clock.sleep(POLL_SECONDS)
        if trouble:
            raise StoodDown(trouble)
        self._mine = (found,)
        return service, found

    def _trouble(self, service: Service, found: State) -> str:
        """Return what is not as the state says, empty if all is."""
        if states.shares(service) != states.wanted(found, self._plan):
            return f"the traffic is {states.say(states.shares(service))}: somebody moved it"
        if newer := states.other_candidate(service, found):
            return f"{newer} has the tag {states.CANDIDATE} now: it was deployed after {found.candidate}"
        if states.candidate_of(service) is None:
            return f"the tag {states.CANDIDATE} is not on {found.candidate} any more: somebody moved it"
        return ""

    def _read(self) -> Service:
        deadline, wait = self._by(PATIENCE_SECONDS), POLL_SECONDS
        while True:
            try:
                return self._platform.read()
            except Unavailable:
                if self._clock.now() >= deadline:
                    raise
                self._clock.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def move(
        self, expected: State, to: Callable[[State], State], patience_seconds: float = AS_EXPECTED_SECONDS
    ) -> State:
        """Write the traffic and the state that follow from the newest state.

        Args:
            expected: the state as this controller knows it.
            to: returns the state to write; called again after a conflict, with what is found then.
            patience_seconds: see `held`.

        Returns:
            What holds afterwards, read back: exit codes and errors are no proof. It is another state than the one meant
            if somebody moved the rollout on in between, or if `to` left it as it was.

        Raises:
            StoodDown: see `held`; nothing was written over what others did.
            Unavailable, Refused: the platform does not let us.
        """
        wish: State | None = None
        for attempt in range(ATTEMPTS):
            service, found = self.held(expected, patience_seconds)
            if found == wish or (found.phase, found.step) != (expected.phase, expected.step):
                return found
            wish = to(found)
            is_more = wish.phase is Phase.PROMOTED or wish.percent(self._plan) > found.percent(self._plan)
            if wish == found or (is_more and states.deploying(service, found)):
                return found
            written = states.with_traffic(service, wish, self._plan)
            # as it will be read back
            wish = states.of(written) or wish
            self._mine = (found, wish)
            try:
                self._platform.write(written)
            except (Conflict, Unavailable):
                if self._clock.now() >= self._by(SETTLE_SECONDS):
                    break
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
        self._mine = (*self._mine, state)
        self._platform.write(states.noted(service, state))
        return state

    def place(self, service: Service, state: State, *, takes_tag: bool = True) -> State:
        """Write traffic and state on a service as it was read, in one try: the first write of a rollout, or its last.

        Args:
            service: as it was read.
            state: to write.
            takes_tag: whether the tag `candidate` goes to the state's candidate, wherever it is.

        Raises:
            Conflict, Unavailable, Refused: see `Platform.write`.
        """
        self._mine = (*self._mine, state)
        self._platform.write(states.with_traffic(service, state, self._plan, takes_tag=takes_tag))
        return state


def _owned(service: Service, expected: State) -> State:
    """Return the state of a rollout that is still this controller's.

    Raises:
        StoodDown: it is not, or the annotation is gone or damaged.
    """
    try:
        found = states.of(service)
    except Damaged as error:
        raise StoodDown(str(error)) from error
    if found is None:
        raise StoodDown(f"the annotation {states.ANNOTATION} is gone")
    if found.rollout != expected.rollout:
        raise StoodDown(f"the rollout {found.rollout} took the place of this one")
    if found.holder != expected.holder:
        raise StoodDown(f"the controller {found.holder} took over")
    return found
