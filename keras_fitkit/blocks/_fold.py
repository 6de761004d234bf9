"""The arithmetic of re-parameterization: branches that are one convolution.

Everything is NumPy in float64: what is added up are the results of several roundings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from keras_fitkit._core import arrays

Kernel: TypeAlias = "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]"


def values(variable: Any) -> np.ndarray[Any, Any]:
    """A variable as float64."""
    return np.asarray(arrays.to_numpy(variable), dtype="float64")


def scale_and_shift(norm: Any) -> Kernel:
    """A BatchNormalization at inference as a factor and a summand for each channel."""
    scale = 1 / np.sqrt(values(norm.moving_variance) + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * values(norm.gamma)
    shift = -values(norm.moving_mean) * scale
    return scale, shift if norm.beta is None else shift + values(norm.beta)


def folded(conv: Any, norm: Any, depthwise: bool = False) -> Kernel:
    """A convolution and the normalization after it as one kernel and bias."""
    scale, shift = scale_and_shift(norm)
    kernel = values(conv.kernel)
    bias = shift if conv.bias is None else shift + values(conv.bias) * scale
    # A depthwise kernel is (height, width, channels, 1), a full one ends in the output.
    return kernel * (scale[:, None] if depthwise else scale), bias


def folded_identity(norm: Any, depthwise: bool = False) -> Kernel:
    """A normalization of the input as a 1x1 convolution."""
    scale, shift = scale_and_shift(norm)
    kernel = scale[:, None] if depthwise else np.diag(scale)
    return kernel[None, None], shift


def total(branches: Iterable[Kernel], size: int) -> Kernel:
    """The sum of branches; smaller kernels are put into the middle of a larger one."""
    kernels, biases = zip(*branches, strict=True)
    return np.sum([_padded(one, size) for one in kernels], axis=0), np.sum(biases, 0)


def _padded(kernel: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    margin = (size - kernel.shape[0]) // 2
    return np.pad(kernel, ((margin, margin), (margin, margin), (0, 0), (0, 0)))
