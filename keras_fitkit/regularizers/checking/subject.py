"""What the rules of `kf.check` look at: rows of the data, and the ends of the model."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arrays, train_sample
from keras_fitkit._core import rows as of_rows
from keras_fitkit._core.train_sample import TrainSample
from keras_fitkit.regularizers.checking import ends, losses
from keras_fitkit.regularizers.checking.losses import Loss

ROWS = 2048  # looked at, of training and of validation
CALLED = 64  # given to the model
PROBED = 1e4  # times the rows: what a linear output does not bear within [0, 1]
HASHED = 20_000  # compared with validation, where the data are arrays
HASHED_BYTES = 200_000_000


class CannotCheck(Exception):
    """A rule has nothing to look at; the text says why."""


@dataclasses.dataclass(frozen=True)
class Input:
    """One input of the model with its rows.

    Attributes:
        name: of the input.
        values: the rows.
        use: "plain" where a layer computes with the values as they come, "scaled" where
            the model scales them itself or may, "tokens" where they are looked up.
    """

    name: str
    values: Any
    use: str


@dataclasses.dataclass(frozen=True)
class Head:
    """One output of the model.

    Attributes:
        name: of the output.
        activation: the last one, such as "softmax"; None where it is not known.
        seen: whether it was read in the graph, and not told from the values.
        layer: what applies it.
        units: the size of the last axis, None where that is not known.
        values: outputs of the first rows, None where the model could not be called.
        loss: what it is compiled with, None for none.
        targets: the labels of the rows, None for none.
    """

    name: str
    activation: str | None
    seen: bool
    layer: str
    units: int | None
    values: Any
    loss: Loss | None
    targets: Any


@dataclasses.dataclass(frozen=True)
class Subject:
    """Model and data as the rules see them.

    Attributes:
        model: the model.
        data, validation_data: as they were given.
        sample, validation: rows of them; None where there are none.
        unread: why, where data were given.
        broken: what was wrong with data of a known kind.
    """

    model: Any
    data: Any
    validation_data: Any
    sample: TrainSample | None
    validation: TrainSample | None
    unread: str = ""
    broken: tuple[str, ...] = ()

    @property
    def arrays(self) -> bool:
        """Whether the training data are arrays, all of which can be looked at."""
        return _are_arrays(self.data)

    @functools.cached_property
    def labels(self) -> Any:
        """All labels where the data are arrays, else those of the rows looked at."""
        return _whole(self.data, 1, self.rows().y)

    @functools.cached_property
    def whole_x(self) -> Any:
        """All inputs where the data are arrays of moderate size."""
        return _whole(self.data, 0, self.rows().x)

    def of_validation(self) -> Subject:
        """The same model with the validation data in the place of the training data."""
        return Subject(self.model, self.validation_data, None, self.validation, None)

    def rows(self) -> TrainSample:
        """The rows of the training data.

        Raises:
            CannotCheck: there are none.
        """
        if self.sample is None:
            raise CannotCheck(self.unread or "no data are given")
        return self.sample

    @functools.cached_property
    def inputs(self) -> list[Input]:
        """The inputs with their rows."""
        leaves = keras.tree.flatten(self.rows().x)
        names = [str(name) for name in getattr(self.model, "input_names", None) or []]
        if isinstance(self.rows().x, dict):
            names = sorted(map(str, self.rows().x))  # as Keras flattens dicts
        if len(names) != len(leaves):
            names = (
                ["x"] if len(leaves) == 1 else [f"x[{i}]" for i in range(len(leaves))]
            )
        uses = ends.uses(self.model, names)
        return [
            Input(name, np.asarray(leaf), use)
            for name, leaf, use in zip(names, leaves, uses, strict=True)
        ]

    @functools.cached_property
    def heads(self) -> list[Head]:
        """The outputs; of a model that is not built there are none to be seen."""
        if not self.model.built:
            raise CannotCheck("the model is not built: give it an `Input`")
        values = self._outputs()
        last = ends.last_activations(self.model)
        count = len(values) if values else len(last) or 1
        names = list(getattr(self.model, "output_names", None) or [])
        y = None if self.sample is None else self.labels
        if isinstance(y, dict) and len(y) == count:
            names = sorted(map(str, y))  # as Keras flattens dicts
        if len(names) != count:
            names = [f"output {place}" for place in range(count)]
            names = ["output"] if count == 1 else names
        wanted = losses.by_output(self.model, names)
        targets = self._targets(count, names)
        found = []
        for place, name in enumerate(names):
            value = values[place] if values else None
            activation, layer, units = (*last, *[(None, "", None)] * count)[place]
            seen = activation is not None
            if not seen and value is not None:
                activation = losses.told_from(value)
                if activation == "sigmoid" and not self._is_bounded(place):
                    activation = None  # a linear one gives such values by chance
            if value is not None and value.ndim > 1:
                units = value.shape[-1]
            one = Head(
                name,
                activation,
                seen,
                layer,
                units,
                value,
                wanted[place],
                targets[place],
            )
            found.append(one)
        return found

    def _targets(self, count: int, names: list[str]) -> list[Any]:
        y = None if self.sample is None else self.labels
        if y is None:
            return [None] * count
        if isinstance(y, dict):
            return [y.get(name) for name in names]
        leaves = keras.tree.flatten(y)
        return leaves if len(leaves) == count else [None] * count

    def _outputs(self) -> list[Any]:
        """Outputs of the first rows in inference mode; empty where it cannot be."""
        if self.sample is None or not self.model.built:
            return []
        return self._called(1)

    def _is_bounded(self, place: int) -> bool:
        """Whether an output stays in [0, 1] for inputs that are far from all rows."""
        leaves = keras.tree.flatten(self.rows().x)
        if any(leaf.dtype.kind != "f" for leaf in leaves):
            return False
        for factor in (PROBED, -PROBED):
            found = self._called(factor)
            if not found or not ((found[place] >= 0) & (found[place] <= 1)).all():
                return False
        return True

    def _called(self, factor: float) -> list[Any]:
        """Outputs of the first rows times a factor."""
        x = keras.tree.map_structure(
            lambda leaf: leaf[:CALLED] if factor == 1 else leaf[:CALLED] * factor,
            self.rows().x,
        )
        try:
            found = self.model(
                keras.tree.map_structure(keras.ops.convert_to_tensor, x), training=False
            )
        except Exception:  # whatever a user's model raises; the rules then see None
            return []
        return [arrays.to_numpy(one) for one in keras.tree.flatten(found)]


def sampled(
    data: Any, name: str, rows: int = ROWS
) -> tuple[TrainSample | None, str, tuple[str, ...]]:
    """Rows of any kind of data; why they were not read; what is wrong with them."""
    if data is None:
        return None, "", ()
    given = data
    if isinstance(data, list) and len(data) in (2, 3):
        given = tuple(data)
    elif isinstance(data, dict) or hasattr(data, "shape"):
        given = (data,)
    try:
        return train_sample.take(given, rows, described=name), "", ()
    except train_sample.CannotReread as error:
        gone = ", and its rows would be gone for `fit`" * hasattr(data, "__next__")
        return None, f"`{name}`: {error}{gone}", ()
    except Exception as error:  # of the user's own data set
        text = str(error).splitlines()[0] if str(error) else ""
        why = f"{type(error).__name__}: {text}".replace("train_data", name)
        return None, f"`{name}` could not be read", (why,)


def _are_arrays(data: Any) -> bool:
    return isinstance(data, (tuple, list, dict)) or hasattr(data, "shape")


def _whole(data: Any, place: int, looked_at: Any) -> Any:
    """A part of data in full if it is arrays of moderate size, else `looked_at`."""
    if not _are_arrays(data) or looked_at is None:
        return looked_at
    parts = data if isinstance(data, (tuple, list)) and len(data) < 4 else (data,)
    if place >= len(parts):
        return looked_at
    few = keras.tree.flatten(looked_at)
    size = sum(np.asarray(leaf[:1]).nbytes for leaf in few if leaf is not None)
    count = max(len(leaf) for leaf in keras.tree.flatten(parts[place]))
    if size * count > HASHED_BYTES:
        return looked_at
    return of_rows.take(parts[place], slice(None))
