"""What layers with weights make of constants: the rules of `constants.Constants`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from keras_fitkit._core import arrays
from keras_fitkit.pruning.structural import elementwise_rules, kernel_rules

Values: TypeAlias = npt.NDArray[np.float64]
# Along the one labelled axis of a tensor; None for a tensor that has none, or several.
Known: TypeAlias = "Values | None"
Weights: TypeAlias = Callable[[Any], npt.NDArray[Any]]


def batch_norm(weights: Weights, layer: Any, given: Known) -> Known:
    """Each channel by itself; a factor of zero makes it constant."""
    mean, variance = weights(layer.moving_mean), weights(layer.moving_variance)
    factor = 1 / np.sqrt(variance.astype(np.float64) + layer.epsilon)
    if layer.gamma is not None:
        factor = factor * weights(layer.gamma)
    shift = 0.0 if layer.beta is None else weights(layer.beta).astype(np.float64)
    known = np.full(len(mean), np.nan) if given is None else given
    return np.where(factor == 0, shift, (known - mean) * factor + shift)


def _activate(layer: Any, values: Values) -> Values:
    function = layer.activation
    if getattr(function, "__name__", "linear") == "linear":
        return values
    if not elementwise_rules.is_elementwise(function):
        return np.full(len(values), np.nan)
    found = function(keras.ops.convert_to_tensor(values.astype("float32")))
    return np.asarray(arrays.to_numpy(found), np.float64)


def _contracted(kernel: Any, given: Known, bias: Any, edges: bool) -> Values:
    """Sums over constants.

    Args:
        kernel: shape (places, inputs, outputs).
        given: of the inputs.
        bias: of the outputs, or None.
        edges: whether some places may meet padding in place of the input.
    """
    used = (kernel != 0).any(0)  # (inputs, outputs)
    known = np.full(kernel.shape[1], np.nan) if given is None else given
    usable = (known == 0) if edges else ~np.isnan(known)
    constant = ~(used & ~usable[:, None]).any(0)
    total = np.nan_to_num(known) @ kernel.sum(0, dtype=np.float64)
    total = total if bias is None else total + bias
    return np.where(constant, total, np.nan)


def _bias(weights: Weights, layer: Any) -> Any:
    return None if layer.bias is None else weights(layer.bias).astype(np.float64)


def _dense(weights: Weights, layer: Any, given: Known) -> Known:
    kernel = weights(layer.kernel)[None]
    return _activate(layer, _contracted(kernel, given, _bias(weights, layer), False))


def _convolution(weights: Weights, layer: Any, given: Known) -> Known:
    kernel, bias = weights(layer.kernel), _bias(weights, layer)
    flat = kernel.reshape(-1, *kernel.shape[-2:])
    if layer.groups > 1:
        flat = _of_groups(flat, layer.groups)
    return _activate(layer, _contracted(flat, given, bias, layer.padding != "valid"))


def _of_groups(flat: Any, groups: int) -> Any:
    """The kernel of the convolution without groups that computes the same."""
    places, each, outputs = flat.shape
    full = np.zeros((places, each * groups, outputs), flat.dtype)
    per = outputs // groups
    for group in range(groups):
        rows = slice(group * each, (group + 1) * each)
        columns = slice(group * per, (group + 1) * per)
        full[:, rows, columns] = flat[:, :, columns]
    return full


def _transposed(weights: Weights, layer: Any, given: Known) -> Known:
    kernel = np.swapaxes(weights(layer.kernel), -1, -2)
    flat = kernel.reshape(-1, *kernel.shape[-2:])
    return _activate(layer, _contracted(flat, given, _bias(weights, layer), True))


def _depthwise(weights: Weights, layer: Any, given: Known) -> Known:
    total = _by_channel(weights(layer.kernel), layer, given, _bias(weights, layer))
    return _activate(layer, total)


def _by_channel(kernel: Any, layer: Any, given: Known, bias: Any) -> Values:
    """A depthwise convolution's sums over constants."""
    sums = kernel.reshape(-1, *kernel.shape[-2:])
    used = (sums != 0).any(0).reshape(-1)
    known = np.full(kernel.shape[-2], np.nan) if given is None else given
    spread = np.repeat(known, layer.depth_multiplier)
    usable = (spread == 0) if layer.padding != "valid" else ~np.isnan(spread)
    total = np.nan_to_num(spread) * sums.sum(0, dtype=np.float64).reshape(-1)
    total = total if bias is None else total + bias
    return np.where(~used | usable, total, np.nan)


def _separable(weights: Weights, layer: Any, given: Known) -> Known:
    between = _by_channel(weights(layer.depthwise_kernel), layer, given, None)
    point = weights(layer.pointwise_kernel)
    flat = point.reshape(-1, *point.shape[-2:])
    return _activate(layer, _contracted(flat, between, _bias(weights, layer), False))


def _embedding(weights: Weights, layer: Any, given: Known) -> Known:
    table = weights(layer.embeddings).astype(np.float64)
    return np.where((table == table[:1]).all(0), table[0], np.nan)


_KERNELS: dict[Any, Any] = {
    kernel_rules.dense: _dense,
    kernel_rules.convolution: _convolution,
    kernel_rules.transposed: _transposed,
    kernel_rules.depthwise: _depthwise,
    kernel_rules.separable: _separable,
    kernel_rules.embedding: _embedding,
}


def rule_of(layer: Any) -> Any:
    """`(weights, layer, constants) -> constants` of a layer with a kernel, or None."""
    family = kernel_rules.RULES.get(type(layer))
    if family is None and type(layer).__name__ == "GroupedConv2D":
        family = kernel_rules.convolution
    return _KERNELS.get(family)
