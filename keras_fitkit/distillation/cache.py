"""TeacherCache: what a teacher said of every row, read from the disk."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_fitkit._core import arguments, rows
from keras_fitkit._core.layers import leaf_layers
from keras_fitkit._core.reproducible_dataset import ReproducibleDataset
from keras_fitkit.distillation import absent_teacher, cache_files, stored_batches
from keras_fitkit.distillation.network import ModelOutputs


class TeacherCache:
    """The stored outputs of a teacher, by the number of the row.

    `kf.cache_teacher` makes one; this opens one that is whole, without the teacher. Its
    files are read once to see that they are what was written. It stays on the disk:
    only the rows of a batch are in memory.

    Args:
        path: the folder that `kf.cache_teacher` was given.

    Raises:
        TypeError, ValueError: no such folder, a cache that is not finished, or one that
            is damaged.

    Example:
        >>> import numpy as np, keras, keras_fitkit as kf
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> x, y = np.ones((8, 4), "float32"), np.zeros(8)
        >>> cache = kf.cache_teacher(teacher, x, "teacher.cache", verbose=0)
        >>> again = kf.distillation.TeacherCache("teacher.cache")
        >>> len(again), len(again.dataset(x, y, batch_size=4, seed=0))
        (8, 2)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        folder = arguments.folder("path", path)
        description = cache_files.read(folder)
        if description.done < description.rows:
            received = f"{folder}: {description.done} of {description.rows} rows"
            hint = "Call `kf.cache_teacher` again; it goes on."
            allowed = "a teacher cache that is finished"
            raise ValueError(arguments.message("path", allowed, received, hint))
        self._files = cache_files.CacheFiles(folder, description, create=False)
        self._files.verify()
        # Plain arrays over the same memory: a memmap makes another one of each batch.
        self._arrays = {name: np.asarray(a) for name, a in self._files.arrays.items()}
        self.path = folder

    def __len__(self) -> int:
        """Rows."""
        return self._files.description.rows

    def dataset(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 32,
        seed: int | None = None,
        sample_weight: Any = None,
        shuffle: bool = True,
    ) -> Any:
        """Batches for the `fit` of a distiller that has this cache as its teacher.

        With a seed the order is that of `kf.ReproducibleDataset`, of the seed and the
        epoch alone: pass `shuffle=False` to `fit`, which can then be resumed.

        Args:
            x: the very rows that the teacher was asked about.
            y: their labels, or None. Defaults to None.
            batch_size: rows a batch, >= 1. Defaults to 32.
            seed: an integer >= 0. Defaults to None: drawn anew from Python's `random`
                (which `keras.utils.set_random_seed` sets), and `fit` may shuffle the
                batches once more.
            sample_weight: of the rows. Defaults to None.
            shuffle: whether rows are drawn in another order each epoch. Defaults to
                True.

        Returns:
            A `keras.utils.PyDataset`.

        Raises:
            TypeError, ValueError: other rows, or an argument outside its range.
        """
        now = cache_files.data_fingerprint(x)
        then = self._files.description.about["data"]
        if now != then:
            hint = "The cache knows a row by its number: keep their order."
            allowed = f"the data that was cached: {then}"
            raise ValueError(arguments.message("x", allowed, str(now), hint))
        found = _CachedDataset(
            self,
            x,
            y,
            batch_size=batch_size,
            seed=random.randrange(2**31) if seed is None else seed,
            sample_weight=sample_weight,
            shuffle=shuffle,
        )
        found.may_be_shuffled = seed is None
        return found

    def rows(self, picked: Any) -> dict[str, Any]:
        """What the teacher said of some rows, as float32 arrays by name."""
        arrays, found = self._arrays, {}
        for name, array in arrays.items():
            if name.endswith("_classes"):
                continue
            values = array[picked].astype("float32", copy=False)
            if f"{name}_classes" in arrays:
                index = self._files.description.arrays[name]["place"]
                known = self._files.description.known["outputs"][index]
                classes = arrays[f"{name}_classes"][picked]
                values = spread(values, classes, known["shape"][-1])
            found[name] = values
        return found

    def refuse_other_rows(self, data: Any) -> None:
        """Raises where a data set is of another cache than one of the same teacher.

        Args:
            data: of a fit.

        Raises:
            ValueError: its answers are of another teacher, or stored otherwise.
        """
        if not isinstance(data, _CachedDataset):
            return
        theirs, own = (one._files.description.about for one in (data._cache, self))
        differ = [
            name for name in own if name != "data" and theirs.get(name) != own[name]
        ]
        if differ:
            hint = f"They differ in {', '.join(differ)}."
            allowed = f"a data set of the teacher's cache, {self.path}"
            received = f"one of {data._cache.path}"
            raise ValueError(arguments.message("x", allowed, received, hint))

    def source(self, paths: Iterable[str], student: Any) -> Any:
        """The object that a distiller asks."""
        known = self._files.description.known
        for path in paths:
            if path not in known["layers"]:
                hint = arguments.near(path, known["layers"])
                allowed = f"one of the cached taps {list(known['layers'])}"
                text = arguments.message("teacher_layer_name", allowed, path, hint)
                raise ValueError(text)
        augmenting = [p for p, one in leaf_layers(student) if _augments(one)]
        if augmenting:
            warnings.warn(
                f"The student augments its inputs (layer {augmenting[0]!r}), while the "
                "cached teacher saw them as they are. Ask the teacher in every step "
                "instead: kf.Distiller(teacher, ...), augmenting the data.",
                UserWarning,
                stacklevel=5,
            )
        return _Stored(known, self._files.description)


