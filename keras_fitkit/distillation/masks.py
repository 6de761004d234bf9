"""Padding: which positions of features count, at the resolution that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from keras import ops

from keras_fitkit._core import _private


def mask_of(features: Any) -> Any:
    """Which positions of (batch, ..., channels) count, as bool; None: all of them.

    It has the axes of the features without the last, of size 1 where it is the same
    along one.
    """
    found = _private.mask_of(features)
    if found is None:
        return None
    return fitted(ops.cast(found, "bool"), tuple(features.shape[1:-1]))


def same_mask(features: Any, source: Any) -> Any:
    """Features that have been made of others, with the mask of these."""
    mask = _private.mask_of(source)
    if mask is not None:
        _private.set_mask(features, mask)
    return features


def common(all_features: Iterable[Any], sizes: Sequence[int | None]) -> Any:
    """The positions of a map of `sizes` that count in all features; None: all."""
    masks = [mask_of(one) for one in all_features]
    found = None
    for mask in (fitted(one, sizes) for one in masks if one is not None):
        found = mask if found is None else ops.logical_and(found, mask)
    return found


def fitted(mask: Any, sizes: Sequence[int | None]) -> Any:
    """A mask, (batch, ...), for a map of `sizes`: (batch, *sizes), or 1 for a size.

    A position of a coarser map counts if one of those that it covers does. Where the
    sizes do not divide, all positions of a sample count if one does.
    """
    rank = 1 + len(sizes)
    have = len(mask.shape)
    if have > rank:
        mask = _any(mask, range(rank, have))
    for _ in range(rank - have):
        mask = ops.expand_dims(mask, axis=-1)
    if lines_up(mask.shape[1:], sizes):
        return mask
    steps: list[int] = []
    for now, wanted in zip(mask.shape[1:], sizes, strict=True):
        wanted = 1 if now == 1 else wanted
        if not now or not wanted or now % wanted:
            return _any(mask, range(1, rank), keepdims=True)
        steps += [wanted, now // wanted]
    parts = ops.reshape(mask, (-1, *steps))
    return _any(parts, range(2, len(steps) + 1, 2))


def _any(mask: Any, axes: Iterable[int], keepdims: bool = False) -> Any:
    """Over several axes: Keras 3.12 takes one at a time on torch."""
    for axis in sorted(axes, reverse=True):
        mask = ops.any(mask, axis=axis, keepdims=keepdims)
    return mask


def lines_up(given: Sequence[int | None], sizes: Sequence[int | None]) -> bool:
    """Whether each is the size wanted, or 1, as far as they are known."""
    return all(
        a == 1 or a == b or a is None or b is None
        for a, b in zip(given, sizes, strict=True)
    )


def as_weights(mask: Any, features: Any) -> Any:
    """1.0 where (batch, ..., channels) counts, else 0.0: (batch, ..., 1)."""
    like = ops.ones_like(features[..., :1])
    return like * ops.cast(ops.expand_dims(mask, axis=-1), like.dtype)


def zeroed(features: Any, mask: Any) -> Any:
    """Features with zeros where a position does not count."""
    if mask is None:
        return features
    return ops.where(ops.expand_dims(mask, -1), features, ops.zeros_like(features))


def without_padding(features: Any) -> Any:
    """Features with zeros where their own mask says padding."""
    return zeroed(features, mask_of(features))
