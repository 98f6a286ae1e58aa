"""Counts answered rows: what came in the bins of the reference, and what was answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.baseline import Baseline, Variable
from model.bins import Bins, Edged
from model.domain import FloatMatrix
from model.predictor import Answer, Prediction
from service import families as f
from service.cells import Cells, FloatArray
from service.typed import to_columns

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
        variables: list[Edged] = [*map(_histogram, bounds), _list(len(cells[f.PREDICTIONS]))]
        self._has_drift = watched is not None
        if watched is not None:
            variables += [(_as_rows(one), one.places, len(one.bins)) for one in watched.variables]
        self._bins = Bins(variables)
        # views into the ledger: of each histogram its bins and the sum of its values, and of drift everything
        self._counts = [*(cells[name][:-1] for name in HISTOGRAMS), cells[f.PREDICTIONS]]
        self._sums = [cells[name][-1:] for name in HISTOGRAMS]
        if watched is not None:
            self._counts.append(cells[f.DRIFT_ROWS])
        self._ends = np.cumsum([0, *map(len, self._counts)]).tolist()
        # memory that is given back is cleared by the kernel once it is taken again: half of the time of counting
        self._features, self._answered = np.empty((0, 0), np.float32), np.empty((OF_ANSWERS, 0))

    def count_calls(
        self, matrices: Sequence[FloatMatrix], answers: Sequence[Sequence[Answer] | Prediction]
    ) -> Iterator[None]:
        """Count the rows of calls, piece by piece.

        Args:
            matrices: of each call, float32, shape (n, d), NaN for null.
            answers: to the same rows, in the same order.
        """
        rows = sum(map(len, matrices))
        if not rows:
            return
        features, answered = self._room(rows, matrices[0].shape[1])
        few: list[Answer] = []
        few_matrices: list[FloatMatrix] = []
        end = 0
        for matrix, answer in zip(matrices, answers, strict=True):
            if isinstance(answer, Prediction):
                begin, end = end, end + len(matrix)
                features[:, begin:end] = matrix.T
                _write(answer, answered[:, begin:end])
            elif answer:
                few += answer
                few_matrices.append(matrix)
        if few:
            features[:, end:] = np.concatenate(few_matrices).T
            answered[:, end:] = to_columns(*told(few))
        yield
        yield from self._count(features, answered)

    def count(self, matrix: FloatMatrix, answered: FloatArray) -> Iterator[None]:
        """Count rows, piece by piece.

        Args:
            matrix: float32, shape (n, d), NaN for null.
            answered: what was told about them, in the order of `told`, shape (4, n).
        """
        room = self._room(*matrix.shape)
        room[0][:], room[1][:] = matrix.T, answered
        yield from self._count(*room)

    def _room(self, rows: int, features: int) -> tuple[NDArray[np.float32], FloatArray]:
        """Return room for features, shape (d, n), and for what was answered, shape (4, n): the same place each time."""
        if self._features.shape[1] < rows:
            self._features = np.empty((features, rows), np.float32)
            self._answered = np.empty((OF_ANSWERS, rows))
        return self._features[:, :rows], self._answered[:, :rows]

    def _count(self, features: NDArray[np.float32], answered: FloatArray) -> Iterator[None]:
        """Count rows of which all numbers of a kind stand side by side; they are sorted in their place."""
        answered.sort()
        sizes, classes, confidence, novelty = answered
        for cells, column in zip(self._sums, (sizes, confidence, novelty), strict=True):
            cells += column.sum()
        counted: list[NDArray[np.floating]] = [sizes, confidence, novelty, classes]
        yield
        if self._has_drift:
            # short numbers, which takes half of the time
            features.sort()
            counted += [*features, classes, confidence, novelty]
            yield
        counts = self._bins.count(counted)
        for begin, end, cells in zip(self._ends, self._ends[1:], self._counts, strict=False):
            cells += counts[begin:end]


def _as_rows(one: Variable) -> NDArray[np.floating]:
    """Return edges with which the float32 values of rows compare as with its own: the next float32 is not below."""
    if one.kind != "feature":
        return one.borders
    edges = one.borders.astype(np.float32)
    return np.where(edges < one.borders, np.nextafter(edges, np.float32(np.inf)), edges)


def _list(size: int) -> Edged:
    """Return positions in a closed list as a variable of `Bins`."""
    return np.arange(0.5, size - 1), np.arange(size + 1), size


def _histogram(bounds: Sequence[float]) -> Edged:
    """Return a histogram as a variable of `Bins`: its bounds are inclusive, theirs are not."""
    places = np.append(np.arange(len(bounds) + 1), len(bounds))
    return np.nextafter(bounds, np.inf), places, len(bounds) + 1


def _write(one: Prediction, answered: FloatArray) -> None:
    """Write down what `told` says about a batch, shape (4, n); a product is faster than a sum over short rows."""
    count, width = one.probabilities.shape
    answered[0] = one.sets.astype(np.float32) @ np.ones(width, np.float32)
    answered[1] = one.classes
    answered[2] = one.probabilities.take(np.arange(0, count * width, width) + one.classes)
    answered[3] = one.novelty


def told(answers: Sequence[Answer]) -> tuple[Sequence[float], ...]:
    """Return sizes of prediction sets, classes, their probabilities and novelty; of each n, one at least."""
    columns: Any = Answer._make(zip(*answers, strict=True))
    classes = columns.prediction
    sizes = [each.count(True) for each in columns.members]
    confidence = [each[place] for each, place in zip(columns.probabilities, classes, strict=True)]
    return sizes, classes, confidence, columns.novelty
