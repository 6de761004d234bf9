"""What distillation on features computes: pure functions, float32, a value per sample.

The first axis is the batch. Where samples are compared with one another (similarity,
relations, contrast) the value of a sample is its own share: the mean over the batch is
the loss of the paper.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

_TINY = 1e-12
_MARKS = 4  # numbers that tell one vector from another


def single(values: Any) -> Any:
    """A tensor in float32."""
    return ops.cast(values, "float32")


def squared_error(teacher: Any, student: Any) -> Any:
    """The mean over the last axis of the squared difference."""
    return ops.mean(ops.square(single(student) - single(teacher)), axis=-1)


def absolute_error(teacher: Any, student: Any) -> Any:
    """The mean over the last axis of the difference without its sign."""
    return ops.mean(ops.abs(single(student) - single(teacher)), axis=-1)


def cosine_distance(teacher: Any, student: Any) -> Any:
    """1 minus the cosine along the last axis."""
    return 1 - ops.sum(unit(single(teacher)) * unit(single(student)), axis=-1)


def attention(teacher: Any, student: Any) -> Any:
    """The squared distance of two attention maps.

    A map is the mean square over the channels (the last axis), as a vector of length 1.
    """
    t, s = (
        unit(flat(ops.mean(ops.square(single(one)), axis=-1)))
        for one in (teacher, student)
    )
    return ops.sum(ops.square(t - s), axis=-1)


def similarity(teacher: Any, student: Any) -> Any:
    """How unlike the batch's similarity matrices are, row by row.

    `G` is `F @ F.T` with rows of length 1; the value of a sample is the squared
    distance of its two rows over the batch size.
    """
    t, s = (unit(_gram(flat(single(one)))) for one in (teacher, student))
    return ops.mean(ops.square(t - s), axis=-1)


def distances(teacher: Any, student: Any) -> Any:
    """Huber's loss of the distances to the others, each batch with mean distance 1."""
    t, s = (_distances(flat(single(one))) for one in (teacher, student))
    return ops.mean(_huber(t - s), axis=-1)


def angles(teacher: Any, student: Any) -> Any:
    """Huber's loss of the cosines of the angles at a sample between two others."""
    t, s = (_cosines(flat(single(one))) for one in (teacher, student))
    return ops.mean(_huber(t - s), axis=(1, 2))


def contrast(
    teacher: Any,
    student: Any,
    temperature: Any,
    others: Any = None,
    present: Any = None,
    copies: Any = None,
) -> Any:
    """InfoNCE: which of the teacher's embeddings belongs to the student's.

    Args:
        teacher: (batch, n), rows of length 1.
        student: (batch, n), rows of length 1.
        temperature: above 0.
        others: (rows, n), more of the teacher's, of other batches.
        present: (rows,) or (batch, rows), 1.0 for those that count and 0.0 for the
            rest.
        copies: (batch, batch), 1.0 where the second is the first once more and does not
            count; None: nowhere.
    """
    scores = ops.matmul(student, ops.transpose(teacher)) / temperature
    if copies is not None:
        scores += -1e9 * copies
    right = ops.sum(student * teacher, axis=-1) / temperature
    if others is not None:
        more = ops.matmul(student, ops.transpose(others)) / temperature
        scores = ops.concatenate([scores, more + -1e9 * (1 - present)], axis=-1)
    return ops.logsumexp(scores, axis=-1) - right


def alike(rows: Any, others: Any) -> Any:
    """(rows, others): 1.0 where both are one vector up to rounding, else 0.0.

    Told by a few sums with random factors (signs would cancel where few entries differ,
    as between one-hot rows): the differences themselves would be (rows, others, width),
    and products of matrices are too rough on some GPUs.
    """
    apart: Any = 0.0
    for mark, of_others in zip(_marks(rows), _marks(others), strict=True):
        apart = ops.maximum(apart, ops.abs(mark[:, None] - of_others[None, :]))
    size = ops.sqrt(ops.sum(ops.square(rows), axis=-1, keepdims=True))
    return ops.cast(apart <= 1e-4 * size, "float32")


def flat(features: Any) -> Any:
    """(batch, everything else)."""
    if len(features.shape) == 2:
        return features
    rest = features.shape[1:]
    if None in rest:
        return ops.reshape(features, (ops.shape(features)[0], -1))
    return ops.reshape(features, (-1, math.prod(rest)))


def unit(values: Any) -> Any:
    """Vectors of length 1 along the last axis; a zero stays a zero."""
    size = ops.sum(ops.square(values), axis=-1, keepdims=True)
    return values * ops.rsqrt(ops.maximum(size, _TINY))


def _marks(rows: Any) -> list[Any]:
    """Four numbers of each row, about as large as it is long."""
    drawn = np.random.default_rng(0).normal(size=(_MARKS, rows.shape[-1]))
    factors = [ops.convert_to_tensor(one, "float32") for one in drawn]
    return [ops.sum(rows * one, axis=-1) for one in factors]


def _gram(features: Any) -> Any:
    return ops.matmul(features, ops.transpose(features))


def _distances(features: Any) -> Any:
    """(batch, batch), with mean 1 over the pairs of different points."""
    features = _centred(features)
    squares, apart = _squares(features, _gram(features))
    found = ops.where(apart, ops.sqrt(squares), 0.0)
    count = ops.sum(ops.cast(apart, "float32"))
    mean = ops.sum(found) / ops.maximum(count, 1.0)
    return found / ops.where(mean > 0, mean, 1.0)


def _cosines(features: Any) -> Any:
    """(batch, batch, batch): at the first, between the second and the third.

    From the products of the points alone: the lines themselves would be (batch, batch,
    width), and their products as dear as `batch` matrices of products.
    """
    features = _centred(features)
    gram = _gram(features)
    squares, apart = _squares(features, gram)
    scale = ops.where(apart, ops.rsqrt(squares), 0.0)
    own = ops.sum(ops.square(features), axis=-1)[:, None, None]
    dots = gram[None, :, :] - gram[:, :, None] - gram[:, None, :] + own
    return ops.clip(dots * scale[:, :, None] * scale[:, None, :], -1.0, 1.0)


def _centred(features: Any) -> Any:
    """Distances and angles stay; near the middle of the points less is rounded away."""
    return features - ops.mean(features, axis=0, keepdims=True)


def _squares(features: Any, gram: Any) -> tuple[Any, Any]:
    """Squared distances, 1.0 where two points are the same, and where they are not."""
    size = ops.sum(ops.square(features), axis=-1)
    both = size[:, None] + size[None, :]
    found = both - 2 * gram
    # The diagonal is rounding error; a root has no gradient at 0.
    row = ops.arange(ops.shape(gram)[0])
    apart = ops.logical_and(found > 1e-6 * both + _TINY, row[:, None] != row[None, :])
    return ops.where(apart, found, 1.0), apart


def _huber(difference: Any) -> Any:
    size = ops.abs(difference)
    return ops.where(size < 1, 0.5 * ops.square(difference), size - 0.5)
