"""Every private Keras name this package touches, one function each.

The local variables of a running `fit` are read in `fits.py`.

Keras has no public way to do what stands here. Each function says what it needs, why,
and which Keras issue asks for a public way; `tests/_core/test_private.py` fails when
Keras moves the name, so that an upgrade is noticed by us and not by a user.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from keras_fitkit._core import arrays


def sublayers(layer: Any) -> list[Any]:
    """The direct child layers of a layer, composite layers included.

    Private: `Layer._layers`. `Model.layers` is public, but a composite `Layer` (a block
    that owns Dense layers, Bidirectional, MultiHeadAttention) has no public list of its
    children, so that loops over `model.layers` miss them in silence (keras#17915 asks
    for `layer.layers`).
    """
    return list(layer._layers)


def own_variables(layer: Any) -> list[Any]:
    """The variables that belong to a layer and to none of the layers below it.

    Private: `Layer._trainable_variables` and `Layer._non_trainable_variables`. The
    public `weights` holds the children's as well, and variables have no public owner
    (keras#17915, as for `sublayers`). Seed generator states are not among them.
    """
    # SpectralNormalization keeps its child's kernel among its own variables too.
    below: set[int] = set()
    seen, waiting = {id(layer)}, sublayers(layer)
    while waiting:
        child = waiting.pop()
        if id(child) not in seen:
            seen.add(id(child))
            below.update(id(variable) for variable in _tracked(child))
            waiting += sublayers(child)
    return [variable for variable in _tracked(layer) if id(variable) not in below]


def _tracked(layer: Any) -> list[Any]:
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def mask_of(tensor: Any) -> Any:
    """The mask that Keras keeps with a tensor: a tensor, or None.

    Private: `keras.src.backend.get_keras_mask`. A mask travels from layer to layer with
    the tensor, and only the next layer's `call` is handed it in public.
    """
    from keras.src.backend import get_keras_mask  # noqa: TID251

    return get_keras_mask(tensor)


def set_mask(tensor: Any, mask: Any) -> None:
    """Keeps a mask with a tensor, where `mask_of` and every layer find it.

    Private: `keras.src.backend.set_keras_mask`; as for `mask_of`.
    """
    from keras.src.backend import set_keras_mask  # noqa: TID251

    set_keras_mask(tensor, mask)


def metric_direction(metric: Any) -> str | None:
    """The direction, "max" or "min", of a Keras metric that knows it, else None.

    Private: `Metric._direction`, which Keras's own `mode="auto"` reads.
    """
    return {"up": "max", "down": "min"}.get(getattr(metric, "_direction", None) or "")


class _ReadOnce(int):
    """An integer that leaves its model as soon as somebody asks whether it is 0."""

    model: Any

    def __bool__(self) -> bool:
        self.model._initial_epoch = None
        return int(self) != 0


def start_at_epoch(model: Any, epoch: int) -> None:
    """Makes the running fit begin at `epoch`; call it in `on_train_begin`.

    Private: `Model._initial_epoch`, which `fit` reads after `on_train_begin`, as
    `self._initial_epoch or initial_epoch`. The public `initial_epoch` must be known
    before the fit (keras#9462 asks for more). A plain number would stay on the model
    and shorten later fits, so this one goes as it is read.
    """
    once = _ReadOnce(epoch)
    once.model = model
    model._initial_epoch = once


@contextlib.contextmanager
def validation_weights(callbacks: tuple[Any, ...]) -> Iterator[None]:
    """Runs a block with the weights that `fit` validated with.

    With `SwapEMAWeights` validation sees the averaged weights, while a callback finds
    the raw ones at epoch end. The swap is done by the callback's own public hooks.

    On TensorFlow it swaps by adding and subtracting, so that swapping back is off by a
    rounding error; the values are put back exactly here.

    Private: `SwapEMAWeights._ema_weights_in_model`, to leave the averages where the
    callback itself has already put them (`swap_on_epoch=True`), and
    `Optimizer._model_variables_moving_average`, to put them back.
    """
    swaps = [
        callback
        for callback in callbacks
        if isinstance(callback, keras.callbacks.SwapEMAWeights)
    ]
    waiting = [callback for callback in swaps if not callback._ema_weights_in_model]
    if keras.backend.backend() == "jax":
        # In the last epoch the callback makes average and weight one buffer, which a
        # compiled step given the weights frees for both.
        for callback in swaps:
            for variable in _averages(callback.model.optimizer):
                variable.assign(arrays.copied(variable))
    kept = [
        (variable, arrays.copied(variable))
        for callback in waiting
        for variable in (
            *callback.model.trainable_variables,
            *_averages(callback.model.optimizer),
        )
    ]
    for callback in waiting:
        callback.on_test_begin()
    try:
        yield
    finally:
        for callback in waiting:
            callback.on_test_end()
        for variable, value in kept:
            variable.assign(value)


def _averages(optimizer: Any) -> list[Any]:
    """The averaged weights of an optimizer, a wrapped one or each of several."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return [
        variable
        for one in getattr(inner, "optimizers", [inner])
        for variable in getattr(one, "_model_variables_moving_average", ())
    ]


def global_seeds() -> list[Any]:
    """The state variable of Keras's global seed generator, when there is one yet.

    Private: `keras.src.backend.common.global_state`. Random ops without a seed advance
    this state; no public name reads it without also drawing from it.
    """
    from keras.src.backend.common import global_state  # noqa: TID251

    generator = global_state.get_global_attribute("global_seed_generator")
    return [] if generator is None else [generator.state]


def untrack(optimizer: Any, variable: Any) -> None:
    """Takes a variable out of an optimizer again; one that is not there is no error.

    Private: `Optimizer._untrack_variable`. The public `add_variable` has no reverse;
    left in, the variable would be saved with the optimizer's own and make its slots
    unreadable for a model without it.
    """
    if any(known is variable for known in optimizer.variables):
        optimizer._untrack_variable(variable)


def average_of(optimizer: Any, variable: Any) -> Any:
    """The moving average that an optimizer with `use_ema` keeps of a variable, or None.

    Private: `Optimizer._trainable_variables` and `_model_variables_moving_average`,
    which have the same order. The public `finalize_variable_values` only copies all of
    them into the model.
    """
    for one in getattr(optimizer, "optimizers", [optimizer]):
        averages = getattr(one, "_model_variables_moving_average", None)
        if averages:
            for known, average in zip(one._trainable_variables, averages, strict=False):
                if known is variable:
                    return average
    return None


def layout(variable: Any) -> Any:
    """How a variable is laid out over devices (`keras.distribution`), or None.

    Private: `Variable._layout`. The public `add_variable_from_reference` copies it, but
    takes no dtype, and a mask of floats would need four times the memory.
    """
    return getattr(variable, "_layout", None)


@contextlib.contextmanager
def replaced(
    owner: Any, old: Any, new: Any, *, name: str | None = None
) -> Iterator[None]:
    """A layer finds `new` wherever an attribute of its own holds `old`.

    Private: the attribute behind `kernel` (`_kernel` in Dense and the convolutions,
    `_embeddings`), set past `Layer.__setattr__`, which would track the tensor. A layer
    has no public way to compute with another tensor than its variable:
    `StatelessScope` replaces the scope that JAX trains in.

    Args:
        owner: the layer.
        old: the variable or function it holds.
        new: what it finds while the block runs.
        name: the attribute; None: each that holds `old`.
    """
    names = (
        [name] if name else [key for key, value in vars(owner).items() if value is old]
    )
    for key in names:
        vars(owner)[key] = new
    try:
        yield
    finally:
        for key in names:
            vars(owner)[key] = old


@dataclasses.dataclass(frozen=True)
class GraphNode:
    """One call of an operation in a functional model.

    Attributes:
        operation: the layer, nested model or operation that is called.
        inputs, outputs: the symbolic tensors that go in and come out.
    """

    operation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    _arguments: Any

    def arguments(
        self, values: dict[int, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call, with `values[id(tensor)]` for each tensor."""
        args, kwargs = self._arguments.fill_in(values)
        return args, kwargs


def graph_nodes(model: Any) -> list[GraphNode]:
    """The calls of a functional model in an order in which they can be made.

    Private: `Function._nodes_by_depth` and the `Node` in it. `keras.models.clone_model`
    is public, but tells a call neither its consumers nor its node, and takes no
    `call_function` for a Sequential model (keras#17915 asks for more).
    """
    function = keras.Function(model.inputs, model.outputs)
    found = []
    for depth in sorted(function._nodes_by_depth, reverse=True):
        for node in function._nodes_by_depth[depth]:
            if not node.is_input:
                found.append(
                    GraphNode(
                        node.operation,
                        tuple(node.input_tensors),
                        tuple(node.outputs),
                        node.arguments,
                    )
                )
    return found


def compiled_metrics(model: Any, targets: Any, outputs: Any) -> list[Any]:
    """The metrics that a model of one output was compiled with, as objects.

    Private: `Model._compile_metrics` and the `_user_metrics` in it. What "accuracy"
    means depends on targets and outputs; Keras decides it in the first step of `fit` or
    `evaluate`, and the public `metrics` shows one container, empty before. Strings
    become objects of their own here: the model stays as it is.
    """
    compiled = model._compile_metrics if model.compiled else None
    if compiled is None:
        return []
    copy = type(compiled)(compiled._user_metrics, compiled._user_weighted_metrics)
    copy.build(targets, outputs)
    return list(copy.metrics)


def row_function(metric: Any) -> Any:
    """What a metric takes the mean of, a function of targets and outputs, or None.

    Private: `MeanMetricWrapper._fn` and `_fn_kwargs`. A metric gives out its mean
    alone; an interval needs a value for each row. Metrics that are no mean of a
    function, and those that compute it in a way of their own, give None.
    """
    kind = keras.metrics.MeanMetricWrapper
    if (
        not isinstance(metric, kind)
        or type(metric).update_state is not kind.update_state
    ):
        return None
    return lambda targets, outputs: metric._fn(targets, outputs, **metric._fn_kwargs)
