"""Masks as `tfmot.sparsity.keras` computes them, bit for bit.

Where half a weight would be left over, the last bit of float32 decides which way it is
rounded. What counts is therefore not the formula in tfmot's source but what TensorFlow
makes of it when it compiles the train step: it multiplies by the reciprocal of the
range, and takes the final sparsity from 1 before it takes the rest. A step of tfmot's
that runs eagerly may round such a half the other way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_fitkit._core.schedules import PolynomialSparsity
from keras_fitkit.pruning.given_schedules import FromTfmot
from keras_fitkit.pruning.masks import Array, Mask, kth_smallest

_POLYNOMIAL = "PolynomialDecay"  # tfmot's; its attributes have the names of ours
_ONE = np.float32(1.0)


def mask(weight: Array, sparsity: float) -> Mask:
    """Every weight not below the k-th largest: ties are all kept, and at least one.

    k = max(round_half_even(float32(n) * (1 - sparsity)), 1), in float32.
    """
    size = np.float32(weight.size)
    keep = int(max(np.round(size * np.float32(1.0 - sparsity)), _ONE))
    # float32 can round a count of more than 2**24 weights up past the last.
    keep = min(keep, weight.size)
    magnitude = np.abs(weight).reshape(-1)
    threshold = kth_smallest(magnitude, magnitude.size - keep)
    return np.asarray(magnitude >= threshold).reshape(weight.shape)


def sparsity(schedule: Any, step: int) -> float:
    """The sparsity of a schedule at a step.

    In double precision: tfmot never rounds it to float32, only what it leaves, and one
    minus the result is exactly that.
    """
    named = schedule.schedule if isinstance(schedule, FromTfmot) else schedule
    if isinstance(named, PolynomialSparsity) or type(named).__name__ == _POLYNOMIAL:
        return 1.0 - float(_left_by_polynomial(named, step))
    return 1.0 - float(_ONE - np.float32(schedule(step)))


def _left_by_polynomial(schedule: Any, step: int) -> np.float32:
    begin, end = schedule.begin_step, schedule.end_step
    initial, final = schedule.initial_sparsity, schedule.final_sparsity
    gone = np.float32(step - begin) * (_ONE / np.float32(end - begin))
    rest = _ONE - min(_ONE, max(np.float32(0.0), gone))
    powered = _times_power(np.float32(initial - final), rest, float(schedule.power))
    return np.float32((_ONE - np.float32(final)) - powered)


def _times_power(factor: np.float32, base: np.float32, power: float) -> np.float32:
    """`factor * base**power`; some powers are compiled to products or a root."""
    if power == 3.0:
        return (base * base) * (factor * base)
    if power == 2.0:
        return factor * (base * base)
    if power == 0.5:
        return np.float32(factor * np.sqrt(base))
    # NumPy's own power of float32 is off by a unit in the last place on some CPUs.
    return np.float32(factor * np.float32(float(base) ** float(np.float32(power))))
