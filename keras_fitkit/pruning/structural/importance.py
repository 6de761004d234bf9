"""How important each channel is, by group."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from keras_fitkit._core import arguments, arrays, graph, rows
from keras_fitkit.pruning import gradients
from keras_fitkit.pruning.structural.channel_graph import (
    IN,
    OUT,
    ChannelGraph,
    Group,
    Place,
    reduced,
)

Scores: TypeAlias = npt.NDArray[np.float64]
NAMES = (*("l1", "l2", "batch_norm", "taylor", "variance", "apoz", "fpgm", "random"),)
NEED_LABELS = ("taylor",)
NEED_DATA = ("taylor", "variance", "apoz")
BATCH = 128
TAYLOR_BATCH = 16


@dataclasses.dataclass(frozen=True)
class ChannelContext:
    """What a function of your own learns of the channels that it scores.

    Attributes:
        name: path of the layer that makes them.
        made: for each kernel and bias where they are made, by path: its values with the
            channels first, shape (channels, ...).
        used: for each kernel where they are used, by path, likewise.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import numpy as np
        >>> from keras_fitkit.pruning import ChannelContext
        >>> context = ChannelContext("conv", {"conv/kernel": np.ones((4, 27))}, {})
        >>> [float(abs(one).max()) for one in context.made["conv/kernel"]]
        [1.0, 1.0, 1.0, 1.0]
    """

    name: str
    made: dict[str, npt.NDArray[Any]]
    used: dict[str, npt.NDArray[Any]]


def resolve(scores: Any, data: Any) -> Any:
    """A known name or a function; data where it is needed.

    Raises:
        TypeError, ValueError: anything else.
    """
    if callable(scores):
        return scores
    arguments.choice("scores", scores, NAMES)
    if scores in NEED_DATA and data is None:
        labels = scores in NEED_LABELS
        allowed = f"given for scores={scores!r}"
        hint = "Pass (x, y)." if labels else "Pass some rows: x, or (x, y)."
        raise ValueError(arguments.message("data", allowed, None, hint))
    return scores


def scores_of(
    found: ChannelGraph, groups: Sequence[Group], scores: Any, data: Any, model: Any
) -> list[Scores]:
    """The scores of the units of each group; large ones stay.

    Args:
        found: the graph.
        groups: of it.
        scores: checked by `resolve`.
        data: rows, or None.
        model: as the user gave it, with its loss.
    """
    if callable(scores):
        return [_own(scores, group) for group in groups]
    if scores in ("l1", "l2"):
        power = 1 if scores == "l1" else 2
        return [_norm(group, power) for group in groups]
    if scores == "batch_norm":
        return [_batch_norm(group) for group in groups]
    if scores == "fpgm":
        return [_fpgm(group) for group in groups]
    if scores == "random":
        rng = np.random.default_rng(0)
        return [rng.uniform(1, 2, group.size) for group in groups]
    if scores == "taylor":
        return _taylor(found, groups, data, model)
    return _activations(found, groups, data, scores)


def _kernels(group: Group) -> list[Place]:
    return [one for one in group.places if len(one.binding.variable.shape) > 1]


def _norm(group: Group, power: int) -> Scores:
    """The sum of |w| or w^2 over all kernels that the channel stands in."""
    total = np.zeros(group.size)
    for place in _kernels(group):
        values = np.abs(arrays.to_numpy(place.binding.variable)) ** power
        total += reduced(values, place, group.size)
    return total


def _batch_norm(group: Group) -> Scores:
    """|gamma| (Liu et al. 2017); where there is none the L2 norm."""
    total, count = np.zeros(group.size), 0
    for place in group.places:
        variable = place.binding.variable
        if variable.name == "gamma" and len(variable.shape) == 1:
            total += reduced(np.abs(arrays.to_numpy(variable)), place, group.size)
            count += 1
    return total if count else _norm(group, 2)


def _rows(place: Place, size: int) -> npt.NDArray[np.float64]:
    """The values of a variable with its units first, flat."""
    values = np.moveaxis(
        arrays.to_numpy(place.binding.variable).astype(np.float64), place.axis, 0
    )
    flat = values.reshape(len(values), -1)
    parts = [flat[place.units == unit].reshape(-1) for unit in range(size)]
    return np.stack(parts)


def _fpgm(group: Group) -> Scores:
    """The sum of distances to the other filters (He et al. 2019, equation 4)."""
    made = [one for one in _kernels(group) if one.role == OUT] or _kernels(group)
    total = np.zeros(group.size)
    for place in made:
        found = _rows(place, group.size)
        squares = (found**2).sum(1)
        gram = squares[:, None] + squares[None] - 2 * found @ found.T
        total += np.sqrt(gram.clip(min=0)).sum(1)
    return total


def _own(function: Callable[[ChannelContext], Any], group: Group) -> Scores:
    parts: dict[str, dict[str, Any]] = {"made": {}, "used": {}}
    for place in group.places:
        key = {OUT: "made", IN: "used"}.get(place.role)
        if key is not None:
            path = f"{place.binding.path}/{place.binding.variable.name}"
            parts[key][path] = _rows(place, group.size)
    found = np.asarray(function(ChannelContext(group.name, **parts)), np.float64)
    if found.shape != (group.size,) or not np.isfinite(found).all():
        allowed = f"a function that gives {group.size} finite numbers for {group.name}"
        raise ValueError(arguments.message("scores", allowed, found))
    return found


def _taylor(
    found: ChannelGraph, groups: Sequence[Group], data: Any, model: Any
) -> list[Scores]:
    """(sum of w dL/dw)^2 of each channel (Molchanov et al. 2019, equation 8).

    It is the mean over small batches, and its root: where the training has ended the
    slopes of single batches are far from zero and cancel in the sum over all.
    """
    variables = {
        id(place.binding.variable): place.binding.variable
        for group in groups
        for place in _gated(group)
    }
    checked = gradients.check_data(data)
    if checked is None:
        return []
    source = found.model
    if source is not model:
        source.compile_from_config(model.get_compile_config())
    ordered = list(variables.values())
    if getattr(source, "loss", None) is None:
        hint = "Call `model.compile(loss=...)` first."
        allowed = "compiled with a loss for scores='taylor'"
        raise ValueError(arguments.message("model", allowed, model.name, hint))
    squares = [np.zeros(group.size) for group in groups]
    batches = gradients.of_batches(source, ordered, checked, TAYLOR_BATCH)
    with contextlib.closing(batches):
        for slopes, share in batches:
            by_id = dict(zip(variables, slopes, strict=True))
            for group, total in zip(groups, squares, strict=True):
                total += share * _change(group, by_id) ** 2
    return [np.sqrt(total) for total in squares]


def _gated(group: Group) -> list[Place]:
    """Where the slope along a factor on the channel's value can be read off.

    It is the kernels that use it. One that makes it will not do: a factor on it leaves
    the bias and what a norm adds. Where nothing with weights uses the channel, those.
    """
    kernels = _kernels(group)
    return [one for one in kernels if one.role == IN] or kernels


def _change(group: Group, slopes: dict[int, Any]) -> Scores:
    """By how much the loss of a batch changes without a channel, to first order."""
    total = np.zeros(group.size)
    for place in _gated(group):
        slope = slopes[id(place.binding.variable)]
        values = arrays.to_numpy(place.binding.variable) * slope
        total += reduced(values, place, group.size)
    return total


def _activations(
    found: ChannelGraph, groups: Sequence[Group], data: Any, kind: str
) -> list[Scores]:
    """Of the tensors where channels are used: variance, or the share that is not zero.

    Channels inside a layer, such as heads, are in no tensor: they have the L2 norm.
    "apoz" is 1 - the average percentage of zeros (Hu et al. 2016).
    """
    unit = {
        int(root): (number, place)
        for number, group in enumerate(groups)
        for place, root in enumerate(group.roots)
    }
    sums = [np.zeros((4, group.size)) for group in groups]
    for ids, values in _used(found, data):
        roots = found.walk.labels.roots(ids)
        known = [unit.get(int(one)) for one in roots]
        count = float(len(values))
        moments = (values.sum(0), (values**2).sum(0), (values != 0).sum(0))
        for position, at in enumerate(known):
            if at is not None:
                number, place = at
                added = [one[position] for one in moments]
                sums[number][:, place] += [count, *added]
    return [
        _of_moments(one, kind) if one[0].any() else _norm(group, 2)
        for one, group in zip(sums, groups, strict=True)
    ]


def _of_moments(sums: Scores, kind: str) -> Scores:
    count = sums[0].clip(min=1)
    if kind == "apoz":
        return np.asarray(sums[3] / count)
    return np.asarray((sums[2] / count - (sums[1] / count) ** 2).clip(min=0))


def _used(found: ChannelGraph, data: Any) -> Any:
    """Labels and values (rows, channels) of each labelled tensor that a kernel uses."""
    flat = graph.flat(found.model)
    users = {
        id(binding.layer)
        for binding in found.walk.bindings.values()
        if IN in binding.roles.values()
    }
    axes = {}
    for call in flat.nodes:
        for tensor, labels in zip(
            call.outputs, found.walk.tensors[call.key], strict=True
        ):
            axes[id(tensor)] = labels
    wanted = {id(call.inputs[0]) for call in flat.nodes if id(call.operation) in users}
    factors = {
        graph.key_of(one.node): [place for place, _ in one.places]
        for one in found.walk.contractions
    }
    wanted |= {
        id(call.inputs[place])
        for call in flat.nodes
        for place in factors.get(call.key, [])
    }
    x = data[0] if isinstance(data, tuple) else data
    count = rows.length("data", x, "rows")
    for start in range(0, count, BATCH):
        part = rows.take(x, slice(start, min(start + BATCH, count)))
        inputs = [keras.ops.convert_to_tensor(one) for one in keras.tree.flatten(part)]
        _, values = graph.run(found.model, inputs)
        for call, given in zip(flat.nodes, values, strict=True):
            for tensor, value in zip(call.outputs, given, strict=True):
                labels = axes[id(tensor)]
                places = [n for n, ids in enumerate(labels) if ids is not None]
                if id(tensor) in wanted and len(places) == 1:
                    array = arrays.to_numpy(value).astype(np.float64)
                    last = np.moveaxis(array, places[0], -1)
                    yield labels[places[0]], last.reshape(-1, last.shape[-1])
