"""Which layers are features, which drop some, and which have kernels."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_fitkit._core.graph import Call
from keras_fitkit.regularizers.adjustable import AdjustableDropout

CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
RECURRENT = (layers.RNN, layers.Bidirectional)
ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)
POOLING = (
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
)
DROPOUTS = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    AdjustableDropout,
)
NORMS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
)
# Whole examples of a branch, whoever wrote the layer.
DEPTHS = ("StochasticDepth", "DropPath")
DEPTH = "stochastic_depth"
# What each kind of dropout drops as one, for `AdjustableDropout`.
PARTS = {"dropout": "elements", "spatial_dropout": "channels", DEPTH: "examples"}
# Gates, and what is a distribution: dropping parts of them means something else.
NOT_HIDDEN = ("linear", "sigmoid", "hard_sigmoid", "softmax", "log_softmax")
ACTIVATIONS = (
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ELU,
)
# By the class names of Keras's symbolic operations.
OPERATIONS = (
    "Relu",
    "Relu6",
    "Gelu",
    "Silu",
    "Elu",
    "Selu",
    "LeakyRelu",
    "HardSilu",
    "Tanh",
    "Softplus",
    "Mish",
    "Celu",
)
# Between features and their dropout.
KEEPERS = (
    *NORMS,
    *ACTIVATIONS,
    layers.Flatten,
    layers.Reshape,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
)


def is_dropout(layer: Any) -> bool:
    """Whether a layer drops something, of Keras, of this package or of a block."""
    return isinstance(layer, DROPOUTS) or type(layer).__name__ in DEPTHS


def kind_of(call: Call) -> str | None:
    """What a dropout layer drops, in the words of `Place.kind`; None for no dropout."""
    layer = call.operation
    if not is_dropout(layer):
        return None
    if type(layer).__name__ in DEPTHS:
        return DEPTH
    if isinstance(layer, AdjustableDropout):
        return {parts: kind for kind, parts in PARTS.items()}[layer.parts]
    shape = getattr(layer, "noise_shape", None)
    if shape is not None and len(shape) > 1:
        if all(size == 1 for size in shape[1:]):
            return DEPTH
        if len(shape) > 2 and all(size == 1 for size in shape[1:-1]):
            return "spatial_dropout"
    sizes = call.inputs[0].shape[1:]
    # Pooled features may keep their axes: 1 x 1 x channels is a row.
    images = len(sizes) > 2 and sum(size != 1 for size in sizes) > 1
    spatial = type(layer).__name__.startswith("SpatialDropout")
    return "spatial_dropout" if images or spatial else "dropout"


def feature_kind(call: Call) -> str | None:
    """What comes out: "pooling", "activation", "layer"; None: no hidden features."""
    layer = inner(call.operation)
    if isinstance(layer, POOLING):
        return "pooling"
    if isinstance(layer, (*RECURRENT, *ATTENTION)):
        return "layer"
    if isinstance(layer, ACTIVATIONS):
        function = getattr(layer, "activation", None)
        return None if _name(function) in NOT_HIDDEN else "activation"
    if isinstance(layer, (layers.Dense, layers.EinsumDense, *CONVOLUTIONS)):
        return None if _name(layer.activation) in NOT_HIDDEN else "layer"
    return "activation" if type(layer).__name__ in OPERATIONS else None


def inner(layer: Any) -> Any:
    """The layer in a `TimeDistributed`, or the layer."""
    while isinstance(layer, layers.TimeDistributed):
        layer = layer.layer
    return layer


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", "layer"))


def has_kernel(call: Call) -> bool:
    """Whether a call has a kernel: no norm, no activation."""
    layer = inner(call.operation)
    if not isinstance(layer, keras.layers.Layer) or isinstance(
        layer, (*NORMS, *ACTIVATIONS, *DROPOUTS)
    ):
        return False
    return bool(layer.trainable_variables or layer.non_trainable_variables)
