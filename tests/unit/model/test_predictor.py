"""The one way to an answer."""

from __future__ import annotations

import numpy as np
import pytest

from model import predictor
from model.dataset import Dataset
from model.predictor import Predictor
from model.verify import VerifiedBundle


def test_known_adelie_is_answered(penguins_predictor: Predictor):
    found = penguins_predictor.predict(np.array([[39.1, 18.7, 181, 3750]], dtype=np.float32))

    assert penguins_predictor.manifest.classes[found.classes[0]] == "Adelie"
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("engine", ["onnx", "xgboost"])
def test_a_row_never_depends_on_its_batch(penguins: VerifiedBundle, penguins_data: Dataset, engine):
    loaded = predictor.load(penguins, engine)
    rows = np.tile(penguins_data.matrix, (4, 1))

    together = loaded.predict(rows)
    alone = [loaded.predict(row[None]) for row in penguins_data.matrix]

    np.testing.assert_array_equal(together.probabilities[:342], np.concatenate([a.probabilities for a in alone]))
    np.testing.assert_array_equal(together.novelty[-342:], np.concatenate([a.novelty for a in alone]))
