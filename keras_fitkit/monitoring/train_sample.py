"""A fixed sample of the training data, and its honest measurement.

Honest means: the same rows every time, in inference mode, with the weights that
validation used, without the penalty of the regularizers, and without a trace in the
training: no random state, metric or history value is different afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import _private, arguments, metric_names, random_state

SEED = 0  # of the rows that are drawn


@dataclasses.dataclass(frozen=True)
class TrainSample:
    """Rows of the training data that are measured again and again.

    Attributes:
        x, y, sample_weight: arrays (or nested structures of arrays) with the rows.
        rows: how many there are.
        source: where they come from, in words.
    """

    x: Any
    y: Any
    sample_weight: Any
    rows: int
    source: str

    @property
    def weighted(self) -> bool:
        """Whether the rows carry sample weights."""
        return self.sample_weight is not None


class CannotReread(Exception):
    """The data is of a kind that cannot be read a second time; the text says which."""


def take(data: Any, rows: int | None, *, described: str) -> TrainSample:
    """A sample of `rows` rows (None: all) of any kind of training data.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)` of arrays, a `PyDataset`, a
            `tf.data.Dataset` or a torch `DataLoader`.
        rows: at most so many rows; arrays are drawn from evenly at random, a PyDataset
            by batches drawn at random, other data sets from their beginning.
        described: start of the sentence that says where the rows come from.

    Raises:
        CannotReread: `data` is a generator or of an unknown kind.
        ValueError: arrays of different lengths, or no row at all.
    """
    with random_state.preserved(None, data):
        if isinstance(data, keras.utils.PyDataset):
            parts, how = (
                _join(_py_batches(data, rows), rows),
                "batches of the PyDataset",
            )
        elif isinstance(data, tuple) and 2 <= len(data) <= 3:
            parts, how = _rows_of_arrays(data, rows), "rows of the arrays"
        elif _is_torch_loader(data):
            with random_state.preserved(None, data, data.sampler, data.dataset):
                parts, how = (
                    _join(_torch_batches(data, rows), rows),
                    "rows of the DataLoader",
                )
        elif is_tf_dataset(data):
            parts, how = _join(iter(data), rows), "first rows of the tf.data.Dataset"
        else:
            raise CannotReread(f"a {type(data).__name__} cannot be read a second time")
    x, y, weight = parts
    count = _length(x)
    if count == 0:
        raise ValueError(arguments.message("train_data", "data with rows", "0 rows"))
    return TrainSample(
        x, y, weight, count, f"{described}: {count} {how}, inference mode"
    )


def from_fit(fit: _private.RunningFit, rows: int | None) -> TrainSample:
    """The sample of what the running `fit` was given.

    Raises:
        CannotReread: the data can be read only once, or reading it again would move
            its own random order (a `tf.data.Dataset`, a `DataLoader`).
    """
    described = "the data given to fit"
    if isinstance(fit.x, keras.utils.PyDataset):
        return take(fit.x, rows, described=described)
    if fit.y is None or not _is_array_like(fit.x):
        raise CannotReread(
            f"fit was given a {type(fit.x).__name__}, which is not re-read"
        )
    weight = None if fit.validation_weighted is False else fit.sample_weight
    given = (fit.x, fit.y) if weight is None else (fit.x, fit.y, weight)
    return take(given, rows, described=described)


def penalty(model: Any) -> float:
    """The sum of the weight regularizers, which Keras adds to loss and val_loss alike.

    From the variables: `model.losses` may hold leaked symbolic tensors after a compiled
    step. Losses that depend on the data (activity regularizers, `add_loss`) stay in,
    on both sides.
    """
    terms = [
        variable.regularizer(variable)
        for variable in model.trainable_weights
        if getattr(variable, "regularizer", None) is not None
    ]
    return float(sum(metric_names.scalar("penalty", term) for term in terms))


def measure(
    model: Any, sample: TrainSample, batch_size: int, callbacks: tuple[Any, ...]
) -> dict[str, float]:
    """All metrics of `sample` in inference mode, with validation's weights.

    `loss` still contains the penalty. Only for `on_epoch_end`: it resets the metrics.
    """
    with random_state.preserved(model), _private.validation_weights(callbacks):
        logs = model.evaluate(
            sample.x,
            sample.y,
            sample_weight=sample.sample_weight,
            batch_size=batch_size,
            verbose=0,
            return_dict=True,
        )
    return {
        name: metric_names.scalar(name, value)
        for name, value in logs.items()
        if np.size(keras.ops.convert_to_numpy(value)) == 1
    }


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
    found = []
    with random_state.preserved(model):
        for kind in _CONSTANTS:
            try:
                found.append(_constant_value(model, sample, monitor, kind))
            except (TypeError, ValueError, KeyError):
                continue  # This kind of constant does not suit the loss.
    finite = [value for value in found if metric_names.is_finite(value)]
    if not finite:
        return None, "no constant prediction suits the model's loss"
    return (min(finite) if mode == "min" else max(finite)), ""


_CONSTANTS = ("mean", "median", "log", "logit")


def _constant_value(model: Any, sample: TrainSample, monitor: str, kind: str) -> float:
    probe = model.predict_on_batch(_map(lambda leaf: leaf[:1], sample.x))
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
        return total - penalty(model)
    model.reset_metrics()
    return metric_names.scalar(monitor, model.compute_metrics(*arguments_)[monitor])


def _constant_for(target: Any, shape: Sequence[int | None], kind: str) -> Any:
    """One prediction, the same for every row, in the shape of the output."""
    width = shape[-1] or 1
    labels = target.reshape(len(target), -1) if target.ndim > 1 else target[:, None]
    sparse = (
        width > 1 and labels.shape[1] == 1 and np.issubdtype(labels.dtype, np.integer)
    )
    if sparse:
        values = np.bincount(labels[:, 0].astype(int), minlength=width) / len(labels)
        full = (len(target), width)
    else:
        full = (len(target), *target.shape[1:]) if target.ndim > 1 else (len(target), 1)
        middle = np.median if kind == "median" else np.mean
        values = middle(labels.astype(float), axis=0).reshape(full[1:])
    if kind in ("log", "logit"):
        share = np.clip(values, 1e-7, 1 - 1e-7)
        values = np.log(share) if kind == "log" else np.log(share / (1 - share))
    return keras.ops.convert_to_tensor(np.broadcast_to(values, full).astype("float32"))


def _tensors(structure: Any) -> Any:
    return keras.tree.map_structure(
        lambda item: None if item is None else keras.ops.convert_to_tensor(item),
        structure,
    )


def _is_array_like(data: Any) -> bool:
    return all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(data))


def _is_torch_loader(data: Any) -> bool:
    return any(
        base.__module__.startswith("torch.utils.data") for base in type(data).__mro__
    )


def is_tf_dataset(data: Any) -> bool:
    """Whether `data` is a `tf.data.Dataset`, told without importing TensorFlow."""
    return hasattr(data, "element_spec") and hasattr(data, "as_numpy_iterator")


def _length(structure: Any) -> int:
    leaves = [leaf for leaf in keras.tree.flatten(structure) if leaf is not None]
    return len(leaves[0]) if leaves else 0


def _rows_of_arrays(data: tuple[Any, ...], rows: int | None) -> tuple[Any, Any, Any]:
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    lengths = sorted({_count(leaf) for leaf in leaves})
    if len(lengths) != 1:
        allowed = "arrays of the same length"
        raise ValueError(arguments.message("train_data", allowed, f"lengths {lengths}"))
    total = lengths[0]
    if rows is None or rows >= total:
        picked = np.arange(total)
    else:
        drawn = np.random.default_rng(SEED).choice(total, rows, replace=False)
        picked = np.sort(drawn)
    parts = [_map(lambda leaf: _array(leaf, picked), part) for part in data]
    return tuple([*parts, None][:3])


def _count(leaf: Any) -> int:
    shape = getattr(leaf, "shape", None)
    if not shape:
        hint = "As in Keras's fit, a list is several inputs; use numpy.array(rows)."
        allowed = "arrays (or nested structures of arrays)"
        raise TypeError(arguments.message("train_data", allowed, leaf, hint))
    return int(shape[0])


def _array(leaf: Any, picked: Any) -> Any:
    if hasattr(leaf, "iloc"):  # a pandas Series or DataFrame
        return leaf.iloc[picked].to_numpy()
    if isinstance(leaf, np.ndarray):
        return leaf[picked]
    return np.asarray(keras.ops.convert_to_numpy(leaf))[picked]


def _map(function: Any, structure: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else function(leaf), structure
    )


def _py_batches(data: Any, rows: int | None) -> Iterable[Any]:
    order = np.random.default_rng(SEED).permutation(len(data))
    if rows is None:
        order = np.sort(order)
    return (data[int(index)] for index in order)


def _torch_batches(loader: Any, rows: int | None) -> Iterable[Any]:
    """Batches straight from the loader's data set: its own order stays untouched."""
    data = loader.dataset
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise CannotReread("a DataLoader over an iterable data set is not re-read")
    total = len(data)
    count = total if rows is None else min(rows, total)
    picked = np.sort(np.random.default_rng(SEED).choice(total, count, replace=False))
    for start in range(0, count, 64):
        yield loader.collate_fn(
            [data[int(index)] for index in picked[start : start + 64]]
        )


def _join(batches: Iterable[Any], rows: int | None) -> tuple[Any, Any, Any]:
    """Batches up to `rows` rows, joined and cut; always (x, y, sample_weight)."""
    kept: list[tuple[Any, Any, Any]] = []
    count = 0
    for batch in batches:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(
            tuple(batch) if isinstance(batch, (list, tuple)) else batch
        )
        part = _map(
            lambda leaf: np.asarray(keras.ops.convert_to_numpy(leaf)), (x, y, weight)
        )
        kept.append(part)
        count += _length(part[0])
        if rows is not None and count >= rows:
            break
    if not kept:
        raise ValueError(arguments.message("train_data", "data with rows", "no batch"))

    def joined(*leaves: Any) -> Any:
        return None if leaves[0] is None else np.concatenate(leaves)[:rows]

    return keras.tree.map_structure(joined, *kept)  # type: ignore[no-any-return]
