"""The one way to an answer: a verified bundle, an engine, and everything a prediction says."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import baseline, domain, drift, engines, examples, inspect
from model.domain import FloatMatrix
from model.engines import Engine
from model.errors import BundleError, EngineError
from model.explain import Contributions, Explainer
from model.manifest import FILES, EngineName
from model.reference import FloatArray, Novelty
from model.verify import VerifiedBundle

# rows per engine call: a slice of the smallest model takes well under a millisecond, and memory stays flat
SLICE_ROWS = 1024

# where the two largest probabilities are nearer than this, equal classes are not asked for (decision 0001)
TIE = 1e-5


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answers for n rows.

    Attributes:
        probabilities: float64, shape (n, k), in class order.
        classes: shape (n,), positions of the largest probability.
        sets: bool, shape (n, k), the classes that cannot be ruled out; the predicted one always is in.
        novelty: float64, shape (n,), 0..1.
        is_novel: bool, shape (n,).
    """

    probabilities: NDArray[np.float64]
    classes: NDArray[np.intp]
    sets: NDArray[np.bool_]
    novelty: NDArray[np.float64]
    is_novel: NDArray[np.bool_]

    def answers(self) -> list[Answer]:
        """Return the rows one by one."""
        columns = (self.classes, self.probabilities, self.sets, self.novelty, self.is_novel)
        return list(map(Answer._make, zip(*(column.tolist() for column in columns), strict=True)))


class Answer(NamedTuple):
    """The answer for one row, in Python's own types: a row of a `Prediction`.

    Attributes:
        prediction: position of the largest probability.
        probabilities: in class order.
        members: per class, whether it is in the prediction set.
        novelty: 0..1.
        is_novel: whether the row is unlike the training data.
    """

    prediction: int
    probabilities: list[float]
    members: list[bool]
    novelty: float
    is_novel: bool


