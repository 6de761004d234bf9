"""The table of the contract tests of blocks: every composite layer, small."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import keras_fitkit as kf

blocks = kf.blocks
HEIGHT, WIDTH = 9, 6  # odd and even: strided padding differs


@dataclasses.dataclass(frozen=True)
class Case:
    """A block, the number of its parameters as arithmetic, its input and output.

    Attributes:
        make: the layer; takes keyword arguments of every layer.
        build: the functional builder, in the same way.
        channels: of the input.
        params: number of parameters.
        out: channels of the output.
        strides: how many times the image gets smaller.
        image: whether the input is an image, else rows of features.
    """

    make: Callable[..., Any]
    build: Callable[..., Any]
    channels: int
    params: int
    out: int
    strides: int = 1
    image: bool = True

    def input_shape(self, batch: int | None = 2, known: bool = True) -> tuple:
        if not self.image:
            return (batch, self.channels)
        size = (HEIGHT, WIDTH) if known else (None, None)
        return (batch, *size, self.channels)

    def output_shape(self, batch: int | None = 2, known: bool = True) -> tuple:
        if not self.image:
            return (batch, self.out)
        size = (-(-HEIGHT // self.strides), -(-WIDTH // self.strides))
        return (batch, *(size if known else (None, None)), self.out)

    def data(self) -> np.ndarray:
        return np.random.default_rng(3).normal(size=self.input_shape()).astype("f4")


def case(kind, builder, *args, channels=8, params, out, strides=1, image=True, **own):
    if strides > 1:
        own["strides"] = strides
    return Case(
        lambda **more: kind(*args, **{**own, **more}),
        lambda x, **more: builder(x, *args, **{**own, **more}),
        channels,
        params,
        out,
        strides,
        image,
    )


BN = 4  # numbers for each channel that is normalized


def inverted(*args, **arguments):
    return case(blocks.InvertedResidual, blocks.inverted_residual, *args, **arguments)


def universal(*args, **arguments):
    return case(
        blocks.UniversalInvertedBottleneck,
        blocks.universal_inverted_bottleneck,
        *args,
        expansion=2,
        **arguments,
    )


def stack(block, *args, **arguments):
    """The block is made afresh for each layer."""
    own = {key: arguments.pop(key) for key in ("params", "out")}
    return Case(
        lambda **more: blocks.SharedStack(
            block(**_formats(more)), *args, **arguments, **more
        ),
        lambda x, **more: blocks.shared_stack(x, block(), *args, **arguments, **more),
        8,
        **own,
    )


def _formats(more):
    return {"data_format": more.pop("data_format")} if "data_format" in more else {}


CASES: dict[str, Case] = {
    "ConvNormAct": case(
        blocks.ConvNormAct,
        blocks.conv_norm_act,
        12,
        (3, 5),
        strides=2,
        params=3 * 5 * 8 * 12 + BN * 12,
        out=12,
    ),
    "ConvNormAct-grouped": case(
        blocks.ConvNormAct,
        blocks.conv_norm_act,
        12,
        groups=4,
        activation=None,
        use_bias=True,
        params=9 * 8 * 12 // 4 + 12 + BN * 12,
        out=12,
    ),
    "SeparableBlock": case(
        blocks.SeparableBlock,
        blocks.separable_block,
        12,
        strides=2,
        params=9 * 8 + 8 * 12 + BN * (8 + 12),
        out=12,
    ),
    "InvertedResidual": inverted(
        8,
        expansion=6,
        drop_rate=0.2,
        params=8 * 48 + 9 * 48 + 48 * 8 + BN * (48 + 48 + 8),
        out=8,
    ),
    "InvertedResidual-first": inverted(
        12, expansion=1, params=9 * 8 + 8 * 12 + BN * (8 + 12), out=12
    ),
    # 8 * 2.5 = 20 channels become 24; squeezed to the multiple of 8 next to 24 / 4
    "InvertedResidual-v3": inverted(
        12,
        kernel_size=5,
        strides=2,
        expansion=2.5,
        se_ratio=0.25,
        variant="v3",
        params=8 * 24 + 25 * 24 + 24 * 12 + (2 * 24 * 8 + 8 + 24) + BN * (24 + 24 + 12),
        out=12,
    ),
    "InvertedResidual-minimalistic": inverted(
        8,
        expansion=2,
        variant="minimalistic",
        params=8 * 16 + 9 * 16 + 16 * 8 + BN * (16 + 16 + 8),
        out=8,
    ),
    # squeezed to 8 / 4: a fraction of the input
    "InvertedResidual-efficientnet": inverted(
        8,
        expansion=2,
        se_ratio=0.25,
        variant="efficientnet",
        params=8 * 16 + 9 * 16 + 16 * 8 + (2 * 16 * 2 + 2 + 16) + BN * (16 + 16 + 8),
        out=8,
    ),
    "UniversalInvertedBottleneck-IB": universal(
        12,
        strides=2,
        params=8 * 16 + 9 * 16 + 16 * 12 + BN * (16 + 16 + 12),
        out=12,
    ),
    "UniversalInvertedBottleneck-ConvNext": universal(
        12,
        start_kernel_size=5,
        kernel_size=None,
        strides=2,
        params=25 * 8 + 8 * 16 + 16 * 12 + BN * (8 + 16 + 12),
        out=12,
    ),
    "UniversalInvertedBottleneck-ExtraDW": universal(
        8,
        start_kernel_size=3,
        kernel_size=5,
        params=9 * 8 + 8 * 16 + 25 * 16 + 16 * 8 + BN * (8 + 16 + 16 + 8),
        out=8,
    ),
    "UniversalInvertedBottleneck-FFN": universal(
        8, kernel_size=None, params=8 * 16 + 16 * 8 + BN * (16 + 8), out=8
    ),
    "FusedMBConv": case(
        blocks.FusedMBConv,
        blocks.fused_mb_conv,
        12,
        strides=2,
        se_ratio=0.25,
        params=9 * 8 * 32 + 32 * 12 + (2 * 32 * 2 + 2 + 32) + BN * (32 + 12),
        out=12,
    ),
    "FusedMBConv-first": case(
        blocks.FusedMBConv,
        blocks.fused_mb_conv,
        8,
        expansion=1,
        params=9 * 8 * 8 + BN * 8,
        out=8,
    ),
    "ShuffleUnit": case(
        blocks.ShuffleUnit,
        blocks.shuffle_unit,
        8,
        params=2 * 4**2 + 9 * 4 + BN * 3 * 4,
        out=8,
    ),
    "ShuffleUnit-strides": case(
        blocks.ShuffleUnit,
        blocks.shuffle_unit,
        12,
        strides=2,
        params=2 * 8 * 6 + 6**2 + 9 * (8 + 6) + BN * (8 + 6 + 6 + 6 + 6),
        out=12,
    ),
    "Fire": case(
        blocks.Fire,
        blocks.fire,
        16,
        squeeze_ratio=0.25,
        params=(8 * 4 + 4) + (4 * 8 + 8) + (9 * 4 * 8 + 8),
        out=16,
    ),
    "GhostModule": case(
        blocks.GhostModule,
        blocks.ghost_module,
        11,
        ratio=3,
        strides=2,
        params=8 * 4 + 9 * 8 + BN * (4 + 8),
        out=11,
    ),
    "GhostBottleneck": case(
        blocks.GhostBottleneck,
        blocks.ghost_bottleneck,
        8,
        params=8 * 8 + 9 * 8 + 16 * 4 + 9 * 4 + BN * (8 + 8 + 4 + 4),
        out=8,
    ),
    "GhostBottleneck-strides": case(
        blocks.GhostBottleneck,
        blocks.ghost_bottleneck,
        12,
        strides=2,
        se_ratio=0.25,
        params=(8 * 8 + 9 * 8 + BN * 16)
        + (9 * 16 + BN * 16)
        + (2 * 16 * 4 + 4 + 16)
        + (16 * 6 + 9 * 6 + BN * 12)
        + (9 * 8 + BN * 8 + 8 * 12 + BN * 12),
        out=12,
    ),
    "RepConv": case(
        blocks.RepConv,
        blocks.rep_conv,
        8,
        params=10 * 8 * 8 + 3 * BN * 8,
        out=8,
    ),
    "RepConv-strides": case(
        blocks.RepConv,
        blocks.rep_conv,
        12,
        strides=2,
        params=10 * 8 * 12 + 2 * BN * 12,
        out=12,
    ),
    "MobileOne": case(
        blocks.MobileOne,
        blocks.mobile_one,
        8,
        branches=2,
        params=2 * 9 * 8 + 8 + 2 * 8 * 8 + BN * (2 * 8 + 8 + 8 + 2 * 8 + 8),
        out=8,
    ),
    "MobileOne-strides": case(
        blocks.MobileOne,
        blocks.mobile_one,
        12,
        strides=2,
        branches=1,
        params=9 * 8 + 8 + 8 * 12 + BN * (8 + 8 + 12),
        out=12,
    ),
    "SqueezeExcite": case(
        blocks.SqueezeExcite,
        blocks.squeeze_excite,
        params=2 * 8 * 2 + 2 + 8,
        out=8,
    ),
    "EfficientChannelAttention": case(
        blocks.EfficientChannelAttention,
        blocks.efficient_channel_attention,
        params=3,
        out=8,
    ),
    "LowRankDense": case(
        blocks.LowRankDense,
        blocks.low_rank_dense,
        5,
        3,
        activation="relu",
        params=3 * (8 + 5) + 5,
        out=5,
        image=False,
    ),
    "LowRankConv2D-channel": case(
        blocks.LowRankConv2D,
        blocks.low_rank_conv2d,
        12,
        (3, 5),
        4,
        strides=2,
        params=4 * (3 * 5 * 8 + 12) + 12,
        out=12,
    ),
    "LowRankConv2D-spatial": case(
        blocks.LowRankConv2D,
        blocks.low_rank_conv2d,
        12,
        3,
        4,
        scheme="spatial",
        strides=2,
        activation="relu",
        params=4 * 3 * (8 + 12) + 12,
        out=12,
    ),
    "SharedStack-batch": stack(
        lambda **own: blocks.InvertedResidual(8, expansion=2, **own),
        3,
        params=8 * 16 + 9 * 16 + 16 * 8 + 3 * BN * (16 + 16 + 8),
        out=8,
    ),
    "SharedStack-layer": stack(
        lambda **own: blocks.ConvNormAct(8, **own),
        3,
        normalization="layer",
        params=9 * 8 * 8 + 2 * 8,
        out=8,
    ),
    "SharedStack-plain": stack(
        lambda **own: keras.layers.Conv2D(8, 3, padding="same", name="conv", **own),
        2,
        params=9 * 8 * 8 + 8,
        out=8,
    ),
}


def randomized(layer: Any, seed: int = 5) -> Any:
    """The layer with weights that no initializer gives: norms count, biases count."""
    rng = np.random.default_rng(seed)
    values = []
    for weight in layer.weights:
        if len(weight.shape) == 1:
            values.append(rng.uniform(0.5, 1.5, weight.shape))
        else:
            fan = np.prod(weight.shape[:-1]) or 1
            values.append(rng.normal(size=weight.shape) / np.sqrt(fan))
    layer.set_weights(values)
    return layer


def array(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def built(case: Case, **arguments: Any) -> Any:
    layer = case.make(**arguments)
    layer.build(case.input_shape(None))
    return randomized(layer)


def model_of(case: Case, layer: Any) -> Any:
    """The functional form as a model, with the weights of a layer.

    By name: a functional model lists its layers by depth, not in order of definition.
    """
    inputs = keras.Input(case.input_shape()[1:])
    model = keras.Model(inputs, case.build(inputs, name="plain"))
    for part in layer.layers:
        model.get_layer(f"plain_{part.name}").set_weights(part.get_weights())
    return model


def run(layer: Any, data: np.ndarray) -> Any:
    """On a CPU TensorFlow has channels_first in compiled graphs only, if at all."""
    if keras.backend.backend() != "tensorflow":
        return layer(data)
    import tensorflow as tf

    return tf.function(layer)(data)


@functools.cache
def channels_first_runs() -> bool:
    """Whether Keras's own convolution does: on TensorFlow's CPU with oneDNN alone."""
    conv = keras.layers.Conv2D(1, 1, data_format="channels_first")
    try:
        run(conv, np.ones((1, 1, 2, 2), "float32"))
    except Exception as error:
        if "NHWC tensor format" not in str(error):
            raise
        return False
    return True


def needs_channels_first() -> None:
    if not channels_first_runs():
        pytest.skip("plain Conv2D has no channels_first on this CPU")
