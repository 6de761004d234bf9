"""MobileOne: a separable block with branches in training."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._conv_plan import ConvPlan
from keras_fitkit.blocks._fold import Kernel, folded, folded_identity, total
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Plan
from keras_fitkit.blocks.reparameterized import ReparameterizedBlock


@serializable
class MobileOne(ReparameterizedBlock):
    """A depthwise and a 1x1 convolution, each the sum of branches in training.

    First step: b times depthwise k x k and normalization, plus depthwise 1x1 and
    normalization, plus, with strides 1, the normalized input; activation. Second step:
    b times 1x1 and normalization, plus, with N = C, its normalized input; activation.
    `fuse()` gives the plain form: depthwise k x k, activation, 1x1, activation, both
    with a bias; `fused_weights()` {"depthwise": (kernel, bias), "pointwise": (kernel,
    bias)}. Vasu et al., "MobileOne: An Improved One millisecond Mobile Backbone", 2022,
    arXiv:2206.04040, figure 3.

    With strides the image is padded by k // 2 on every side, so that the branches have
    the same centre for every size of the image.

    Parameters, each normalized channel with 4 more: b k^2 C + C + b C N; fused:
    k^2 C + C + C N + N.

    Args:
        filters: N, an integer >= 1.
        kernel_size: k, an odd integer >= 3; above 5 a warning. Defaults to 3.
        strides: of the first step, an integer >= 1. Defaults to 1.
        branches: b, an integer >= 1. Defaults to 4.
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
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.blocks.MobileOne(16, strides=2, branches=2)
        >>> layer(keras.Input((9, 9, 8))).shape
        (None, 5, 5, 16)
        >>> weights = 2 * 3**2 * 8 + 8 + 2 * 8 * 16
        >>> layer.count_params() == weights + 4 * (2 * 8 + 8 + 2 * 16)
        True
        >>> fused = layer.fuse().layers
        >>> sum(one.count_params() for one in fused) == 3**2 * 8 + 8 + 8 * 16 + 16
        True
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int = 3,
        strides: int = 1,
        branches: int = 4,
        activation: Any = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = arguments.integer("filters", filters, low=1)
        self.kernel_size = _arguments.depthwise_size("kernel_size", kernel_size)
        if self.kernel_size < 3 or self.kernel_size % 2 == 0:
            allowed = "an odd integer >= 3"
            raise ValueError(arguments.message("kernel_size", allowed, kernel_size))
        self.strides = arguments.integer("strides", strides, low=1)
        self.branches = arguments.integer("branches", branches, low=1)
        self.activation = _arguments.activation("activation", activation)

    def plan(self, channels: int) -> Plan:
        """The plain layers for an input of so many channels."""
        plan = self.new_plan()
        x = self._depthwise_branches(plan)
        x = plan.act("depthwise_act", x, self.activation)
        x = self._pointwise_branches(plan, x, channels)
        plan.act("pointwise_act", x, self.activation)
        return plan

    def _depthwise_branches(self, plan: ConvPlan) -> int:
        steps, size = self.strides, self.kernel_size
        x, padding = plan.symmetric_pad(0, size, steps)
        branches = [
            plan.depthwise_norm_act(
                f"depthwise{number}", x, size, padding=padding, strides=steps
            )
            for number in range(self.branches)
        ]
        branches.append(plan.depthwise_norm_act("depthwise1x1", 0, 1, strides=steps))
        if self.strides == 1:
            branches.append(plan.norm("depthwise_identity_norm", 0))
        return plan.add("depthwise_add", layers.Add, *branches)

    def _pointwise_branches(self, plan: ConvPlan, x: int, channels: int) -> int:
        branches = [
            plan.conv_norm_act(f"pointwise{number}", x, self.filters)
            for number in range(self.branches)
        ]
        if channels == self.filters:
            branches.append(plan.norm("pointwise_identity_norm", x))
        if len(branches) == 1:
            return branches[0]
        return plan.add("pointwise_add", layers.Add, *branches)

    def fused_plan(self, channels: int) -> Plan:
        """The plain layers of the second form."""
        plan = self.new_plan()
        x, padding = plan.symmetric_pad(0, self.kernel_size, self.strides)
        own = {"strides": self.strides, "padding": padding, "use_bias": True}
        x = plan.depthwise("depthwise", x, self.kernel_size, **own)
        x = plan.act("depthwise_act", x, self.activation)
        x = plan.conv("pointwise", x, self.filters, use_bias=True)
        plan.act("pointwise_act", x, self.activation)
        return plan

    def folded(self) -> dict[str, Kernel]:
        """Kernels and biases of the second form."""
        return {
            "depthwise": self._folded("depthwise", self.kernel_size, depthwise=True),
            "pointwise": self._folded("pointwise", 1, depthwise=False),
        }

    def _folded(self, step: str, size: int, depthwise: bool) -> Kernel:
        inner = self.inner()
        names = [f"{step}{number}" for number in range(self.branches)]
        if depthwise:
            names.append(f"{step}1x1")
        branches = [
            folded(inner[f"{name}_conv"], inner[f"{name}_norm"], depthwise)
            for name in names
        ]
        identity = f"{step}_identity_norm"
        if identity in inner:
            branches.append(folded_identity(inner[identity], depthwise))
        return total(branches, size)


mobile_one = functional(MobileOne, "keras.Input((8, 8, 16)), 24, strides=2")
