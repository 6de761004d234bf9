"""Means over a batch, with masks, sample weights and replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_fitkit.distillation import masks


def replicas() -> int:
    """How many replicas share a batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def kept_apart(sample_weight: Any) -> Any:
    """Weights for Keras, which multiplies a mask into them in place on torch."""
    if sample_weight is None or keras.backend.backend() != "torch":
        return sample_weight
    return keras.tree.map_structure(
        lambda one: None if one is None else ops.copy(one), sample_weight
    )


def mean(values: Any, like: Sequence[Any], sample_weight: Any) -> Any:
    """The mean of values, (batch, ...), over a batch.

    Args:
        values: one for each sample, or position of it; a single one stays as it is.
        like: the tensors they are of. What is padding for one of them does not count: a
            value of several positions counts if one of these does.
        sample_weight: of the samples or positions, or None. Where its positions are not
            those of the values, a sample has the mean of its weights, without padding.
    """
    values = ops.cast(values, "float32")
    if len(values.shape) > 0:
        sizes = tuple(values.shape[1:])
        mask = masks.common(like, sizes)
        if sample_weight is not None:
            values = values * _fitted(ops.cast(sample_weight, "float32"), sizes, like)
        if mask is not None:
            values = values * _shares(mask)
    found = ops.mean(values)
    return found / replicas() if replicas() > 1 else found


def of_samples(weight: Any, like: Sequence[Any]) -> Any:
    """(batch,): of each sample, over those of its positions that count."""
    axes = tuple(range(1, len(weight.shape)))
    if not axes:
        return weight
    known = [masks.mask_of(one) for one in like]
    for mask in reversed([one for one in known if one is not None]):
        if tuple(mask.shape[1:]) == tuple(weight.shape[1:]):
            counts = ops.cast(mask, "float32")
            total = ops.sum(weight * counts, axis=axes)
            return ops.divide_no_nan(total, ops.sum(counts, axis=axes))
    return ops.mean(weight, axis=axes)


def _shares(mask: Any) -> Any:
    """A mask as weights with mean 1, as in Keras."""
    given = ops.cast(mask, "float32")
    return ops.divide_no_nan(given, ops.mean(given))


def _fitted(weight: Any, sizes: tuple[int | None, ...], like: Sequence[Any]) -> Any:
    """Weights with the axes of the values: none is broadcast to the wrong one."""
    have, rank = len(weight.shape), 1 + len(sizes)
    if rank == 1 < have:
        return of_samples(weight, like)
    found = weight
    if have > rank:
        found = ops.mean(weight, axis=tuple(range(rank, have)))
    found = _expanded(found, rank)
    if masks.lines_up(found.shape[1:], sizes):
        return found
    return _expanded(of_samples(weight, like), rank)


def _expanded(weight: Any, rank: int) -> Any:
    for _ in range(rank - len(weight.shape)):
        weight = ops.expand_dims(weight, axis=-1)
    return weight
