"""Counts finished calls, many at a time: what each of them means for the metrics."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model import baseline
from model.baseline import Baseline
from service import families as f
from service.cells import Cells, FloatArray
from service.config import Settings
from service.errors import Problem
from service.families import all_families, lay_out
from service.instances import Conversion
from service.ledger import Ledger, NoRoom, Place, alone
from service.loader import NotReady, State
from service.monitor import ROOKERY, Served, taken
from service.remembered import Remembered
from service.typed import to_columns
from service.ways import LOOK_ID, LOOK_ROUTE, WAYS, way_of

if TYPE_CHECKING:
    from service.exemplars import Exemplars
    from service.rows import Rows
    from service.singles import Singles

log = logging.getLogger(__name__)

# an instance is warm after so many seconds
WARM_SECONDS = 10.0

NONE = (0, 0)
_STAGES = np.arange(len(f.STAGES))

# protocol, route, status, reason
Way = tuple[str, str, int, str]


class Tally:
    """Reads finished calls, see `service.monitor.Consumer`.

    Attributes:
        state: the model, or why there is none.
        ledger: where this worker counts, and the others of the instance.
        watched: the bins of drift; None without a model.
    """

    def __init__(self, state: State, ledger: Ledger | None = None, place: Place | None = None) -> None:
        """Prepare; nothing is laid out before the first call or scrape, as the start does not wait for it.

        Args:
            state: the model, or why there is none.
            ledger: of the instance; None for one of its own, as for an application without Gunicorn.
            place: this worker's in it; None if there was none left.
        """
        if ledger is not None and place is None:
            log.error(
                "metrics.alone", extra={"reason": "no place is left in the ledger; no other worker sees this one"}
            )
        self.state = state
        self.ledger, self._place = (ledger, place) if ledger is not None and place is not None else alone()
        self.watched: Baseline | None = None
        self._rows: Rows | None = None
        self._singles: Singles | None = None
        # what is none of those
        self._calls: list[Served] = []
        self._cells: Cells | None = None
        self._warm_at = self.ledger.began + WARM_SECONDS
        self._ways = Remembered(self._find)
        # by protocol and route alone
        self._answered = Remembered(self._find_answered)
        self._series_of_route = 1
        self._in_flight: Callable[[], tuple[int, int]] = lambda: NONE

    def trace(self, settings: Settings) -> Exemplars:
        """Return what keeps the traces behind the latency; it is to be told about every call, too."""
        # imported where it is wanted: the start does not wait for it
        from service.exemplars import Exemplars

        return Exemplars(settings, self._warm_at, self._place)

    @property
    def cells(self) -> Cells:
        """Where it is counted."""
        if self._cells is None:
            self._cells = self._lay_out()
            if not isinstance(self.state, NotReady):
                from service.singles import Singles

                # last of all, as other threads may look up at once where a call is counted
                self._singles = Singles(len(self.state.predictor.manifest.features), self._answered.__getitem__)
        return self._cells

    def look(self, in_flight: Callable[[], tuple[int, int]]) -> None:
        """Take what tells how many requests are in flight, and how many of those wait."""
        self._in_flight = in_flight

    def started(self, phases: Mapping[str, float], listening_at: float) -> None:
        """Note that this worker serves.

        Args:
            phases: seconds that each phase of its start took.
            listening_at: when it began to, in seconds since the epoch.
        """
        cells = self.cells
        cells[f.STARTS][0] += 1
        cells[f.COLD_START][:] = [listening_at, *(phases.get(name, 0.0) for name in f.PHASES)]

    def count_feedback(self, truth: int, predicted: int | None) -> None:
        """Count what turned out to be true about a row.

        Args:
            truth: position of the true class.
            predicted: position of the predicted one; None if it is not known.
        """
        if predicted is None:
            self.cells[f.FEEDBACK_UNKNOWN][0] += 1
            return
        series, count = self.cells.family(f.FEEDBACK).values, len(self.cells.family(f.PREDICTIONS).values)
        if len(series) == count * count:
            place = truth * count + predicted
        else:
            place = truth + (0 if truth == predicted else count)
        self.cells[f.FEEDBACK][place] += 1

    def publish(self) -> None:
        """Write down what is not counted but true now, for whichever worker is asked."""
        cells = self.cells
        cells[f.IN_FLIGHT][0], cells[f.WAITING][0] = self._in_flight()

    def note(self, calls: Sequence[Served]) -> None:
        """See `service.monitor.Consumer`."""
        calls = [_as_look(call) if call.request_id.startswith(LOOK_ID) else call for call in calls]
        self._calls += calls if self._singles is None else self._singles.note(calls)

    def work(self) -> Iterator[None]:
        """Count, and publish; in pieces that take about as long as an answer."""
        self.publish()
        if self._singles is not None:
            yield from self._count_singles(self._singles)
        calls = taken(self._calls)
        if calls:
            yield from self._count_calls(calls)

    def _count_singles(self, singles: Singles) -> Iterator[None]:
        """Count rows that were answered one by one."""
        numbers, rows = singles.take()
        if not len(rows):
            return
        ways, began, wait, total = numbers[:4]
        self._count_requests(ways.astype(np.intp), began + total >= self._warm_at, wait + total)
        yield
        self._count_stages(numbers[singles.STAGES])
        yield
        if self._rows is not None:
            yield from self._rows.count(rows, numbers[singles.TOLD])

    def _count_calls(self, calls: Sequence[Served]) -> Iterator[None]:
        """Count any calls: column by column, as looking at each would cost more than all the counting."""
        columns: Any = Served._make(zip(*calls, strict=True))
        times = to_columns(columns.wait, columns.decode, columns.predict, columns.render, columns.total)
        yield
        ways = zip(columns.protocol, columns.route, columns.status, columns.reason, strict=True)
        requests = np.fromiter(map(self._ways.__getitem__, ways), np.intp, len(calls))
        self._count_requests(requests, np.array(columns.began) + times[-1] >= self._warm_at, times[0] + times[-1])
        if any(columns.problems):
            self._count_problems(columns.problems)
        yield
        yield from self._count_answered(columns, times[:-1])

    def _count_requests(self, requests: NDArray[np.intp], is_warm: NDArray[np.bool_], seconds: FloatArray) -> None:
        """Count what came of calls, and how long they took, all of shape (n,)."""
        self.cells.count(f.REQUESTS, requests + is_warm)
        # both are in the order of the routes
        routes = requests // self._series_of_route
        self.cells.observe(f.REQUEST_SECONDS, seconds, 2 * routes + is_warm)

    def _count_stages(self, stages: FloatArray) -> None:
        """Count how long each stage took, shape (stages, n)."""
        self.cells.observe(f.STAGE_SECONDS, stages.ravel(), _STAGES.repeat(stages.shape[1]))

    def _count_answered(self, columns: Any, stages: FloatArray) -> Iterator[None]:
        """Count the calls among them that were answered with predictions."""
        instances, answers = columns.instances, columns.answers
        if None in answers:
            is_answered = [one is not None for one in answers]
            instances, answers = (list(compress(column, is_answered)) for column in (instances, answers))
            stages = stages[:, is_answered]
        if not answers:
            return
        self._count_stages(stages)
        for one in instances:
            if one.failures or one.conversions:
                self._count_mixups(chain.from_iterable(failure.problems for failure in one.failures.values()))
                self._count_mixups(chain.from_iterable(one.conversions.values()))
        yield
        if self._rows is not None:
            yield from self._rows.count_calls([one.matrix for one in instances], answers)

    def _count_problems(self, problems: Sequence[Sequence[Problem]]) -> None:
        """Count the codes of refusals, once for each request, and unit mix-ups, once for each value."""
        codes = [code for one in problems for code in {problem.code for problem in one}.intersection(f.CODES)]
        self.cells.count(f.REFUSALS, [f.CODES.index(code) for code in codes])
        self._count_mixups(chain.from_iterable(problems))

    def _count_mixups(self, problems: Iterable[Problem | Conversion]) -> None:
        """Count values that were recognised as given in another unit, refused or converted."""
        features = [one.feature for one in problems if one.feature]
        if features and f.UNIT_MIXUPS in self.cells:
            names = self.cells.family(f.UNIT_MIXUPS).values
            self.cells.count(f.UNIT_MIXUPS, [names.index((feature,)) for feature in features])

    def _lay_out(self) -> Cells:
        """Decide what is counted: without drift if the model has too many features for a place in the ledger."""
        if not isinstance(self.state, NotReady):
            self.watched = baseline.build(self.state.predictor.manifest)
        try:
            cells = Cells(lay_out(all_families(self.state, self.watched)), self._place)
        except NoRoom:
            log.error("metrics.no_room", extra={"reason": "too many features or classes; drift is not counted"})
            self.watched = None
            cells = Cells(lay_out(all_families(self.state, None)), self._place)
        self._series_of_route = len(cells.family(f.REQUESTS).values) // len(WAYS)
        if not isinstance(self.state, NotReady):
            # the first answer does not wait for them
            from service.rows import Rows

            self._rows = Rows(cells, self.watched)
        return cells

    def _find(self, way: Way) -> int:
        """Return the series of cold requests; that of warm ones is the next."""
        protocol, route, status, reason = way
        route, protocol = way_of(route, protocol)
        of_status = f"{status // 100}xx"
        series = self.cells.family(f.REQUESTS).values
        for outcome in (f"http-{status}" if reason == "http" else reason, ""):
            # without a reason: a status nobody thought of
            with contextlib.suppress(ValueError):
                return series.index((route, protocol, of_status, outcome, "false"))
        raise ValueError(f"status {status} is none of HTTP's")

    def _find_answered(self, place: tuple[str, str]) -> int:
        """Return the series of cold requests that a protocol answered at a route."""
        return self._find((*place, 200, ""))


def _as_look(call: Served) -> Served:
    """Return a call without the rows that it was answered: they are a rollout's golden rows, not traffic."""
    return call._replace(protocol=ROOKERY, route=LOOK_ROUTE, instances=None, answers=None, problems=())
