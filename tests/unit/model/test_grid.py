"""Values are found between edges as a binary search finds them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.grid import FEW_VALUES, Grid

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)
EDGES = st.lists(NUMBERS | st.floats(-1.0, 1.0), max_size=12).map(sorted)


def assert_as_searched(edges: list[np.ndarray], values: np.ndarray) -> None:
    grid = Grid(edges)
    for each, row, places in zip(edges, values, grid.places(values) - grid.firsts, strict=True):
        np.testing.assert_array_equal(places, np.searchsorted(each, row, side="right"))


def around(edges: list[np.ndarray], more: list[float]) -> np.ndarray:
    """Edges of all variables, their neighbours, and enough other values, in every row."""
    together = np.concatenate(edges)
    near = np.concatenate([together, np.nextafter(together, -np.inf), np.nextafter(together, np.inf), more])
    return np.tile(near[np.isfinite(near)], (len(edges), FEW_VALUES))


@given(edges=st.lists(EDGES, min_size=1, max_size=4), more=st.lists(NUMBERS, min_size=1, max_size=20))
@settings(max_examples=500, derandomize=True, deadline=None)
def test_places_are_those_of_a_binary_search(edges, more):
    arrays = [np.array(each, dtype=np.float64) for each in edges]
    with np.errstate(over="ignore"):
        assert_as_searched(arrays, around(arrays, more))


@pytest.mark.parametrize("counts", [(9, 10, 11), (1, 0, 45), (400, 3)])
def test_edges_of_every_number(counts):
    random = np.random.default_rng(sum(counts))
    edges = [np.sort(random.normal(size=count)) for count in counts]

    assert_as_searched(edges, around(edges, random.normal(size=1000).tolist()))


def test_few_edges_are_found_by_comparing():
    assert Grid([np.linspace(0.1, 0.9, 9), np.linspace(0, 100, 11)])._steps == 1


@pytest.mark.parametrize("count", [1, 1000])
def test_nan_and_infinity_are_outside(count):
    edges = np.linspace(0, 1, 11)
    assert_as_searched([edges, edges], np.tile([[np.nan, -np.inf], [0.5, np.inf]], (1, count)))
