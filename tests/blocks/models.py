"""Models for the tests of transforms, small, with weights that no initializer gives."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import keras_fitkit as kf
from tests.blocks.cases import array, randomized

b = kf.blocks


def images(*shape: int, seed: int = 0) -> np.ndarray:
    shape = shape or (2, 9, 8, 4)
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def tensor(value: Any) -> Any:
    return keras.tree.map_structure(keras.ops.convert_to_tensor, value)


def outputs(model: Any, data: Any) -> Any:
    """In inference mode, as NumPy arrays in the structure of the model's outputs."""
    return keras.tree.map_structure(array, model(tensor(data), training=False))


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Within a tolerance, relative to the scale of the expected values."""
    keras.tree.assert_same_structure(found, expected)
    for one, other in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


def nested() -> Any:
    """Shared layers, an inner model that is called twice, dicts in and out."""
    inner_inputs = keras.Input((9, 8, 4))
    x = b.ConvNormAct(4, name="inner_block")(inner_inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", groups=2, name="inner_conv")(x)
    x = keras.layers.BatchNormalization(name="inner_norm")(x)
    inner = keras.Model(inner_inputs, x, name="inner")
    shared = b.RepConv(4, name="shared")
    left, right = (keras.Input((9, 8, 4), name=name) for name in ("left", "right"))
    total = keras.layers.Add(name="total")([inner(shared(left)), inner(shared(right))])
    total = keras.ops.multiply(total, 0.5)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(total)
    frozen = keras.layers.Dense(6, name="frozen", trainable=False)(pooled)
    head = keras.layers.Dense(3, "softmax", name="head")(frozen)
    model = keras.Model(
        {"left": left, "right": right}, {"image": total, "head": head}, name="nested"
    )
    return randomized(model)


def nested_data() -> dict[str, np.ndarray]:
    return {"left": images(seed=1), "right": images(seed=2)}
