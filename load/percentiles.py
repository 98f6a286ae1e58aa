"""Percentiles of raw samples."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that at least `percent` of all samples do not exceed (nearest rank).

    Args:
        samples: at least one, in any order.
        percent: above 0, up to 100.
    """
    return sorted(samples)[max(math.ceil(len(samples) * percent / 100 - 1e-9), 1) - 1]
