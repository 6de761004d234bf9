"""Fake quantization: values on the grid of an integer type, with gradients to train by.

Weights lie on a symmetric narrow-range grid: integers from -n to n, n = 2^(bits-1) - 1,
times a scale, with zero on it. Activations lie on an affine grid between two ends that
include zero. Both work in float32 on every backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

# A tensor of the backend: Keras has no type for it.
Tensor: TypeAlias = Any

TINY = 1e-9  # a scale is never below it: a channel of zeros has scale TINY
STEP_OF_ZEROS = 0.05  # where a kernel of zeros begins to learn its step
NARROWEST = 1e-6  # an activation range is never narrower
OF_ZEROS = 1.0  # the upper end of one where all values are zero
ABOUT_ONE = 1.0 - 1e-6  # values within it of an end count as within the range


def levels(bits: int) -> int:
    """The largest integer of the weights' grid: 127 for 8 bits."""
    return int(2 ** (bits - 1) - 1)


def weight_scale(weight: Tensor, axes: Sequence[int] | None, bits: int) -> Tensor:
    """The scale that puts the largest |w| on the last level.

    Args:
        weight: of any shape.
        axes: the axes that share a scale; None: all of them.
        bits: width of the integers.

    Returns:
        A tensor of the weight's rank, with size 1 along `axes`.
    """
    largest = ops.max(ops.abs(weight), axis=_axis(axes), keepdims=True)
    return ops.maximum(largest / levels(bits), TINY)


def codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The integers of the grid, as floats."""
    n = levels(bits)
    return ops.clip(ops.round(weight / scale), -n, n)


def fake_quant_weights(weight: Tensor, axes: Sequence[int] | None, bits: int) -> Tensor:
    """The weight on its grid; the gradient passes straight through.

    A quantized weight quantized again is itself: its largest value is a level.
    """
    scale = weight_scale(ops.stop_gradient(weight), axes, bits)
    found = codes(weight, scale, bits) * scale
    return weight + ops.stop_gradient(found - weight)


def learned_weights(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """The weight on a grid whose step is trained (LSQ).

    The gradient with respect to the weight is 1 within the grid and 0 beyond its ends;
    with respect to the step it is round(v) - v within, -n or n beyond, v = w / step.

    Args:
        weight: of any shape.
        step: positive, of a shape that broadcasts to the weight's.
        bits: width of the integers.

    Reference:
        Esser et al., "Learned Step Size Quantization", 2020, arXiv:1902.08153,
        section 2.1. The gradient scale of its section 2.2 is in `QuantizeWrapper`.
    """
    n = levels(bits)
    shape = step.shape

    def rounded(weight: Tensor, step: Tensor) -> Any:
        found = codes(weight, step, bits)

        def gradient(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor]:
            upstream = args[0] if upstream is None else upstream
            value = weight / step
            inside = ops.abs(value) <= n
            slope = ops.where(inside, found - value, found)
            of_step = _sum_to(upstream * slope, shape)
            return ops.where(inside, upstream, 0.0), of_step

        return found * step, gradient

    return ops.custom_gradient(rounded)(weight, step)


def first_step(weight: Tensor, axes: Sequence[int] | None, bits: int) -> Tensor:
    """Where LSQ begins: 2 mean|w| / sqrt(n), of the shape of `weight_scale`.

    The mean is that of the weights that are not zero: pruned ones tell nothing. A
    channel of zeros gets the largest step of the others, so that it can come to life.
    """
    how: dict[str, Any] = {"axis": _axis(axes), "keepdims": True}
    nonzero = ops.cast(ops.not_equal(weight, 0.0), "float32")
    share = ops.mean(nonzero, **how)
    mean = ops.mean(ops.abs(weight), **how) / ops.maximum(share, TINY)
    step = 2 * mean / levels(bits) ** 0.5
    largest = ops.max(step)
    largest = ops.where(largest > 0.0, largest, STEP_OF_ZEROS)
    return ops.maximum(ops.where(step > 0.0, step, largest), TINY)


def scaled_gradient(value: Tensor, scale: Tensor) -> Tensor:
    """The value as it is, with its gradient times a scale."""
    moved = value * ops.stop_gradient(scale)
    return ops.stop_gradient(value) + (moved - ops.stop_gradient(moved))


def with_zero(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of a range that includes zero and is not empty.

    Of zeros alone, as behind a dead ReLU, it goes to `OF_ZEROS`: LiteRT's fast kernels
    refuse a grid that is far finer than the products that are summed up for it.
    """
    low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
    least = ops.where(high > low, low + NARROWEST, OF_ZEROS)
    return low, ops.maximum(high, least)


