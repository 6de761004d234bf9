"""RepConv: the block of RepVGG."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._fold import Kernel, folded, folded_identity, total
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks.reparameterized import ReparameterizedBlock


@serializable
class RepConv(ReparameterizedBlock):
    """Three branches in training that are one 3x3 convolution afterwards.

    3x3 and normalization, plus 1x1 and normalization, plus the normalized input where
    strides are 1 and N = C; then the activation. `fuse()` gives the plain form: one 3x3
    convolution with a bias, then the activation; `fused_weights()` its kernel and bias
    as {"conv": (kernel, bias)}. Ding et al., "RepVGG: Making VGG-style ConvNets Great
    Again", 2021, arXiv:2101.03697, figures 2 and 4.

    With strides the image is padded by 1 on every side, so that the branches have the
    same centre for every size of the image.

    Parameters: 10 C N and 8 N of the normalizations, 4 N more with the third branch;
    fused: 9 C N + N.

    Args:
        filters: N, an integer >= 1.
        strides: an integer >= 1. Defaults to 1.
        activation: a name in `keras.activations`, a function, or None. Defaults to
            "relu".
        kwargs: `use_bias` (False), `norm_momentum` (0.99), `norm_epsilon` (0.001),
            `kernel_initializer`, `kernel_regularizer`, `data_format`; `name`, `dtype`
            and `trainable`, as for every layer.

    Input shape:
        (batch, height, width, C), or (batch, C, height, width) with
        `data_format="channels_first"`. Height and width may be None.

    Output shape:
        (batch, ceil(height / strides), ceil(width / strides), N).

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> layer = kf.blocks.RepConv(8)
        >>> x = keras.random.normal((2, 6, 6, 8), seed=1)
        >>> outputs, fused = layer(x), layer.fuse()
        >>> layer.count_params() == 10 * 8 * 8 + 3 * 4 * 8
        True
        >>> sum(one.count_params() for one in fused.layers) == 9 * 8 * 8 + 8
        True
        >>> bool(keras.ops.max(keras.ops.abs(fused(x) - outputs)) < 1e-5)
        True
    """

    def __init__(
        self,
        filters: int,
        *,
        strides: int = 1,
        activation: Any = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = arguments.integer("filters", filters, low=1)
        self.strides = arguments.integer("strides", strides, low=1)
        self.activation = _arguments.activation("activation", activation)

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan, steps = self.new_plan(), self.strides
        x, padding = plan.symmetric_pad(0, 3, self.strides)
        branches = [
            plan.conv_norm_act(
                "conv3x3", x, self.filters, 3, padding=padding, strides=steps
            ),
            plan.conv_norm_act("conv1x1", 0, self.filters, strides=steps),
        ]
        if self.strides == 1 and channels == self.filters:
            branches.append(plan.norm("identity_norm", 0))
        plan.act("act", plan.add("add", layers.Add, *branches), self.activation)
        return plan

    def fused_plan(self, channels: int) -> Plan:
        """The plain layers of the second form."""
        plan = self.new_plan()
        x, padding = plan.symmetric_pad(0, 3, self.strides)
        own = {"strides": self.strides, "padding": padding, "use_bias": True}
        x = plan.conv("conv", x, self.filters, 3, **own)
        plan.act("act", x, self.activation)
        return plan

    def folded(self) -> dict[str, Kernel]:
        """Kernel and bias of the second form."""
        inner = self.inner()
        branches = [
            folded(inner[f"{name}_conv"], inner[f"{name}_norm"])
            for name in ("conv3x3", "conv1x1")
        ]
        if "identity_norm" in inner:
            branches.append(folded_identity(inner["identity_norm"]))
        return {"conv": total(branches, 3)}


rep_conv = functional(RepConv, "keras.Input((8, 8, 16)), 24, strides=2")
