"""What is called drift, against SciPy's tests and on streams that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp, norm

from model import drift
from model.baseline import Baseline, lay_out
from model.dataset import Dataset
from model.predictor import Predictor

NORMAL_DECILES = norm.ppf(np.linspace(0.1, 0.9, 9))


def watched(random: np.random.Generator, rows: int = 342, nulls: int | None = None) -> tuple[Baseline, np.ndarray]:
    """Return the baseline of one normal feature, and the training rows it was built from."""
    sample = random.normal(size=rows)
    edges = np.quantile(sample, np.linspace(0, 1, 11)[1:-1])
    parts = np.bincount(np.searchsorted(edges, sample, side="right"), minlength=10)
    return Baseline((lay_out("feature", "a", edges, parts, nulls),)), sample


def test_chi_square_is_the_two_sample_test():
    live, reference = np.array([30.0, 50, 20, 100]), np.array([90.0, 100, 80, 72])

    found = drift.change(live, reference)

    expected = chi2_contingency([live, reference])
    assert (found.statistic, found.degrees, found.p) == pytest.approx((expected.statistic, 3, expected.pvalue))


def test_one_row_where_none_was_expected_weighs_little():
    live, reference = np.array([100.0, 1]), np.array([100_000.0, 0])

    assert drift.change(live, reference).statistic < chi2_contingency([live, reference], correction=False).statistic / 4


def test_shift_of_scores_is_a_z_test():
    reference, scores = np.array([25.0, 50, 25]), np.array([-1, 0, 1]) * np.sqrt(2)

    found = drift.shift(np.array([10.0, 20, 20]), reference, scores)

    assert found.moved == pytest.approx(np.sqrt(2) * 0.2)
    assert found.z == pytest.approx(found.moved / np.sqrt(1 / 50 + 1 / 100))
    assert found.p == pytest.approx(2 * norm.sf(found.z))


def test_bins_without_a_score_take_no_part_in_the_shift():
    scores = np.array([-1.0, 0, 1])

    with_nulls = drift.shift(np.array([10.0, 20, 20, 99]), np.array([25.0, 50, 25, 7]), np.append(scores, np.nan))

    assert with_nulls == drift.shift(np.array([10.0, 20, 20]), np.array([25.0, 50, 25]), scores)


def test_only_nulls_have_not_shifted():
    found = drift.shift(np.array([0.0, 0, 9]), np.array([5.0, 5, 0]), np.array([-1, 1, np.nan]))

    assert (found.moved, found.z, found.p) == (0, 0, 1)


@pytest.mark.parametrize(
    ("live", "expected"),
    [([100, 100], 0), ([150, 50], 0.5 * np.log(3) / 2), ([7, 7], 0)],
    ids=["same", "other", "fewer"],
)
def test_psi_compares_shares(live, expected):
    assert drift.psi(np.array(live, dtype=float), np.array([100.0, 100.0])) == pytest.approx(expected, abs=5e-3)


def test_psi_of_an_empty_bin_is_finite():
    assert 0 < drift.psi(np.array([100.0, 0]), np.array([0.0, 100])) < 15


def test_levels_are_divided_among_the_tests():
    variables = [lay_out("feature", str(i), NORMAL_DECILES, [34] * 10) for i in range(5)]
    one, five = (drift.critical(Baseline(tuple(variables[:count])), 0.01) for count in (1, 5))

    assert len({limit.shift for limit in five}) == 1
    nominal = 2 * norm.sf([one[0].shift, five[0].shift])
    assert nominal[0] == pytest.approx(5 * nominal[1])
    assert nominal[0] + drift.chi_square.tail(one[0].chi_square, 9) == pytest.approx(0.01 * drift.NOMINAL_PART)


def test_too_few_rows_are_not_judged():
    baseline = Baseline((lay_out("label", "", None, [50, 50, 50]),))

    few, enough = (drift.judge(baseline, [np.array([rows, 0, 0])]) for rows in (19, 20))

    assert (few.verdict, few.findings[0].verdict, few.findings[0].rows) == ("too_few", "too_few", 19)
    assert enough.verdict == "drifting"


def test_no_rows_are_no_evidence():
    baseline, _ = watched(np.random.default_rng(1))

    found = drift.judge(baseline, [np.zeros(10, dtype=np.int64)])

    assert (found.verdict, found.findings[0].psi, found.findings[0].change, found.findings[0].shift) == (
        "too_few",
        None,
        None,
        None,
    )


def test_significant_but_small_is_steady():
    baseline = Baseline((lay_out("feature", "a", NORMAL_DECILES, [100_000] * 10),))
    moved = np.random.default_rng(2).normal(0.05, size=500_000)

    found = drift.judge(baseline, [baseline.variables[0].count(moved)])

    assert found.findings[0].shift.p < 1e-100
    assert found.verdict == "steady"


@pytest.mark.parametrize("rows", [50, 1_000, 100_000])
def test_unshifted_streams_rarely_alarm(rows):
    random, alarms = np.random.default_rng(3), 0
    for _ in range(300):
        baseline, _ = watched(random)
        counts = baseline.variables[0].count(random.normal(size=rows))
        alarms += drift.judge(baseline, [counts]).verdict == "drifting"

    # of 300 streams at 1 %, more than 8 come up once in 250 times; at half a percent practically never
    assert alarms <= 8
    print(f"{alarms} of 300 streams of {rows} rows")


def test_half_a_deviation_needs_no_more_rows_than_kolmogorov_smirnov():
    random, ours, theirs = np.random.default_rng(4), np.zeros(3), np.zeros(3)
    sizes = (50, 70, 100)
    for _ in range(300):
        baseline, sample = watched(random)
        live = random.normal(0.5, size=sizes[-1])
        for index, size in enumerate(sizes):
            counts = baseline.variables[0].count(live[:size])
            ours[index] += drift.judge(baseline, [counts]).verdict == "drifting"
            theirs[index] += ks_2samp(sample, live[:size], method="asymp").pvalue <= drift.LEVEL

    print(f"noticed of 300 with {sizes} rows: {ours}, Kolmogorov–Smirnov {theirs}")
    assert (ours >= theirs).all()


def test_spread_without_shift_is_noticed():
    random = np.random.default_rng(5)
    baseline, _ = watched(random)

    found = drift.judge(baseline, [baseline.variables[0].count(random.normal(scale=1.6, size=1_000))])

    assert found.verdict == "drifting"
    assert abs(found.findings[0].shift.moved) < drift.SHIFT_MINIMUM
    assert found.findings[0].change.p < 1e-6


def test_nulls_that_were_never_there_are_noticed():
    random = np.random.default_rng(6)
    baseline, sample = watched(random, nulls=0)
    live = np.where(random.random(342) < 0.2, np.nan, sample)

    assert drift.judge(baseline, [baseline.variables[0].count(sample)]).verdict == "steady"
    assert drift.judge(baseline, [baseline.variables[0].count(live)]).verdict == "drifting"


def test_correlation_alone_shows_in_novelty(penguins_predictor: Predictor, penguins_data: Dataset):
    from model import baseline as baselines

    baseline, random = baselines.build(penguins_predictor.manifest), np.random.default_rng(7)

    def judge(rows: np.ndarray) -> drift.Drift:
        answers = penguins_predictor.predict(rows)
        return drift.judge(baseline, baseline.count(rows, answers.probabilities, answers.novelty))

    assert judge(penguins_data.matrix).verdict == "steady"
    mixed = judge(random.permuted(penguins_data.matrix, axis=0))
    verdicts = {finding.kind: finding.verdict for finding in mixed.findings}
    assert verdicts["feature"] == "steady"
    assert verdicts["novelty"] == "drifting"
