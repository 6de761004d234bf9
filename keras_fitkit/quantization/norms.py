"""Norms behind calibrated layers: what they take up, and their statistics."""

from __future__ import annotations

import collections
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_fitkit._core import arrays, graph
from keras_fitkit.quantization import kernel_matrices, rounding
from keras_fitkit.quantization.rounding import Array
from keras_fitkit.quantization.wrapper import QuantizeWrapper

# For each of the two models the batches of one tensor.
Values: TypeAlias = tuple[list[Any], list[Any]]
SLOPES = (0.5, 2.0)  # of a channel before a norm: what it may be multiplied by


def statistics(norm: Any, values: Values) -> tuple[Array, Array, Array]:
    """Of each channel the mean, that of the float model, and what it is multiplied by.

    That factor gives it the variance of the float model. The factor that makes the
    error of this layer least is smaller: signals then fade from layer to layer. It is 1
    where a channel is constant, and never far from 1, as the sample is small.
    """
    count, total, squares = 0, np.zeros(()), np.zeros(())
    starts: Any = None
    for batch in zip(*values, strict=True):
        both = np.stack([_by_channel(norm, one) for one in batch])
        starts = both.mean(1) if starts is None else starts
        both -= starts[:, None]
        total, squares = total + both.sum(1), squares + (both**2).sum(1)
        count += both.shape[1]
    mean = total / count
    found, wanted = (squares / count - mean**2).clip(0.0)
    known = found > rounding.TINY
    slope = np.sqrt(np.where(known, wanted / np.where(known, found, 1.0), 1.0))
    mean, level = mean + starts
    return mean, level, slope.clip(*SLOPES)


def _by_channel(norm: Any, batch: Any) -> Array:
    value = arrays.to_numpy(keras.ops.cast(batch, "float32")).astype("float64")
    moved: Array = np.moveaxis(value, norm.axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def before_norms(model: Any) -> set[int]:
    """Ids of layers whose mean error a BatchNormalization takes up, wherever called.

    Each call goes into a norm of its own and nowhere else, with nothing between them
    that a mean is not the same behind.
    """
    flat = graph.flat(model)
    calls = collections.Counter(id(call.operation) for call in flat.nodes)
    found: set[int] = set()
    others: set[int] = set()
    for call in flat.nodes:
        after = flat.only_consumer(call)
        fits = (
            after is not None
            and calls[id(after.operation)] == 1
            and _takes_mean(inner(after.operation), call)
        )
        (found if fits else others).add(id(call.operation))
    return found - others


def _takes_mean(norm: Any, call: Any) -> bool:
    """Whether a layer is a norm of the channels that a linear layer gives out."""
    if not isinstance(norm, keras.layers.BatchNormalization):
        return False
    layer = inner(call.operation)
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    rank = len(call.outputs[0].shape)
    return linear and norm.axis % rank == kernel_matrices.channel_axis(layer, rank)


def inner(layer: Any) -> Any:
    """The layer in a wrapper, or the layer itself."""
    return layer.layer if isinstance(layer, QuantizeWrapper) else layer
