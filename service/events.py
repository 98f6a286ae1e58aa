"""What the log says about finished calls: a line for each that went wrong or took long, and a sample of predictions.

Never instances and never headers: of an instance only the bins of the reference that its values fall into.
"""

from __future__ import annotations

import logging
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from model import baseline
from model.baseline import Variable
from model.domain import FloatMatrix
from model.predictor import Answer, Prediction
from service.config import Settings
from service.loader import NotReady, Ready, State
from service.monitor import Served, is_prediction, taken
from service.tracing import Sampling, span_id_of

log = logging.getLogger(__name__)

# of a batch the first rows are logged, and how many there were
MOST_ROWS = 16
# a flood of refusals must not become a flood of lines: so many a second are written, the rest is counted.
# They are earned bit by bit: a hundred at the begin of each second held the event loop up for 10 ms or more each time
MOST_LINES = 100
# one refusal for want of time tells no more than the next, and writing takes time that answers need
FEW_LINES = {"overloaded": 10.0, "rate-limited": 10.0}
# a line alone takes three times as long as one after another: what writes it has to come into the caches first
LINES_AT_ONCE = 4
# refusals by whoever uses the service wrongly, and by a service that cannot do better
LEVELS = {4: logging.INFO, 5: logging.WARNING}


class Events:
    """Reads finished calls, see `service.monitor.Consumer`."""

    def __init__(
        self,
        state: State,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Prepare; the bins are laid out at the first event, as the start does not wait for them.

        Args:
            state: the model, or why there is none.
            settings: how many, and what is slow.
            clock: seconds since the epoch.
            draw: numbers from 0 (included) to 1.
        """
        self._state, self._clock, self._draw = state, clock, draw
        self._rate, self._slow_seconds = settings.event_rate, settings.slow_seconds
        self._sampling = Sampling(settings.trace_rate if settings.trace_endpoint else 0.0, settings.project)
        self._variables: tuple[Variable, ...] = ()
        self._left = self._next()
        self._to_tell: list[Served] = []
        self._to_summarise: list[Served] = []
        # by reason, "" for all that have no limit of their own
        self._earned = {"": float(MOST_LINES), **FEW_LINES}
        self._earned_at, self._second = clock(), 0
        self._unsaid: Counter[str] = Counter()

    def note(self, calls: Sequence[Served]) -> None:
        """Keep those calls that are worth a line."""
        self._to_summarise += [call for call in calls if call.reason or call.wait + call.total >= self._slow_seconds]
        answered = [call for call in calls if call.answers is not None]
        while self._left < len(answered):
            self._to_tell.append(answered[self._left])
            self._left += 1 + self._next()
        self._left -= len(answered)

    def work(self) -> Iterator[None]:
        """Write about them, some lines at once."""
        yield from islice(self._write(), LINES_AT_ONCE - 1, None, LINES_AT_ONCE)

    def _write(self) -> Iterator[None]:
        """Write about them, one line after the other."""
        self._go_on()
        for call in taken(self._to_summarise):
            if self._summarise(call):
                yield
        for call in taken(self._to_tell):
            self._tell(call)
            yield

    def _next(self) -> int:
        """Return how many predictions are passed over before the next one is told: as if each had its own draw."""
        if self._rate >= 1:
            return 0
        if self._rate <= 0:
            return sys.maxsize
        return int(math.log(1 - self._draw()) / math.log(1 - self._rate))

    def _summarise(self, call: Served) -> bool:
        """Write the one line about a call that was refused, failed or was slow; says whether there was one left."""
        budget = call.reason if call.reason in FEW_LINES else ""
        if self._earned[budget] < 1:
            self._unsaid[call.reason or "slow"] += 1
            return False
        self._earned[budget] -= 1
        extra = {**self._of_call(call), "reason": call.reason}
        if call.problems:
            extra["codes"] = sorted({problem.code for problem in call.problems})
        if not call.reason:
            log.warning("request.slow", extra=extra)
        elif call.reason == "internal":
            log.error("request.refused", extra=extra)
        else:
            log.log(LEVELS.get(call.status // 100, logging.INFO), "request.refused", extra=extra)
        return True

    def _go_on(self) -> None:
        """Earn lines with the time that went by, and say once a second how many were left out."""
        now = self._clock()
        seconds, self._earned_at = max(0.0, now - self._earned_at), now
        for budget, earned in self._earned.items():
            most = FEW_LINES.get(budget, float(MOST_LINES))
            self._earned[budget] = min(most, earned + most * seconds)
        second = int(now)
        if second == self._second:
            return
        self._second = second
        if self._unsaid:
            reasons, self._unsaid = dict(self._unsaid), Counter()
            log.warning("request.not_logged", extra={"requests": sum(reasons.values()), "reasons": reasons})

    def _of_call(self, call: Served) -> dict[str, Any]:
        """Return what is said about any call."""
        trace = self._sampling.trace_of(call.traceparent, call.cloud_trace, call.request_id)
        seconds = {"wait": call.wait, "total": call.total}
        if call.instances is not None:
            seconds |= {"decode": call.decode, "predict": call.predict, "render": call.render}
        return {
            "request_id": call.request_id,
            "protocol": call.protocol,
            "rows": 0 if call.instances is None else len(call.instances),
            "seconds": {name: round(value, 7) for name, value in seconds.items()},
            "http_request": {
                **({"requestMethod": "POST"} if is_prediction(call) else {}),
                "requestUrl": call.route,
                "status": call.status,
                "latency": f"{call.wait + call.total:.6f}s",
            },
            "trace": self._sampling.name(trace),
            "span_id": span_id_of(call.request_id, call.began) if trace.is_sampled else trace.parent_id,
            "trace_sampled": trace.is_sampled,
        }

    def _tell(self, call: Served) -> None:
        """Write a prediction down, for comparing it later with what turned out."""
        if isinstance(self._state, NotReady) or call.answers is None or call.instances is None:
            return
        state, places = self._state, _places(call)
        answers = _first(call.answers)
        bins = self._bins(call.instances.matrix[:MOST_ROWS])
        told = [self._row(state, *each) for each in zip(places, answers, bins, strict=False)]
        log.info(
            "prediction.made",
            extra={**self._of_call(call), "digest": state.digest, "rate": self._rate, "predictions": told},
        )

    def _row(self, state: Ready, place: int, answer: Answer, bins: dict[str, str]) -> dict[str, Any]:
        """Return what is said about one row."""
        classes = state.predictor.manifest.classes
        return {
            "row": place,
            "label": classes[answer.prediction],
            "confidence": round(answer.probabilities[answer.prediction], 6),
            "prediction_set": [name for name, is_member in zip(classes, answer.members, strict=True) if is_member],
            "novelty": round(answer.novelty, 6),
            "is_novel": bool(answer.is_novel),
            "bins": bins,
        }

    def _bins(self, matrix: FloatMatrix) -> list[dict[str, str]]:
        """Return the bin of each value, for each row by the name of the feature."""
        if not self._variables and isinstance(self._state, Ready):
            watched = baseline.build(self._state.predictor.manifest)
            self._variables = tuple(one for one in watched.variables if one.kind == "feature")
        return [
            {one.name: one.name_of(value) for one, value in zip(self._variables, row, strict=True)}
            for row in matrix.tolist()
        ]


def _first(answers: Sequence[Answer] | Prediction) -> list[Answer]:
    """Return the first answers one by one."""
    if isinstance(answers, Prediction):
        few = slice(MOST_ROWS)
        return Prediction(
            answers.probabilities[few],
            answers.classes[few],
            answers.sets[few],
            answers.novelty[few],
            answers.is_novel[few],
        ).answers()
    return list(answers[:MOST_ROWS])


def _places(call: Served) -> Iterator[int]:
    """Return where the answered rows stand in the request."""
    failures = {} if call.instances is None else call.instances.failures
    total = 0 if call.instances is None else len(call.instances)
    return islice((row for row in range(total) if row not in failures), MOST_ROWS)
