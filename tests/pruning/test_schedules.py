"""The schedules beyond the polynomial, and what else is taken for one."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_fitkit as kf
from keras_fitkit.pruning import given_schedules

SCHEDULES = [
    kf.OneShotSparsity(0.5, step=3),
    kf.CosineSparsity(0.8, 2, 40, initial_sparsity=0.1, frequency=7),
    kf.IterativeSparsity(
        0.9, 3, rewind_step=2, rewind_optimizer=True, steps_per_round=5
    ),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda one: type(one).__name__)
def test_config_gives_the_same_schedule_back(schedule):
    again = type(schedule).from_config(schedule.get_config())
    assert again == schedule
    assert isinstance(schedule, kf.SparsitySchedule)


@given(st.floats(0, 0.99), st.integers(0, 50), st.integers(1, 300), st.integers(1, 90))
def test_cosine_rises_from_one_end_to_the_other(final, begin, length, frequency):
    schedule = kf.CosineSparsity(final, begin, begin + length, frequency=frequency)
    steps = range(begin + length + 5)
    values = [schedule(step) for step in steps]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0.0, abs=1e-12)
    assert values[-1] == final
    assert schedule.should_update(begin + length)
    half = schedule(begin + length / 2)
    assert half == pytest.approx(final / 2)


def test_iterative_prunes_the_same_fraction_of_what_is_left():
    schedule = kf.IterativeSparsity(0.9, rounds=4).over(52)
    assert schedule.steps_per_round == 10  # 52 // 5
    steps = [step for step in range(1, 53) if schedule.should_update(step)]
    assert steps == [11, 21, 31, 41]
    left = [1 - schedule(step) for step in (1, *steps)]
    ratios = [b / a for a, b in itertools.pairwise(left)]
    assert ratios == pytest.approx([0.1 ** (1 / 4)] * 4)
    assert schedule(41) == 0.9


def test_iterative_needs_steps_for_its_rounds():
    with pytest.raises(ValueError, match="`rounds` must be less than the steps of"):
        kf.IterativeSparsity(0.5, rounds=5).over(4)
    with pytest.raises(RuntimeError, match="`steps_per_round` must be known"):
        kf.IterativeSparsity(0.5, rounds=2)(3)


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 1000, 12345])
def test_a_fraction_is_a_cubic_ramp_over_three_quarters(steps):
    schedule = given_schedules.resolve(0.8, steps)
    end = max(1, math.ceil(0.75 * steps))
    assert isinstance(schedule, kf.PolynomialSparsity)
    assert (schedule.begin_step, schedule.end_step, schedule.power) == (0, end, 3.0)
    updates = [step for step in range(1, steps + 1) if schedule.should_update(step)]
    assert updates[-1] == end
    assert schedule(end) == 0.8
    assert len(updates) <= 2 * given_schedules.UPDATES


def test_a_callable_is_asked_now_and_then_and_in_the_last_step():
    asked = []

    def ramp(step):
        asked.append(step)
        return min(0.5, step / 1000)

    schedule = given_schedules.resolve(ramp, 1050)
    updates = [step for step in range(1, 1051) if schedule.should_update(step)]
    assert updates == [*range(10, 1050, 10), 1050]
    assert asked == []
    assert schedule(100) == 0.1
    assert given_schedules.final_of(schedule, 1050) == 0.5


@pytest.mark.parametrize("value", [80, -0.1, float("nan"), "0.5x", None])
def test_what_a_callable_returns_is_checked(value):
    schedule = given_schedules.resolve(lambda step: value, 100)
    with pytest.raises(ValueError, match=r"returns a fraction in \[0, 1\).*step 7"):
        schedule(7)


class PruningSchedule:
    """What tfmot's schedules look like; tfmot itself is not imported."""

    def __init__(self, begin_step, end_step, frequency):
        self.begin_step, self.end_step = begin_step, end_step
        self.frequency, self.final_sparsity = frequency, 0.8

    def __call__(self, step):
        due = step >= self.begin_step and (step - self.begin_step) % self.frequency == 0
        due = due and (self.end_step < 0 or step <= self.end_step)
        return np.array(due), np.float32(min(0.8, step / 100))


@pytest.mark.parametrize(
    ("begin", "end", "frequency"), [(2, 30, 7), (0, -1, 10), (5, 26, 7)]
)
def test_a_tfmot_schedule_is_taken_as_it_is_and_gets_its_last_update(
    begin, end, frequency
):
    given_ = PruningSchedule(begin, end, frequency)
    assert given_schedules.check(given_) is given_
    theirs = [step for step in range(1, 60) if given_(step)[0]]
    exact = given_schedules.resolve(given_, 59, exact=True)
    assert [step for step in range(1, 60) if exact.should_update(step)] == theirs
    ours = given_schedules.resolve(given_, 59)
    last = {end} if end > 0 else set()
    assert [s for s in range(1, 60) if ours.should_update(s)] == sorted(
        {*theirs, *last}
    )
    assert ours(50) == pytest.approx(0.5)
    assert given_schedules.final_of(ours, 59) == 0.8


def test_a_tfmot_schedule_without_a_range_is_refused():
    with pytest.raises(ValueError, match="ends after it begins"):
        given_schedules.check(PruningSchedule(5, 5, 1))


def test_a_tfmot_schedule_without_the_usual_attributes_is_asked():
    class Odd(PruningSchedule):
        def __init__(self):
            pass

        def __call__(self, step):
            return step in (3, 9), 0.25

    schedule = given_schedules.resolve(Odd(), 20)
    assert [step for step in range(1, 21) if schedule.should_update(step)] == [3, 9]
    assert schedule(3) == 0.25


def test_only_what_has_no_steps_of_its_own_needs_the_length_of_the_fit():
    assert given_schedules.needs_length(0.5)
    assert given_schedules.needs_length(kf.IterativeSparsity(0.5, 2))
    assert not given_schedules.needs_length(SCHEDULES[2])
    assert not given_schedules.needs_length(kf.ConstantSparsity(0.5))
    assert not given_schedules.needs_length(lambda step: 0.5)
