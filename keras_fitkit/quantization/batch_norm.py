"""reestimate_batch_norm: moving statistics of the weights as they are now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays, rows
from keras_fitkit._core.layers import check_keras_model, leaf_layers

ALLOWED = "arrays of inputs, or a dataset of batches"


def reestimate_batch_norm(
    model: Any,
    x: Any,
    *,
    batch_size: int = 128,
    max_batches: int = 40,
    verbose: int = 0,
) -> int:
    """Measures the statistics of every BatchNormalization anew, with fixed weights.

    In training, weights on a grid of few bits jump between its values until the end.
    The moving statistics are averages over many such sets of weights and belong to none
    of them: a net of 3- or 4-bit weights, above all of depthwise convolutions, can lose
    most of its accuracy in inference by that alone. Call this after the training, and
    before the model is evaluated or exported. It also helps after pruning in one shot
    and after weights were averaged.

    The norms are measured one after another, from the first to the last, each with
    those before it as they will be: mean and variance over all batches of what reaches
    it in inference mode (no dropout, no change of quantizers). Measured together, nets
    of 3 and 4 bits made up to twice as many errors. It takes a forward pass, up to the
    norm, for each norm and batch. Norms that are not trainable stay as they are.

    Args:
        model: a built model. It is changed in place.
        x: training inputs, as for `model.predict`: arrays, or a list, tuple or dict of
            such, of which rows are taken evenly; or a tf.data.Dataset, PyDataset or
            another iterable of batches `x`, `(x,)` or `(x, y, ...)`. Some thousand rows
            are enough.
        batch_size: rows in a batch of arrays, >= 2. Defaults to 128.
        max_batches: at most so many batches, >= 1; they are kept in memory. Defaults to
            40.
        verbose: 0 silent, 1 a progress bar. Defaults to 0.

    Returns:
        The number of norms that were measured.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a model without a
            trainable BatchNormalization; data without a batch, or not finite.

    Example:
        >>> import keras, numpy as np
        >>> import keras_fitkit as kf
        >>> norm = keras.layers.BatchNormalization()
        >>> model = keras.Sequential([keras.Input((4,)), norm])
        >>> x = np.random.default_rng(0).normal(5.0, size=(1000, 4))
        >>> kf.reestimate_batch_norm(model, x)
        1
        >>> round(float(keras.ops.mean(norm.moving_mean)), 1)
        5.0

    References:
        Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", 2022,
        arXiv:2203.11086 (why, and measuring anew as the remedy).
    """
    check_keras_model("model", model, built=True)
    arguments.integer("batch_size", batch_size, low=2)
    arguments.integer("max_batches", max_batches, low=1)
    arguments.integer("verbose", verbose, low=0, high=1)
    norms = _norms(model)
    if not norms:
        allowed = "a model with a BatchNormalization that is trainable"
        raise ValueError(arguments.message("model", allowed, model.name))
    batches = list(_batches(x, batch_size, max_batches))
    calls = _calls(model, norms, batches)
    bar = None
    if verbose:
        bar = keras.utils.Progbar(len(calls) * len(batches), unit_name="batch")
    before = [arrays.copied(one) for norm in norms for one in _moving(norm)]
    try:
        for norm, times in calls:
            with _noted(norm, times) as notes:
                for batch in batches:
                    with contextlib.suppress(_Enough):
                        model(batch, training=False)
                    if bar is not None:
                        bar.add(1)
            _put([norm], _joined(notes))
    except BaseException:
        _put(norms, before)
        raise
    return len(norms)


class _Enough(BaseException):
    """What comes after the norm need not be computed; not for Keras to report."""


def _norms(model: Any) -> list[Any]:
    found: list[Any] = []
    for _, layer in leaf_layers(model):
        norm = isinstance(layer, keras.layers.BatchNormalization)
        if norm and layer.trainable and not any(layer is one for one in found):
            found.append(layer)
    return found


def _moving(norm: Any) -> tuple[Any, Any]:
    return norm.moving_mean, norm.moving_variance


def _put(norms: list[Any], values: list[Any]) -> None:
    variables = [one for norm in norms for one in _moving(norm)]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _calls(model: Any, norms: list[Any], batches: list[Any]) -> list[tuple[Any, int]]:
    """The norms in the order of their first calls, and how often each is called."""
    seen: list[Any] = []
    with contextlib.ExitStack() as stack:
        for norm in norms:

            def call(
                inputs: Any,
                *args: Any,
                norm: Any = norm,
                inner: Any = norm.call,
                **kw: Any,
            ) -> Any:
                seen.append(norm)
                return inner(inputs, *args, **kw)

            stack.enter_context(_calling(norm, call))
        for batch in batches[:1]:
            model(batch, training=False)
    found = {id(norm): norm for norm in seen}
    if len(found) < len(norms):
        allowed = "batches that reach every norm of the model"
        received = f"{len(batches)} batches that reach {len(found)} of {len(norms)}"
        raise ValueError(arguments.message("x", allowed, received))
    return [(norm, sum(one is norm for one in seen)) for norm in found.values()]


@contextlib.contextmanager
def _calling(norm: Any, call: Any) -> Iterator[None]:
    norm.call = call
    try:
        yield
    finally:
        del norm.call


@contextlib.contextmanager
def _noted(norm: Any, times: int) -> Iterator[list[tuple[Any, Any]]]:
    """Mean and variance of each call of a norm, which normalizes by them meanwhile."""
    inner, momentum = norm.call, norm.momentum
    notes: list[tuple[Any, Any]] = []

    def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        del training
        for variable in _moving(norm):  # what is not finite would stay so
            variable.assign(np.zeros(variable.shape))
        outputs = inner(inputs, training=True, mask=mask)
        mean, variance = (arrays.copied(one).astype("float64") for one in _moving(norm))
        notes.append((mean, variance))
        if len(notes) % times == 0:
            raise _Enough
        return outputs

    norm.momentum = 0.0  # the moving statistics are the batch's
    try:
        with _calling(norm, call):
            yield notes
    finally:
        norm.momentum = momentum


def _joined(notes: list[tuple[Any, Any]]) -> list[Any]:
    """Mean and variance over all batches, which count alike."""
    means, variances = (np.stack(each) for each in zip(*notes, strict=True))
    found = [means.mean(0), variances.mean(0) + means.var(0)]
    if not all(np.isfinite(one).all() for one in found):
        allowed = "batches of finite values"
        raise ValueError(arguments.message("x", allowed, "NaN or infinite statistics"))
    return found


def _batches(x: Any, batch_size: int, max_batches: int) -> Iterator[Any]:
    """The inputs, batch by batch."""
    if isinstance(x, keras.utils.PyDataset):
        for index in range(min(len(x), max_batches)):
            yield _inputs(x[index])
    elif isinstance(x, (list, tuple, dict)) or hasattr(x, "shape"):
        count = rows.length("x", x, ALLOWED)
        number = min(-(-count // batch_size), max_batches)
        taken = min(count, number * batch_size)
        picked = np.linspace(0, count - 1, taken).round().astype(int)
        for index in range(number):  # rows of all places in each
            yield rows.take(x, picked[index::number])
    else:
        if not hasattr(x, "__iter__"):
            raise TypeError(arguments.message("x", ALLOWED, x))
        for index, batch in enumerate(x):
            if index == max_batches:
                return
            yield _inputs(batch)


def _inputs(batch: Any) -> Any:
    return batch[0] if isinstance(batch, (list, tuple)) else batch
