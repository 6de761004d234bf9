"""What quantization does with each kind of layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from keras_fitkit._core import arguments
from keras_fitkit._core import kernels as kernels_
from keras_fitkit._core._private import own_variables
from keras_fitkit._core.layers import leaf_layers

WEIGHTS, INSIDE, OUTPUT = "weights", "weights inside", "output"
SHARED, THROUGH, FLOAT = "shared range", "through", "float"


@dataclasses.dataclass(frozen=True)
class Rule:
    """How layers of one kind are quantized.

    Attributes:
        kind: "weights": kernels and output; "weights inside": the kernels of the layers
            below, while what they compute stays float; "output": the output alone;
            "shared range": one range for inputs and output; "through": values pass
            unchanged, with the range they have; "float": not at all.
        kernels: names of the variables that are kernels, for "weights".
        reason: why it stays float.
    """

    kind: str
    kernels: tuple[str, ...] = ()
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A variable that is quantized.

    Attributes:
        owner: the layer that computes with it.
        variable: the `keras.Variable`.
        axes: those that share a scale when each output channel has its own.
    """

    owner: Any
    variable: Any
    axes: tuple[int, ...]


_POOLS = tuple(f"AveragePooling{n}D" for n in (1, 2, 3))
_DROPS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
_NOISE = ("GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization")
_PADS = tuple(f"{what}{n}D" for what in ("ZeroPadding", "Cropping") for n in (1, 2, 3))
_MAXIMA = tuple(f"{p}MaxPooling{n}D" for p in ("", "Global") for n in (1, 2, 3))
_MEANS = tuple(f"GlobalAveragePooling{n}D" for n in (1, 2, 3))
_RECURRENT = ("RNN", "SimpleRNN", "LSTM", "GRU", "ConvLSTM1D", "ConvLSTM2D")
_VOLUMES = ("Conv3D", "Conv3DTranspose")
# The second is `keras.layers.GroupQueryAttention`: Keras exports it by another name.
_ATTENTION = ("MultiHeadAttention", "GroupedQueryAttention")
_MERGES = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Average")
_ACTIVATIONS = ("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax")
_SHAPES = ("Flatten", "Reshape", "Permute", "RepeatVector", "Identity", "UpSampling1D")

_KINDS: tuple[tuple[tuple[str, ...], str], ...] = (
    ((*_POOLS, "Concatenate"), SHARED),
    ((*_DROPS, *_NOISE, *_PADS, *_MAXIMA, *_SHAPES), THROUGH),
    ((*_RECURRENT, *_ATTENTION, "Bidirectional", "TimeDistributed"), INSIDE),
    ((*_MERGES, *_ACTIVATIONS, *_MEANS, "BatchNormalization"), OUTPUT),
)
_FLOATS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("Rescaling", "Normalization"), "it prepares the input"),
    (("LayerNormalization", "GroupNormalization"), "a norm"),
    (("RMSNormalization", "UnitNormalization"), "a norm"),
    (("Attention", "AdditiveAttention"), "attention is computed in float"),
)
_registered: dict[type, Rule] = {}


def register(
    layer_class: type,
    kernels: Sequence[str] = (),
    *,
    kind: str | None = None,
) -> None:
    """Says how layers of a class are quantized, so that `QuantizeWrapper` takes them.

    Args:
        layer_class: a subclass of `keras.layers.Layer`; its subclasses are meant too.
        kernels: names of its variables that are kernels, with the output channels on
            the last axis.
        kind: None: "weights" with kernels, else "output". Or one of "weights inside",
            "output", "shared range", "through".

    A saved model says it again for the class where it is loaded.

    Raises:
        TypeError, ValueError: no such class or kind.

    Example:
        >>> import keras
        >>> import keras_fitkit as kf
        >>> class Scale(keras.layers.Layer):
        ...     def build(self, shape):
        ...         self.scale = self.add_weight(shape=(1, shape[-1]), name="scale")
        ...
        ...     def call(self, x):
        ...         return x * self.scale
        >>> kf.quantization.register(Scale, kernels=["scale"])
        >>> kf.QuantizeWrapper(Scale()).name
        'quant_scale'
    """
    if not isinstance(layer_class, type) or not issubclass(
        layer_class, keras.layers.Layer
    ):
        allowed = "a subclass of keras.layers.Layer"
        raise TypeError(arguments.message("layer_class", allowed, layer_class))
    if isinstance(kernels, str) or not all(isinstance(one, str) for one in kernels):
        allowed = "a list of names of variables"
        raise TypeError(arguments.message("kernels", allowed, kernels))
    names = tuple(kernels)
    if kind is None:
        kind = WEIGHTS if names else OUTPUT
    arguments.choice("kind", kind, (WEIGHTS, INSIDE, OUTPUT, SHARED, THROUGH))
    _registered[layer_class] = Rule(kind, names)


