"""What RepConv and MobileOne share: branches in training, one convolution after it."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_fitkit.blocks._fold import Kernel
from keras_fitkit.blocks._plan import Plan, Wiring
from keras_fitkit.blocks.block import ConvBlock


class ReparameterizedBlock(ConvBlock):
    """A block with a second form that computes the same at inference."""

    def folded(self) -> dict[str, Kernel]:
        """Kernel and bias of each convolution of the second form, in float64."""
        raise NotImplementedError

    def fused_plan(self, channels: int) -> Plan:
        """The plain layers of the second form."""
        raise NotImplementedError

    def fused_weights(self) -> dict[str, Kernel]:
        """What the branches amount to at inference.

        Returns:
            For each convolution of the fused form its name, and its kernel and bias as
            NumPy arrays in the dtype of the variables.

        Raises:
            ValueError: the layer is not built: it has no weights yet.
        """
        self._wired()
        dtype = np.dtype(self.variable_dtype)
        return {
            name: (kernel.astype(dtype), bias.astype(dtype))
            for name, (kernel, bias) in self.folded().items()
        }

    def fuse(self) -> Wiring:
        """The same function at inference, one convolution in place of the branches.

        Returns:
            A callable like that of `expand()`: plain layers with the fused weights. It
            gives what this layer gives at inference; it is not meant to be trained on.

        Raises:
            ValueError: the layer is not built: it has no weights yet.
        """
        weights = self.fused_weights()
        shape = self.get_build_config()["input_shape"]
        common = {"dtype": self.dtype_policy, "trainable": self.trainable}
        plan = self.fused_plan(shape[self.channel_axis])
        wiring = plan.make(f"{self.name}_", common)
        wiring.build(tuple(shape))
        for layer in wiring.layers:
            name = layer.name.removeprefix(f"{self.name}_")
            if name in weights:
                layer.set_weights(weights[name])
        return wiring

    def inner(self) -> dict[str, Any]:
        """The plain layers by name."""
        return {layer.name: layer for layer in self._wired().layers}
