"""Which variables of a model are pruned or clustered, and what their axes mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_fitkit._core import arrays, kernels
from keras_fitkit._core.selection import Choice, Selection

_Array: TypeAlias = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Target:
    """A variable that can be pruned or clustered.

    Attributes:
        path: path of its layer below the model and its own name, joined by "/".
        variable: the `keras.Variable`.
        inputs, outputs: the axes of the variable that are summed over, and those that
            index the outputs; any other axis (the places of a convolution) is neither.
        channels: the axes that index the output channels: of a depthwise kernel those
            of its inputs as well.
    """

    path: str
    variable: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    channels: tuple[int, ...] = ()

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
    """A weight of two or more axes that is left out, and why."""

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
    return [
        target
        for target in find_any(model, layers, exclude)
        if 0 < np.count_nonzero(to_array(target.variable)) < target.size
    ]


def find_any(
    model: Any,
    layers: Selection = None,
    exclude: Selection = None,
    *,
    done: str = "pruned",
) -> list[Target]:
    """As `find`; but None means every weight of floats, trainable or not."""
    if layers is None:
        floats = {
            path
            for path, layer, variable in kernels.weights(model)
            if _is_float(variable)
            and _may_be_pruned(layer, variable)
            and len(variable.shape) > 1
        }
        layers = sorted(floats) or None
    return find(model, layers, exclude, done=done)[0]


def to_array(variable: Any) -> _Array:
    """The values as float32 or float64, to be read at once and not written to."""
    value: _Array = arrays.read_only(variable)
    if value.dtype in (np.float32, np.float64):
        return value
    return value.astype(np.float32)


def _is_float(variable: Any) -> bool:
    return str(variable.dtype).startswith(("float", "bfloat"))


def find(
    model: Any,
    layers: Selection = None,
    exclude: Selection = None,
    *,
    done: str = "pruned",
) -> tuple[list[Target], list[Skipped]]:
    """The weights to prune, in the order of the model, and those left out.

    Args:
        model: a built model.
        layers: what to prune: patterns (`fnmatch`) of layer or weight paths, or layers;
            None: all kernels that are pruned by default and can train.
        exclude: what not to prune, given in the same way.
        done: "pruned" or "clustered", for the messages.

    Raises:
        ValueError: a pattern or a layer that matches nothing; a kernel of integers;
            nothing to prune at all.
    """
    wanted, unwanted = Choice("layers", layers), Choice("exclude", exclude)
    targets: list[Target] = []
    skipped: list[Skipped] = []
    weights = list(kernels.weights(model))
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
            reason = _reason(layer, variable, bool(chosen), named, done)
        if reason:
            skipped.append(Skipped(path, reason))
        else:
            targets.append(target_of(path, layer, variable))
    for choice in (wanted, unwanted):
        choice.check_all_matched([path for path, _, _ in weights])
    if not targets:
        listed = "; ".join(f"{one.path}: {one.reason}" for one in skipped) or "none"
        raise ValueError(
            f"`model` must have something to be {done}: kernels of Dense, convolution, "
            "recurrent or attention layers, or weights named in `layers`. Weights that "
            f"are left out: {listed}."
        )
    return targets, skipped


def is_kernel(layer: Any, variable: Any) -> bool:
    """Whether a layer's variable is pruned by default."""
    return variable.name in kernels.names(layer)


def _by_variable(
    weights: Sequence[tuple[str, Any, Any]],
) -> list[list[tuple[str, Any, Any]]]:
    """The weights with all places where each stands, in the order of the model."""
    found: dict[int, list[tuple[str, Any, Any]]] = {}
    for each in weights:
        found.setdefault(id(each[2]), []).append(each)
    return list(found.values())


def _reason(layer: Any, variable: Any, chosen: bool, named: bool, done: str) -> str:
    """Why a weight is left out, or an empty text."""
    if named and not chosen:
        return "not in `layers`"
    if not _may_be_pruned(layer, variable):
        return f"biases and norms are never {done}"
    if not named and not is_kernel(layer, variable):
        return f"{type(layer).__name__} is {done} only when named in `layers`"
    if not _is_float(variable):
        if named or is_kernel(layer, variable):
            raise ValueError(
                f"`{variable.path}` must be a kernel of floats to be {done}. Received: "
                f"dtype {variable.dtype}. A quantized kernel cannot be trained: that "
                "comes first, then the quantization."
            )
        return f"dtype {variable.dtype}"
    if not named and not variable.trainable:
        return f"not trainable; it is {done} only when named in `layers`"
    return ""


def _may_be_pruned(layer: Any, variable: Any) -> bool:
    """Whether a weight of two or more axes is no bias, of no norm and no grid's."""
    if hasattr(type(layer), "compression_info"):
        return False  # of a wrapper: its kernels are the layer's below
    known = kernels.names(layer)
    if known:
        return variable.name in known
    norm = any("Normalization" in kind.__name__ for kind in type(layer).__mro__)
    return not norm and not variable.name.endswith("bias")


def target_of(path: str, layer: Any, variable: Any) -> Target:
    inputs, outputs = kernels.axes(layer, variable)
    channels = kernels.channels(layer, variable)
    return Target(path, variable, inputs, outputs, channels)
