"""A fixed sample of the training data, from any kind of data that Keras trains on.

Reading it leaves no trace: no random state is different afterwards. How the sample is
measured stands in `monitoring.honest`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays, fits, random_state
from keras_fitkit._core import rows as of_rows

SEED = 0  # of the rows that are drawn


@dataclasses.dataclass(frozen=True)
class TrainSample:
    """Rows of the training data that are measured again and again.

    Attributes:
        x, y, sample_weight: arrays (or nested structures of arrays) with the rows.
        rows: how many there are.
        origin: where they come from, in words.
    """

    x: Any
    y: Any
    sample_weight: Any
    rows: int
    origin: str

    @property
    def weighted(self) -> bool:
        """Whether the rows carry sample weights."""
        return self.sample_weight is not None

    @property
    def source(self) -> str:
        """Where the rows come from and how they are measured, in words."""
        weights = ", with their sample weights" if self.weighted else ""
        return f"{self.origin}{weights}, inference mode"


class CannotReread(Exception):
    """The data is of a kind that cannot be read a second time; the text says which."""


def take(
    data: Any, rows: int | None, *, described: str, name: str = "train_data"
) -> TrainSample:
    """A sample of `rows` rows (None: all) of any kind of training data.

    Args:
        data: `(x, y)`, `(x, y, sample_weight)` or `(x,)` of arrays, a `PyDataset`, a
            `tf.data.Dataset` or a torch `DataLoader`.
        rows: at most so many rows; arrays are drawn from evenly at random, a PyDataset
            by batches drawn at random, other data sets from their beginning.
        described: start of the sentence that says where the rows come from.
        name: the argument that `data` is, for errors.

    Raises:
        CannotReread: `data` is a generator or of an unknown kind.
        ValueError: arrays of different lengths, or no row at all.
    """
    with random_state.preserved(None, data):
        if isinstance(data, keras.utils.PyDataset):
            parts, how = (
                _join(_py_batches(data, rows), rows, name),
                "rows of batches of the PyDataset",
            )
        elif isinstance(data, tuple) and 1 <= len(data) <= 3:
            parts, how = _rows_of_arrays(data, rows, name), "rows of the arrays"
        elif _is_torch_loader(data):
            owners = (data, getattr(data, "sampler", None), data.dataset)
            with random_state.preserved(None, *owners):
                parts = _join(_torch_batches(data, rows), rows, name)
            how = "rows of the DataLoader"
        elif is_tf_dataset(data):
            _check_batched(data, name)
            parts, how = (
                _join(iter(data), rows, name),
                "first rows of the tf.data.Dataset",
            )
        else:
            raise CannotReread(f"{_kind(data)} cannot be read a second time")
    x, y, weight = parts
    count = _length(x)
    if any(
        leaf is not None and len(leaf) != count for leaf in keras.tree.flatten(parts)
    ):
        lengths = [None if part is None else _length(part) for part in parts[:2]]
        allowed = "batches with as many rows in y as in x"
        hint = f"x and y have the lengths {lengths}. {_BATCH}"
        raise ValueError(arguments.message(name, allowed, data, hint))
    if count == 0:
        raise ValueError(arguments.message(name, "data with rows", "0 rows"))
    return TrainSample(x, y, weight, count, f"{described}: {count} {how}")


_BATCH = "If its elements are single rows, call .batch(n)."


def _check_batched(data: Any, name: str) -> None:
    """Refuses a `tf.data.Dataset` of single rows, as far as its shapes tell."""
    ranks = [
        getattr(getattr(leaf, "shape", None), "rank", None)
        for leaf in keras.tree.flatten(data.element_spec)
    ]
    if 0 in ranks:
        allowed = "a batched dataset"
        hint = "Its elements are single rows. Call .batch(n)."
        raise ValueError(arguments.message(name, allowed, data, hint))


def from_fit(fit: fits.RunningFit, rows: int | None) -> TrainSample:
    """The sample of what the running `fit` was given.

    Raises:
        CannotReread: the data can be read only once, or reading it again would move
            its own random order (a `tf.data.Dataset`, a `DataLoader`).
    """
    described = "the data given to fit"
    unweighted = fit.validation_weighted is False  # then weights would not compare
    if isinstance(fit.x, keras.utils.PyDataset):
        sample = take(fit.x, rows, described=described)
        return dataclasses.replace(sample, sample_weight=None) if unweighted else sample
    if not _is_array_like(fit.x):
        raise CannotReread(f"fit was given {_kind(fit.x)}, which is not re-read")
    weight = None if unweighted else fit.sample_weight
    given: tuple[Any, ...] = (fit.x, fit.y, weight)
    while given[-1] is None:
        given = given[:-1]
    return take(given, rows, described=described)


def _kind(data: Any) -> str:
    name = type(data).__name__
    article = "an" if name == "ndarray" or name[0].lower() in "aeiou" else "a"
    return f"{article} {name}"


def _is_array_like(data: Any) -> bool:
    return all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(data))


def _is_torch_loader(data: Any) -> bool:
    return hasattr(data, "dataset") and any(
        base.__module__.startswith("torch.utils.data") for base in type(data).__mro__
    )


def is_tf_dataset(data: Any) -> bool:
    """Whether `data` is a `tf.data.Dataset`, told without importing TensorFlow."""
    return hasattr(data, "element_spec") and hasattr(data, "as_numpy_iterator")


def _length(structure: Any) -> int:
    leaves = [leaf for leaf in keras.tree.flatten(structure) if leaf is not None]
    return len(leaves[0]) if leaves else 0


def _rows_of_arrays(
    data: tuple[Any, ...], rows: int | None, name: str
) -> tuple[Any, Any, Any]:
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    lengths = sorted({_count(leaf, name) for leaf in leaves})
    if len(lengths) != 1:
        allowed = "arrays of the same length"
        raise ValueError(arguments.message(name, allowed, f"lengths {lengths}"))
    total = lengths[0]
    if rows is None or rows >= total:
        picked = np.arange(total)
    else:
        drawn = np.random.default_rng(SEED).choice(total, rows, replace=False)
        picked = np.sort(drawn)
    parts = [of_rows.take(part, picked) for part in data]
    return tuple([*parts, None, None][:3])


def _count(leaf: Any, name: str) -> int:
    shape = getattr(leaf, "shape", None)
    if not shape:
        hint = "As in Keras's fit, a list is several inputs; use numpy.array(rows)."
        allowed = "arrays (or nested structures of arrays)"
        raise TypeError(arguments.message(name, allowed, leaf, hint))
    return int(shape[0])


def _map(function: Any, structure: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else function(leaf), structure
    )


def _py_batches(data: Any, rows: int | None) -> Iterable[Any]:
    count = data.num_batches
    if count is None:
        raise CannotReread("a PyDataset without an end is not re-read")
    order = np.random.default_rng(SEED).permutation(count)
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


def _join(batches: Iterable[Any], rows: int | None, name: str) -> tuple[Any, Any, Any]:
    """Batches up to `rows` rows, joined and cut; always (x, y, sample_weight)."""
    kept: list[tuple[Any, Any, Any]] = []
    count = 0
    for batch in batches:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(
            tuple(batch) if isinstance(batch, (list, tuple)) else batch
        )
        part = _map(arrays.to_numpy, (x, y, weight))
        kept.append(part)
        count += _length(part[0])
        if rows is not None and count >= rows:
            break
    if not kept:
        raise ValueError(arguments.message(name, "data with rows", "no batch"))

    def joined(*leaves: Any) -> Any:
        return None if leaves[0] is None else np.concatenate(leaves)[:rows]

    shapes = [
        [None if leaf is None else leaf.shape[1:] for leaf in keras.tree.flatten(part)]
        for part in kept
    ]
    if any(shape != shapes[0] for shape in shapes):
        raise CannotReread("its batches are padded to different shapes")
    return keras.tree.map_structure(joined, *kept)  # type: ignore[no-any-return]
