"""What this process lately predicted, by request id: a caller's own word about it is not believed."""

from __future__ import annotations

from collections.abc import Sequence

from model.predictor import Answer, Prediction
from service.monitor import Served, taken

# rows that are remembered, the oldest are forgotten first; every request has one at least, and an id of at most 128
# letters: under 15 megabytes in all
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
        """See `service.monitor.Consumer`; calls that will not be remembered are not held until then either."""
        self._calls += [
            call
            for call in calls
            if call.answers is not None and call.instances is not None and len(call.instances) <= MOST_ROWS_EACH
        ]

    def work(self) -> None:
        """Remember predictions; a request id that comes again stands for its last request."""
        for call in taken(self._calls):
            if call.answers is None or call.instances is None:
                continue
            self._forget(call.request_id)
            failures = call.instances.failures
            rows = [row for row in range(len(call.instances)) if row not in failures]
            if rows:
                self._known[call.request_id] = dict(zip(rows, _classes(call.answers), strict=True))
                self._rows += len(rows)
        while self._rows > self._most_rows:
            self._forget(next(iter(self._known)))

    def __len__(self) -> int:
        """Return how many requests are remembered."""
        return len(self._known)

    def pop(self, request_id: str, row: int) -> int | None:
        """Return the class that was predicted for a row, once; None if that is not known, or not any more."""
        rows = self._known.get(request_id, {})
        found = rows.pop(row, None)
        self._rows -= found is not None
        if not rows:
            self._forget(request_id)
        return found

    def _forget(self, request_id: str) -> None:
        """Forget a request."""
        self._rows -= len(self._known.pop(request_id, {}))


def _classes(answers: Sequence[Answer] | Prediction) -> list[int]:
    """Return the predicted classes."""
    if isinstance(answers, Prediction):
        return list(answers.classes.tolist())
    return [answer.prediction for answer in answers]
