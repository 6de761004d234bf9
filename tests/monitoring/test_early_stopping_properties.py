"""What holds for EarlyStopping on any curve: hypothesis, scripted logs."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from keras_fitkit.monitoring._stopping_conditions import MetricSettings, MetricWatch
from keras_fitkit.monitoring.curve_maths import smooth

finite = st.floats(-1e6, 1e6, allow_nan=False)
wild = st.one_of(finite, st.sampled_from([math.nan, math.inf, -math.inf]))


def watch(patience: int = 3, **settings: Any) -> MetricWatch:
    given_settings = MetricSettings(name="val_loss", **{"mode": "min", **settings})
    return MetricWatch(given_settings, patience, None)


@given(st.lists(wild, min_size=1, max_size=30), st.sampled_from(["min", "max"]))
def test_best_is_the_best_of_the_finite_values(values: list[float], mode: str) -> None:
    one = watch(mode=mode)
    improved = [one.take(epoch, value, None) for epoch, value in enumerate(values)]
    usable = [value for value in values if math.isfinite(value)]
    pick = min if mode == "min" else max
    assert one.progress.best == (pick(usable) if usable else None)
    if usable:
        assert one.progress.best_epoch == values.index(one.progress.best)
    assert not any(
        better and not math.isfinite(value)
        for better, value in zip(improved, values, strict=True)
    )


@given(
    finite.filter(lambda value: abs(value) > 1e-6),
    finite,
    st.floats(0.0, 2.0),
    st.sampled_from(["min", "max"]),
)
def test_relative_improvement_is_never_a_change_for_the_worse(
    best: float, value: float, min_delta: float, mode: str
) -> None:
    one = watch(mode=mode, min_delta=min_delta, relative=True)
    gain = best - value if mode == "min" else value - best
    if one.improves(value, best):
        assert gain > 0
        assert gain >= min_delta * abs(best) * (1 - 1e-9)
    elif gain > 0:
        assert gain <= min_delta * abs(best) * (1 + 1e-9) + 1e-9 * abs(value)


@given(st.lists(finite, min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_relative_min_delta_does_not_see_the_unit(
    values: list[float], scale: float
) -> None:
    # a power of two, so that scaling rounds nothing
    scale = 2.0 ** round(math.log2(scale))
    plain = watch(min_delta=0.01, relative=True)
    scaled = watch(min_delta=0.01, relative=True)
    for epoch, value in enumerate(values):
        assert plain.take(epoch, value, None) == scaled.take(epoch, value * scale, None)
        assert plain.progress.flagged == scaled.progress.flagged


@given(st.lists(finite, min_size=1, max_size=20), st.floats(0.0, 0.99))
def test_smoothing_by_another_route(values: list[float], decay: float) -> None:
    one = watch(smoothing=decay)
    smoothed = []
    for epoch, value in enumerate(values):
        one.take(epoch, value, None)
        smoothed.append(one.progress.value)
    age = np.abs(np.subtract.outer(range(len(values)), range(len(values))))
    weights = np.tril(decay**age)
    expected = weights @ values / weights.sum(axis=1)
    scale = max(map(abs, values)) + 1e-12
    np.testing.assert_allclose(smoothed, expected, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(
        smoothed, smooth(np.array(values), decay), rtol=1e-12, atol=1e-12 * scale
    )


@given(st.lists(finite, min_size=1, max_size=30), st.integers(0, 4))
def test_patience_is_the_stall_when_there_is_no_baseline(
    values: list[float], patience: int
) -> None:
    one = watch(patience)
    for epoch, value in enumerate(values):
        one.take(epoch, value, None)
        state = one.progress
        assert state.best_epoch == int(np.argmin(values[: epoch + 1]))
        assert state.wait == state.stall == epoch - state.best_epoch
        assert state.flagged == (state.wait >= max(patience, 1))