class _Stored(absent_teacher.AbsentTeacher):
    """A teacher whose outputs come with the batch."""

    cached, absent = True, False

    def __init__(self, known: Mapping[str, Any], description: Any) -> None:
        super().__init__(known)
        self._arrays = description.arrays
        self._top_k = description.about["top_k"] is not None
        self._several = len(description.about["teacher"]) > 1

    def use_as(self, index: int, sigmoid: bool | None) -> None:
        """Refuses a loss that reads otherwise what was stored in one way.

        Raises:
            ValueError: a loss for sigmoids on the mean or the largest of a softmax, or
                the other way round.
        """
        one = self.output_spec(index)
        was = one.activation == "sigmoid" or one.classes == 1
        if sigmoid is None or sigmoid == was or not (self._top_k or self._several):
            return
        what = "`top_k`" if self._top_k else "several teachers"
        allowed = (
            f"a cache without {what}, or of {'sigmoids' if sigmoid else 'a softmax'}"
        )
        hint = "It was stored as the head has it: linear is the logits of a softmax."
        raise ValueError(arguments.message("teacher", allowed, str(one), hint))

    def __call__(self, inputs: Any) -> ModelOutputs:
        """What came with the batch."""
        if inputs is None:
            allowed = "`cache.dataset(x, y, ...)` where the teacher is a cache"
            raise ValueError(arguments.message("x", allowed, "other data"))
        logits: list[Any] = [None] * self.number
        features = {}
        for name, one in self._arrays.items():
            if name in inputs:
                if one["kind"] == "logits":  # data: no gradient to be stopped
                    logits[one["place"]] = inputs[name]
                else:
                    features[one["layer"]] = inputs[name]
        outputs = logits[0] if self.number == 1 else logits
        return ModelOutputs(outputs=outputs, logits=logits, features=features)


class _CachedDataset(ReproducibleDataset):
    """Rows in a reproducible order, each with what the teacher said of it."""

    def __init__(self, cache: TeacherCache, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cache = cache

    def _batch(self, epoch: int, order: Any, index: int) -> tuple[Any, ...]:
        picked = order[index * self.batch_size : (index + 1) * self.batch_size]
        inputs, *others = super()._batch(epoch, order, index)
        return (stored_batches.join(inputs, self._cache.rows(picked)), *others)


def spread(values: Any, classes: Any, number: int) -> Any:
    """Logits of all classes from the largest log probabilities.

    What they leave of the probability is shared out evenly among the others.
    """
    missing = np.clip(1 - np.exp(values).sum(-1, keepdims=True), 1e-7, None)
    rest = np.log(missing / max(1, number - values.shape[-1]))
    full = np.broadcast_to(rest, (*values.shape[:-1], number)).astype("float32")
    np.put_along_axis(full, classes.astype(np.int64), values, axis=-1)
    return full


def check_rows(data: Any) -> int:
    """The number of rows of `x`, which must be arrays: a row is known by its number."""
    return rows.length("x", data, "arrays (or a dict, list or tuple of arrays)")


def _augments(layer: Any) -> bool:
    kind = type(layer)
    named = kind.__name__.startswith("Random") or kind.__name__ in ("CutMix", "MixUp")
    return named and kind.__module__.startswith("keras.")
