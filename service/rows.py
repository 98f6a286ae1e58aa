"""Counts answered rows: what came in the bins of the reference, and what was answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from model.baseline import Baseline
from model.bins import Bins
from model.domain import FloatMatrix
from model.predictor import Answer, Prediction
from service import families as f
from service.cells import Cells, FloatArray
from service.typed import to_columns

# columns before the features; the last two of the answers stand behind them once more, in the bins of drift
HISTOGRAMS = (f.SET_SIZES, f.CONFIDENCES, f.NOVELTIES)
OF_ANSWERS = 4


class Rows:
    """Counts many rows with one look at all their numbers."""

    def __init__(self, cells: Cells, watched: Baseline | None) -> None:
        """Lay the bins of histograms and of drift out behind each other.

        Args:
            cells: where it is counted.
            watched: the bins of drift; None if that is not counted.
        """
        bounds = [cells.family(name).bounds for name in HISTOGRAMS]
        variables = [_histogram(each) for each in bounds]
        self._has_drift = watched is not None
        if watched is not None:
            variables += [(one.borders, one.places, len(one.bins)) for one in watched.variables]
        self._bins = Bins(variables)
        # views into the ledger: of each histogram its bins and the sum of its values, and of drift everything
        self._counts = [cells[name][:-1] for name in HISTOGRAMS]
        self._sums = [cells[name][-1:] for name in HISTOGRAMS]
        if watched is not None:
            self._counts.append(cells[f.DRIFT_ROWS])
        self._ends = np.cumsum([0, *map(len, self._counts)]).tolist()
        self._predictions = cells[f.PREDICTIONS]

    def count_calls(
        self, matrices: Sequence[FloatMatrix], answers: Sequence[Sequence[Answer] | Prediction]
    ) -> Iterator[None]:
        """Count rows, piece by piece.

        Args:
            matrices: of each call, float32, shape (n, d), NaN for null.
            answers: to the same rows, in the same order.
        """
        matrix = _stack(matrices)
        if len(matrix):
            yield from self.count(matrix, _columns(answers))

    def count(self, matrix: FloatMatrix, told: FloatArray) -> Iterator[None]:
        """Count rows, piece by piece.

        Args:
            matrix: float32, shape (n, d), NaN for null.
            told: sizes of prediction sets, classes, their probabilities and novelty, shape (4, n).
        """
        sizes, classes, confidence, novelty = columns = np.sort(told)
        counted = [sizes, confidence, novelty]
        for cells, column in zip(self._sums, counted, strict=True):
            cells += column.sum()
        self._predictions += np.bincount(classes.astype(np.intp), minlength=len(self._predictions))
        yield
        if self._has_drift:
            # short numbers are sorted in half of the time, and looked up sooner if they are as long as the edges
            counted += [*np.sort(matrix.T).astype(np.float64), *columns[1:]]
            yield
        counts = self._bins.count(counted)
        for begin, end, cells in zip(self._ends, self._ends[1:], self._counts, strict=False):
            cells += counts[begin:end]


def _histogram(bounds: Sequence[float]) -> tuple[FloatArray, np.ndarray[Any, np.dtype[np.intp]], int]:
    """Return a histogram as a variable of `Bins`: its bounds are inclusive, theirs are not."""
    places = np.append(np.arange(len(bounds) + 1), len(bounds))
    return np.nextafter(bounds, np.inf), places, len(bounds) + 1


def _stack(matrices: Sequence[FloatMatrix]) -> FloatMatrix:
    """Return matrices, shape (n, d), one below the other; many single rows in half of the time numpy takes."""
    if sum(map(len, matrices)) > len(matrices):
        return np.concatenate(matrices)
    rows: Any = matrices
    return np.frombuffer(b"".join(rows), dtype=np.float32).reshape(-1, matrices[0].shape[1])


def _columns(answers: Sequence[Sequence[Answer] | Prediction]) -> FloatArray:
    """Return sizes of prediction sets, classes, their probabilities and novelty, shape (4, n), in any order of rows."""
    # which kinds there are is found out faster than the kind of each
    kinds = set(map(type, answers))
    many = [one for one in answers if isinstance(one, Prediction)] if Prediction in kinds else []
    parts = [_of_many(one) for one in many]
    if len(many) < len(answers):
        few: Any = [one for one in answers if not isinstance(one, Prediction)] if many else answers
        parts.append(_of_few(list(chain.from_iterable(few))))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _of_many(one: Prediction) -> FloatArray:
    """Return the same of many rows; a product is faster than a sum over short rows."""
    confidence = one.probabilities[np.arange(len(one.classes)), one.classes]
    return np.array([one.sets @ np.ones(one.sets.shape[1]), one.classes, confidence, one.novelty])


def _of_few(answers: Sequence[Answer]) -> FloatArray:
    """Return the same of rows in Python's own types."""
    if not answers:
        return np.empty((OF_ANSWERS, 0))
    columns: Any = Answer._make(zip(*answers, strict=True))
    classes = columns.prediction
    sizes = [each.count(True) for each in columns.members]
    confidence = [each[index] for each, index in zip(columns.probabilities, classes, strict=True)]
    return to_columns(sizes, classes, confidence, columns.novelty)
