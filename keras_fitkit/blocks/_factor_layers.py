"""The two layers that a factorized one becomes: one without bias, then the rest."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_fitkit._core import arrays
from keras_fitkit.blocks import low_rank
from keras_fitkit.blocks._plan import Call, Wiring
from keras_fitkit.blocks._svd import Matrix

# What is about the kernel that is not there any more.
NO_KERNEL = {"kernel_regularizer": None, "kernel_constraint": None}


def of_dense(layer: Any, down: Matrix, up: Matrix) -> Wiring:
    """Two Dense layers for one, from factors (m, r) and (r, n) of its kernel."""
    first = layers.Dense(down.shape[1], use_bias=False, **own_of(layer))
    return pair(layer, first, {}, down, up)


def of_conv(layer: Any, scheme: str, down: Matrix, up: Matrix) -> Wiring:
    """Two Conv2D layers for one, from factors of the matrix of `scheme`."""
    height, width = layer.kernel_size
    (row, column), (rows, columns) = layer.strides, layer.dilation_rate
    spatial = scheme == "spatial"
    first = layers.Conv2D(
        down.shape[1],
        (height, 1 if spatial else width),
        strides=(row, 1 if spatial else column),
        dilation_rate=(rows, 1 if spatial else columns),
        padding=layer.padding,
        data_format=layer.data_format,
        use_bias=False,
        **own_of(layer),
    )
    changes = {
        "kernel_size": (1, width if spatial else 1),
        "strides": (1, column if spatial else 1),
        "dilation_rate": (1, columns if spatial else 1),
    }
    shape = tuple(layer.kernel.shape)
    return pair(layer, first, changes, *low_rank.conv_kernels(shape, scheme, down, up))


def own_of(layer: Any) -> dict[str, Any]:
    """Arguments of the first layer that it takes from the one that it is for."""
    return {
        "name": f"{layer.name}_down",
        "dtype": layer.dtype_policy,
        "trainable": layer.trainable,
    }


def pair(
    layer: Any, first: Any, changes: dict[str, Any], down: Matrix, up: Matrix
) -> Wiring:
    """`first`, then a layer like the given one, built and with weights.

    Bias, activation, and what regularizes or constrains these, are in the second one.

    Args:
        layer: the layer that they replace.
        first: of the same class, not built.
        changes: of the configuration of `layer`, for the second one.
        down: the kernel of `first`, in any shape of its size.
        up: that of the second layer.
    """
    name = {"name": f"{layer.name}_up"}
    config = {**layer.get_config(), **NO_KERNEL, **changes, **name}
    second = type(layer).from_config(config)
    _copy_activation(layer.activation, second.activation)  # before the layer is built
    shape = layer.get_build_config()["input_shape"]
    first.build(shape)
    second.build(first.compute_output_shape(shape))
    first.kernel.assign(down.reshape(first.kernel.shape))
    second.kernel.assign(up.reshape(second.kernel.shape))
    if layer.bias is not None:
        second.bias.assign(arrays.copied(layer.bias))
    return Wiring([first, second], [Call(0, (0,)), Call(1, (1,))])


def _copy_activation(old: Any, new: Any) -> None:
    """An activation may be a layer, with weights of its own."""
    if isinstance(old, layers.Layer) and old.built:
        if not new.built:
            new.build(old.get_build_config()["input_shape"])
        for variable, value in zip(new.variables, old.variables, strict=True):
            variable.assign(arrays.copied(value))