def fake_quant(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Activations on the grid of 2^bits values from `low` to `high`.

    The ends are moved so that zero is on the grid. The gradient is 1 within the range
    and 0 beyond it; the ends get the gradients of what lies beyond them. On TensorFlow
    it is TensorFlow's own op, which the LiteRT converter knows.
    """
    return keras.quantizers.fake_quant_with_min_max_vars(x, low, high, num_bits=bits)


def rectified(x: Tensor, high: Tensor, bits: int) -> Tensor:
    """`fake_quant(relu(x), 0.0, high, bits)` with its gradient for x, in fewer passes.

    A grid that begins at zero rectifies as well. The gradient is 1 where 0 < x <= high
    and 0 elsewhere; `high` gets none. On the CPU TensorFlow's own gradients of the two
    take twice as long: they sum up what the ends get, too.

    Args:
        x: of any shape, float32.
        high: the upper end, a positive scalar.
        bits: width of the integers.
    """

    def rounded(x: Tensor, high: Tensor) -> Any:
        def gradient(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor]:
            upstream = args[0] if upstream is None else upstream
            return _within(upstream, x, high), ops.zeros_like(high)

        return fake_quant(x, 0.0, high, bits), gradient

    return ops.custom_gradient(rounded)(x, ops.stop_gradient(high))


def _within(upstream: Tensor, x: Tensor, high: Tensor) -> Tensor:
    """The gradient where 0 < x <= high, else 0."""
    if keras.backend.backend() != "tensorflow":
        inside = ops.logical_and(x > 0.0, x <= high)
        return ops.where(inside, upstream, 0.0)
    # One operation instead of four: 0 < features < 6, to the rounding of a product.
    import tensorflow as tf

    features = x * (6.0 * ABOUT_ONE / high)
    return tf.raw_ops.Relu6Grad(gradients=upstream, features=features)


def learned_range(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """The same grid, with gradients of LSQ+ for its ends.

    Within the range the ends are told by how much rounding moves each value, too. The
    gradients are written out: left to the backend, they took four times as long.

    Reference:
        Bhalgat et al., "LSQ+", 2020, arXiv:2004.09576, section 3.1, written for the
        ends of the range instead of scale and offset.
    """

    def rounded(x: Tensor, low: Tensor, high: Tensor) -> Any:
        found = fake_quant(x, low, high, bits)
        scale = (high - low) / (2.0**bits - 1)
        bottom = -ops.floor(-low / scale + 0.5) * scale
        top = bottom + (high - low)

        def gradient(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, ...]:
            upstream = args[0] if upstream is None else upstream
            above, below = x > top, x < bottom
            moved = (found - x) / (high - low)
            moved = ops.where(above, 1.0, ops.where(below, 0.0, moved))
            of_high = ops.sum(upstream * moved)
            outside = ops.logical_or(above, below)
            of_low = ops.sum(ops.where(outside, upstream, 0.0)) - of_high
            return ops.where(outside, 0.0, upstream), of_low, of_high

        return found, gradient

    return ops.custom_gradient(rounded)(x, low, high)


def _sum_to(value: Tensor, shape: Sequence[int]) -> Tensor:
    """Sums over the axes that a tensor of this shape was spread along."""
    if len(shape) < len(value.shape):
        return ops.sum(value)
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return ops.sum(value, axis=axes, keepdims=True) if axes else value


def _axis(axes: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if axes is None else tuple(axes)
