"""Rules of norms, of pooling, and of layers that scale, order or choose channels."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_fitkit.pruning.structural.kernel_rules import channel_axis
from keras_fitkit.pruning.structural.labels import Axes
from keras_fitkit.pruning.structural.walk import THROUGH, Site, Walk


def batch_norm(walk: Walk, site: Site) -> list[Axes]:
    """Each channel by itself."""
    layer, axes = site.layer, site.inputs[0]
    for variable in layer.weights:
        walk.bind(site, variable, 0, axes[layer.axis % len(axes)], THROUGH)
    return [axes]


def normalizing(walk: Walk, site: Site) -> list[Axes]:
    """LayerNormalization and RMSNormalization: their statistics are over channels."""
    layer, axes = site.layer, site.inputs[0]
    given = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    places = sorted(one % len(axes) for one in given)
    for variable in layer.weights:
        for number, place in enumerate(places):
            walk.bind(site, variable, number, axes[place], THROUGH)
    return [_inexact(walk, site, axes, places)]


def group_norm(walk: Walk, site: Site) -> list[Axes]:
    """Statistics of groups of channels; of one channel in each it is exact."""
    layer, axes = site.layer, site.inputs[0]
    place = layer.axis % len(axes)
    ids = axes[place]
    for variable in layer.weights:
        walk.bind(site, variable, 0, ids, THROUGH)
    others = [one for number, one in enumerate(axes) if number != place]
    walk.freeze(site.path, others, "its statistics are over these positions")
    if ids is None:
        return [axes]
    if layer.groups in (-1, len(ids)):
        walk.edit(layer, "groups", value=lambda keep: len(keep(ids)))
        return [axes]
    walk.ordered.append(ids)
    rows = ids.reshape(layer.groups, -1)
    for row in rows[1:]:  # groups stay equally large
        walk.labels.tie(rows[0], row)
    return [_inexact(walk, site, axes, [place])]


def _inexact(walk: Walk, site: Site, axes: Axes, places: list[int]) -> Axes:
    """Statistics that change when channels go: frozen, unless that is allowed."""
    labelled = [place for place in places if axes[place] is not None]
    if not labelled:
        return axes
    if walk.allow_inexact:
        if site.path not in walk.inexact:
            walk.inexact.append(site.path)
        return axes
    reason = "its statistics are over the channels (`allow_inexact=True` opens it)"
    walk.freeze(site.path, [axes[place] for place in labelled], reason)
    return axes


def prelu(walk: Walk, site: Site) -> list[Axes]:
    """A slope for each element, shared along some axes."""
    layer, axes = site.layer, site.inputs[0]
    for place, size in enumerate(layer.alpha.shape):
        if size > 1 or site.shape()[place + 1] == 1:
            walk.bind(site, layer.alpha, place, axes[place + 1], THROUGH)
    return [axes]


def layer_scale(walk: Walk, site: Site) -> list[Axes]:
    """ConvNeXt's factor for each channel."""
    layer, axes = site.layer, site.inputs[0]
    ids = axes[-1]
    for variable in layer.weights:
        walk.bind(site, variable, 0, ids, THROUGH)
    if ids is not None:
        walk.edit(layer, "projection_dim", value=lambda keep: len(keep(ids)))
    return [axes]


def scaled_sum(walk: Walk, site: Site) -> list[Axes]:
    """Inception-ResNet's sum of two tensors, one of them with a factor."""
    return [walk.merge(site.path, site.inputs)]


def spatial(walk: Walk, site: Site) -> list[Axes]:
    """Pooling, padding, cropping, upsampling: channels pass, positions have none."""
    axes = site.inputs[0]
    place = _channels(site.layer, len(axes))
    others = [ids for number, ids in enumerate(axes) if number != place]
    walk.freeze(site.path, others, "are positions")
    return [tuple(axes[n] if n == place else None for n in range(len(axes)))]


def global_pooling(walk: Walk, site: Site) -> list[Axes]:
    """What is left are the channels."""
    (passed,) = spatial(walk, site)
    place = _channels(site.layer, len(passed))
    if site.layer.keepdims:
        return [passed]
    return [(None, passed[place])]


def _channels(layer: Any, rank: int) -> int:
    return channel_axis(layer, rank) if hasattr(layer, "data_format") else rank - 1


def repeat_vector(walk: Walk, site: Site) -> list[Axes]:
    """A row for each repetition."""
    return [(None, None, site.inputs[0][-1])]


def shuffle(walk: Walk, site: Site) -> list[Axes]:
    """This package's ChannelShuffle: groups stay equally large."""
    layer, axes = site.layer, site.inputs[0]
    place = channel_axis(layer, len(axes))
    ids = axes[place]
    if ids is None:
        return [axes]
    walk.ordered.append(ids)
    rows = ids.reshape(layer.groups, -1)
    for row in rows[1:]:
        walk.labels.tie(rows[0], row)
    return [(*axes[:place], rows.T.reshape(-1), *axes[place + 1 :])]


def channel_slice(walk: Walk, site: Site) -> list[Axes]:
    """This package's ChannelSlice: it begins and ends after what stays before."""
    layer, axes = site.layer, site.inputs[0]
    place = channel_axis(layer, len(axes))
    ids = axes[place]
    if ids is None:
        return [axes]
    before, chosen = ids[: layer.start], ids[layer.start : layer.stop]
    walk.edit(layer, "start", value=lambda keep: len(keep(before)))
    walk.edit(layer, "stop", value=lambda keep: len(keep(ids[: layer.stop])))
    return [(*axes[:place], chosen, *axes[place + 1 :])]


SPATIAL = tuple(
    getattr(layers, f"{kind}{rank}D")
    for kind in (
        "MaxPooling",
        "AveragePooling",
        "ZeroPadding",
        "Cropping",
        "UpSampling",
    )
    for rank in (1, 2, 3)
)
GLOBAL = tuple(
    getattr(layers, f"Global{kind}Pooling{rank}D")
    for kind in ("Max", "Average")
    for rank in (1, 2, 3)
)
RULES: dict[type, Any] = {
    layers.BatchNormalization: batch_norm,
    layers.LayerNormalization: normalizing,
    layers.RMSNormalization: normalizing,
    layers.GroupNormalization: group_norm,
    layers.PReLU: prelu,
    layers.RepeatVector: repeat_vector,
    **dict.fromkeys(SPATIAL, spatial),
    **dict.fromkeys(GLOBAL, global_pooling),
}
