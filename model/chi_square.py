"""The chi-square distribution, as serving has no SciPy."""

from __future__ import annotations

import math
from functools import cache

ITERATIONS = 1_000
PRECISION = 1e-15


def tail(statistic: float, degrees: int) -> float:
    """Return the probability, 0..1, that a chi-square variable is at least `statistic`.

    The regularised incomplete gamma function, by its series below the mean and by its continued fraction above
    (Lentz's method; Press et al., Numerical Recipes, 6.2).
    """
    if degrees == 0 or statistic <= 0:
        return 1.0
    a, x = degrees / 2, statistic / 2
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    return 1 - scale * _series(a, x) if x < a + 1 else scale * _fraction(a, x)


@cache
def critical(level: float, degrees: int) -> float:
    """Return the statistic whose tail is `level`, 0..1; infinite without degrees of freedom."""
    if degrees == 0:
        return math.inf
    low, high = 0.0, 1.0
    while tail(high, degrees) > level:
        high *= 2
    # halving until no float lies between
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if tail(middle, degrees) > level else (low, middle)
    return high


def _series(a: float, x: float) -> float:
    """Return the lower incomplete gamma function without its scale."""
    term = total = 1 / a
    for step in range(1, ITERATIONS):
        term *= x / (a + step)
        total += term
        if term < total * PRECISION:
            break
    return total


def _fraction(a: float, x: float) -> float:
    """Return the upper incomplete gamma function without its scale."""
    b = x + 1 - a
    c, d = math.inf, 1 / b
    result = d
    for step in range(1, ITERATIONS):
        factor = -step * (step - a)
        b += 2
        d = 1 / (factor * d + b)
        c = b + factor / c
        result *= c * d
        if abs(c * d - 1) < PRECISION:
            break
    return result
