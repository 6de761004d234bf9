"""Features of one size: pooling, and projectors for another number of channels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_fitkit._core import arguments
from keras_fitkit.distillation import masks as padding
from keras_fitkit.distillation.distillation_loss import OutputSpec, Shape


def aligned(
    teacher: Any, student: Any, masks: tuple[Any, Any] = (None, None)
) -> tuple[Any, Any]:
    """Both with the same axes between batch and channels: the larger is pooled.

    A feature map beside a vector gets its mean over all positions. Sizes that do not
    divide are resized (images) or an error (sequences). Positions that the mask of the
    teacher's or the student's leaves out are left out of what is pooled.

    Raises:
        ValueError: their axes cannot be matched.
    """
    ranks = len(teacher.shape), len(student.shape)
    if ranks[0] != ranks[1]:
        if min(ranks) != 2:
            raise ValueError(_unlike(teacher, student))
        both = zip((teacher, student), masks, strict=True)
        return tuple(pooled_to_vector(one, mask) for one, mask in both)
    pairs = zip(teacher.shape[1:-1], student.shape[1:-1], strict=True)
    sizes = tuple(None if None in pair else min(pair) for pair in pairs)
    return _resized(teacher, sizes, masks[0]), _resized(student, sizes, masks[1])


def aligned_shapes(teacher: OutputSpec, student: OutputSpec) -> tuple[Shape, Shape]:
    """The shapes that `aligned` gives.

    Raises:
        ValueError: nothing is known of one, or they cannot be matched.
    """
    for one in (teacher, student):
        if one.shape is None or len(one.shape) < 2:
            allowed = "models whose features are tensors of known shape"
            raise ValueError(arguments.message("teacher", allowed, str(one)))
    found = aligned(keras.KerasTensor(teacher.shape), keras.KerasTensor(student.shape))
    return tuple(found[0].shape), tuple(found[1].shape)


def channels_last(layer: Any, features: Any) -> Any:
    """What a layer gave, with its channels as the last axis.

    A layer without `data_format` and without `axis` (an activation, a block) has that
    of `keras.config.image_data_format()`, where it gives images or volumes.
    """
    rank, axis = len(features.shape), getattr(layer, "axis", None)
    order = getattr(layer, "data_format", None)
    if order is None and rank > 3:
        order = keras.config.image_data_format()
        if isinstance(axis, int):  # BatchNormalization
            order = "channels_first" if axis == 1 else "channels_last"
    if order != "channels_first" or rank < 3:
        return features
    return ops.moveaxis(features, 1, -1)


def pooled_to_vector(features: Any, mask: Any = None) -> Any:
    """(batch, channels): the mean over what counts between; 0 if nothing does."""
    rank = len(features.shape)
    if rank == 2:
        return features
    axes = tuple(range(1, rank - 1))
    if mask is None:
        return ops.mean(features, axis=axes)
    total = ops.sum(padding.zeroed(features, mask), axis=axes)
    count = ops.sum(padding.as_weights(mask, features), axis=axes)
    return ops.divide_no_nan(total, count)


def linear_projector(shape: Shape, width: int, name: str, use_bias: bool = True) -> Any:
    """A layer from features of `shape` to `width` channels, built.

    Dense for vectors and sequences, a convolution of 1 x 1 for images.

    Raises:
        ValueError: the number of channels is not known.
    """
    if shape[-1] is None:
        allowed = "a model whose features have a known number of channels"
        raise ValueError(arguments.message("student", allowed, str(shape)))
    given = {"use_bias": use_bias, "name": name, "dtype": "float32"}
    if len(shape) == 4:
        layer = keras.layers.Conv2D(width, 1, data_format="channels_last", **given)
    else:
        layer = keras.layers.Dense(width, **given)
    layer.build((None, *shape[1:]))
    return layer


def _resized(features: Any, sizes: tuple[int | None, ...], mask: Any) -> Any:
    if None in sizes or tuple(features.shape[1:-1]) == sizes:
        return features
    if mask is None:
        return _shrunk(features, sizes)
    total = _shrunk(padding.zeroed(features, mask), sizes)
    return ops.divide_no_nan(total, _shrunk(padding.as_weights(mask, features), sizes))


def _shrunk(features: Any, sizes: tuple[int | None, ...]) -> Any:
    now = tuple(features.shape[1:-1])
    if all(size % wanted == 0 for size, wanted in zip(now, sizes, strict=True)):
        window = tuple(a // b for a, b in zip(now, sizes, strict=True))
        return ops.average_pool(
            features,
            window if len(window) > 1 else window[0],
            strides=window if len(window) > 1 else window[0],
            padding="valid",
            data_format="channels_last",
        )
    if len(now) != 2:
        allowed = f"a model whose features have sizes that {sizes} divide"
        raise ValueError(arguments.message("student", allowed, now))
    return ops.image.resize(
        features,
        sizes,
        interpolation="bilinear",
        antialias=True,
        data_format="channels_last",
    )


def _unlike(teacher: Any, student: Any) -> str:
    allowed = f"a model whose features are matched with {tuple(teacher.shape)}"
    return arguments.message("student", allowed, tuple(student.shape))
