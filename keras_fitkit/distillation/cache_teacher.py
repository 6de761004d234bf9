"""cache_teacher: asks the teacher once about every row."""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fitkit._core import arguments, rows
from keras_fitkit.distillation import absent_teacher, cache_files, heads, teachers
from keras_fitkit.distillation.cache import TeacherCache, check_rows

_BLOCKS = 200
_PROBED_ROWS = 8
_TOLERANCE = {"float16": 2e-2, "float32": 1e-3}


def cache_teacher(
    teacher: Any,
    x: Any,
    path: str | os.PathLike[str],
    *,
    taps: Any = (),
    dtype: str = "float16",
    top_k: int | None = None,
    batch_size: int = 256,
    teacher_inputs: Callable[..., Any] | None = None,
    from_logits: Any = "auto",
    verbose: int = 1,
) -> TeacherCache:
    """Stores what a teacher says of every row, so that a fit need not ask it.

    Arrays on the disk, by the number of the row; only a batch is in memory. A call that
    was killed goes on after the last finished block when it is repeated, and one that
    is finished returns at once. Both only if teacher, data and settings are the same:
    weights and data are compared by checksums (data above 1 GiB by 4096 of its rows),
    and some rows are asked again. The rows must be those of the fit, without
    augmentation.

    Args:
        teacher: as for `kf.Distiller`, but no cache.
        x: arrays, or a dict, list or tuple of arrays, with a common number of rows.
        path: a folder, made if it is not there.
        taps: paths of the layers whose outputs are stored too. Defaults to none.
        dtype: "float16" or "float32", of what is stored. Defaults to "float16".
        top_k: how many classes of each row are stored, >= 1; what they leave of the
            probability is shared out evenly. Softmax heads only. Defaults to None: all.
        batch_size: rows that the teacher is given at a time, >= 1. Defaults to 256.
        teacher_inputs: as for `kf.Distiller`. Defaults to None.
        from_logits: as for `kf.Distiller`. Defaults to "auto".
        verbose: 0 is silent, 1 shows a bar. Defaults to 1.

    Returns:
        The cache: a teacher for `kf.Distiller`, and the maker of its data set.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a folder with the
            cache of something else, or a damaged one; NaN from the teacher.

    Example:
        >>> import numpy as np, keras, keras_fitkit as kf
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> x, y = np.ones((8, 4), "float32"), np.zeros(8)
        >>> cache = kf.cache_teacher(teacher, x, "teacher.cache", verbose=0)
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> loss = kf.distillation.LogitsDistillation()
        >>> distiller = kf.Distiller(cache, student, loss, student_loss_weight=0.0)
        >>> distiller.compile("adam")
        >>> data = cache.dataset(x, y, batch_size=4, seed=0)
        >>> history = distiller.fit(data, shuffle=False, verbose=0)
    """
    folder = arguments.folder("path", path)
    dtype = arguments.choice("dtype", dtype, tuple(_TOLERANCE))
    size = arguments.integer("batch_size", batch_size, low=1)
    arguments.integer("verbose", verbose, low=0, high=1)
    count = check_rows(x)
    if teacher_inputs is not None:
        arguments.function("teacher_inputs", teacher_inputs, "(x) -> x", count=1)
    members = teachers.members_of(teacher)
    source = teachers.NetworkTeacher(
        members, _taps(taps), heads.check_from_logits(from_logits), logits=True
    )
    for index in range(source.number):
        source.require_logits(index, sigmoid=False)
    maker = _Maker(source, members, teacher_inputs, top_k, dtype, x)
    files = maker.opened(folder, count, size)
    maker.run(files, size, verbose)
    return TeacherCache(folder)


class _Asked(keras.Model):
    """The teacher as one compiled function from inputs to everything that is stored."""

    def __init__(self, source: Any, teacher_inputs: Any, top_k: int | None) -> None:
        super().__init__(name="cached_teacher")
        self.models = [one.model for one in source.networks if one.is_keras]
        self._ask = [source, teacher_inputs]
        self._top_k = top_k
        self.seen = types.SimpleNamespace(shapes=[])  # of the logits, when traced
        self.built = True

    def call(self, inputs: Any) -> dict[str, Any]:
        """Arrays by the names they are stored under."""
        source, teacher_inputs = self._ask
        found = source(inputs if teacher_inputs is None else teacher_inputs(inputs))
        stored = {}
        self.seen.shapes = [tuple(one.shape) for one in found.logits]
        for place, logits in enumerate(found.logits):
            _check_top_k(self._top_k, logits.shape[-1], f"output {place}")
            if self._top_k is None:
                stored[f"logits_{place}"] = ops.cast(logits, "float32")
                continue
            values, classes = ops.top_k(ops.log_softmax(logits, axis=-1), self._top_k)
            stored[f"logits_{place}"] = values
            stored[f"logits_{place}_classes"] = ops.cast(classes, "int32")
        for place, features in enumerate(found.features.values()):
            stored[f"features_{place}"] = ops.cast(features, "float32")
        return stored


