"""The rules on curves whose answer can be written down."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from keras_fitkit.monitoring import curve_maths, prechelt, rules
from keras_fitkit.monitoring.rules import (
    GeneralizationLoss,
    OverfitTrend,
    ProgressQuotient,
    SuccessiveStrips,
)

curves = hnp.arrays(
    float,
    st.integers(1, 60),
    elements=st.floats(-1e3, 1e3, allow_nan=False, width=32),
)


def overfit(count=60, turn=15, slope=0.01):
    epochs = np.arange(float(count))
    train = np.exp(-epochs / 8)
    return train, 0.3 + np.exp(-epochs / 4) + slope * np.maximum(epochs - turn, 0)


def test_smooth_is_the_bias_corrected_average():
    got = curve_maths.smooth(np.array([4.0, 1.0, 2.0]), 0.5)
    # Weights .5 ** age, normalised to sum to 1.
    expected = [4.0, (0.5 * 4 + 1) / 1.5, (0.25 * 4 + 0.5 * 1 + 2) / 1.75]
    np.testing.assert_allclose(got, expected)


def test_smooth_with_decay_0_changes_nothing():
    np.testing.assert_array_equal(
        curve_maths.smooth(np.array([3.0, 9.0]), 0.0), [3.0, 9.0]
    )


def test_noise_level_recovers_the_standard_deviation_under_a_trend():
    noise = np.random.default_rng(3).normal(scale=0.2, size=4000)
    level = curve_maths.noise_level(5.0 - 0.01 * np.arange(4000) + noise, window=4000)
    # Median absolute deviation of 4000 values: within 5 % of .2.
    assert level == pytest.approx(0.2, rel=0.05)


def test_noise_level_of_fewer_than_3_values_is_0():
    assert curve_maths.noise_level(np.array([1.0, 2.0])) == 0.0


@given(curves.filter(lambda values: len(values) >= 3))
def test_mann_kendall_agrees_with_scipys_tau_statistic(values):
    count = len(values)
    pairs = [np.sign(values[j] - values[i]) for j in range(count) for i in range(j)]
    score = sum(pairs)
    variance = count * (count - 1) * (2 * count + 5) / 18
    expected = (score - np.sign(score)) / np.sqrt(variance)
    assert curve_maths.mann_kendall_z(values) == pytest.approx(expected)
    if len(set(values)) == count:  # scipy's tau has the same numerator without ties
        tau = stats.kendalltau(np.arange(count), values).statistic
        assert np.sign(tau) == np.sign(score)


def test_rising_curve_stands_above_its_minimum_by_the_stated_height():
    found = curve_maths.rise(np.array([3.0, 1.0, 1.0, 1.0, 1.0, 2.0]), 0.0, 0.02, 0.0)
    np.testing.assert_allclose(found.height, [0, 0, 0, 0, 0, 1.0])
    np.testing.assert_allclose(found.threshold[-1], 0.02 * 1.0)
    np.testing.assert_array_equal(found.risen, [False] * 5 + [True])


def test_overfit_trend_flags_overfitting_after_it_began_and_not_before():
    train, validation = overfit()
    flags = OverfitTrend().flags(train, validation)
    assert flags.any()
    assert np.argmax(flags) > 15


def test_overfit_trend_is_silent_when_training_rises_too():
    _, validation = overfit()
    assert not OverfitTrend().flags(validation - 0.1, validation).any()


def test_overfit_trend_is_silent_on_a_wide_gap_that_is_stable():
    train, _ = overfit()
    assert not OverfitTrend().flags(train, train + 2.0).any()


def test_overfit_trend_is_silent_when_training_has_stopped_falling():
    """Validation alone drifts: a plateau, or a few validation rows."""
    _, validation = overfit()
    train = np.maximum(0.3 + np.exp(-np.arange(60.0) / 4), 0.33)
    assert not OverfitTrend().flags(train, validation).any()


def test_overfit_trend_flags_when_training_is_solved_and_cannot_fall():
    """An error rate of 0 cannot fall, and validation still gets worse."""
    _, validation = overfit()
    assert OverfitTrend().flags(np.zeros(60), validation).any()


def test_best_so_far_is_the_first_of_the_lowest():
    found = curve_maths.best_so_far(np.array([3.0, 1.0, 2.0, 1.0, 0.5]))
    np.testing.assert_array_equal(found, [0, 1, 1, 1, 4])


def test_overfit_trend_in_the_last_epoch_is_the_last_of_its_flags():
    train, validation = overfit()
    rule = OverfitTrend()
    flags = rule.flags(train, validation)
    online = [rule(train[:n], validation[:n]) for n in range(1, len(train) + 1)]
    np.testing.assert_array_equal(online, flags)


@given(curves)
def test_overfit_trend_does_not_depend_on_the_unit_of_the_loss(values):
    train = values[::-1].copy()
    rule = OverfitTrend.for_run(20)
    first = rule.flags(train, values)
    # A power of two scales without rounding, so that ties stay ties.
    second = rule.flags(train * 4.0, values * 4.0)
    np.testing.assert_array_equal(first, second)


def test_for_run_is_strict_from_40_epochs():
    assert OverfitTrend.for_run(40) == OverfitTrend()
    windows = [OverfitTrend.for_run(epochs).window for epochs in (13, 14, 39, 40)]
    assert windows == [6, 10, 10, 20]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"decay": 1.0}, r"`decay` must be a number in \[0, 1\)"),
        ({"relative": -0.1}, "`relative` must be a number >= 0"),
        ({"sigmas": -1}, "`sigmas` must be a number >= 0"),
        ({"gap_z": -1}, "`gap_z` must be a number >= 0"),
        ({"window": 2}, "`window` must be an integer >= 3"),
        ({"patience": 0}, "`patience` must be an integer >= 1"),
    ],
)
def test_overfit_trend_names_the_argument(arguments, text):
    with pytest.raises(ValueError, match=text):
        OverfitTrend(**arguments)


def test_generalization_loss_is_percent_above_the_minimum():
    assert prechelt.generalization_loss(np.array([4.0, 2.0, 2.5])) == 100 * (
        2.5 / 2 - 1
    )


def test_generalization_loss_of_negative_values_keeps_its_sign():
    assert prechelt.generalization_loss(np.array([-4.0, -3.0])) == 100 * 1.0 / 4.0


def test_generalization_loss_at_a_zero_minimum_is_infinite_not_an_error():
    assert prechelt.generalization_loss(np.array([0.0, 1.0])) == float("inf")
    assert prechelt.generalization_loss(np.array([0.0, 0.0])) == 0.0


def test_training_progress_is_prechelts_formula():
    train = np.array([9.0, 3.0, 2.0, 1.0])
    assert prechelt.training_progress(train, 3) == pytest.approx(
        1000 * ((3 + 2 + 1) / (3 * 1) - 1)
    )


def test_progress_quotient_looks_at_strip_ends_only():
    rule = ProgressQuotient(0.75, strip=2)
    train, validation = np.full(5, 0.5), np.array([1.0, 0.8, 0.9, 1.0, 1.1])
    assert [rule(train[:n], validation[:n]) for n in range(1, 6)] == [
        False, False, False, True, False,
    ]  # fmt: skip


def test_successive_strips_needs_every_strip_to_rise():
    rule = SuccessiveStrips(2, strip=2)
    rising = np.array([5.0, 1.0, 5.0, 1.1, 5.0, 1.2])
    assert rule(rising, rising)
    assert not rule(rising, np.array([5.0, 1.0, 5.0, 1.1, 5.0, 1.05]))
    assert not rule(rising[:4], rising[:4])


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: GeneralizationLoss(0), "`threshold` must be a number > 0"),
        (lambda: ProgressQuotient(-1), "`threshold` must be a number > 0"),
        (lambda: ProgressQuotient(strip=0), "`strip` must be an integer >= 1"),
        (lambda: SuccessiveStrips(0), "`successive` must be an integer >= 1"),
        (lambda: SuccessiveStrips(strip=0), "`strip` must be an integer >= 1"),
        (lambda: rules.resolve("glx", 1), "Did you mean 'gl'"),
    ],
)
def test_prechelt_rules_name_the_argument(build, text):
    with pytest.raises(ValueError, match=text):
        build()


def test_a_rule_that_is_neither_name_nor_callable_is_a_type_error():
    with pytest.raises(
        TypeError, match=r"`rule` must be one of 'auto', 'gl', .*a callable"
    ):
        rules.resolve(5, 1)


def test_flags_of_any_callable_are_its_answers_epoch_by_epoch():
    seen = []

    def rule(train, validation):
        seen.append(len(train))
        return validation[-1] > 1

    got = rules.flags(rule, np.zeros(3), np.array([1.0, 2.0, 0.0]))
    np.testing.assert_array_equal(got, [False, True, False])
    assert seen == [1, 2, 3]


def test_a_rule_is_called_by_its_name():
    def too_wide(train, validation):
        return False

    rules_ = ("pq", too_wide, GeneralizationLoss(2.0))
    names = ["pq", "too_wide", "GeneralizationLoss(threshold=2.0)"]
    assert [rules.name_of(rule) for rule in rules_] == names
