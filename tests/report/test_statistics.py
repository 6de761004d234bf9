"""Intervals and tests, beside SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from keras_fitkit.report import statistics


@given(st.integers(1, 3000), st.data())
def test_wilson_is_that_of_scipy(rows, data):
    right = data.draw(st.integers(0, rows))
    expected = stats.binomtest(right, rows).proportion_ci(method="wilson")
    assert statistics.wilson(right, rows) == pytest.approx(
        (expected.low, expected.high), abs=1e-9
    )


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(lost, gained):
    expected = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert statistics.mcnemar(lost, gained) == pytest.approx(expected, rel=1e-9)


def test_six_flips_are_the_fewest_that_say_anything():
    assert statistics.mcnemar(5, 0) == pytest.approx(2 * 0.5**5)  # 0.0625
    assert statistics.mcnemar(6, 0) == pytest.approx(2 * 0.5**6)  # 0.03125
    assert statistics.fewest_flips() == 6


def test_holm_by_hand():
    # Ranked .01, .02, .04: times 3, 2, 1; never below the one before.
    assert statistics.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_bootstrap_of_a_mean_is_near_the_t_interval():
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    low, high = statistics.mean_interval(values)
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(expected, abs=0.02)
    assert statistics.mean_interval(values) == (low, high)  # seeded


def test_many_rows_take_the_normal_interval():
    values = np.random.default_rng(3).normal(0.0, 1.0, statistics.MANY_ROWS)
    low, high = statistics.mean_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert (low, high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=1e-5
    )
    shifted = values + 0.1
    expected = stats.ttest_1samp(shifted, 0.0).pvalue
    assert statistics.mean_p_value(shifted) == pytest.approx(
        expected, rel=1e-2, abs=1e-9
    )
    assert statistics.mean_p_value(np.zeros(statistics.MANY_ROWS)) == 1.0


def test_p_value_is_never_zero_and_one_for_no_difference():
    assert statistics.p_value(np.full(199, 0.3)) == pytest.approx(2 / 200)
    assert statistics.p_value(np.zeros(199)) == 1.0
    apart = statistics.p_value(np.array([-1.0] * 50 + [1.0] * 149))
    assert apart == pytest.approx(2 * 51 / 200)


def test_resampled_measures_see_the_same_rows():
    values = np.arange(50.0)
    found = statistics.resampled(
        lambda rows: [values[rows].sum(), 2 * values[rows].sum()], 50, 20
    )
    assert found.shape == (20, 2)
    np.testing.assert_array_equal(found[:, 1], 2 * found[:, 0])


def test_few_rows_claim_no_more_than_their_signs():
    # All of n differences above zero: 2 / 2^n by the sign-flip test.
    assert statistics.least_p_value(1) == 1.0
    assert statistics.least_p_value(5) == 2 / 2**5
    ones = np.linspace(1.0, 1.1, 5)
    assert statistics.mean_p_value(ones) == 2 / 2**5
    assert statistics.mean_p_value(np.linspace(1.0, 1.1, 40)) == 2 / 2001  # resamples


def test_resamples_that_are_no_number_say_nothing():
    drawn = np.array([1.0, 2.0, np.nan, 3.0])
    assert statistics.p_value(drawn) == 2 * 1 / (3 + 1)
    assert statistics.quantiles(np.array([np.nan, 1.0])) == (1.0, 1.0)


def test_points_as_text():
    found = [statistics.points(one) for one in (0.277, 1.666, 20.0, 100.0, 600.0)]
    assert found == ["0.28", "1.7", "20", "100", "600"]
