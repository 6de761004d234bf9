"""Several constraints on one variable, each put on and taken off by itself.

Keras applies `variable.constraint` inside the compiled train step, right after the
optimizer's update. It is one slot; pruning, weight clustering and the user's own
constraint all want it. Here they share it as a chain, in an order that does not depend
on who came first: the user's own constraint, then clustering, then the mask (a masked
weight must stay zero, whatever the others say).

The chain is looked up when the train step is traced. After `push` or `remove` a train
function that was compiled before must be made anew:
`model.make_train_function(force=True)`. Layers save their `kernel_constraint`, not
`variable.constraint`: a chain never gets into a saved model.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import keras

# A tensor of the backend, or a variable: Keras has no type for them.
Tensor: TypeAlias = Any


class Stage(enum.IntEnum):
    """The place of a link in the chain: lower ones come first."""

    CLUSTER = 1
    MASK = 2


class Link(Protocol):
    """One constraint of the chain: a callable that knows its place.

    What a link changes between steps must be a variable of the optimizer: a Python
    attribute is frozen when the step is traced, and on JAX only the optimizer's and
    the trainable variables reach the constraints. Read it with
    `keras.ops.convert_to_tensor`: `where` takes no variable as its condition on JAX.
    """

    stage: Stage

    def __call__(self, value: Tensor, /) -> Tensor:
        """The tensor as this link allows it: same shape and dtype."""


class ChainedConstraint(keras.constraints.Constraint):
    """The user's own constraint, then the links by their stage.

    Links of one stage keep the order in which they were pushed.

    Attributes:
        inner: the constraint that was there before, or None.
        links: the links in the order they are applied; not to be changed by hand.
    """

    def __init__(self, inner: Callable[[Tensor], Tensor] | None) -> None:
        self.inner = inner
        self.links: tuple[Link, ...] = ()

    def __call__(self, w: Tensor) -> Tensor:
        """Applies the whole chain to a weight."""
        if self.inner is not None:
            w = self.inner(w)
        # The optimizer hands over the variable itself, which not every op takes on JAX.
        w = keras.ops.convert_to_tensor(w)
        for link in self.links:
            w = link(w)
        return w


def push(variable: Any, link: Link) -> None:
    """Puts a link on a variable's constraint; pushing it twice is pushing it once.

    Args:
        variable: a `keras.Variable`.
        link: the link; told from others by identity.

    Raises:
        TypeError: if the link has no `stage` or is not callable.
    """
    if not callable(link) or not isinstance(getattr(link, "stage", None), Stage):
        raise TypeError(
            f"`link` must be a callable with a `stage` of {Stage.__name__}. "
            f"Received: link={link!r}."
        )
    chain = variable.constraint
    if not isinstance(chain, ChainedConstraint):
        chain = ChainedConstraint(chain)
        variable.constraint = chain
    if not any(known is link for known in chain.links):
        chain.links = tuple(sorted((*chain.links, link), key=lambda known: known.stage))


def remove(variable: Any, link: Link) -> None:
    """Takes a link off; with the last one the user's own constraint is back as it was.

    A link that is not there is no error, so that cleaning up after a fit that raised
    can be repeated.

    Args:
        variable: a `keras.Variable`.
        link: the very object that was pushed.
    """
    chain = variable.constraint
    if not isinstance(chain, ChainedConstraint):
        return
    chain.links = tuple(known for known in chain.links if known is not link)
    if not chain.links:
        variable.constraint = chain.inner


def links(variable: Any) -> tuple[Link, ...]:
    """The links on a variable, in the order they are applied."""
    chain = variable.constraint
    return chain.links if isinstance(chain, ChainedConstraint) else ()
