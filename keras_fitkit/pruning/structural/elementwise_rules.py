"""Rules of what works element by element, reduces, joins or pads."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_fitkit.pruning.structural.labels import Axes, Ids
from keras_fitkit.pruning.structural.walk import Site, Walk

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
MERGING_OPERATIONS = frozenset(
    """Add Subtract Multiply Divide TrueDivide DivideNoNan FloorDivide Power Mod Fmod
    Maximum Minimum Fmax Fmin Arctan2 Hypot Logaddexp Logaddexp2 Where Equal NotEqual
    Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr LogicalXor""".split()
)
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


def _listed(given: Any) -> list[int]:
    return [int(given)] if isinstance(given, (int, np.integer)) else list(given)


RULES: dict[type, Any] = {
    layers.Activation: activation,
    layers.Softmax: softmax,
    layers.Rescaling: rescaling,
    layers.Concatenate: concatenating,
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(MERGING, merging),
}
OPERATION_RULES: dict[str, Any] = {
    **dict.fromkeys(UNARY_OPERATIONS, same),
    **dict.fromkeys(MERGING_OPERATIONS, merging),
    **dict.fromkeys(REDUCING_OPERATIONS, reducing),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    **dict.fromkeys(("MaxPool", "AveragePool", "Resize"), pooling),
    "Concatenate": concatenating,
    "Stack": stacking,
    "Pad": padding,
}
