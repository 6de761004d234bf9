"""What the tests of PruneSchedule share."""

import keras
import numpy as np

from keras_fitkit._core.targets import find
from keras_fitkit.pruning.attachment import links_of

RNG = np.random.default_rng(11)
X = RNG.normal(size=(96, 8, 8, 2)).astype("float32")
Y = RNG.integers(0, 3, 96)
FLAT = RNG.normal(size=(96, 8)).astype("float32")


def conv_net(optimizer="sgd", policy=None, **compile_args):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(6, 3, name="conv", dtype=policy),
            keras.layers.BatchNormalization(dtype=policy),
            keras.layers.ReLU(),
            keras.layers.SeparableConv2D(5, 3, name="separable", dtype=policy),
            keras.layers.Flatten(),
            keras.layers.Dense(
                7, "relu", kernel_constraint="max_norm", name="dense", dtype=policy
            ),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(3, name="last", dtype="float32"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **compile_args)
    return model


def mlp(optimizer="sgd", **compile_args):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(10, "relu", name="first"),
            keras.layers.Dense(3, name="last"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **compile_args)
    return model


def fit(model, *callbacks, epochs=3, batch_size=16, **arguments):
    x = X if len(model.input_shape) == 4 else FLAT
    return model.fit(
        x, Y, epochs=epochs, batch_size=batch_size, verbose=0,
        callbacks=list(callbacks), **arguments,
    )  # fmt: skip


def array(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


class Watch(keras.callbacks.Callback):
    """Counts, after every batch, weights that are not zero under their mask."""

    def __init__(self):
        super().__init__()
        self.violations, self.sparsity = 0, []

    def on_train_batch_end(self, batch, logs=None):
        zeros = size = 0
        for target in find(self.model)[0]:  # reading `self.model` syncs on JAX
            (link,) = links_of(target.variable)
            mask, weight = array(link.mask).astype(bool), array(target.variable)
            self.violations += int(((weight != 0) & ~mask).sum())
            zeros, size = zeros + (weight == 0).sum(), size + weight.size
        self.sparsity.append(zeros / size)
