"""Small nets and data for the tests of distillation."""

import keras
import numpy as np

from keras_fitkit._core import arrays

CLASSES = 3
LABEL_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def data(rows=16, width=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, width)).astype("float32")
    return x, rng.integers(CLASSES, size=rows)


def mlp(units=8, seed=0, head=None, name=None, norm=False, hidden="hidden", **dense):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(units, "relu", name=hidden, **dense),
        *([keras.layers.BatchNormalization(name="norm")] if norm else []),
        keras.layers.Dense(CLASSES, head, name="logits"),
    ]
    return keras.Sequential(layers, name=name)


def weights(model):
    return [np.array(one) for one in model.get_weights()]


def same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


def differ(left, right):
    assert any((a != b).any() for a, b in zip(left, right, strict=True))


def number(value):
    return float(arrays.to_numpy(value))


def numpy(value):
    return arrays.to_numpy(value)


def gradient(function, values):
    """Of the sum of what `function` gives, by `values`."""
    values = np.asarray(values, "float32")
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        # As one program: op by op JAX compiles each.
        total = jax.jit(jax.grad(lambda one: keras.ops.sum(function(one))))
        return np.asarray(total(values))
    if backend == "torch":
        import torch

        one = torch.tensor(values, requires_grad=True)
        keras.ops.sum(function(one)).backward()
        return one.grad.numpy()
    import tensorflow as tf

    one = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(one)
        total = keras.ops.sum(function(one))
    return tape.gradient(total, one).numpy()


class Count:
    """Counts the calls of a layer; use as its `call`, by `count(layer)`."""

    def __init__(self, layer):
        self.calls, self.inner = 0, layer.call
        layer.call = self

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.inner(*args, **kwargs)
