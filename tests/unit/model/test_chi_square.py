"""The chi-square distribution against SciPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2

from model import chi_square


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 10, 50, 300])
def test_tail_is_scipys(degrees):
    statistics = np.concatenate([np.geomspace(1e-6, 1e3, 60), degrees + np.linspace(-0.9, 3, 30) * degrees])

    found = [chi_square.tail(float(statistic), degrees) for statistic in statistics]

    np.testing.assert_allclose(found, chi2.sf(statistics, degrees), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("degrees", [1, 2, 9, 49])
@pytest.mark.parametrize("level", [0.5, 0.01, 1e-4, 1e-7])
def test_critical_value_is_scipys(degrees, level):
    assert pytest.approx(chi2.isf(level, degrees), rel=1e-7) == chi_square.critical(level, degrees)


@pytest.mark.parametrize(("statistic", "degrees"), [(0.0, 3), (5.0, 0)], ids=["no difference", "one bin"])
def test_nothing_to_test_is_no_surprise(statistic, degrees):
    assert chi_square.tail(statistic, degrees) == 1


def test_one_bin_is_never_significant():
    assert chi_square.critical(0.5, 0) == math.inf
