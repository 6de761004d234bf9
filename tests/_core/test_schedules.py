import dataclasses
import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_fitkit._core.schedules import (
    ConstantSparsity,
    PolynomialSparsity,
    SparsitySchedule,
)


@st.composite
def polynomials(draw):
    begin = draw(st.integers(0, 10_000))
    final = draw(st.floats(0, 1, exclude_max=True))
    return PolynomialSparsity(
        final_sparsity=final,
        begin_step=begin,
        end_step=begin + draw(st.integers(1, 10_000)),
        initial_sparsity=draw(st.floats(0, final)),
        power=draw(st.floats(0.1, 9)),
        frequency=draw(st.integers(1, 20_000)),
    )


def updates(schedule, last):
    return [step for step in range(1, last + 1) if schedule.should_update(step)]


@given(polynomials(), st.lists(st.integers(1, 30_000), min_size=2))
def test_polynomial_rises_and_stays_in_its_range(schedule, steps):
    values = [schedule(step) for step in sorted(steps)]
    assert values == sorted(values)
    assert all(
        schedule.initial_sparsity <= value <= schedule.final_sparsity
        for value in values
    )


@given(polynomials(), st.integers(0, 10_000))
def test_polynomial_ends_exactly_at_its_final_sparsity(schedule, later):
    assert schedule(schedule.end_step + later) == schedule.final_sparsity
    assert schedule.should_update(schedule.end_step)
    assert not schedule.should_update(schedule.end_step + 1 + later)


@given(polynomials(), st.integers(1, 30_000))
def test_polynomial_equals_the_paper(schedule, step):
    # Zhu & Gupta 2017, eq. 1, as written there and in NumPy: a second route.
    share = np.clip(
        (step - schedule.begin_step) / (schedule.end_step - schedule.begin_step), 0, 1
    )
    expected = schedule.final_sparsity + (
        schedule.initial_sparsity - schedule.final_sparsity
    ) * np.power(1 - share, schedule.power)
    # The two differ in how they round 1 - share: an error e there is a relative
    # error of power * e / (1 - share) in the result.
    np.testing.assert_allclose(schedule(step), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "steps", "sparsities"),
    [
        # tfmot stays at 0.8 * (1 - 0.3**3) = 0.778 here; ours has a last update.
        (
            PolynomialSparsity(0.8, 0, 1000, frequency=700),
            [700, 1000],
            [0.8 * (1 - (300 / 1000) ** 3), 0.8],
        ),
        (
            PolynomialSparsity(0.9, 2, 10, initial_sparsity=0.1, power=1, frequency=4),
            [2, 6, 10],
            [0.1, 0.1 + 0.8 * 4 / 8, 0.9],
        ),
        (PolynomialSparsity(0.5, 1, 2, frequency=1), [1, 2], [0.0, 0.5]),
        (ConstantSparsity(0.5, frequency=400), [1, 401, 801, 1201], [0.5] * 4),
        (
            ConstantSparsity(0.5, begin_step=10, end_step=25, frequency=10),
            [10, 20, 25],
            [0.5] * 3,
        ),
        (ConstantSparsity(0.5, begin_step=0, frequency=1000), [1000], [0.5]),
    ],
)
def test_updates_and_sparsities(schedule, steps, sparsities):
    assert updates(schedule, 1500) == steps
    np.testing.assert_allclose([schedule(step) for step in steps], sparsities)


def test_constant_is_zero_before_it_begins():
    schedule = ConstantSparsity(0.5, begin_step=10)
    assert (schedule(9), schedule(10), schedule(10**9)) == (0.0, 0.5, 0.5)


SCHEDULES = [
    ConstantSparsity(0.5),
    ConstantSparsity(0.5, begin_step=3, end_step=9, frequency=2),
    PolynomialSparsity(0.8, 0, 100),
    PolynomialSparsity(0.8, 1, 9, initial_sparsity=0.2, power=2, frequency=5),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_schedule_goes_through_its_config_and_through_keras(schedule):
    config = json.loads(json.dumps(schedule.get_config()))
    assert type(schedule).from_config(config) == schedule
    saved = keras.saving.serialize_keras_object(schedule)
    assert saved["registered_name"] == f"keras_fitkit>{type(schedule).__name__}"
    assert keras.saving.deserialize_keras_object(saved) == schedule


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_schedule_is_a_value(schedule):
    twin = type(schedule)(**schedule.get_config())
    assert schedule == twin
    assert hash(schedule) == hash(twin)
    assert eval(repr(schedule)) == schedule
    assert schedule != dataclasses.replace(schedule, frequency=77)
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"final_sparsity"):
        schedule.final_sparsity = 0.1


