"""What a model that ignores its inputs would reach: the floor to measure skill from."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arrays, metric_names, random_state
from keras_fitkit._core.train_sample import TrainSample
from keras_fitkit.monitoring import honest


def constant_predictor(
    model: Any, sample: TrainSample, monitor: str, mode: str
) -> tuple[float | None, str]:
    """The best value of `monitor` that a constant prediction reaches on `sample`.

    Tries, for each output, the mean, the median and the class shares of the targets,
    as values, as logarithms and as logits, through the model's own loss and metrics.

    Returns:
        The value and "", or None and the reason.
    """
    if sample.y is None or not all(v is not None for v in keras.tree.flatten(sample.y)):
        return None, "the data has no targets"
    found, refused = [], ""
    with random_state.preserved(model):
        for kind in _CONSTANTS:
            try:
                found.append(_constant_value(model, sample, monitor, kind))
            # Whatever a user's loss raises on a constant: the training goes on.
            except Exception as error:
                refused = f" ({type(error).__name__}: {error})"[:200]
    finite = [value for value in found if metric_names.is_finite(value)]
    if not finite:
        return None, f"no constant prediction suits the model's loss{refused}"
    best = min(finite) if mode == "min" else max(finite)
    if mode == "min" and best <= 0:
        why = f"a constant prediction reaches {best:.4g}, of which there are no shares"
        return None, why
    return best, ""


_CONSTANTS = ("mean", "median", "log", "logit")


def _constant_value(model: Any, sample: TrainSample, monitor: str, kind: str) -> float:
    probe = model.predict_on_batch(_first_row(sample.x))
    outputs, targets = keras.tree.flatten(probe), keras.tree.flatten(sample.y)
    if len(outputs) != len(targets):
        raise ValueError("targets do not match the outputs")
    guesses = [
        _constant_for(np.asarray(target), output.shape, kind)
        for target, output in zip(targets, outputs, strict=True)
    ]
    predicted = keras.tree.pack_sequence_as(probe, guesses)
    arguments_ = (
        sample.x,
        _tensors(sample.y),
        predicted,
        _tensors(sample.sample_weight),
    )
    if monitor == "loss":
        total = metric_names.scalar(
            "loss", model.compute_loss(*arguments_, training=False)
        )
        return total * _replicas() - honest.penalty(model)
    return _metric_value(model, arguments_, monitor)


def _metric_value(model: Any, arguments_: tuple[Any, ...], monitor: str) -> float:
    """`monitor` after `compute_metrics` alone, if that is what updates it.

    The trackers of an output's own loss and of a custom `test_step` are in the result
    as well, with the value of a metric that has seen nothing.
    """
    model.reset_metrics()
    before = {id(metric): _state(metric) for metric in model.metrics}
    result = model.compute_metrics(*arguments_)
    for metric in model.metrics:
        value = metric.result()
        names = value if isinstance(value, dict) else (metric.name,)
        if monitor in names and _state(metric) == before.get(id(metric), []):
            raise ValueError(f"compute_metrics does not update {monitor!r}")
    return metric_names.scalar(monitor, result[monitor])


def _state(metric: Any) -> list[bytes]:
    return [arrays.to_numpy(variable).tobytes() for variable in metric.variables]


def _constant_for(target: Any, shape: Sequence[int], kind: str) -> Any:
    """One prediction, the same for every row, in the shape of the output."""
    rows, row = len(target), tuple(shape[1:])
    labels = target.reshape(rows, -1).astype(float)
    width = row[-1] if row else 1
    if len(row) == 1 and width > 1 and _classes(labels, width):
        values = np.bincount(labels[:, 0].astype(int), minlength=width) / rows
    else:
        if labels.shape[1] != math.prod(row):
            raise ValueError(
                f"targets of shape {target.shape} for an output of shape {(rows, *row)}"
            )
        middle = np.median if kind == "median" else np.mean
        values = middle(labels, axis=0).reshape(row)
    if kind in ("log", "logit"):
        share = np.clip(values, 1e-7, 1 - 1e-7)
        values = np.log(share) if kind == "log" else np.log(share / (1 - share))
    full = np.broadcast_to(values, (rows, *row))
    return keras.ops.convert_to_tensor(full.astype("float32"))


def _classes(labels: Any, width: int) -> bool:
    """Whether `labels` are the numbers of `width` classes, whatever their dtype."""
    whole = bool((labels == np.floor(labels)).all())
    return labels.shape[1] == 1 and whole and labels.min() >= 0 and labels.max() < width


def _replicas() -> int:
    """By what Keras divides a loss that is computed here, in a strategy's scope.

    Inside `fit` each replica computes its share and the shares are added up.
    """
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or keras.backend.backend() != "tensorflow":
        return 1
    return int(tensorflow.distribute.get_strategy().num_replicas_in_sync)


def _first_row(structure: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else leaf[:1], structure
    )


def _tensors(structure: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else keras.ops.convert_to_tensor(leaf),
        structure,
    )
