"""The nets of distill_mnist.py: students, and what a teacher is asked through."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np

PIXELS, SIDE = 784, 28
LAYERS = ("hidden1", "hidden2", "logits")
MEAN = "mean_hidden2"  # the last hidden layer of `averaged`


def dense_net(units: int, dropout: float = 0.0) -> Any:
    """784-units-units-10, with logits."""
    layers = [keras.Input((PIXELS,))]
    for number in (1, 2):
        layers.append(keras.layers.Dense(units, "relu", name=f"hidden{number}"))
        if dropout:
            layers.append(keras.layers.Dropout(dropout))
    return keras.Sequential([*layers, keras.layers.Dense(10, name="logits")])


def averaged(teacher: Any, shift: int) -> Any:
    """A `dense_net` heard on every place of an image up to `shift` pixels away.

    Its last hidden layers are averaged, which averages the logits as well.
    """
    hidden1, hidden2, logits = (teacher.get_layer(name) for name in LAYERS)
    inputs = keras.Input((PIXELS,))
    image = keras.layers.Reshape((SIDE, SIDE, 1))(inputs)
    padded = keras.layers.ZeroPadding2D(shift)(image)
    heard = []
    for down, right in itertools.product(range(2 * shift + 1), repeat=2):
        cut = ((down, 2 * shift - down), (right, 2 * shift - right))
        moved = keras.layers.Flatten()(keras.layers.Cropping2D(cut)(padded))
        heard.append(hidden2(hidden1(moved)))
    return keras.Model(inputs, logits(keras.layers.Average(name=MEAN)(heard)))


class Stored(keras.layers.Layer):
    """Gives the stored row whose number is in the last column of the input."""

    def __init__(self, rows: Any) -> None:
        super().__init__(trainable=False)
        self._rows = self.add_weight(shape=rows.shape, trainable=False, name="rows")
        self._rows.assign(rows)

    def call(self, inputs: Any) -> Any:
        """Of each example."""
        numbers = keras.ops.cast(inputs[:, PIXELS], "int32")
        return keras.ops.take(self._rows, numbers, axis=0)


def numbered(x: Any) -> Any:
    """The images with their numbers in one more column, which float32 keeps exactly."""
    return np.concatenate([x, np.arange(len(x), dtype="float32")[:, None]], axis=1)


def by_number(logits: Any, student: Any) -> tuple[Any, Any]:
    """Teacher and student on `numbered` rows: `keras.distillation` takes no cache."""
    teacher = keras.Sequential([keras.Input((PIXELS + 1,)), Stored(logits)])
    inputs = keras.Input((PIXELS + 1,))
    return teacher, keras.Model(inputs, student(inputs[:, :PIXELS]))
