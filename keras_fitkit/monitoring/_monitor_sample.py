"""Where `OverfitMonitor` gets its training sample from, and what hinders it."""

from __future__ import annotations

from typing import Any

import keras

from keras_fitkit._core import arguments, fits, train_sample
from keras_fitkit._core.train_sample import CannotReread, TrainSample

_KINDS = (
    "'auto', None, a tuple (x, y) of arrays, a PyDataset, a tf.data.Dataset or a torch "
    "DataLoader"
)


def is_auto(data: Any) -> bool:
    """Whether `train_data` is "auto"."""
    return isinstance(data, str) and data == "auto"


def of_argument(data: Any, rows: int | None) -> TrainSample | None:
    """The sample of explicit `train_data`, read now so that a fault shows now."""
    if data is None or is_auto(data):
        return None
    try:
        return train_sample.take(data, rows, described="train_data")
    except CannotReread as error:
        hint = f"Here, {error}."
        if isinstance(data, (list, tuple)) or hasattr(data, "shape"):
            hint = "Pass a tuple (x, y), or (x, y, sample_weight)."
        text = arguments.message("train_data", _KINDS, data, hint)
        raise TypeError(text) from error


def of_fit(fit: fits.RunningFit | None, rows: int | None) -> TrainSample:
    """The sample of what the running fit was given.

    Raises:
        CannotReread: whatever a data set of the user's raises when it is read out of
            turn: a fit that works without the monitor works with it.
    """
    if fit is None:
        raise CannotReread("the callback does not run inside Model.fit")
    try:
        return train_sample.from_fit(fit, rows)
    except CannotReread:
        raise
    except Exception as error:
        why = f"reading it failed with {type(error).__name__}: {error}"
        raise CannotReread(why) from error


def instead(data: Any, fit_data: Any) -> str:
    """What to pass where `train_data` could not be measured; never what was passed."""
    accept = "or train_data=None to accept this"
    if not is_auto(data):
        return f"Pass the data that the model is trained on, in its form, {accept}."
    other = ""
    if train_sample.is_tf_dataset(fit_data):
        other = " or a tf.data.Dataset without shuffle()"
    return f"Pass train_data=(x_train, y_train){other} for honest numbers, {accept}."


def misfit(model: Any, sample: TrainSample) -> str:
    """That the rows have no batch axis, where the model's inputs tell; else ""."""
    wanted = [tuple(leaf.shape) for leaf in _inputs(model)]
    given = [leaf.shape for leaf in keras.tree.flatten(sample.x) if leaf is not None]
    if not wanted or len(wanted) != len(given):
        return ""
    if all(len(w) == len(g) + 1 for w, g in zip(wanted, given, strict=True)):
        return (
            f"its elements lack the batch axis (an input of shape {wanted[0]} "
            "is expected). Call .batch(n) on the tf.data.Dataset"
        )
    return ""


def _inputs(model: Any) -> list[Any]:
    try:
        return list(keras.tree.flatten(model.inputs))
    except (AttributeError, ValueError):
        return []  # a subclassed model has none
