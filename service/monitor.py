"""The one place that is told about every finished call; metrics, events and traces read from here.

A call is put down, and told to whoever reads it together with others; of it no more is kept than they need. What it
means is worked out later, for many calls at once, and in pieces: whoever asks meanwhile waits for one of them at most
(decisions 0052 and 0054).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from model.predictor import Answer, Prediction
from service.errors import Problem, ServiceError, internal_error
from service.instances import Instances

Kept = TypeVar("Kept")

log = logging.getLogger(__name__)

# so many calls are told about together: for each alone the code would have to come into the caches anew
FEW_CALLS = 128
# after so many calls the work is done, or after a second: most of it is the same for few calls and for many
MOST_CALLS = 2048
# if so many come meanwhile, they come faster than piece by piece
MOST_WAITING_CALLS = 2 * MOST_CALLS
# or after so many rows, as those of batches are kept until then
MOST_ROWS = 16384

# in a WSGI environ: seconds that the request waited for its turn
WAITED = "rookery.wait_seconds"

ROOKERY = "rookery"
PREDICT = "/predict"


class Served(NamedTuple):
    """A call that was answered or refused, once for each; times in seconds.

    Attributes:
        protocol: `rookery` or one of the standard protocols.
        route: the rule that matched, such as `/predict`; empty if the request was not read so far.
        status: of the HTTP answer.
        reason: slug of the refusal, empty if there was none.
        request_id: as answered.
        began: when it was begun to be answered, on `time.perf_counter`.
        wait: how long it waited for its turn before that.
        total: how long the answer took, all stages together.
        decode: from bytes to instances; as the other stages 0 where it was not reached.
        predict: the model, with contributions if they were asked for.
        render: from answers to bytes.
        instances: what was asked; None unless it was answered with predictions.
        answers: of the good instances, in order; None likewise.
        problems: what a refusal named.
        traceparent: the caller's W3C trace context as it came, empty if none.
        cloud_trace: the caller's `X-Cloud-Trace-Context` as it came, empty if none.
    """

    protocol: str
    route: str
    status: int
    reason: str
    request_id: str
    began: float
    wait: float
    total: float
    decode: float = 0.0
    predict: float = 0.0
    render: float = 0.0
    instances: Instances | None = None
    answers: Sequence[Answer] | Prediction | None = None
    problems: tuple[Problem, ...] = ()
    traceparent: str = ""
    cloud_trace: str = ""


def served(*values: object) -> Served:
    """Return a `Served` from all its values in order: a fifth of the time, for the way that every answer takes."""
    return _NEW(Served, values)


_NEW = tuple.__new__


def is_prediction(call: Served) -> bool:
    """Whether a call asked for predictions, whatever came of it."""
    return call.route == PREDICT or call.protocol != ROOKERY


def taken(kept: list[Kept]) -> list[Kept]:
    """Take everything out of a list that other threads append to meanwhile."""
    found = kept[: len(kept)]
    del kept[: len(found)]
    return found


class Consumer(Protocol):
    """Reads finished calls."""

    def note(self, calls: Sequence[Served]) -> None:
        """Keep what is needed of some calls, in their order; from any thread, one at a time."""
        ...

    def work(self) -> Iterable[None] | None:
        """Do what is to be done about what is kept, maybe nothing; by one thread at a time, once a second or more.

        Returns:
            what does a piece of it whenever it is asked for the next one; None if everything is done.
        """
        ...


class Monitor:
    """Tells whoever reads them about finished calls, and lets them work."""

    def __init__(self, consumers: Sequence[Consumer] = ()) -> None:
        """Begin with no calls.

        Args:
            consumers: who reads them; one that fails is logged, and harms neither the others nor the answer.
        """
        self._consumers = tuple(consumers)
        # which nobody was told about yet
        self._noted: list[Served] = []
        self._telling = threading.Lock()
        # since the work was last begun; threads that count at the same time may lose one
        self._calls = self._rows = 0
        self._failures: dict[str, Exception] = {}
        self._lock = threading.Lock()
        self._when_few: Callable[[], None] = self._pass_on
        self._when_full: Callable[[], None] = self.flush
        self._is_put_off = self._will_pass_on = False
        self._pieces: Iterator[None] = iter(())

    def add(self, consumer: Consumer) -> None:
        """Tell one more about what comes from now on."""
        self._consumers += (consumer,)

    def put_off(self, soon: Callable[[Callable[[], None]], object]) -> None:
        """Do the work for what this thread notes a little later, piece by piece, between answers that are on their way.

        Args:
            soon: calls what it is given when this thread has sent what it has to send.
        """
        own = threading.get_ident()

        def pass_on() -> None:
            self._will_pass_on = False
            self._pass_on()

        def when_few() -> None:
            if threading.get_ident() != own:
                self._pass_on()
            elif not self._will_pass_on:
                self._will_pass_on = True
                soon(pass_on)

        def work_off() -> None:
            if self._calls >= MOST_WAITING_CALLS:
                self.flush()
                return
            with self._lock:
                # somebody else may have done everything meanwhile
                goes_on = self._is_put_off = self._is_put_off and next(self._pieces, self) is None
            if goes_on:
                soon(work_off)

        def when_full() -> None:
            if threading.get_ident() != own:
                self.flush()
            elif not self._is_put_off:
                self._is_put_off = True
                self._pieces = self._work()
                soon(work_off)

        self._when_few, self._when_full = when_few, when_full

    def note(self, call: Served) -> None:
        """Note a finished call; from any thread."""
        self._noted.append(call)
        instances = call.instances
        if instances is not None:
            # also those that failed: their errors are held as long
            self._rows += instances.matrix.shape[0] + len(instances.failures)
        if len(self._noted) >= FEW_CALLS or self._rows >= MOST_ROWS:
            self._when_few()

    def note_refusal(
        self,
        error: BaseException,
        request_id: str,
        *,
        route: str = "",
        protocol: str = ROOKERY,
        began: float | None = None,
        wait: float = 0.0,
        traceparent: str = "",
        cloud_trace: str = "",
    ) -> None:
        """Note a refused call.

        Args:
            error: why; anything but a `ServiceError` is a failure of ours.
            request_id: as answered.
            route: see `Served`, as the other arguments.
            protocol: see there.
            began: None if nothing was done for it.
            wait: see there.
            traceparent: see there.
            cloud_trace: see there.
        """
        refusal = error if isinstance(error, ServiceError) else internal_error()
        now = time.perf_counter()
        began = now if began is None else began
        self.note(
            Served(
                protocol,
                route,
                refusal.status,
                refusal.slug,
                request_id,
                began,
                wait,
                now - began,
                problems=refusal.problems,
                traceparent=traceparent,
                cloud_trace=cloud_trace,
            )
        )

    def tick(self) -> None:
        """Let everybody work, once a second, so that they notice that time goes by; in pieces if that was asked for."""
        self._tell()
        self._when_full()

    def flush(self) -> None:
        """Let everybody do all the work there is."""
        self._tell()
        with self._lock:
            # nobody begins anew before this is no longer put off
            under_way = self._pieces
            self._is_put_off = False
            for pieces in (under_way, self._work()):
                for _ in pieces:
                    pass

    def _pass_on(self) -> None:
        """Tell everybody, and let them work if there is enough for it."""
        self._tell()
        if self._calls >= MOST_CALLS or self._rows >= MOST_ROWS:
            self._when_full()

    def _tell(self) -> None:
        """Tell everybody about the calls that were noted."""
        with self._telling:
            calls = taken(self._noted)
            self._calls += len(calls)
            for consumer in self._consumers:
                try:
                    consumer.note(calls)
                except Exception as error:  # noqa: BLE001 - kept for the log, which no answer waits for
                    self._failures[type(consumer).__name__] = error

    def _work(self) -> Iterator[None]:
        """Let one after the other work, piece by piece; whoever asks for them holds the lock."""
        self._calls = self._rows = 0
        for consumer in self._consumers:
            name = type(consumer).__name__
            try:
                yield from consumer.work() or ()
            except Exception as error:  # noqa: BLE001 - what watches a prediction must not harm it, whatever fails
                self._failures[name] = error
            failure = self._failures.pop(name, None)
            if failure is not None:
                log.error("monitor.failed", exc_info=failure, extra={"consumer": name})
            yield
