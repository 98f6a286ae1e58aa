"""How unlike the reference recent traffic is, judged from bin counts that were added over batches, hours, instances.

The population stability index (PSI) and a two-sample chi-square test answer to any change, a shift test to a change of
location. `deploy/monitoring/drift.rules.yml` computes the same in PromQL.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from model import chi_square
from model.baseline import Baseline, Kind, Variable
from model.reference import FloatArray

if TYPE_CHECKING:
    from model.bins import Counts

Verdict = Literal["too_few", "steady", "drifting"]

# how often traffic like the reference may be called drifting, over all variables together
LEVEL = 0.01
# what Prometheus looks back on, each window with its level: together 1 % a day
WINDOW_LEVELS = {"1h": LEVEL / 2 / 24, "24h": LEVEL / 2}
# measured: with some hundred rows of reference, chance goes up to a half beyond what the approximations say
NOMINAL_PART = 0.5
# the shift test needs the fewest rows for the most common change, so most of the level is its
SHIFT_PART = 0.9

# a change must not only be significant but also large: the usual first threshold of the PSI ...
PSI_MINIMUM = 0.1
# ... or a mean score this many standard deviations away
SHIFT_MINIMUM = 0.1

# fewer rows of the reference are never expected in a bin, as one row there would weigh too much (Cochran 1954)
EXPECTED_MINIMUM = 5.0
# rows added to every bin before the PSI is taken, as an empty bin is not infinitely surprising (Jeffreys)
SMOOTHING = 0.5


@dataclass(frozen=True, slots=True)
class Critical:
    """From where on a variable's tests are significant: its chi-square statistic, and the size of its shift's z."""

    chi_square: float
    shift: float


@dataclass(frozen=True, slots=True)
class Change:
    """What a chi-square test says: the statistic, its degrees of freedom, and how probable more is by chance, 0..1."""

    statistic: float
    degrees: int
    p: float


@dataclass(frozen=True, slots=True)
class Shift:
    """How far the mean score moved: in its standard deviations, in standard errors, how probable more is by chance."""

    moved: float
    z: float
    p: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one variable.

    Attributes:
        kind: what it is.
        name: of the feature, otherwise empty.
        rows: live rows.
        psi: population stability index of the live rows against the reference; None without rows.
        change: of any kind; None without rows.
        shift: None without rows, and where bins have no order.
        verdict: `too_few` rows, `steady` or `drifting`.
    """

    kind: Kind
    name: str
    rows: int
    psi: float | None
    change: Change | None
    shift: Shift | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Drift:
    """What was found about all variables, and over all: `drifting` if one is, `too_few` if none has enough rows."""

    verdict: Verdict
    findings: tuple[Finding, ...]


def judge(baseline: Baseline, counts: Sequence[Counts], level: float = LEVEL) -> Drift:
    """Compare counts with the reference.

    Args:
        baseline: what to compare with.
        counts: for each variable shape (b,), as `Baseline.count` returns them, or sums of such.
        level: how often traffic like the reference may be called drifting, over all variables together.
    """
    criticals = critical(baseline, level)
    findings = tuple(_find(*each) for each in zip(baseline.variables, counts, criticals, strict=True))
    verdicts = {finding.verdict for finding in findings}
    order: tuple[Verdict, ...] = ("drifting", "steady", "too_few")
    return Drift(next(verdict for verdict in order if verdict in verdicts), findings)


def critical(baseline: Baseline, level: float = LEVEL) -> list[Critical]:
    """Return from where on, both inclusive, each variable's tests are significant.

    The level is divided among all tests (Bonferroni); without degrees of freedom nothing is significant.
    """
    variables, nominal = baseline.variables, level * NOMINAL_PART
    shifts = sum(variable.scores is not None for variable in variables)
    limit = NormalDist().inv_cdf(1 - nominal * SHIFT_PART / max(1, shifts) / 2)
    each = nominal * (1 - SHIFT_PART) / len(variables)
    return [Critical(chi_square.critical(each, variable.degrees), limit) for variable in variables]


def psi(live: FloatArray, reference: FloatArray) -> float:
    """Return the population stability index of counts, shape (b,), with half a row added to every bin."""
    p = (live + SMOOTHING) / (live.sum() + SMOOTHING * len(live))
    q = (reference + SMOOTHING) / (reference.sum() + SMOOTHING * len(reference))
    return float(((p - q) * np.log(p / q)).sum())


def change(live: FloatArray, reference: FloatArray) -> Change:
    """Test counts, shape (b,), of n live rows and m of the reference for any difference.

    The test is the two-sample one: the reference is a sample itself, and however many rows come, only m are there to
    compare with. With shares p and q the statistic is n m sum((p - q)^2 / (live + reference)), here with the
    denominator as the rows expected in the reference, m (live + reference) / (n + m), so that it can have a minimum.
    """
    n, m = live.sum(), reference.sum()
    expected = np.maximum(m * (live + reference) / (n + m), EXPECTED_MINIMUM)
    statistic = float(n * m / (n + m) * m * ((live / n - reference / m) ** 2 / expected).sum())
    return Change(statistic, len(live) - 1, chi_square.tail(statistic, len(live) - 1))


def shift(live: FloatArray, reference: FloatArray, scores: FloatArray) -> Shift:
    """Test counts, shape (b,), for a moved mean score, over the bins that have one.

    The scores have mean 0 and standard deviation 1 in the reference, so the mean of n live rows varies by
    1/n + 1/m around 0: the second term is the reference's own error.
    """
    scored = ~np.isnan(scores)
    n, m = float(live[scored].sum()), float(reference[scored].sum())
    if n == 0:
        return Shift(0.0, 0.0, 1.0)
    moved = float((live * scores)[scored].sum() / n)
    z = moved / math.sqrt(1 / n + 1 / m)
    return Shift(moved, z, math.erfc(abs(z) / math.sqrt(2)))


def _find(variable: Variable, counts: Counts, limit: Critical) -> Finding:
    """Judge one variable."""
    rows = int(counts.sum())
    if rows == 0:
        return Finding(variable.kind, variable.name, 0, None, None, None, "too_few")
    live = counts.astype(np.float64)
    index, found, moved = psi(live, variable.reference), change(live, variable.reference), None
    is_drifting = found.statistic >= limit.chi_square and index >= PSI_MINIMUM
    if variable.scores is not None:
        moved = shift(live, variable.reference, variable.scores)
        is_drifting |= abs(moved.z) >= limit.shift and abs(moved.moved) >= SHIFT_MINIMUM
    verdict: Verdict = "drifting" if is_drifting else "steady"
    if rows < variable.minimum_rows:
        verdict = "too_few"
    return Finding(variable.kind, variable.name, rows, index, found, moved, verdict)
