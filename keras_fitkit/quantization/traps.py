"""What makes an int8 file slow although it has few operations."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from keras_fitkit._core import graph, kernels
from keras_fitkit.quantization import activations

WIDEST = 5  # of a depthwise kernel
MOST_GROUPS = 4
_GROUPED = ("Conv1D", "Conv2D", "Conv3D")
_HARD = ("hard_silu", "hard_swish")


def warn_if_slow(model: Any) -> None:
    """Warns once of what is slow in LiteRT's int8 kernels, with the layers.

    The factors are measured: issue 8, `benchmarks/blocks.py`.
    """
    calls = graph.flat(model).nodes
    wide = [one.path for one in calls if _is_wide(one.operation)]
    gated = [one.path for one in calls if _gates(one)]
    hard = [one.path for one in calls if _is_hard(one.operation)]
    many = [one.path for one in calls if _has_many_groups(one.operation)]
    said = []
    if wide:
        said.append(
            f"depthwise kernels above {WIDEST} x {WIDEST} ({_listed(wide)}) can take "
            "10 times as long as a 3 x 3 convolution; use 3 or 5"
        )
    if gated and hard:
        said.append(
            f"squeeze-and-excite ({_listed(gated)}) with hard-swish "
            f"({_listed(hard)}) can take 10 times as long as ReLU without; that form "
            "is `kf.blocks.InvertedResidual(variant='minimalistic')`"
        )
    if many:
        said.append(
            f"more than {MOST_GROUPS} groups ({_listed(many)}) take longer than their "
            "multiplications tell; use fewer, or a depthwise convolution"
        )
    if said:
        warnings.warn(
            f"{model.name} may be slow in int8 on x86: {'; '.join(said)}. Measure it "
            "on the device that it is for.",
            stacklevel=3,
        )


def _is_wide(layer: Any) -> bool:
    depthwise = kernels.is_one_of(layer, kernels.DEPTHWISE)
    if kernels.is_one_of(layer, _GROUPED):  # one input channel a group is that too
        depthwise = layer.groups > 1 and layer.kernel.shape[-2] == 1
    if not depthwise:
        return False
    return bool(max(layer.kernel_size) > WIDEST)


def _has_many_groups(layer: Any) -> bool:
    if not kernels.is_one_of(layer, _GROUPED):
        return False
    return bool(layer.groups > MOST_GROUPS and layer.kernel.shape[-2] > 1)


def _gates(call: graph.Call) -> bool:
    """Whether a whole channel is multiplied by one number, as in squeeze-and-excite."""
    if type(call.operation).__name__ != "Multiply" or len(call.inputs) != 2:
        return False
    places = [tuple(one.shape[1:-1]) for one in call.inputs]
    return any(
        mine and set(mine) == {1} and set(other) != {1}
        for mine, other in (places, places[::-1])
    )


def _is_hard(operation: Any) -> bool:
    shown = activations.of_layer(operation)
    if shown is None:
        shown = activations.name_of(getattr(operation, "activation", None))
    return shown in _HARD


def _listed(paths: Iterable[str]) -> str:
    found = list(dict.fromkeys(paths))
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more
