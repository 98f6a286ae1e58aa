from __future__ import annotations

import pytest

from load.percentiles import percentile


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50), (95, 95), (99, 99), (99.9, 100), (100, 100), (0.1, 1)], ids=str
)
def test_nearest_rank_of_a_hundred(percent: float, expected: int):
    assert percentile(range(100, 0, -1), percent) == expected


def test_one_sample_is_every_percentile():
    assert [percentile([7.0], percent) for percent in (1, 50, 100)] == [7.0] * 3