class Predictor:
    """Answers rows from one bundle with one engine."""

    def __init__(self, bundle: VerifiedBundle, engine: Engine) -> None:
        """Bind a verified bundle to an engine loaded from it; `load` is the usual way."""
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.engine = engine
        self._novelty = Novelty(self.manifest.reference)
        self._novelty_threshold = self.manifest.reference.novelty_threshold
        self._set_floor = self.manifest.set_floor
        self._low, self._high = domain.plausible_bounds(self.manifest.features)
        self._bounds = list(zip(self._low.tolist(), self._high.tolist(), strict=True))
        self._explainer = Explainer(bundle, engine)
        self.load_seconds: dict[str, float] = {}

    @property
    def novel_distance(self) -> float:
        """The novelty distance at the threshold, in standard deviations."""
        quantiles = self.manifest.reference.novelty_quantiles
        return float(np.interp(self._novelty_threshold, np.linspace(0, 1, len(quantiles)), quantiles))

    @property
    def no_contributions_reason(self) -> str | None:
        """Why `explain` returns None, or None if it can explain."""
        return self._explainer.unavailable_reason

    def predict(self, matrix: FloatMatrix) -> Prediction:
        """Answer n rows.

        Args:
            matrix: float32, shape (n, d), as `model.domain.to_matrix` lays it out.

        Raises:
            EngineError: the matrix has the wrong shape.
        """
        if len(matrix) <= SLICE_ROWS:
            probabilities = self.engine.predict(matrix)
        else:
            slices = range(0, len(matrix), SLICE_ROWS)
            probabilities = np.concatenate([self.engine.predict(matrix[s : s + SLICE_ROWS]) for s in slices])
        classes = probabilities.argmax(axis=1)
        sets = probabilities >= self._set_floor
        sets[np.arange(len(sets)), classes] = True
        novelty = self._novelty.shares(self.distances(matrix))
        is_novel = novelty > self._novelty_threshold
        outside = (matrix < self._low) | (matrix > self._high)
        # hardly ever any, and looking at all at once is faster than row by row
        if outside.any():
            is_novel |= outside.any(axis=1)
        return Prediction(probabilities, classes, sets, novelty, is_novel)

    def answers(self, matrix: FloatMatrix) -> list[Answer]:
        """Answer n rows, one by one in Python's own types.

        A single row takes a short way: the same engine call and the same float64 arithmetic without arrays, a fifth of
        the time. Its answer is that of `predict`, bit for bit.

        Args:
            matrix: float32, shape (n, d), as `model.domain.to_matrix` lays it out.

        Raises:
            EngineError: the matrix has the wrong shape.
        """
        if len(matrix) != 1:
            return self.predict(matrix).answers()
        domain.check_matrix(matrix, len(self._bounds))
        [row] = matrix.tolist()
        probabilities = self.engine.predict_one(row)
        index = probabilities.index(max(probabilities))
        members = [probability >= self._set_floor for probability in probabilities]
        members[index] = True
        novelty = self._novelty.share(row)
        is_novel = novelty > self._novelty_threshold
        for value, (low, high) in zip(row, self._bounds, strict=True):
            is_novel |= value < low or value > high
        return [Answer(index, probabilities, members, novelty, is_novel)]

    def distances(self, matrix: FloatMatrix) -> FloatArray:
        """Return novelty distances, shape (n,), see `Novelty.distances`."""
        return self._novelty.distances(matrix)

    def explain(self, matrix: FloatMatrix, classes: NDArray[np.intp]) -> Contributions | None:
        """Return what each feature adds to the predicted class, or None where there is no way to compute it."""
        return self._explainer.explain(matrix, classes)

    def golden_matrix(self) -> FloatMatrix:
        """Return the golden rows, float32, shape (g, d)."""
        rows = [[np.nan if value is None else value for value in row] for row in self.manifest.golden.rows]
        return np.array(rows, dtype=np.float32)

    def replay_golden(self) -> None:
        """Answer every golden row, one by one and all together, and compare with the known answers.

        Raises:
            BundleError: `golden_mismatch`, naming the first row that differs.
        """
        golden = self.manifest.golden
        known = np.array(golden.probabilities, dtype=np.float64)
        matrix = self.golden_matrix()
        together = self.engine.predict(matrix)
        if together.shape != known.shape:
            shapes = f"{together.shape[1:]} instead of {known.shape[1:]}"
            raise BundleError("golden_mismatch", f"the model answers rows of {shapes} probabilities")
        worst = np.abs(together - known).max(axis=1)
        top = np.sort(known, axis=1)
        differs = (worst > golden.tolerance) | ~np.isfinite(together).all(axis=1)
        differs |= (together.argmax(axis=1) != known.argmax(axis=1)) & (top[:, -1] - top[:, -2] > TIE)
        for index in range(0, len(matrix), 16):
            alone = np.array(self.engine.predict_one(matrix[index].tolist()))
            differs[index] |= not np.abs(alone - known[index]).max() <= golden.tolerance
        if differs.any():
            row = int(differs.argmax())
            found, wanted = (np.round(rows[row], 6).tolist() for rows in (together, known))
            raise BundleError("golden_mismatch", f"golden row {row} answers {found}, known {wanted}")

    def prove_reference(self) -> None:
        """Compute once what is shown beside predictions: the reference's bins, their limits, novelty, examples.

        Raises:
            BundleError: `manifest_inconsistent`: a number overflows, or is divided by 0.
        """
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                watched = baseline.build(self.manifest)
                drift.critical(watched)
                self.distances(self.golden_matrix())
                examples.examples(self.manifest)
        except (ArithmeticError, ValueError, LookupError, TypeError) as error:
            raise BundleError("manifest_inconsistent", f"reference cannot be computed with: {error}") from error


def load(bundle: VerifiedBundle, engine: EngineName | None = None) -> Predictor:
    """Load an engine from a verified bundle and prove it on the golden rows.

    Args:
        bundle: from `model.verify.read`.
        engine: None for the manifest's own choice.

    Raises:
        BundleError: `structure_invalid`, `engine_refused`, `golden_mismatch` or `manifest_inconsistent`.
    """
    start = time.perf_counter()
    manifest = bundle.manifest
    name = engine or manifest.engines.default
    inspect.check({file: bundle.files[file] for file in bundle.unseen if file == FILES[name]}, manifest)
    try:
        loaded = engines.load(name, bundle.files, manifest.features, len(manifest.classes))
    except EngineError as error:
        raise BundleError("engine_refused", str(error)) from error
    try:
        predictor = Predictor(bundle, loaded)
    except np.linalg.LinAlgError as error:
        raise BundleError("manifest_inconsistent", "the covariance is not positive definite") from error
    built = time.perf_counter()
    predictor.replay_golden()
    # metrics, drift and the model card must not be the first to fail
    predictor.prove_reference()
    predictor.load_seconds = {"load": built - start, "golden": time.perf_counter() - built}
    return predictor
