"""The models of the benchmarks, for Keras 3 and tf_keras alike."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

STACKS = ("keras", "tf_keras")


def load_stack(stack: str) -> Any:
    """The module `keras` or, with tfmot imported before it, `tf_keras`."""
    if stack == "tf_keras":
        importlib.import_module("tensorflow_model_optimization")
    return importlib.import_module(stack)


def mlp(keras: Any) -> Any:
    """784-1200-784-10: 1,891,434 parameters."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(1200, activation="relu"),
            keras.layers.Dense(784, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def cnn(keras: Any) -> Any:
    """Two convolutions and two dense layers on 28 x 28 pixels: 56,714 parameters."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def lenet_300_100(keras: Any) -> Any:
    """LeCun's 784-300-100-10: 266,610 parameters."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(300, activation="relu"),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def lenet_5(keras: Any) -> Any:
    """LeNet-5 as Caffe has it, and with it the papers: 431,080 parameters."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(20, 5),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(50, 5),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(500, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def cnn_with_norms(keras: Any) -> Any:
    """Three convolutions with BatchNormalization on 28 x 28 pixels."""
    parts = [keras.Input((28, 28, 1))]
    for filters in (16, 32, 64):
        conv = keras.layers.Conv2D
        parts += [conv(filters, 3, strides=2, padding="same", use_bias=False)]
        parts += [keras.layers.BatchNormalization(), keras.layers.ReLU()]
    parts += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    return keras.Sequential(parts)


def depthwise_cnn(keras: Any) -> Any:
    """A convolution, then three depthwise ones with 1x1 convolutions, as MobileNet."""
    layers = keras.layers

    def normed(layer: Any) -> list[Any]:
        return [layer, layers.BatchNormalization(), layers.ReLU()]

    how = {"padding": "same", "use_bias": False}
    parts = [keras.Input((28, 28, 1))]
    parts += normed(layers.Conv2D(16, 3, strides=2, **how))
    for filters, strides in ((32, 1), (48, 2), (64, 1)):
        parts += normed(layers.DepthwiseConv2D(3, strides=strides, **how))
        parts += normed(layers.Conv2D(filters, 1, **how))
    parts += [layers.GlobalAveragePooling2D(), layers.Dense(10)]
    return keras.Sequential(parts)


MODELS: dict[str, Callable[[Any], Any]] = {
    "MLP": mlp,
    "CNN": cnn,
    "LeNet-300-100": lenet_300_100,
    "LeNet-5": lenet_5,
    "plain CNN": cnn_with_norms,
    "depthwise CNN": depthwise_cnn,
}