class _Maker:
    """Fills a cache, or goes on with one."""

    def __init__(
        self,
        source: Any,
        members: Any,
        teacher_inputs: Any,
        top_k: Any,
        dtype: str,
        x: Any,
    ) -> None:
        self.source, self.x, self.dtype = source, x, dtype
        self.top_k = None
        if top_k is not None:
            self.top_k = arguments.integer("top_k", top_k, low=1)
            self._refuse_top_k()
        self._asked = _Asked(source, teacher_inputs, self.top_k)
        self.about = {
            "data": cache_files.data_fingerprint(x),
            "teacher": [
                [
                    cache_files.weights_checksum(one)
                    if isinstance(one, keras.Model)
                    else getattr(one, "__qualname__", type(one).__qualname__),
                    weight,
                ]
                for one, weight in members
            ],
            "taps": source.paths,
            "dtype": dtype,
            "top_k": self.top_k,
            "teacher_inputs": getattr(teacher_inputs, "__qualname__", None),
        }

    def ask(self, first: int, last: int) -> dict[str, Any]:
        """What the teacher says of some rows.

        Raises:
            ValueError: NaN, or numbers too large for the type.
        """
        given = rows.take(self.x, slice(first, last))
        found = self._asked.predict_on_batch(given)
        for name, values in found.items():
            if np.isnan(values).any():
                allowed = "a model whose outputs are numbers"
                received = f"NaN in rows {first} to {last - 1}, {name}"
                raise ValueError(arguments.message("teacher", allowed, received))
            if self._stored_dtype(name) == "float16" and np.abs(values).max() > 65000:
                allowed = "'float32' for outputs above 65000"
                raise ValueError(arguments.message("dtype", allowed, self.dtype))
        return dict(found)

    def opened(self, folder: Any, count: int, size: int) -> cache_files.CacheFiles:
        """The files: new ones, or those of the same cache.

        Raises:
            ValueError: those of another.
        """
        some = self.ask(0, min(count, _PROBED_ROWS))
        if not cache_files.exists(folder):
            folder.mkdir(parents=True, exist_ok=True)
            block = size * max(1, -(-count // (size * _BLOCKS)))
            description = cache_files.Description(
                self.about, count, block, self._arrays(some), [], self._known(some)
            )
            return cache_files.CacheFiles(folder, description, create=True)
        description = cache_files.read(folder)
        changed = [
            name
            for name in self.about
            if description.about.get(name) != self.about[name]
        ]
        files = cache_files.CacheFiles(folder, description, create=False)
        if not changed and description.done and not self._same(files, some):
            changed = ["teacher's answers"]
        if changed:
            allowed = "a new folder, or the cache of the same teacher and data"
            hint = f"Another {', '.join(changed)}. Remove that folder, or take another."
            text = arguments.message("path", allowed, str(folder), hint)
            raise ValueError(text)
        return files

    def run(self, files: cache_files.CacheFiles, size: int, verbose: int) -> None:
        """Asks about every row that is missing."""
        description = files.description
        bar = None
        if verbose and description.done < description.rows:
            bar = keras.utils.Progbar(description.rows, unit_name="row")
        while description.done < description.rows:
            first = description.done
            last = min(first + description.block, description.rows)
            for begin in range(first, last, size):
                end = min(begin + size, last)
                files.put(begin, self.ask(begin, end))
                if bar is not None:
                    bar.update(end)
            files.finish_block()

    def _refuse_top_k(self) -> None:
        for index, head in enumerate(self.source.networks[0].heads):
            spec = self.source.output_spec(index)
            sigmoid = head is not None and head.activation == "sigmoid"
            _check_top_k(self.top_k, 0 if sigmoid else spec.classes, str(spec))

    def _stored_dtype(self, name: str) -> str:
        return "int32" if name.endswith("_classes") else self.dtype

    def _arrays(self, some: Mapping[str, Any]) -> dict[str, Any]:
        paths = self.source.paths
        found = {}
        for name, values in some.items():
            kind, place, *_ = name.split("_")
            found[name] = {
                "shape": list(values.shape[1:]),
                "dtype": self._stored_dtype(name),
                "kind": kind,
                "place": int(place),
                "layer": paths[int(place)] if kind == "features" else None,
            }
        return found

    def _known(self, some: Mapping[str, Any]) -> dict[str, Any]:
        """Of the teacher, with the shapes that were seen."""
        paths = self.source.paths
        known = absent_teacher.described(self.source, paths)
        for place, one in enumerate(known["outputs"]):
            shape = some[f"logits_{place}"].shape[1:-1]
            one["shape"] = [None, *shape, self._asked.seen.shapes[place][-1]]
        for place, path in enumerate(paths):
            known["layers"][path]["shape"] = [
                None,
                *some[f"features_{place}"].shape[1:],
            ]
        return known

    def _same(self, files: cache_files.CacheFiles, some: Mapping[str, Any]) -> bool:
        """Whether the teacher says of some rows what it said before."""
        end = min(_PROBED_ROWS, files.description.done)
        within = _TOLERANCE[self.dtype]
        for name, values in some.items():
            if name.endswith("_classes"):
                continue
            then = np.asarray(files.arrays[name][:end], "float32")
            if not np.allclose(then, values[:end], rtol=within, atol=within):
                return False
        return True


def _check_top_k(top_k: int | None, classes: int | None, where: str) -> None:
    if top_k is not None and classes is not None and top_k > classes:
        allowed = f"None, or at most the classes of a softmax: {where}"
        raise ValueError(arguments.message("top_k", allowed, top_k))


def _taps(value: Any) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)) or not all(
        isinstance(one, str) and one for one in listed
    ):
        allowed = "a list of paths of layers, such as 'backbone/block3'"
        raise TypeError(arguments.message("taps", allowed, value))
    return list(listed)
