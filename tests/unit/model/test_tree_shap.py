"""Contributions are what XGBoost's own TreeSHAP says, on both sides of every split."""

from __future__ import annotations

import numpy as np
import pytest

from model.engines import XGBoostEngine
from model.errors import EngineError
from model.explain import MAX_CONDITIONS
from model.tree_shap import ForestTooLarge, TreeShap
from tests.unit.model.test_tables import CASES, MIXED, numbers, probing_rows, trained

DEEP = {
    "deep over six numbers": (numbers(6, nullable=True), {"max_depth": 6}),
    "deep over all kinds": (MIXED, {"max_depth": 8, "min_child_weight": 0}),
    "a long thin tree": (numbers(5), {"grow_policy": "lossguide", "max_leaves": 20, "max_depth": 0}),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("features", "params"), (CASES | DEEP).values(), ids=CASES | DEEP)
def test_contributions_are_those_of_xgboost(features, params, classes):
    model = trained(features, classes, **params)
    engine, rows = XGBoostEngine(model.payload(), features, classes), probing_rows(features, model)

    found = TreeShap(model.payload(), features, classes, MAX_CONDITIONS).contributions(rows)

    assert (np.float64, (len(rows), classes, len(features) + 1)) == (found.dtype, found.shape)
    np.testing.assert_allclose(engine.contributions(rows), found, rtol=0, atol=2e-5)
    np.testing.assert_allclose(engine.margins(rows), found.sum(axis=2), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("features", "params"), DEEP.values(), ids=DEEP)
def test_contributions_of_a_row_never_depend_on_its_batch(features, params):
    model = trained(features, 3, **params)
    explainer, rows = TreeShap(model.payload(), features, 3, MAX_CONDITIONS), probing_rows(features, model)[:20]

    alone = [explainer.contributions(rows[i : i + 1])[0] for i in range(len(rows))]

    np.testing.assert_array_equal(explainer.contributions(rows), alone)


def test_no_rows_have_no_contributions():
    model = trained(MIXED, 3)

    found = TreeShap(model.payload(), MIXED, 3, MAX_CONDITIONS).contributions(np.empty((0, 4), dtype=np.float32))

    assert found.shape == (0, 3, 5)


def test_a_forest_that_is_too_large_is_left_to_xgboost():
    model = trained(MIXED, 3)

    with pytest.raises(ForestTooLarge, match="the trees have more than 10 conditions"):
        TreeShap(model.payload(), MIXED, 3, 10)


def test_what_is_no_model_file_is_refused():
    with pytest.raises(EngineError, match=r"^model\.json: "):
        TreeShap(b"junk", MIXED, 3, MAX_CONDITIONS)
