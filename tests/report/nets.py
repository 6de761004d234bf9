"""Small nets and data for the tests of reports."""

import keras
import numpy as np
from keras import layers

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def given(kernel, *, metrics=("accuracy",), compiled=True):
    """A net that gives x @ kernel, compiled for class numbers."""
    kernel = np.asarray(kernel, "float32")
    dense = layers.Dense(kernel.shape[1], use_bias=False, name="dense")
    model = keras.Sequential([keras.Input((kernel.shape[0],)), dense])
    dense.set_weights([kernel])
    if compiled:
        model.compile("sgd", LOGITS, metrics=list(metrics))
    return model


def rows_of(classes):
    """Inputs that `given(np.eye(n))` names as these classes."""
    return np.eye(int(max(classes)) + 1, dtype="float32")[np.asarray(classes)]


def residual(size=8, filters=4):
    """A branch around two convolutions: its input lives until the sum."""
    inputs = keras.Input((size, size, filters), name="image")
    first = layers.Conv2D(2 * filters, 3, padding="same", name="first")(inputs)
    second = layers.Conv2D(filters, 3, padding="same", name="second")(first)
    outputs = layers.Add(name="sum")([inputs, second])
    return keras.Model(inputs, layers.Flatten(name="flat")(outputs))


class Subclassed(keras.Model):
    """A model whose calls cannot be seen from outside."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, name="dense")

    def call(self, inputs):
        return self.dense(inputs)
