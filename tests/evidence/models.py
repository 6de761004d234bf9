"""Small models and data for the tests of this room."""

import keras
import numpy as np

# Not the marker `eager`: Keras does not tell how a model is compiled whose `compile` is
# another one.
EAGER = {"run_eagerly": True} if keras.backend.backend() == "tensorflow" else {}


def line(rows=40, noise=0.0, seed=0):
    """Rows whose target is the sum of their features."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)).astype("float32")
    return x, (x.sum(axis=1) + noise * rng.normal(size=rows)).astype("float32")


def linear(rate=0.1, **compiled):
    """A layer that can learn them."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, name="head")],
    )
    model.compile(keras.optimizers.SGD(rate), "mse", **EAGER, **compiled)
    return model


def hidden(units=4, rate=0.05, name=None, shape=(3,)):
    """A hidden layer, and a head."""
    model = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Dense(units, "relu", name="hidden"),
            keras.layers.Dense(1, name="head"),
        ],
        name=name,
    )
    model.compile(keras.optimizers.SGD(rate), "mse", **EAGER)
    return model
