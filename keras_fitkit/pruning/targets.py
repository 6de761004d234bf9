"""Which variables of a model are pruned, and what their axes mean."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_fitkit._core import _private, arguments, arrays
from keras_fitkit._core.layers import leaf_layers
from keras_fitkit.pruning.masks import Array

Selection: TypeAlias = Any  # None, a pattern, a layer, or a list of these

# The weights that are pruned without being named, by the layer that owns them. A
# recurrent layer owns none: its cell does; attention is made of EinsumDense. Kernels of
# DepthwiseConv and Embedding are pruned when they are named.
_TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
_CELLS = ("SimpleRNNCell", "LSTMCell", "GRUCell", "ConvLSTMCell")
_KERNELS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", *_TRANSPOSED), ("kernel",)),
    (("SeparableConv1D", "SeparableConv2D"), ("depthwise_kernel", "pointwise_kernel")),
    (_CELLS, ("kernel", "recurrent_kernel")),
)


@dataclasses.dataclass(frozen=True)
class Target:
    """A variable that can be pruned.

    Attributes:
        path: path of its layer below the model and its own name, joined by "/".
        variable: the `keras.Variable`.
        inputs, outputs: the axes of the variable that are summed over, and those that
            index the outputs; any other axis (the places of a convolution) is neither.
    """

    path: str
    variable: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the variable."""
        return tuple(self.variable.shape)

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.shape))

    def matrices(self, array: Any) -> Any:
        """`array` of the variable's shape as (places, inputs, outputs)."""
        order, sizes = self._order()
        return array.transpose(order).reshape(sizes)

    def from_matrices(self, array: Any) -> Any:
        """The inverse of `matrices`."""
        order, _ = self._order()
        turned = array.reshape([self.shape[axis] for axis in order])
        return turned.transpose(np.argsort(order))

    def _order(self) -> tuple[list[int], tuple[int, int, int]]:
        places = [
            axis
            for axis in range(len(self.shape))
            if axis not in self.inputs + self.outputs
        ]
        groups = (places, self.inputs, self.outputs)
        sizes = [int(np.prod([self.shape[axis] for axis in group])) for group in groups]
        return [*places, *self.inputs, *self.outputs], (sizes[0], sizes[1], sizes[2])


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A weight of two or more axes that is not pruned, and why."""

    path: str
    reason: str


def find_zeros(
    model: Any, layers: Selection = None, exclude: Selection = None
) -> list[Target]:
    """The weights that have zeros today, whoever made them, but not all zeros.

    A weight of zeros alone is one that has yet to be trained.

    Args:
        model: a built model.
        layers: as for `find`; None: every weight of floats, trainable or not.
        exclude: as for `find`.

    Raises:
        ValueError: as `find`.
    """
    if layers is None:
        floats = {
            path
            for path, layer, variable in _weights(model)
            if _is_float(variable)
            and _may_be_pruned(layer, variable)
            and len(variable.shape) > 1
        }
        layers = sorted(floats) or None
    found, _ = find(model, layers, exclude)
    return [
        target
        for target in found
        if 0 < np.count_nonzero(to_array(target.variable)) < target.size
    ]


def to_array(variable: Any) -> Array:
    """The values as float32 or float64, to be read at once and not written to."""
    value: Array = arrays.read_only(variable)
    if value.dtype in (np.float32, np.float64):
        return value
    return value.astype(np.float32)


def _is_float(variable: Any) -> bool:
    return str(variable.dtype).startswith(("float", "bfloat"))


def find(
    model: Any, layers: Selection = None, exclude: Selection = None
) -> tuple[list[Target], list[Skipped]]:
    """The weights to prune, in the order of the model, and those left out.

    Args:
        model: a built model.
        layers: what to prune: patterns (`fnmatch`) of layer or weight paths, or layers;
            None: all kernels that are pruned by default and can train.
        exclude: what not to prune, given in the same way.

    Raises:
        ValueError: a pattern or a layer that matches nothing; a kernel of integers;
            nothing to prune at all.
    """
    wanted, unwanted = _Choice("layers", layers), _Choice("exclude", exclude)
    targets: list[Target] = []
    skipped: list[Skipped] = []
    weights = list(_weights(model))
    for owners in _by_variable(weights):
        path, layer, variable = owners[0]
        # A weight that several layers share is meant by the name of any of them.
        chosen = [each for each in owners if wanted.takes(*each[:2])]
        excluded = [each for each in owners if unwanted.takes(*each[:2])]
        if len(variable.shape) < 2 or 0 in variable.shape:
            continue
        if chosen:
            path, layer, variable = chosen[0]
        reason = "excluded"
        if not excluded:
            named = layers is not None
            reason = _reason(layer, variable, chosen=bool(chosen), named=named)
        if reason:
            skipped.append(Skipped(path, reason))
        else:
            targets.append(_target(path, layer, variable))
    for choice in (wanted, unwanted):
        choice.check_all_matched([path for path, _, _ in weights])
    if not targets:
        listed = "; ".join(f"{one.path}: {one.reason}" for one in skipped) or "none"
        raise ValueError(
            "`model` must have something to prune: kernels of Dense, convolution, "
            "recurrent or attention layers, or weights named in `layers`. Weights that "
            f"are left out: {listed}."
        )
    return targets, skipped


def is_kernel(layer: Any, variable: Any) -> bool:
    """Whether a layer's variable is pruned by default."""
    return any(
        variable.name in names and _is_one_of(layer, kinds) for kinds, names in _KERNELS
    )


