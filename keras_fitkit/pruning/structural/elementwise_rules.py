"""Rules of what works element by element, and of what moves elements around."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fitkit._core import graph
from keras_fitkit.pruning.structural.labels import Axes, Ids, Labels
from keras_fitkit.pruning.structural.walk import Keep, Site, Walk

ELEMENTWISE = frozenset(
    """linear relu relu6 leaky_relu elu selu celu gelu silu swish hard_silu hard_swish
    sigmoid hard_sigmoid log_sigmoid tanh hard_tanh tanh_shrink soft_shrink hard_shrink
    softplus softsign squareplus sparse_plus sparse_sigmoid exponential mish threshold
    """.split()
)

SAME = (
    *(layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Identity),
    *(layers.Dropout, layers.AlphaDropout, layers.GaussianDropout),
    *(layers.GaussianNoise, layers.ActivityRegularization),
    *(layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
)
MERGING = (
    *(layers.Add, layers.Subtract, layers.Multiply),
    *(layers.Average, layers.Maximum, layers.Minimum),
)

# Operations of `keras.ops`, by the names of their classes, which Keras does not export.
UNARY_OPERATIONS = frozenset(
    """Absolute Abs Fabs Negative Square Sqrt Rsqrt Cbrt Exp Exp2 Expm1 Log Log1p Log2
    Log10 Sign Round Floor Ceil Trunc Reciprocal Cast Clip Sin Cos Tan Tanh Sinh Cosh
    Arctan Arcsin Arccos Arcsinh Arccosh Arctanh Erf Erfc NanToNum Isnan Isfinite Isinf
    LogicalNot Copy Relu Relu6 Sigmoid SparseSigmoid Softplus Softsign SoftShrink
    SparsePlus Silu Squareplus LogSigmoid LeakyRelu HardSigmoid HardSilu Elu Selu Gelu
    Celu TanhShrink HardTanh HardShrink Threshold ZerosLike OnesLike""".split()
)
_SOME = 3  # stands for a size that is not known, where it does not matter

MERGING_OPERATIONS = frozenset(
    """Add Subtract Multiply Divide TrueDivide DivideNoNan FloorDivide Power Mod Fmod
    Maximum Minimum Fmax Fmin Arctan2 Hypot Logaddexp Logaddexp2 Where Equal NotEqual
    Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr LogicalXor""".split()
)
MOVING_OPERATIONS = frozenset(
    "Transpose Swapaxes Moveaxis ExpandDims Squeeze Flip Reshape GetItem Split".split()
)
# These move whole axes: it does not matter how long the other ones are.
_WHOLE_AXES = MOVING_OPERATIONS - {"Reshape"} | {"Permute"}
REDUCING_OPERATIONS = frozenset(
    """Mean Sum Max Min Amax Amin Prod Var Std Any All Median Nanmean Nansum Logsumexp
    CountNonzero""".split()
)


def same(walk: Walk, site: Site) -> list[Axes]:
    """Each element by itself."""
    return [site.inputs[0] for _ in site.node.outputs]


def activation(walk: Walk, site: Site) -> list[Axes]:
    """An activation layer."""
    return [activated(walk, site, site.inputs[0], site.layer.activation)]


def activated(walk: Walk, site: Site, axes: Axes, function: Any) -> Axes:
    """Labels behind an activation function, which may look along the last axis."""
    if is_elementwise(function):
        return axes
    name = getattr(function, "__name__", type(function).__name__)
    reason = f"the activation {name} may look at all channels"
    last = name in ("softmax", "log_softmax") and _is_known(function)
    walk.freeze(site.path, axes[-1:] if last else axes, reason)
    return axes


def is_elementwise(function: Any) -> bool:
    """Whether an activation is one that works element by element; None is none.

    A function of your own may have the name of a known one.
    """
    if function is None or type(function) in SAME:
        return True
    return getattr(function, "__name__", "") in ELEMENTWISE and _is_known(function)


def _is_known(function: Any) -> bool:
    package = str(getattr(function, "__module__", "")).partition(".")[0]
    return package in ("keras", "tensorflow", "jax", "torch")


def softmax(walk: Walk, site: Site) -> list[Axes]:
    """Its axes are frozen."""
    (axes,) = site.inputs[:1]
    given = getattr(site.layer, "axis", -1)
    found = {one % len(axes) for one in _listed(given)}
    reason = "normalizes over the channels"
    walk.freeze(site.path, [axes[place] for place in found], reason)
    return [axes]


def _without(walk: Walk, site: Site, axes: Axes, places: Any, reason: str) -> Axes:
    """The labels with some axes frozen."""
    walk.freeze(site.path, [axes[place] for place in places], reason)
    return tuple(None if place in places else ids for place, ids in enumerate(axes))


def rescaling(walk: Walk, site: Site) -> list[Axes]:
    """Numbers are the same for all channels, lists are not."""
    layer = site.layer
    if all(np.ndim(one) == 0 for one in (layer.scale, layer.offset)):
        return same(walk, site)
    return walk.stop(site, "a number for each channel is in its configuration")


def merging(walk: Walk, site: Site) -> list[Axes]:
    """Sums, products and the like, with broadcasting; constants as well."""
    rank = len(site.output_shape())
    if _has_constant(site):
        return walk.stop(site, "meets an array of constants")
    parts = [(*(None,) * (rank - len(axes)), *axes) for axes in site.inputs]
    shapes = [
        (*(1,) * (rank - len(axes)), *site.shape(place))
        for place, axes in enumerate(site.inputs)
    ]
    found: list[Ids | None] = []
    for place in range(rank):
        size = site.output_shape()[place]
        spread = [s[place] == 1 and size != 1 for s in shapes]
        for part, wide in zip(parts, spread, strict=True):
            if wide:
                walk.freeze(site.path, part[place : place + 1], "is broadcast")
        full = [
            (part[place],) for part, wide in zip(parts, spread, strict=True) if not wide
        ]
        found += walk.merge(site.path, full)
    return [tuple(found) for _ in site.node.outputs]


def _has_constant(site: Site) -> bool:
    """Whether arrays of more than one element are among the arguments."""
    symbols = {id(one): one for one in site.node.inputs}
    args, kwargs = site.node.arguments(symbols)
    for given in (*args, *kwargs.values()):
        leaves = keras.tree.flatten(given)
        others = [one for one in leaves if not isinstance(one, keras.KerasTensor)]
        numbers = sum(math.prod(getattr(leaf, "shape", ())) for leaf in others)
        if numbers > 1:
            return True
    return False


def reducing(walk: Walk, site: Site) -> list[Axes]:
    """Means and sums along axes."""
    axes, layer = site.inputs[0], site.layer
    given = getattr(layer, "axis", None)
    places = range(len(axes)) if given is None else _listed(given)
    found = {one % len(axes) for one in places}
    kept = _without(walk, site, axes, found, "is taken over the channels")
    if not getattr(layer, "keepdims", False):
        kept = tuple(ids for place, ids in enumerate(kept) if place not in found)
    return [
        kept if len(kept) == len(one.shape) else (None,) * len(one.shape)
        for one in site.node.outputs
    ]


def stacking(walk: Walk, site: Site) -> list[Axes]:
    """A new axis, without labels; along the others they are tied."""
    axis = site.layer.axis % len(site.output_shape())
    found = walk.merge(site.path, site.inputs)
    return [(*found[:axis], None, *found[axis:])]


def pooling(walk: Walk, site: Site) -> list[Axes]:
    """`keras.ops.max_pool` and the like: positions of the image have no labels."""
    axes = site.inputs[0]
    form = site.layer.data_format or keras.config.image_data_format()
    place = 1 if form == "channels_first" else len(axes) - 1
    others = [n for n in range(len(axes)) if n != place]
    return [_without(walk, site, axes, others, "are positions")]


def padding(walk: Walk, site: Site) -> list[Axes]:
    """Axes that get longer are frozen."""
    axes, width = site.inputs[0], site.layer.pad_width
    pairs = [*width] * (len(axes) if len(width) == 1 else 1)
    longer = [place for place, pair in enumerate(pairs) if any(pair)]
    return [_without(walk, site, axes, longer, "gets longer")]


def concatenating(walk: Walk, site: Site) -> list[Axes]:
    """Labels one after another; along the other axes they are tied."""
    rank = len(site.output_shape())
    axis = site.layer.axis % rank
    joined: Ids | None = None
    if any(axes[axis] is not None for axes in site.inputs):
        parts = []
        for place, axes in enumerate(site.inputs):
            ids, size = axes[axis], site.shape(place)[axis]
            if ids is None:
                if size is None:
                    return walk.stop(site, "joins an axis of unknown size")
                ids = walk.mint(site.layer, f"fixed {place}", size)
                walk.labels.freeze(ids, f"{site.path}: joins channels that stay")
            parts.append(ids)
        joined = np.concatenate(parts)
    others = walk.merge(
        site.path,
        [
            tuple(None if p == axis else ids for p, ids in enumerate(axes))
            for axes in site.inputs
        ],
    )
    return [(*others[:axis], joined, *others[axis + 1 :])]


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


def _listed(given: Any) -> list[int]:
    return [int(given)] if isinstance(given, (int, np.integer)) else list(given)


RULES: dict[type, Any] = {
    layers.Activation: activation,
    layers.Softmax: softmax,
    layers.Rescaling: rescaling,
    layers.Concatenate: concatenating,
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(MERGING, merging),
    **dict.fromkeys((layers.Flatten, layers.Reshape, layers.Permute), moving),
}
OPERATION_RULES: dict[str, Any] = {
    **dict.fromkeys(UNARY_OPERATIONS, same),
    **dict.fromkeys(MERGING_OPERATIONS, merging),
    **dict.fromkeys(MOVING_OPERATIONS, moving),
    **dict.fromkeys(REDUCING_OPERATIONS, reducing),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    **dict.fromkeys(("MaxPool", "AveragePool", "Resize"), pooling),
    "Concatenate": concatenating,
    "Stack": stacking,
    "Pad": padding,
}
