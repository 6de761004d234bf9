"""Rules of the layers with kernels: they use channels up and make new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_fitkit._core import kernels
from keras_fitkit.pruning.structural.elementwise_rules import activated
from keras_fitkit.pruning.structural.labels import Axes, Ids
from keras_fitkit.pruning.structural.walk import IN, OUT, THROUGH, Site, Walk


def dense(walk: Walk, site: Site) -> list[Axes]:
    """Input channels on the last axis, `units` new ones."""
    layer, axes = site.layer, site.inputs[0]
    if _unknown_weights(layer, [layer.kernel, layer.bias]):
        return walk.stop(site, "has weights that no rule knows")
    walk.bind(site, layer.kernel, 0, axes[-1], IN)
    made = walk.mint(layer, "units", layer.units)
    _made(walk, site, layer.kernel, 1, made, "units")
    return [activated(walk, site, (*axes[:-1], made), layer.activation)]


def einsum_dense(walk: Walk, site: Site) -> list[Axes]:
    """Letters of the equation: summed ones come in, the kernel's own go out."""
    layer, axes = site.layer, site.inputs[0]
    text = layer.equation.replace(" ", "")
    if _unknown_weights(layer, [layer.kernel, layer.bias]):
        return walk.stop(site, "has weights that no rule knows")
    operands, result = text.split("->")
    first, kernel = operands.split(",")
    if first.startswith("..."):
        free = len(axes) - len(first) + 3
        if not result.startswith("..."):
            return walk.stop(site, "its equation has no rule")
        outer, first, result = axes[:free], first[3:], result[3:]
    else:
        outer = ()
    if "." in first + kernel + result or len(set(first)) < len(first):
        return walk.stop(site, "its equation has no rule")
    by_letter = dict(zip(first, axes[len(outer) :], strict=True))
    for place, letter in enumerate(kernel):
        if letter in by_letter:
            role = THROUGH if letter in result else IN
            walk.bind(site, layer.kernel, place, by_letter[letter], role)
        elif letter in result:
            made = walk.mint(layer, letter, layer.kernel.shape[place])
            walk.bind(site, layer.kernel, place, made, OUT)
            by_letter[letter] = made
    summed = [by_letter[one] for one in first if one not in kernel + result]
    walk.freeze(site.path, summed, "is taken over the channels")
    found: Axes = (*outer, *(by_letter[letter] for letter in result))
    _einsum_sizes(walk, site, found)
    return [activated(walk, site, found, layer.activation)]


def _einsum_sizes(walk: Walk, site: Site, found: Axes) -> None:
    """The output shape in the configuration, and the bias."""
    layer = site.layer
    given = layer.partial_output_shape
    tail = found[len(found) - len(given) :]
    if any(
        ids is not None and one is not None
        for ids, one in zip(tail, given, strict=True)
    ):
        walk.edit(
            layer,
            "output_shape",
            value=lambda keep: tuple(
                one if ids is None or one is None else len(keep(ids))
                for ids, one in zip(tail, given, strict=True)
            ),
        )
    if layer.bias is not None:
        rank = len(layer.bias.shape)
        for place, ids in enumerate(found[len(found) - rank :]):
            if layer.bias.shape[place] > 1:
                walk.bind(site, layer.bias, place, ids, OUT)


def convolution(walk: Walk, site: Site) -> list[Axes]:
    """Input channels, `filters` new ones; with groups as many of each group."""
    layer, axes = site.layer, site.inputs[0]
    place = channel_axis(layer, len(axes))
    if _unknown_weights(layer, [layer.kernel, layer.bias]):
        return walk.stop(site, "has weights that no rule knows")
    made = walk.mint(layer, "filters", layer.filters)
    if layer.groups > 1:
        made = _grouped(walk, site, axes[place], made)
    else:
        walk.bind(site, layer.kernel, -2, axes[place], IN)
        _made(walk, site, layer.kernel, -1, made, "filters")
    return [_convolved(walk, site, axes, place, made)]


