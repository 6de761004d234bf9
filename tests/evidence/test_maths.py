"""Intervals, areas and folds against SciPy and scikit-learn."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)

from keras_fitkit._core import roc
from keras_fitkit.evidence import folds, intervals


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 6, 9, 30, 101])
def test_quantiles_are_those_of_scipy(df):
    for share in (0.6, 0.95, 0.975, 0.999):
        expected = scipy.stats.t.ppf(share, df)
        assert intervals.student_quantile(share, df) == pytest.approx(expected)


def test_an_interval_is_scipys():
    values = [0.3, 0.5, 0.4, 0.8]
    found = intervals.estimate(values)
    error = scipy.stats.sem(values)
    expected = scipy.stats.t.interval(0.95, 3, np.mean(values), error)
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.sd == pytest.approx(np.std(values, ddof=1))


def test_overlap_widens_it_as_nadeau_and_bengio_do():
    """5 folds: n2 / n1 = 1 / 4, so the variance is sd^2 (1 / 5 + 1 / 4)."""
    values = [0.3, 0.5, 0.4, 0.8, 0.6]
    plain, wide = intervals.estimate(values), intervals.estimate(values, overlap=0.25)
    ratio = (wide.high - wide.mean) / (plain.high - plain.mean)
    assert ratio == pytest.approx(np.sqrt((1 / 5 + 1 / 4) / (1 / 5)))


def test_one_run_has_no_interval_and_nan_no_mean():
    assert intervals.estimate([0.5]).low is None
    assert np.isnan(intervals.estimate([0.5, np.nan]).mean)
    assert np.isnan(intervals.estimate([]).mean)


@pytest.mark.parametrize(
    ("low", "mean", "high", "answer"),
    [
        (-0.2, -0.1, -0.01, "would help"),
        (-0.018, -0.01, -0.001, "would not"),  # surely a fall, and not worth having
        (-0.01, 0.1, 0.2, "would not"),
        (-0.2, -0.1, 0.01, "cannot tell"),
        (None, -0.1, None, "cannot tell"),
    ],
)
def test_the_rule_of_the_verdict(low, mean, high, answer):
    change = intervals.Estimate(mean, 0.1, low, high, 3)
    assert intervals.would_lower(change, 0.02) == answer


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(2, 30))
def test_an_area_is_that_of_scikit_learn(seed, n, m):
    rng = np.random.default_rng(seed)
    positive, negative = rng.integers(0, 8, n), rng.integers(0, 8, m)  # with ties
    labels = np.r_[np.ones(n), np.zeros(m)]
    expected = roc_auc_score(labels, np.r_[positive, negative])
    assert roc.area(positive, negative) == pytest.approx(expected)


def test_the_error_of_an_area_is_about_what_a_simulation_shows():
    rng = np.random.default_rng(0)
    areas = [
        roc.area(rng.exponential(2.0, 40), rng.exponential(1.0, 60))
        for _ in range(2000)
    ]
    # exponential scores are what the formula is exact for: A = 2 / (2 + 1)
    assert np.mean(areas) == pytest.approx(2 / 3, abs=0.005)
    assert roc.standard_error(2 / 3, 40, 60) == pytest.approx(np.std(areas), rel=0.06)


def test_an_area_of_one_still_has_an_interval():
    assert roc.interval(1.0, 30, 60) == (pytest.approx(0.9), 1.0)


def sizes(placed, number, classes=None):
    classes = np.zeros(len(placed), int) if classes is None else classes
    return np.array(
        [
            np.bincount(classes[placed == one], minlength=classes.max() + 1)
            for one in range(number)
        ]
    )


def of_sklearn(splitter, count, y=None, groups=None):
    placed = np.empty(count, int)
    x = np.zeros((count, 1))
    for number, (_, test) in enumerate(splitter.split(x, y, groups)):
        placed[test] = number
    return placed


@given(st.integers(2, 60), st.integers(2, 8), st.integers(0, 99))
def test_plain_folds_have_the_sizes_of_scikit_learn(count, number, seed):
    if number > count:
        return
    placed = folds.plain(count, number, np.random.default_rng(seed))
    theirs = of_sklearn(KFold(number, shuffle=True, random_state=seed), count)
    assert sorted(sizes(placed, number).ravel()) == sorted(
        sizes(theirs, number).ravel()
    )


@given(st.integers(0, 999), st.integers(2, 6))
def test_classes_are_as_even_as_scikit_learn_makes_them(seed, number):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, 70)
    placed = folds.stratified(classes, number, rng)
    splitter = StratifiedKFold(number, shuffle=True, random_state=seed)
    theirs = sizes(of_sklearn(splitter, 70, classes), number, classes)
    ours = sizes(placed, number, classes)
    np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(theirs, axis=0))
    assert np.ptp(ours.sum(axis=1)) <= 1


@given(st.integers(0, 999), st.integers(2, 5))
def test_groups_stay_together_with_the_sizes_of_scikit_learn(seed, number):
    rng = np.random.default_rng(seed)
    groups = np.unique(rng.integers(0, 12, 60), return_inverse=True)[1]
    placed = folds.grouped(groups, None, number, rng)
    for group in range(groups.max() + 1):
        assert len(set(placed[groups == group])) == 1
    theirs = of_sklearn(GroupKFold(number), 60, groups=groups)
    ours = sizes(placed, number).ravel()
    assert np.ptp(ours) <= np.ptp(sizes(theirs, number).ravel())


def test_groups_with_classes_are_as_even_as_in_scikit_learn():
    wins = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        groups = np.sort(rng.integers(0, 25, 200))
        groups = np.unique(groups, return_inverse=True)[1]
        classes = (rng.random(groups.max() + 1) < 0.4).astype(int)[groups]
        placed = folds.grouped(groups, classes, 4, rng)
        for group in range(groups.max() + 1):
            assert len(set(placed[groups == group])) == 1
        splitter = StratifiedGroupKFold(4, shuffle=True, random_state=seed)
        theirs = sizes(of_sklearn(splitter, 200, classes, groups), 4, classes)
        ours = sizes(placed, 4, classes)
        shares = [one[:, 1] / one.sum(axis=1) for one in (ours, theirs)]
        wins.append(np.std(shares[0]) - np.std(shares[1]))
    assert np.mean(wins) < 0.01


def test_every_beginning_of_an_order_has_the_classes_in_their_shares():
    classes = np.repeat([0, 1, 2], [60, 30, 10])
    order = folds.order(100, classes, np.random.default_rng(0))
    assert sorted(order) == list(range(100))
    for count in (20, 50):
        found = np.bincount(classes[order[:count]], minlength=3)
        np.testing.assert_allclose(found, count * np.array([0.6, 0.3, 0.1]), atol=1.01)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([3, 5, 3], [0, 1, 0]),
        ([[1.0], [0.0], [1.0]], [1, 0, 1]),
        ([[0, 1], [1, 0], [0, 1]], [1, 0, 1]),
        (["a", "b", "a"], [0, 1, 0]),
        ([0.5, 1.0, 2.0], None),
        ([[0.2, 0.8], [1.0, 0.0], [0.0, 1.0]], None),
    ],
)
def test_what_is_a_class(y, expected):
    found = folds.classes_of(np.array(y))
    assert (None if found is None else found.tolist()) == expected
