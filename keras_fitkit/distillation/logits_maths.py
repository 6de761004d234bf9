"""What distillation on logits computes: pure functions, float32, a value per sample.

The last axis holds the classes; every other axis stays, so that tokens and pixels have
values of their own. All of them take logits, never probabilities, and stay in
logarithms: a student that is wrong and sure of it still gets its gradient.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

_FAR = -1e9  # a logit that has no share in a softmax
_TINY = 1e-16
_LEAST_DEVIATION = 1e-2  # far below that of any logits, cosines included


def single(values: Any) -> Any:
    """A tensor in float32."""
    return ops.cast(values, "float32")


def softmax_kl(teacher: Any, student: Any, temperature: Any) -> Any:
    """`T**2 * KL(softmax(t / T) || softmax(s / T))`, summed over the classes.

    Teacher and temperature get no gradient.
    """
    temperature = ops.stop_gradient(single(temperature))
    teacher = ops.stop_gradient(single(teacher))
    p = ops.log_softmax(teacher / temperature, axis=-1)
    if keras.backend.backend() == "tensorflow":
        return _softmax_kl_in_tensorflow(p, single(student), temperature)
    q = ops.log_softmax(single(student) / temperature, axis=-1)
    return temperature**2 * _expected(p, q)


def _softmax_kl_in_tensorflow(p: Any, student: Any, temperature: Any) -> Any:
    """The same with its gradient, `T (softmax(s / T) - softmax(t / T))`, written out.

    TensorFlow runs operations one by one: of a small net they are the cost of a step,
    and the gradient that it derives has three times as many.
    """
    import tensorflow as tf

    share = ops.exp(p)

    def divergence(logits: Any) -> Any:
        q = ops.log_softmax(logits / temperature, axis=-1)

        def gradient(upstream: Any) -> Any:
            slope = (ops.exp(q) - share) * temperature
            return ops.expand_dims(upstream, axis=-1) * slope

        apart = tf.math.multiply_no_nan(p - q, share)  # 0 where the share is
        return ops.sum(apart, axis=-1) * temperature**2, gradient

    return ops.custom_gradient(divergence)(student)


def bernoulli_kl(teacher: Any, student: Any, temperature: Any) -> Any:
    """The same for independent sigmoids: `T**2` times the sum of their divergences."""
    t, s = single(teacher) / temperature, single(student) / temperature
    p = ops.sigmoid(t)
    yes = p * (ops.log_sigmoid(t) - ops.log_sigmoid(s))
    no = (1 - p) * (ops.log_sigmoid(-t) - ops.log_sigmoid(-s))
    return temperature**2 * ops.sum(yes + no, axis=-1)


def standardized(logits: Any) -> Any:
    """Logits with mean 0 and standard deviation 1 over the classes.

    A smaller deviation than 0.01 counts as 0.01, so that the gradient is bounded: a
    head of zeros has equal logits.
    """
    values = single(logits)
    centred = values - ops.mean(values, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    return centred * ops.rsqrt(ops.maximum(variance, _LEAST_DEVIATION**2))


def decoupled(
    teacher: Any, student: Any, labels: Any, temperature: Any, alpha: float, beta: float
) -> Any:
    """`T**2 * (alpha * TCKD + beta * NCKD)`.

    TCKD is the divergence of "the labelled class or another", NCKD that among the other
    classes alone.

    Args:
        teacher: logits.
        student: logits.
        labels: one-hot, of the shape of the logits.
        temperature: above 0.
        alpha: of TCKD.
        beta: of NCKD.
    """
    target = single(labels)
    t, s = single(teacher) / temperature, single(student) / temperature
    log_t, log_s = ops.log_softmax(t, axis=-1), ops.log_softmax(s, axis=-1)
    both = [
        ops.stack(
            [
                ops.sum(ops.where(target > 0, values, 0.0) * target, axis=-1),
                ops.logsumexp(values + _FAR * target, axis=-1),
            ],
            axis=-1,
        )
        for values in (log_t, log_s)
    ]
    others = [
        ops.log_softmax(values + _FAR * target, axis=-1) for values in (t, s)
    ]  # where the class is the labelled one, its share is 0
    among = _expected(*others)
    return temperature**2 * (alpha * _expected(*both) + beta * among)


def relations(
    teacher: Any, student: Any, temperature: Any, beta: float, gamma: float
) -> Any:
    """`beta * (1 - r of each row) + gamma * mean(1 - r of each column)`.

    `r` is Pearson's correlation of the teacher's and the student's probabilities. The
    second part belongs to the batch: every sample has the same, and a batch of one
    sample has 0.

    Args:
        teacher: logits, (batch, classes).
        student: logits, (batch, classes).
        temperature: above 0.
        beta: of the rows, that is between the classes of a sample.
        gamma: of the columns, that is between the samples of a class.
    """
    p = ops.softmax(single(teacher) / temperature, axis=-1)
    q = ops.softmax(single(student) / temperature, axis=-1)
    rows = 1 - _correlation(p, q, axis=-1)
    columns = ops.mean(1 - _correlation(p, q, axis=0))
    several = ops.cast(ops.shape(p)[0] > 1, "float32")
    return beta * rows + gamma * several * columns


def mixed_softmax(logits: list[Any], weights: list[float]) -> Any:
    """The logits of the weighted mean of several softmaxes."""
    shares = [
        ops.log_softmax(single(one), axis=-1) + _log(weight)
        for one, weight in zip(logits, weights, strict=True)
    ]
    return ops.logsumexp(ops.stack(shares, axis=0), axis=0)


def mixed_sigmoid(logits: list[Any], weights: list[float]) -> Any:
    """The logits of the weighted mean of several sigmoids."""
    pairs = list(zip(logits, weights, strict=True))
    yes = [ops.log_sigmoid(single(one)) + _log(weight) for one, weight in pairs]
    no = [ops.log_sigmoid(-single(one)) + _log(weight) for one, weight in pairs]
    return ops.logsumexp(ops.stack(yes), axis=0) - ops.logsumexp(ops.stack(no), axis=0)


def logits_of_softmax(probabilities: Any) -> Any:
    """Logits that have these probabilities: exact up to a constant."""
    return ops.log(ops.maximum(single(probabilities), 1e-37))


def logits_of_sigmoid(probabilities: Any) -> Any:
    """Logits that have these probabilities, within +-16: float32 ends there."""
    p = ops.clip(single(probabilities), 1e-7, 1 - 1e-7)
    return ops.log(p) - ops.log1p(-p)


def _expected(p: Any, q: Any) -> Any:
    """The expectation under `p` of `p - q`, both logarithms."""
    share = ops.exp(p)
    return ops.sum(share * ops.where(share > 0, p - q, 0.0), axis=-1)


def _correlation(a: Any, b: Any, axis: int) -> Any:
    a, b = (_unit(one, axis) for one in (a, b))
    return ops.sum(a * b, axis=axis)


def _unit(values: Any, axis: int) -> Any:
    centred = values - ops.mean(values, axis=axis, keepdims=True)
    size = ops.sum(ops.square(centred), axis=axis, keepdims=True)
    return centred / ops.sqrt(size + _TINY)


def _log(weight: float) -> Any:
    return ops.log(ops.cast(weight, "float32"))
