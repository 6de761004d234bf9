"""Going back to the weights of an early step, for `IterativeSparsity(rewind_step=)`."""

from __future__ import annotations

from typing import Any

from keras_fitkit._core import arguments, arrays
from keras_fitkit._core.step_variables import base_optimizer
from keras_fitkit.pruning.schedules import IterativeSparsity


def check_step(sparsity: Any, execution: int, epoch_steps: int | None) -> None:
    """The step to go back to must lie between two executions of the compiled step.

    Args:
        sparsity: the argument of `PruneSchedule`.
        execution: `steps_per_execution` of the model.
        epoch_steps: steps of an epoch, after which a new execution begins, or None.

    Raises:
        ValueError: it lies within one.
    """
    step = getattr(sparsity, "rewind_step", None)
    if step is None or execution == 1:
        return
    within = step % epoch_steps if epoch_steps else step
    if within % execution:
        allowed = f"the end of an execution with steps_per_execution={execution}"
        hint = f"Pass a multiple of {execution}, or compile the model with 1."
        raise ValueError(arguments.message("rewind_step", allowed, step, hint))


def due(sparsity: Any, step: int, taken: Any) -> bool:
    """Whether the weights after `step` steps are those to go back to."""
    if not isinstance(sparsity, IterativeSparsity) or taken is not None:
        return False
    return sparsity.rewind_step is not None and step >= sparsity.rewind_step


def wanted(sparsity: Any, taken: Any) -> bool:
    """Whether an update is followed by going back."""
    return isinstance(sparsity, IterativeSparsity) and taken is not None


def snapshot(model: Any, masks: list[Any], *, optimizer: bool) -> dict[str, Any]:
    """Copies of all weights of the model, and of its optimizer's variables if wanted.

    Args:
        model: the compiled model.
        masks: variables of the optimizer that do not go back.
        optimizer: whether to copy its variables.
    """
    slots = _slots(model, masks) if optimizer else []
    return {
        "weights": [arrays.copied(variable) for variable in model.weights],
        "optimizer": [arrays.copied(variable) for variable in slots],
    }


def rewind(model: Any, taken: Any, masks: list[Any]) -> None:
    """Puts the copies back."""
    slots = _slots(model, masks) if taken["optimizer"] else []
    variables = [*model.weights, *slots]
    values = [*taken["weights"], *taken["optimizer"]]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _slots(model: Any, masks: list[Any]) -> list[Any]:
    return [
        variable
        for variable in base_optimizer(model.optimizer).variables
        if not any(variable is mask for mask in masks)
    ]