def registered(layer: Any) -> dict[str, Any] | None:
    """What `register` was told of a layer's class, as plain values; None: nothing."""
    for parent in type(layer).__mro__:
        if parent in _registered:
            rule = _registered[parent]
            return {"kind": rule.kind, "kernels": list(rule.kernels)}
    return None


def rule_of(layer: Any) -> Rule:
    """The rule for a layer."""
    for parent in type(layer).__mro__:
        if parent in _registered:
            return _registered[parent]
    special = _special(layer)
    if special is not None:
        return special
    names = _kernel_names(layer)
    if names:
        return Rule(WEIGHTS, names)
    for kinds, kind in _KINDS:
        if kernels_.is_one_of(layer, kinds):
            return Rule(kind)
    for kinds, reason in _FLOATS:
        if kernels_.is_one_of(layer, kinds):
            return Rule(FLOAT, reason=reason)
    return Rule(FLOAT, reason=f"no rule for {type(layer).__name__}")


def _special(layer: Any) -> Rule | None:
    """The rule for layers whose arguments decide, and for those that LiteRT lacks."""
    if kernels_.is_one_of(layer, _VOLUMES):
        return Rule(INSIDE)  # LiteRT has no kernel of integers for them
    if kernels_.is_one_of(layer, ("UpSampling2D", "Resizing")) and (
        layer.interpolation in ("nearest", "bilinear")
    ):
        # LiteRT interpolates between integers of one range.
        return Rule(THROUGH if layer.interpolation == "nearest" else SHARED)
    if kernels_.is_one_of(layer, ("Dot",)) and not layer.normalize:
        return Rule(OUTPUT)
    if kernels_.is_one_of(layer, ("Lambda",)):
        # What it computes is not known.
        hint = "write it as an Activation or as a layer that is registered"
        return Rule(FLOAT, reason=f"no rule for a Lambda: {hint}")
    return None


def kernels_of(layer: Any) -> list[Kernel]:
    """The variables of a built layer that are quantized, in their order."""
    rule = rule_of(layer)
    if rule.kind not in (WEIGHTS, INSIDE):
        return []
    _check_registered(layer)
    found = []
    for _, owner in leaf_layers(layer):
        names = rule.kernels if owner is layer else rule_of(owner).kernels
        names = names or kernels_.names(owner)
        for variable in own_variables(owner):
            if variable.name in names and str(variable.dtype).startswith("float"):
                found.append(Kernel(owner, variable, _shared_axes(owner, variable)))
    return found


def _check_registered(layer: Any) -> None:
    """The names that were registered are not all strange to the layer."""
    told = registered(layer)
    names = told["kernels"] if told else []
    own = [one.name for _, each in leaf_layers(layer) for one in own_variables(each)]
    if names and not set(names) & set(own):
        allowed = f"names of variables of {type(layer).__name__}, which has {own}"
        hint = "`kf.quantization.register` was told so."
        raise ValueError(arguments.message("kernels", allowed, names, hint))


def _kernel_names(layer: Any) -> tuple[str, ...]:
    if kernels_.is_one_of(layer, kernels_.DEPTHWISE):
        return ("kernel", "depthwise_kernel")
    if kernels_.is_one_of(layer, ("Embedding",)):
        return ("embeddings",)
    if kernels_.is_one_of(layer, kernels_.CELLS):
        return ()  # its recurrent layer is wrapped
    return kernels_.names(layer)


def _shared_axes(owner: Any, variable: Any) -> tuple[int, ...]:
    """All axes but those of the output channels."""
    outputs = kernels_.channels(owner, variable)
    if kernels_.is_one_of(owner, ("Embedding",)):
        outputs = ()  # LiteRT looks rows up in a table of one scale
    return tuple(axis for axis in range(len(variable.shape)) if axis not in outputs)
