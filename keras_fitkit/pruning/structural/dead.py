"""Channels that can go without a change of the output, and the biases that follow."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_fitkit._core import arrays
from keras_fitkit.pruning.structural import kernel_rules, recurrent_rules
from keras_fitkit.pruning.structural.channel_graph import IN, ChannelGraph, Group
from keras_fitkit.pruning.structural.constants import Constants
from keras_fitkit.pruning.structural.labels import Ids
from keras_fitkit.pruning.structural.walk import Binding, Contraction

_PLAIN = (kernel_rules.dense, kernel_rules.convolution)


@dataclasses.dataclass(frozen=True)
class Dead:
    """What can go.

    Attributes:
        roots: the labels of the channels.
        shifts: what is added to biases, by the id of the variable, for all positions.
        zeros: terms of sums that are zero, by the key of the sum.
    """

    roots: Ids
    shifts: dict[int, npt.NDArray[np.float64]]
    zeros: dict[int, list[bool]]


def find(graph: ChannelGraph) -> Dead:
    """The dead channels of a model, and what dies with them.

    A channel is dead where all weights that use it are zero (and it is a factor zero in
    all products that sum over it), or where its value is the
    same for every input and every layer that uses it can take it into its bias.
    """
    values = {
        id(binding.variable): arrays.copied(binding.variable)
        for binding in graph.walk.bindings.values()
    }

    def weights(variable: Any) -> npt.NDArray[Any]:
        found = values.get(id(variable))
        return np.asarray(arrays.to_numpy(variable) if found is None else found)

    gone = np.array([], np.int64)
    shifts: dict[int, npt.NDArray[np.float64]] = {}
    while True:
        constants = Constants(graph, weights)
        new = _new(graph, gone, values, constants)
        if not len(new):
            return Dead(gone, shifts, constants.zeros)
        _fold(graph, new, values, constants, shifts)
        gone = np.concatenate([gone, new])
        _erase(graph, new, values)


def _new(
    graph: ChannelGraph, gone: Ids, values: dict[int, Any], constants: Constants
) -> Ids:
    """Units that are dead now and were not before, at least one of a group stays."""
    verdicts: dict[int, bool] = {}
    for binding in graph.walk.bindings.values():
        for axis, ids in binding.axes.items():
            if ids is None or binding.roles[axis] != IN:
                continue
            free = _unused(values[id(binding.variable)], axis)
            free |= _foldable(binding, axis, constants)
            for root, one in zip(graph.walk.labels.roots(ids), free, strict=True):
                verdicts[int(root)] = verdicts.get(int(root), True) and bool(one)
    for one in graph.walk.contractions:
        free = _zero(one, constants)
        for root, is_free in zip(graph.walk.labels.roots(one.ids), free, strict=True):
            verdicts[int(root)] = verdicts.get(int(root), True) and bool(is_free)
    found: list[int] = []
    for group in graph.groups:
        found += _of_group(group, gone, verdicts)
    return np.array(found, np.int64)


def _of_group(group: Group, gone: Ids, verdicts: dict[int, bool]) -> list[int]:
    left = [int(root) for root in group.roots if root not in gone]
    dead = [root for root in left if verdicts.get(root, False)]
    return dead[1:] if len(dead) == len(left) else dead


def _zero(one: Contraction, constants: Constants) -> npt.NDArray[np.bool_]:
    """Which terms of a sum of products are zero, as a factor is, in every call."""
    calls = constants.inputs.get(id(one.node.operation), [])
    found = np.full(len(one.ids), bool(calls))
    for call in calls:
        factors = [call[place] for place, _ in one.places if place < len(call)]
        known = [
            factor == 0
            for factor in factors
            if factor is not None and len(factor) == len(one.ids)
        ]
        found &= np.any(known, axis=0) if known else False
    return found


def _unused(values: npt.NDArray[Any], axis: int) -> npt.NDArray[np.bool_]:
    others = tuple(place for place in range(values.ndim) if place != axis)
    return np.asarray(~(values != 0).any(axis=others))


def _foldable(
    binding: Binding, axis: int, constants: Constants
) -> npt.NDArray[np.bool_]:
    """Positions whose constant the bias can take, or is zero, in every call."""
    size = binding.variable.shape[axis]
    calls = constants.inputs.get(id(binding.layer), [])
    rule = kernel_rules.RULES.get(type(binding.layer))
    if type(binding.layer) in recurrent_rules.GATES or rule is None or not calls:
        return np.zeros(size, bool)
    rows = [one[0] for one in calls]
    if any(one is None or len(one) != size for one in rows):
        return np.zeros(size, bool)
    known = np.stack([np.asarray(one) for one in rows])
    same = (known == known[:1]).all(0)
    if not (_takes_shift(binding) and axis == _input_axis(binding)):
        return np.asarray(same & (known[0] == 0))
    return np.asarray(same)


def _takes_shift(binding: Binding) -> bool:
    """Whether the layer has a bias that a constant input can go into, exactly."""
    layer = binding.layer
    kernel = getattr(layer, "kernel", None)
    if getattr(layer, "bias", None) is None or binding.variable is not kernel:
        return False
    rule = kernel_rules.RULES[type(layer)]
    if rule is kernel_rules.convolution:
        return bool(layer.padding == "valid" and layer.groups == 1)
    return bool(rule is kernel_rules.dense)


def _input_axis(binding: Binding) -> int:
    return len(binding.variable.shape) - 2


def _fold(
    graph: ChannelGraph,
    new: Ids,
    values: dict[int, Any],
    constants: Constants,
    shifts: dict[int, npt.NDArray[np.float64]],
) -> None:
    """Adds what the new dead channels gave to the biases of those that used them."""
    for binding in graph.walk.bindings.values():
        layer = binding.layer
        axis = _input_axis(binding)
        ids = binding.axes.get(axis)
        if (
            ids is None
            or binding.roles[axis] != IN
            or type(layer) not in kernel_rules.RULES
        ):
            continue
        if not _takes_shift(binding):
            continue
        at = np.isin(graph.walk.labels.roots(ids), new)
        calls = constants.inputs.get(id(layer), [])
        if not at.any() or not calls or calls[0][0] is None:
            continue
        kernel = values[id(binding.variable)]
        given = np.where(at, np.nan_to_num(calls[0][0]), 0.0)
        flat = kernel.reshape(-1, *kernel.shape[-2:]).sum(0, dtype=np.float64)
        shift = given @ flat
        if shift.any():
            key = id(layer.bias)
            shifts[key] = shifts.get(key, 0.0) + shift
            values[key] = values.get(key, arrays.copied(layer.bias)) + shift


def _erase(graph: ChannelGraph, new: Ids, values: dict[int, Any]) -> None:
    """Zeros in all variables where the new dead channels stand."""
    for binding in graph.walk.bindings.values():
        for axis, ids in binding.axes.items():
            if ids is not None:
                at = np.flatnonzero(np.isin(graph.walk.labels.roots(ids), new))
                index: list[Any] = [slice(None)] * values[id(binding.variable)].ndim
                index[axis] = at
                values[id(binding.variable)][tuple(index)] = 0
