"""Variables that a link of the constraint chain reads in the compiled train step.

The optimizer tracks them, because on JAX only the optimizer's and the trainable
variables reach a compiled step.
"""

from __future__ import annotations

import contextlib
from typing import Any

from keras_fitkit._core import _private

PREFIX = "fitkit_"  # of their names


def base_optimizer(optimizer: Any) -> Any:
    """The optimizer that updates: what a LossScaleOptimizer wraps."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def add(model: Any, like: Any, name: str, **how: Any) -> Any:
    """A variable of the model's optimizer, laid out over devices as another one.

    Args:
        model: the model, compiled.
        like: a variable of the model.
        name: of the variable.
        **how: shape, initializer and dtype.
    """
    strategy = getattr(model, "distribute_strategy", None)  # TensorFlow only
    with strategy.scope() if strategy else contextlib.nullcontext():
        return base_optimizer(model.optimizer).add_variable(
            layout=_private.layout(like), name=f"{PREFIX}{name}", **how
        )


def lasting(optimizer: Any) -> list[Any]:
    """The variables of an optimizer that stay when the fit has ended."""
    return [one for one in optimizer.variables if not one.name.startswith(PREFIX)]


def remove(model: Any, variable: Any) -> None:
    """Takes a variable away from the optimizer; can be repeated."""
    _private.untrack(base_optimizer(model.optimizer), variable)