def _by_variable(
    weights: Sequence[tuple[str, Any, Any]],
) -> list[list[tuple[str, Any, Any]]]:
    """The weights with all places where each stands, in the order of the model."""
    found: dict[int, list[tuple[str, Any, Any]]] = {}
    for each in weights:
        found.setdefault(id(each[2]), []).append(each)
    return list(found.values())


def _weights(model: Any) -> Iterable[tuple[str, Any, Any]]:
    for prefix, layer in leaf_layers(model):
        for variable in _private.own_variables(layer):
            path = f"{prefix}/{variable.name}" if prefix else variable.name
            yield path, layer, variable


def _reason(layer: Any, variable: Any, *, chosen: bool, named: bool) -> str:
    """Why a weight is not pruned, or an empty text."""
    if named and not chosen:
        return "not in `layers`"
    if not _may_be_pruned(layer, variable):
        return "biases and norms are never pruned"
    if not named and not is_kernel(layer, variable):
        return f"{type(layer).__name__} is pruned only when named in `layers`"
    if not _is_float(variable):
        if named or is_kernel(layer, variable):
            raise ValueError(
                f"`{variable.path}` must be a kernel of floats to be pruned. Received: "
                f"dtype {variable.dtype}. A quantized kernel cannot be trained: prune "
                "first, then quantize."
            )
        return f"dtype {variable.dtype}"
    if not named and not variable.trainable:
        return "not trainable; name it in `layers` to prune it all the same"
    return ""


def _may_be_pruned(layer: Any, variable: Any) -> bool:
    """Whether a weight of two or more axes is no bias and of no norm."""
    known = [names for kinds, names in _KERNELS if _is_one_of(layer, kinds)]
    if known:
        return any(variable.name in names for names in known)
    norm = any("Normalization" in kind.__name__ for kind in type(layer).__mro__)
    return not norm and not variable.name.endswith("bias")


def _is_one_of(layer: Any, kinds: Sequence[str]) -> bool:
    """By name, because Keras does not export all of these classes (ConvLSTMCell)."""
    return any(
        kind.__name__ in kinds and kind.__module__.split(".")[0] == "keras"
        for kind in type(layer).__mro__
    )


def _target(path: str, layer: Any, variable: Any) -> Target:
    rank = len(variable.shape)
    inputs: tuple[int, ...] = (rank - 2,)
    outputs: tuple[int, ...] = (rank - 1,)
    if _is_one_of(layer, _TRANSPOSED):
        inputs, outputs = outputs, inputs
    elif isinstance(layer, keras.layers.EinsumDense) and variable.name == "kernel":
        inputs, outputs = _einsum_axes(layer.equation)
    return Target(path, variable, inputs, outputs)


def _einsum_axes(equation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The contracted and the other axes of an EinsumDense kernel."""
    left, _, result = equation.replace(" ", "").partition("->")
    kernel = left.split(",")[1]
    contracted = tuple(i for i, axis in enumerate(kernel) if axis not in result)
    return contracted, tuple(i for i in range(len(kernel)) if i not in contracted)


class _Choice:
    """The patterns and layers of one argument, and which of them have matched."""

    def __init__(self, name: str, given: Selection) -> None:
        self.name = name
        items = given if isinstance(given, (list, tuple)) else [given]
        self.items = [] if given is None else list(items)
        self.unmatched = list(self.items)

    def takes(self, path: str, layer: Any) -> bool:
        matched = [item for item in self.items if _matches(item, path, layer)]
        self.unmatched = [
            item for item in self.unmatched if not any(item is one for one in matched)
        ]
        return bool(matched)

    def check_all_matched(self, paths: Sequence[str]) -> None:
        if not self.unmatched:
            return
        item = self.unmatched[0]
        if not isinstance(item, str):
            allowed = "layers of the model that own weights, at any depth"
            raise ValueError(arguments.message(self.name, allowed, item.name))
        known = [*paths, *(path.rpartition("/")[0] for path in paths)]
        hint = arguments.near(item, known)
        if not hint:
            hint = f"Weights there are: {', '.join(paths)}."
        allowed = "patterns that match the path of a layer or a weight"
        raise ValueError(arguments.message(self.name, allowed, item, hint))


def _matches(item: Any, path: str, layer: Any) -> bool:
    if not isinstance(item, str):
        return item is layer or any(part is layer for part in _below(item))
    parts = path.split("/")
    ends = range(1, len(parts) + 1)
    return any(fnmatch.fnmatchcase("/".join(parts[:end]), item) for end in ends)


def _below(layer: Any) -> Iterable[Any]:
    return (leaf for _, leaf in leaf_layers(layer))


def check_selection(name: str, given: Selection) -> Selection:
    """Patterns, layers, or a list of these; None passes."""
    items = given if isinstance(given, (list, tuple)) else [given]
    if given is None:
        return None
    for item in items:
        if not isinstance(item, (str, keras.layers.Layer)) or item == "":
            allowed = "a pattern of a path, a layer, or a list of these"
            raise TypeError(arguments.message(name, allowed, item))
    if not items:
        allowed = "None or a list that is not empty"
        raise ValueError(arguments.message(name, allowed, given))
    return given
