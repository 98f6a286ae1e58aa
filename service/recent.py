"""What this process lately predicted, by request id: a caller's own word about it is not believed."""

from __future__ import annotations

from collections.abc import Sequence

from model.predictor import Answer, Prediction
from service.monitor import Served, taken

# rows that are remembered, the oldest are forgotten first: some megabytes
MOST_ROWS = 20_000
# larger batches are not remembered
MOST_ROWS_EACH = 16


class Recent:
    """Reads finished calls, see `service.monitor.Consumer`."""

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        """Begin with none.

        Args:
            most_rows: to be remembered.
        """
        self._most_rows, self._rows = most_rows, 0
        self._known: dict[str, dict[int, int]] = {}
        self._calls: list[Served] = []

    def note(self, calls: Sequence[Served]) -> None:
        """See `service.monitor.Consumer`."""
        self._calls += calls

    def work(self) -> None:
        """Remember predictions; a request id that comes again stands for its last request."""
        for call in taken(self._calls):
            if call.answers is not None and call.instances is not None and len(call.instances) <= MOST_ROWS_EACH:
                self._forget(call.request_id)
                failures = call.instances.failures
                places = [row for row in range(len(call.instances)) if row not in failures]
                self._known[call.request_id] = dict(zip(places, _classes(call.answers), strict=True))
                self._rows += len(places)
        while self._rows > self._most_rows:
            self._forget(next(iter(self._known)))

    def pop(self, request_id: str, row: int) -> int | None:
        """Return the class that was predicted for a row, once; None if that is not known, or not any more."""
        found = self._known.get(request_id, {}).pop(row, None)
        self._rows -= found is not None
        return found

    def _forget(self, request_id: str) -> None:
        """Forget a request."""
        self._rows -= len(self._known.pop(request_id, {}))


def _classes(answers: Sequence[Answer] | Prediction) -> list[int]:
    """Return the predicted classes."""
    if isinstance(answers, Prediction):
        return list(answers.classes.tolist())
    return [answer.prediction for answer in answers]
