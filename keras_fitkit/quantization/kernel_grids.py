"""The grids of the kernels of one wrapped layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_fitkit._core import arrays
from keras_fitkit.quantization import fake_quant, rules
from keras_fitkit.quantization.config import FLOATS, QuantizeConfig

CODEBOOK = 256  # most values of a kernel that is called clustered


class KernelGrids:
    """Rounds the kernels of a layer; holds the steps that are trained, if they are.

    A wrapper has it as `grids`, from when it is built.

    Args:
        config: widths and kind of the grids.
        kernels: of the layer, built.
        add_weight: that of the layer that is to own the steps.
    """

    def __init__(
        self,
        config: QuantizeConfig,
        kernels: Sequence[rules.Kernel],
        add_weight: Callable[..., Any],
    ) -> None:
        self.config, self.kernels = config, kernels
        self._steps: list[tuple[Any, Any]] = []
        if config.learned_weights:
            self._steps = [
                self._learned(index, kernel, add_weight)
                for index, kernel in enumerate(kernels)
            ]
            self.begin()

    def _learned(
        self, index: int, kernel: rules.Kernel, add_weight: Callable[..., Any]
    ) -> tuple[Any, Any]:
        """The step that LSQ begins with, and what it adds to it, relative to the first.

        So that an optimizer whose steps know no scale (Adam) trains steps of any size
        at the same pace, and weight decay draws to the first step instead of to zero.
        """
        axes = self._axes(kernel)
        shape = [
            1 if axes is None or axis in axes else size
            for axis, size in enumerate(kernel.variable.shape)
        ]
        how = {"shape": shape, "dtype": "float32", "autocast": False}
        name = f"{kernel.variable.name}_{index}"
        first = add_weight(
            name=f"{name}_step",
            initializer="ones",
            trainable=False,
            aggregation="only_first_replica",
            **how,
        )
        return first, add_weight(name=f"{name}_change", initializer="zeros", **how)

    def begin(self) -> None:
        """Starts learned steps from the weights as they are now."""
        bits: Any = self.config.weight_bits
        for kernel, (first, change) in zip(self.kernels, self._steps, strict=False):
            weight = ops.cast(ops.convert_to_tensor(kernel.variable), "float32")
            first.assign(fake_quant.first_step(weight, self._axes(kernel), bits))
            change.assign(np.zeros(change.shape))

    @property
    def trained(self) -> bool:
        """Whether a learned step is no longer the first one."""
        return any(arrays.to_numpy(change).any() for _, change in self._steps)

    @property
    def learned(self) -> bool:
        """Whether it holds steps that are trained."""
        return bool(self._steps)

    @property
    def fitted(self) -> bool:
        """Whether learned steps were trained, or fit the weights as they are now.

        They do not where they round no better than the steps that LSQ begins with: they
        are these, or those of other weights.
        """
        if not self._steps or self.trained:
            return True
        bits: Any = self.config.weight_bits
        for index, kernel in enumerate(self.kernels):
            weight = ops.cast(ops.convert_to_tensor(kernel.variable), "float32")
            begun = fake_quant.first_step(weight, self._axes(kernel), bits)
            found, first = (
                _squared_error(weight, step, bits)
                for step in (self.scale(index), begun)
            )
            if found > 0.9 * first:
                return False
        return True

    def put_step(self, index: int, step: Any) -> None:
        """Gives a kernel another learned step, of the shape of `scale`."""
        first, change = self._steps[index]
        first.assign(step)
        change.assign(np.zeros(change.shape))

    def on_grid(self, index: int, weight: Any) -> Any:
        """A value of a kernel on its grid."""
        bits: Any = self.config.weight_bits
        if bits in FLOATS:
            found = ops.cast(ops.cast(weight, bits), weight.dtype)
            return weight + ops.stop_gradient(found - weight)
        weight = ops.cast(weight, "float32")
        if self._steps:
            return fake_quant.learned_weights(weight, self._step(index), bits)
        axes = self._axes(self.kernels[index])
        return fake_quant.fake_quant_weights(weight, axes, bits)

    def scale(self, index: int) -> Any:
        """The scales of a kernel, of a shape that broadcasts to it."""
        if self._steps:
            return self._step(index)
        kernel = self.kernels[index]
        weight = ops.cast(ops.convert_to_tensor(kernel.variable), "float32")
        bits: Any = self.config.weight_bits
        return fake_quant.weight_scale(weight, self._axes(kernel), bits)

    def info(self) -> dict[str, dict[str, Any]]:
        """How each kernel is stored, by the path of its variable."""
        bits = self.config.weight_bits
        found = {}
        for index, kernel in enumerate(self.kernels):
            info: dict[str, Any] = dict.fromkeys(
                ("bits", "scale", "zero_point", "axis", "codebook")
            )
            values = np.unique(arrays.to_numpy(kernel.variable))
            size = int(np.prod(kernel.variable.shape))
            if values.size <= min(CODEBOOK, size // 2):
                info["codebook"] = values
            if bits is None:
                info["bits"] = 32
            else:
                info["bits"] = 16 if bits in FLOATS else bits
            if isinstance(bits, int):
                scale = arrays.to_numpy(self.scale(index))
                axes = self._axes(kernel)
                info["scale"], info["zero_point"] = scale, 0
                info["axis"] = tuple(
                    axis for axis in range(scale.ndim) if axes and axis not in axes
                )
            found[kernel.variable.path] = info
        return found

    def _axes(self, kernel: rules.Kernel) -> tuple[int, ...] | None:
        return kernel.axes if self.config.per_channel else None

    def _step(self, index: int) -> Any:
        """The learned step. Under SGD it moves as LSQ says: by g dL/dstep.

        Of step = first (1 + change) that takes a gradient for `change` of g / first^2
        times its own.
        """
        first, change = (ops.convert_to_tensor(one) for one in self._steps[index])
        shape = self.kernels[index].variable.shape
        share = int(np.prod(shape)) / max(1, int(np.prod(first.shape)))
        bits: Any = self.config.weight_bits
        scale = (share * fake_quant.levels(bits)) ** -0.5 / ops.square(first)
        change = fake_quant.scaled_gradient(change, scale)
        return ops.maximum(ops.abs(first * (1.0 + change)), fake_quant.TINY)


def _squared_error(weight: Any, step: Any, bits: int) -> float:
    """What rounding to the nearest value moves, summed up."""
    apart = fake_quant.codes(weight, step, bits) * step - weight
    return float(np.square(arrays.to_numpy(apart)).sum())
