"""Rules of what moves elements around: reshapes, transpositions, slices, splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fitkit._core import graph
from keras_fitkit.pruning.structural.labels import Axes, Ids, Labels
from keras_fitkit.pruning.structural.walk import Keep, Site, Walk

MOVING_OPERATIONS = frozenset(
    "Transpose Swapaxes Moveaxis ExpandDims Squeeze Flip Reshape GetItem Split".split()
)
# These move whole axes: it does not matter how long the other ones are.
_WHOLE_AXES = MOVING_OPERATIONS - {"Reshape"} | {"Permute"}
_SOME = 3  # stands for a size that is not known, where it does not matter


def moving(walk: Walk, site: Site) -> list[Axes]:
    """What only moves elements: it is done with the labels themselves."""
    shape, axes = site.shape()[1:], site.inputs[0]
    labelled = [place for place, ids in enumerate(axes) if ids is not None]
    if not labelled:
        return site.bare()
    kind = type(site.layer).__name__
    if len(site.inputs) > 1 or (kind == "GetItem" and not _is_plain_slice(site)):
        return walk.stop(site, "picks channels one by one")
    if axes[0] is not None or (None in shape and kind not in _WHOLE_AXES):
        return walk.stop(site, "moves channels of a tensor of unknown size")
    shape = tuple(_SOME if size is None else size for size in shape)
    outputs: list[list[Ids | None]] = [list(one) for one in site.bare()]
    for place in labelled:
        ids = axes[place]
        found = None if _is_one(ids) else _moved(walk, site, (1, *shape), place, ids)
        if found is None or any(
            outputs[number][to] is not None for number, (to, _) in enumerate(found)
        ):
            return walk.stop(site, "splits or mixes channels")
        for number, (to, new) in enumerate(found):
            outputs[number][to] = new
    _note_constants(walk, site, [tuple(one) for one in outputs])
    return [tuple(one) for one in outputs]


def _is_plain_slice(site: Site) -> bool:
    """Whether labelled axes are cut by slices without a step alone."""
    symbols = {id(site.node.inputs[0]): site.node.inputs[0]}
    args, kwargs = site.node.arguments(symbols)
    keys = args[1] if len(args) > 1 else kwargs["key"]
    keys = keys if isinstance(keys, tuple) else (keys,)
    return all(
        key is Ellipsis
        or key is None
        or isinstance(key, int)
        or (isinstance(key, slice) and key.step in (None, 1))
        for key in keys
    )


def _is_one(ids: Ids | None) -> bool:
    return ids is None or len(ids) == 1


def _moved(walk: Walk, site: Site, shape: Any, place: int, ids: Any) -> Any:
    """For each output the axis that carries the labels now, and which they are."""
    view = [-1 if one == place else 1 for one in range(len(shape))]
    # Label arithmetic in float32 would end at 2**24; positions do not get there.
    positions = np.arange(len(ids), dtype="int32").reshape(view)
    full = np.array(np.broadcast_to(positions, shape))
    symbols = {id(site.node.inputs[0]): keras.ops.convert_to_tensor(full)}
    args, kwargs = site.node.arguments(symbols)
    outputs = keras.tree.flatten(site.layer(*args, **kwargs))
    found = []
    for one in outputs:
        array = keras.ops.convert_to_numpy(one).astype("int64")
        where = _axis_of(array)
        if where is not None:
            found.append((where, np.asarray(ids)[_along(array, where)]))
            continue
        parted = type(site.layer).__name__ == "Reshape" and _parted(array, len(ids))
        if not parted:
            return None
        where, first, members = parted
        for one, other in members:
            walk.labels.tie(ids[one : one + 1], ids[other : other + 1])
        walk.ordered.append(ids)
        found.append((where, np.asarray(ids)[first]))
    return found


def _parted(array: Any, count: int) -> Any:
    """How a reshape parts channels among two axes: those of one place go together.

    Returns:
        The first axis along which the positions fall into sets that do not overlap, a
        position of each place on it, and pairs of positions of one set; None: no axis.
    """
    for place in range(1, array.ndim):
        sets = Labels()
        each = sets.mint(count)
        rows = [np.unique(np.take(array, n, place)) for n in range(array.shape[place])]
        for row in rows:
            sets.tie(each[row[:1]].repeat(len(row)), each[row])
        if len(np.unique(sets.roots(each))) > 1:
            pairs = [(int(sets.find(one)), int(one)) for one in each]
            return place, np.array([row[0] for row in rows]), pairs
    return None


def _axis_of(array: Any) -> int | None:
    """The one axis along which positions differ; None for one or none alone."""
    if array.min() == array.max():
        return None
    for place in reversed(range(1, array.ndim)):
        rows = np.moveaxis(array, place, -1).reshape(-1, array.shape[place])
        if (rows == rows[:1]).all():
            return place
    return None


def _along(array: Any, place: int) -> Any:
    return np.moveaxis(array, place, -1).reshape(-1, array.shape[place])[0]


def _note_constants(walk: Walk, site: Site, outputs: Sequence[Axes]) -> None:
    """Shapes, slices and sections that change when channels go."""
    layer, kind = site.layer, type(site.layer).__name__
    shapes = [tuple(one.shape[1:]) for one in site.node.outputs]
    if isinstance(layer, layers.Reshape):
        walk.edit(
            layer,
            "target_shape",
            value=lambda keep: _kept_shape(layer.target_shape, outputs[0][1:], keep),
        )
    elif kind == "Reshape" and not isinstance(layer, layers.Layer):

        def reshape(args: Any, kwargs: Any, keep: Keep) -> Any:
            batch = layer.newshape[0] if layer.newshape[0] is not None else -1
            target = _kept_shape(shapes[0], outputs[0][1:], keep)
            return keras.ops.reshape(args[0], (batch, *target))

        walk.calls[graph.key_of(site.node)] = reshape
    elif kind == "GetItem":
        walk.calls[graph.key_of(site.node)] = _slicing(site)
    elif kind == "Split":
        walk.calls[graph.key_of(site.node)] = _splitting(site, outputs)


def _kept_shape(target: Sequence[Any], axes: Sequence[Ids | None], keep: Keep) -> Any:
    return tuple(
        size if ids is None or size == -1 else len(keep(ids))
        for size, ids in zip(target, axes, strict=True)
    )


def _splitting(site: Site, outputs: Sequence[Axes]) -> Any:
    axis = site.layer.axis

    def split(args: Any, kwargs: Any, keep: Keep) -> Any:
        place = axis % len(outputs[0])
        sections = site.layer.indices_or_sections
        if outputs[0][place] is not None:
            sizes = [len(keep(one[place])) for one in outputs[:-1]]
            sections = [int(one) for one in np.cumsum(sizes)]
        return keras.ops.split(args[0], sections, axis=axis)

    return split


def _slicing(site: Site) -> Any:
    axes = site.inputs[0]

    def slices(args: Any, kwargs: Any, keep: Keep) -> Any:
        keys = args[1] if isinstance(args[1], tuple) else (args[1],)
        found: list[Any] = []
        place = 0
        for number, key in enumerate(keys):
            if key is Ellipsis:
                found.append(key)
                place = len(axes) - sum(one is not None for one in keys[number + 1 :])
                continue
            if key is None:
                found.append(key)
                continue
            ids = axes[place]
            found.append(key if ids is None else _kept_slice(key, ids, keep))
            place += 1
        return args[0][tuple(found)]

    return slices


def _kept_slice(key: slice, ids: Ids, keep: Keep) -> slice:
    """The slice of what stays that holds what stays of a slice."""
    chosen = np.arange(len(ids))[key]
    stay = np.asarray(keep(ids))
    return slice(int((stay < chosen[0]).sum()), int((stay <= chosen[-1]).sum()))


RULES: dict[type, Any] = dict.fromkeys(
    (layers.Flatten, layers.Reshape, layers.Permute), moving
)
OPERATION_RULES: dict[str, Any] = dict.fromkeys(MOVING_OPERATIONS, moving)
