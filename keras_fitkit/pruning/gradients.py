"""Gradients of a model's loss on given data, on every backend, without a trace.

The model is run in inference mode: no dropout, moving statistics of BatchNormalization.
The penalties of weight regularizers are not part of the loss here. No weight, metric
or random state is changed.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Generator, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, random_state, rows
from keras_fitkit._core.layers import leaf_layers
from keras_fitkit.pruning.masks import Array

BATCH = 256
LOSS_SCALES = (1024.0, 64.0, 4.0, 1.0)  # float16 gradients vanish or overflow


def check_data(data: Any) -> tuple[Any, Any, Any] | None:
    """`(x, y)` or `(x, y, sample_weight)` of arrays of the same length, or None.

    Raises:
        ValueError, TypeError: anything else.
    """
    if data is None:
        return None
    allowed = "None, (x, y) or (x, y, sample_weight) of arrays"
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        hint = "Take a sample of the training data as arrays."
        raise TypeError(arguments.message("data", allowed, data, hint))
    rows.length("data", data, allowed)
    return (*data, None) if len(data) == 2 else data


def take(data: tuple[Any, Any, Any], picked: Any) -> tuple[Any, Any, Any]:
    """The rows at `picked`."""
    x, y, weight = (rows.take(part, picked) for part in data)
    return x, y, weight


def loss_gradients(
    model: Any, variables: Sequence[Any], data: tuple[Any, Any, Any]
) -> list[Array]:
    """Gradient of the mean loss with respect to each variable, as float32 arrays.

    Args:
        model: a compiled model.
        variables: variables of the model, trainable or not.
        data: checked by `check_data`; taken in batches of `BATCH` rows.

    Raises:
        ValueError: a gradient that is not finite.
    """
    total = [np.zeros(tuple(variable.shape), np.float32) for variable in variables]
    with contextlib.closing(of_batches(model, variables, data, BATCH)) as batches:
        for found, share in batches:
            for sum_, part in zip(total, found, strict=True):
                sum_ += part * np.float32(share)
    return total


def of_batches(
    model: Any,
    variables: Sequence[Any],
    data: tuple[Any, Any, Any],
    batch_size: int,
) -> Generator[tuple[list[Array], float]]:
    """The gradients of the mean loss of each batch, and its share of the rows.

    Close it (`contextlib.closing`): the model's states are restored then.

    Args:
        model: a compiled model.
        variables: variables of the model, trainable or not.
        data: checked by `check_data`.
        batch_size: rows of a batch; the last one may be smaller.

    Raises:
        ValueError: a gradient that is not finite.
    """
    half = any("16" in str(layer.compute_dtype) for _, layer in leaf_layers(model))
    scales = LOSS_SCALES if half else LOSS_SCALES[-1:]
    count = rows.length("data", data, "rows")
    with random_state.model_preserved(model):
        for start in range(0, count, batch_size):
            batch = take(data, slice(start, min(start + batch_size, count)))
            found = _finite(model, variables, batch, scales)
            yield found, rows.length("data", batch, "rows") / count


def _finite(
    model: Any, variables: Sequence[Any], batch: Any, scales: Sequence[float]
) -> list[Array]:
    """The gradients of a batch, with the first scale at which they are finite."""
    of_batch = {
        "tensorflow": _tensorflow,
        "jax": _jax,
        "torch": _torch,
    }[keras.backend.backend()]
    for scale in scales:
        values = of_batch(model, variables, batch, scale)
        found = [np.asarray(each, np.float32) / np.float32(scale) for each in values]
        broken = [not np.isfinite(each).all() for each in found]
        if not any(broken):
            return found
    path = variables[broken.index(True)].path
    raise ValueError(
        f"`data` must give a finite loss. Received: NaN or infinity in the gradient of "
        f"{path}. Look for NaN in the data and in the weights."
    )


def try_loss(model: Any, data: tuple[Any, Any, Any]) -> None:
    """Computes the loss of one row, so that a later update does not fail.

    Raises:
        ValueError: the model has no loss, or `data` does not fit it.
    """
    try:
        with random_state.model_preserved(model):
            _loss(model, take(data, slice(0, 1)), 1.0)
    except Exception as error:
        allowed = "rows for which the compiled model computes a loss"
        raise ValueError(
            f"`data` must be {allowed}: scores and regrowth need its gradient. "
            f"Received: an error from the first row: {error}"
        ) from error


def _loss(model: Any, batch: tuple[Any, Any, Any], scale: float) -> Any:
    x, y, weight = batch
    outputs = model(x, training=False)
    loss = model.compute_loss(
        x=x, y=y, y_pred=outputs, sample_weight=weight, training=False
    )
    for penalty in model.losses:
        loss = loss - keras.ops.cast(penalty, loss.dtype)
    return loss * scale


def _tensorflow(
    model: Any, variables: Sequence[Any], batch: Any, scale: float
) -> list[Any]:
    tf = importlib.import_module("tensorflow")
    values = [variable.value for variable in variables]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for value in values:
            tape.watch(value)
        loss = _loss(model, batch, scale)
    found = tape.gradient(loss, values, unconnected_gradients="zero")
    return [keras.ops.convert_to_numpy(tf.convert_to_tensor(each)) for each in found]


def _torch(model: Any, variables: Sequence[Any], batch: Any, scale: float) -> list[Any]:
    torch = importlib.import_module("torch")
    values = [variable.value for variable in variables]
    before = [value.requires_grad for value in values]
    try:
        for value in values:
            value.requires_grad_(True)
        with torch.enable_grad():
            loss = _loss(model, batch, scale)
            found = torch.autograd.grad(loss, values, allow_unused=True)
    finally:
        for value, flag in zip(values, before, strict=True):
            value.requires_grad_(flag)
    return [
        np.zeros(tuple(variable.shape), np.float32)
        if each is None
        else keras.ops.convert_to_numpy(each.detach())
        for variable, each in zip(variables, found, strict=True)
    ]


def _jax(model: Any, variables: Sequence[Any], batch: Any, scale: float) -> list[Any]:
    jax = importlib.import_module("jax")

    def loss(values: list[Any]) -> Any:
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return _loss(model, batch, scale)

    values = [variable.value for variable in variables]
    return [np.asarray(each) for each in jax.grad(loss)(values)]