def _grouped(walk: Walk, site: Site, given: Ids | None, made: Ids) -> Ids:
    """Ties what must go together in a convolution with groups."""
    layer, groups = site.layer, site.layer.groups
    walk.ordered += [made] if given is None else [made, given]
    each = layer.kernel.shape[-2]
    if each == 1 and given is not None:  # as a depthwise one: groups go
        outputs = np.repeat(given, layer.filters // groups)
        walk.labels.tie(made, outputs)
        walk.bind(site, layer.kernel, -1, made, THROUGH)
        if layer.bias is not None:
            walk.bind(site, layer.bias, 0, made, THROUGH)
        walk.edit(layer, "filters", value=lambda keep: len(keep(made)))
        walk.edit(layer, "groups", value=lambda keep: len(keep(given)))
        return made
    if given is not None:
        for group in range(1, groups):  # the same channels of each group go
            walk.labels.tie(given[:each], given[group * each : (group + 1) * each])
        walk.bind(site, layer.kernel, -2, given[:each], IN)
    else:
        walk.bind(site, layer.kernel, -2, None, IN)
    rows = made.reshape(groups, -1)
    for row in rows[1:]:
        walk.labels.tie(rows[0], row)
    _made(walk, site, layer.kernel, -1, made, "filters")
    return made


def transposed(walk: Walk, site: Site) -> list[Axes]:
    """As a convolution; its kernel has the new channels before the old ones."""
    layer, axes = site.layer, site.inputs[0]
    place = channel_axis(layer, len(axes))
    if _unknown_weights(layer, [layer.kernel, layer.bias]):
        return walk.stop(site, "has weights that no rule knows")
    walk.bind(site, layer.kernel, -1, axes[place], IN)
    made = walk.mint(layer, "filters", layer.filters)
    _made(walk, site, layer.kernel, -2, made, "filters")
    return [_convolved(walk, site, axes, place, made)]


def depthwise(walk: Walk, site: Site) -> list[Axes]:
    """Each channel by itself, `depth_multiplier` times."""
    layer, axes = site.layer, site.inputs[0]
    place = channel_axis(layer, len(axes))
    given = axes[place]
    walk.bind(site, layer.kernel, -2, given, THROUGH)
    made = None if given is None else _repeated(walk, given, layer.depth_multiplier)
    if layer.bias is not None:
        walk.bind(site, layer.bias, 0, made, THROUGH)
    return [_convolved(walk, site, axes, place, made)]


def separable(walk: Walk, site: Site) -> list[Axes]:
    """A depthwise convolution and a 1x1 one."""
    layer, axes = site.layer, site.inputs[0]
    place = channel_axis(layer, len(axes))
    given = axes[place]
    walk.bind(site, layer.depthwise_kernel, -2, given, THROUGH)
    between = None if given is None else _repeated(walk, given, layer.depth_multiplier)
    walk.bind(site, layer.pointwise_kernel, -2, between, IN)
    made = walk.mint(layer, "filters", layer.filters)
    _made(walk, site, layer.pointwise_kernel, -1, made, "filters")
    return [_convolved(walk, site, axes, place, made)]


def _repeated(walk: Walk, given: Ids, times: int) -> Ids:
    if times > 1:
        walk.ordered.append(given)
    return np.repeat(given, times)


def embedding(walk: Walk, site: Site) -> list[Axes]:
    """Makes channels; what goes in has none."""
    layer, axes = site.layer, site.inputs[0]
    if _unknown_weights(layer, [layer.embeddings]):
        return walk.stop(site, "has weights that no rule knows")
    walk.freeze(site.path, axes, "are looked up")
    made = walk.mint(layer, "output_dim", layer.output_dim)
    walk.bind(site, layer.embeddings, 1, made, OUT)
    walk.edit(layer, "output_dim", value=lambda keep: len(keep(made)))
    return [(*(None for _ in axes), made)]


def channel_axis(layer: Any, rank: int) -> int:
    """Where the channels are."""
    return 1 if layer.data_format == "channels_first" else rank - 1


def _made(walk: Walk, site: Site, kernel: Any, axis: int, made: Ids, key: str) -> None:
    """New channels in a kernel, in the bias and in the configuration."""
    layer = site.layer
    walk.bind(site, kernel, axis, made, OUT)
    if layer.bias is not None:
        walk.bind(site, layer.bias, 0, made, OUT)
    walk.edit(layer, key, value=lambda keep: len(keep(made)))


def _convolved(
    walk: Walk, site: Site, axes: Axes, place: int, made: Ids | None
) -> Axes:
    """The labels behind a convolution: positions in the image have none."""
    others = [ids for number, ids in enumerate(axes) if number != place]
    walk.freeze(site.path, others, "are positions of a convolution")
    found = tuple(made if number == place else None for number in range(len(axes)))
    # A softmax is along the last axis, which is a position.
    return activated(walk, site, found, site.layer.activation)


def _unknown_weights(layer: Any, known: Sequence[Any]) -> bool:
    """Whether a layer has more weights than its rule knows (LoRA, int8 scales)."""
    if getattr(layer, "quantization_mode", None) is not None:
        return True
    ids = {id(one) for one in known if one is not None}
    return any(id(one) not in ids for one in layer.weights)


def is_transposed(layer: Any) -> bool:
    """Whether the kernel has the new channels before the old ones."""
    return kernels.is_one_of(layer, kernels.TRANSPOSED)


RULES: dict[type, Any] = {
    layers.Dense: dense,
    layers.EinsumDense: einsum_dense,
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), convolution),
    **dict.fromkeys(
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
        transposed,
    ),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), depthwise),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), separable),
    layers.Embedding: embedding,
}
