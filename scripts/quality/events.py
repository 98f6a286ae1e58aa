"""Events of the service's log: what was predicted, and what turned out to be true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

PREDICTION, FEEDBACK = "prediction.made", "feedback.received"
# of a request: its id, and the row within it
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Predicted:
    """What was answered for one row.

    Attributes:
        digest: of the bundle that answered.
        label: the predicted class.
        confidence: its probability, 0..1.
        members: the prediction set.
        bins: by feature, the bin of the reference that the value fell into.
    """

    digest: str
    label: str
    confidence: float
    members: tuple[str, ...]
    bins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction and what turned out to be true."""

    predicted: Predicted
    truth: str

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.predicted.label == self.truth

    @property
    def is_covered(self) -> bool:
        """Whether the true class is in the prediction set."""
        return self.truth in self.predicted.members


@dataclass
class Joined:
    """What was found.

    Attributes:
        outcomes: those of each bundle, by its digest.
        predictions: every row that was told.
        unmatched: rows whose truth is known, but of which the prediction was not told.
        skipped: events that are not as the service writes them.
    """

    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    predictions: dict[Key, Predicted] = field(default_factory=dict)
    unmatched: int = 0
    skipped: int = 0


def join(events: Iterable[Mapping[str, Any]]) -> Joined:
    """Bring predictions and truths together, in whatever order they come; of several truths the last one holds."""
    found, truths = Joined(), dict[Key, str]()
    for event in events:
        try:
            if event.get("message") == PREDICTION:
                found.predictions.update(_predictions(event))
            elif event.get("message") == FEEDBACK:
                truths[str(event["request_id"]), int(event.get("row", 0))] = str(event["label"])
        except (KeyError, TypeError, ValueError, AttributeError):
            found.skipped += 1
    for key, truth in truths.items():
        predicted = found.predictions.get(key)
        if predicted is None:
            found.unmatched += 1
        else:
            found.outcomes.setdefault(predicted.digest, []).append(Outcome(predicted, truth))
    return found


def _predictions(event: Mapping[str, Any]) -> Iterator[tuple[Key, Predicted]]:
    """Yield the rows of one event."""
    for row in event["predictions"]:
        yield (
            (str(event["request_id"]), int(row["row"])),
            Predicted(
                str(event["digest"]),
                str(row["label"]),
                float(row["confidence"]),
                tuple(map(str, row["prediction_set"])),
                {str(name): str(bin_) for name, bin_ in row.get("bins", {}).items()},
            ),
        )
