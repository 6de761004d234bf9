"""What a QuantizeWrapper asks of its layer, and the quantizers that it needs."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_fitkit._core import arguments, kernels
from keras_fitkit.quantization import activations, rules
from keras_fitkit.quantization.config import QuantizeConfig
from keras_fitkit.quantization.fake_quantize import FakeQuantize

TABLE_BITS = 8  # of activations whose functions are tables in a file


@dataclasses.dataclass
class Quantizers:
    """The quantizers of what one layer computes, each where it is used, or None.

    Attributes:
        activation: the name of the activation that the layer applies last, or None.
        shown: that of an activation layer, or None.
        before: of what goes into an activation that LiteRT does not fuse.
        gate: of the factor of a product such as silu.
        middle: between the two halves of a separable convolution.
        after: of the output.
        positive: whether the output cannot be below zero: it is a ReLU's, of a class of
            Keras itself. What a class of the user's does is not known.
    """

    activation: str | None
    shown: str | None
    before: FakeQuantize | None = None
    gate: FakeQuantize | None = None
    middle: FakeQuantize | None = None
    after: FakeQuantize | None = None
    positive: bool = False


def quantizers_of(
    layer: Any, config: QuantizeConfig, *, quantize_output: bool
) -> Quantizers:
    """Those that a layer needs.

    Args:
        layer: the layer.
        config: widths and kind of the grids.
        quantize_output: whether its output is put on a grid.
    """
    made = Quantizers(_activation_inside(layer), activations.of_layer(layer))
    bits = config.activation_bits
    if bits is None:
        return made
    if bits != TABLE_BITS:
        made.shown = _no_table(made.shown)
        made.activation = _no_table(made.activation)
    inner = made.activation
    if inner is not None and inner not in activations.FUSED:
        made.before = quantizer(config, "before_activation")
    shown = inner if inner is not None else made.shown
    of_keras = type(layer).__module__.split(".")[0] == "keras"
    made.positive = of_keras and shown in activations.POSITIVE
    if shown in activations.PRODUCT:
        sigmoid = activations.fixed_range("sigmoid", bits)
        made.gate = quantizer(config, "gate", sigmoid)
    if kernels.is_one_of(layer, kernels.SEPARABLE):
        made.middle = quantizer(config, "middle")
    if quantize_output and rules.rule_of(layer).kind != rules.THROUGH:
        fixed = activations.fixed_range(shown or "", bits)
        made.after = quantizer(config, "output", fixed)
    return made


def quantizer(
    config: QuantizeConfig, name: str, fixed: tuple[float, float] | None = None
) -> FakeQuantize:
    """A FakeQuantize as a config has it.

    Args:
        config: one with `activation_bits`.
        name: of the layer that is made.
        fixed: the two ends, if they are known beforehand.
    """
    bits: Any = config.activation_bits
    return FakeQuantize(
        bits,
        learned=config.learned_ranges and fixed is None,
        momentum=config.momentum,
        start_step=config.start_step,
        fixed=fixed,
        name=name,
    )


def check(layer: Any, *, done: tuple[type[Any], ...]) -> None:
    """A plain layer with a rule.

    Args:
        layer: what a user wants to wrap.
        done: classes of layers that are quantized already.

    Raises:
        TypeError, ValueError: names it, and says why it cannot be wrapped.
    """
    if isinstance(layer, done):
        hint = "It is quantized already: strip it with `kf.strip_quantization`."
        raise ValueError(arguments.message("layer", "a plain layer", layer.name, hint))
    if isinstance(layer, keras.Model):
        hint = "For a model use `kf.quantize_model`."
        raise TypeError(arguments.message("layer", "one layer", layer.name, hint))
    if not isinstance(layer, keras.layers.Layer):
        allowed = "a keras.layers.Layer"
        raise TypeError(arguments.message("layer", allowed, layer))
    if is_of_keras(layer):
        hint = "`quantize()` has made integers of its kernel, which trains no more."
        raise ValueError(arguments.message("layer", "a plain layer", layer.name, hint))
    rule = rules.rule_of(layer)
    if rule.kind == rules.FLOAT:
        hint = (
            f"{layer.name} stays float ({rule.reason}). For a layer of your own call "
            "`kf.quantization.register(LayerClass, kernels=[...])`."
        )
        allowed = "a layer that can be quantized"
        raise ValueError(
            arguments.message("layer", allowed, type(layer).__name__, hint)
        )


def is_of_keras(layer: Any) -> bool:
    """Whether Keras's own `quantize()` was called on a layer."""
    return getattr(layer, "quantization_mode", None) is not None


def _activation_inside(layer: Any) -> str | None:
    """The name of the activation that a layer with kernels applies last, or None."""
    if rules.rule_of(layer).kind != rules.WEIGHTS or not hasattr(layer, "activation"):
        return None
    return activations.name_of(layer.activation)


def _no_table(name: str | None) -> str | None:
    return "" if name == activations.TABLE else name