def test_numbers_of_numpy_become_plain_ones():
    schedule = PolynomialSparsity(
        np.float32(0.5), np.int64(1), np.int32(5), power=2, frequency=np.uint8(3)
    )
    assert schedule.get_config() == {
        "final_sparsity": 0.5,
        "begin_step": 1,
        "end_step": 5,
        "initial_sparsity": 0.0,
        "power": 2.0,
        "frequency": 3,
    }
    assert {type(value) for value in schedule.get_config().values()} == {int, float}


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (
            lambda: ConstantSparsity(80),
            ValueError,
            r"^`final_sparsity` must be a number in \[0, 1\)\. Received: "
            r"final_sparsity=80\. For 80 % pass 0\.8\.$",
        ),
        (lambda: ConstantSparsity(1.0), ValueError, r"`final_sparsity` .*\[0, 1\)"),
        (lambda: ConstantSparsity(-0.1), ValueError, r"`final_sparsity` .*\[0, 1\)"),
        (lambda: ConstantSparsity(float("nan")), ValueError, "`final_sparsity`.*nan"),
        (lambda: ConstantSparsity("0.8"), TypeError, "`final_sparsity` .*'0.8'"),
        (
            lambda: ConstantSparsity(0.5, begin_step=-1),
            ValueError,
            "`begin_step`.*>= 0",
        ),
        (lambda: ConstantSparsity(0.5, begin_step=1.5), TypeError, "`begin_step`"),
        (
            lambda: ConstantSparsity(0.5, begin_step=5, end_step=5),
            ValueError,
            r"^`end_step` must be an integer > `begin_step`, 5\. Received: end_step=5",
        ),
        (lambda: ConstantSparsity(0.5, end_step=-1), ValueError, "`end_step`.*-1"),
        (lambda: ConstantSparsity(0.5, frequency=0), ValueError, "`frequency`.*>= 1"),
        (lambda: PolynomialSparsity(80, 0, 9), ValueError, r"`final_sparsity`.*80 %"),
        (lambda: PolynomialSparsity(0.5, -1, 9), ValueError, "`begin_step`.*>= 0"),
        (lambda: PolynomialSparsity(0.5, 9, 9), ValueError, "`end_step`.*9"),
        (lambda: PolynomialSparsity(0.5, 9, 3), ValueError, "`end_step`.*3"),
        (lambda: PolynomialSparsity(0.5, 0, "9"), TypeError, "`end_step`.*'9'"),
        (
            lambda: PolynomialSparsity(0.5, 0, 9, initial_sparsity=0.6),
            ValueError,
            "^`initial_sparsity` must be at most `final_sparsity`, 0.5. Received",
        ),
        (
            lambda: PolynomialSparsity(0.5, 0, 9, initial_sparsity=-1),
            ValueError,
            r"`initial_sparsity` .*\[0, 1\)",
        ),
        (lambda: PolynomialSparsity(0.5, 0, 9, power=0), ValueError, "`power`.*> 0"),
        (lambda: PolynomialSparsity(0.5, 0, 9, power="3"), TypeError, "`power`.*'3'"),
        (
            lambda: PolynomialSparsity(0.5, 0, 9, frequency=0),
            ValueError,
            "`frequency`.*>= 1",
        ),
        (
            lambda: PolynomialSparsity(0.5, 0, 9, frequency=True),
            TypeError,
            "`frequency`.*True",
        ),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_base_class_says_what_to_define():
    class Mine(SparsitySchedule):
        pass

    with pytest.raises(NotImplementedError, match=r"`Mine` must define `__call__`"):
        Mine()(1)
    with pytest.raises(
        NotImplementedError, match=r"`Mine` must define `should_update`"
    ):
        Mine().should_update(1)
    assert Mine().get_config() == {}
