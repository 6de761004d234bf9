"""What a weight is worth: the lowest scores go first."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from keras_fitkit._core import arguments
from keras_fitkit.pruning.allocation import lamp_scores
from keras_fitkit.pruning.masks import Array

NAMES = ("magnitude", "taylor", "snip", "lamp", "random")
NEED_GRADIENTS = ("taylor", "snip")


@dataclasses.dataclass(frozen=True)
class ScoreContext:
    """What a score function is told besides the weight.

    Attributes:
        path: path of the weight, such as "dense/kernel".
        gradient: gradient of the loss on `data`, an array of the weight's shape, or
            None where `PruneSchedule` was given no `data`.
        step: the training step about to run, counted from 1.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.pruning import ScoreContext
        >>> ScoreContext(path="dense/kernel", gradient=None, step=1).path
        'dense/kernel'
    """

    path: str
    gradient: Array | None
    step: int


ScoreFunction: TypeAlias = Callable[[Array, ScoreContext], Array]


def magnitude(weight: Array, context: ScoreContext) -> Array:
    """|w|."""
    return np.asarray(np.abs(weight))


def taylor(weight: Array, context: ScoreContext) -> Array:
    """(w g)^2: the squared change of the loss, to first order, when w goes.

    Reference: Molchanov et al., "Importance Estimation for Neural Network Pruning",
    2019, arXiv:1906.10771.
    """
    return np.asarray(np.square(weight * _gradient(context)))


def snip(weight: Array, context: ScoreContext) -> Array:
    """|w g|.

    Reference: Lee et al., "SNIP", 2019, arXiv:1810.02340, without its
    normalization, which changes no order.
    """
    return np.asarray(np.abs(weight * _gradient(context)))


def lamp(weight: Array, context: ScoreContext) -> Array:
    """w^2 over the sum of the squares that are not below it (`lamp_scores`)."""
    return lamp_scores(np.abs(weight).reshape(-1)).reshape(weight.shape)


def random(weight: Array, context: ScoreContext) -> Array:
    """Uniform in [0, 1), for each path always the same: a baseline."""
    generator = np.random.default_rng(zlib.crc32(context.path.encode()))
    return generator.random(weight.shape, dtype=np.float32)


def resolve(scores: Any) -> ScoreFunction:
    """The function that the argument `scores` means."""
    if callable(scores):
        signature = "(weight, context) -> array"
        return arguments.function("scores", scores, signature, count=2)
    arguments.choice("scores", scores, NAMES)
    named: dict[str, ScoreFunction] = {
        "magnitude": magnitude,
        "taylor": taylor,
        "snip": snip,
        "lamp": lamp,
        "random": random,
    }
    return named[scores]


def checked(found: Any, weight: Array, path: str) -> Array:
    """What a score function gave, as an array that can be compared.

    Raises:
        ValueError: another shape, or NaN.
    """
    array = np.asarray(found)
    if not np.issubdtype(array.dtype, np.floating):
        if array.dtype.kind not in "biu":
            allowed = "a callable that gives an array of numbers"
            raise TypeError(arguments.message("scores", allowed, array.dtype))
        array = array.astype(np.float32)
    if array.shape != weight.shape:
        allowed = f"a callable that gives an array of the weight's shape {weight.shape}"
        hint = f"It was called for {path}."
        raise ValueError(arguments.message("scores", allowed, array.shape, hint))
    if np.isnan(np.max(array, initial=-np.inf)):
        raise ValueError(
            f"`scores` must give no NaN. Received: NaN among the scores of {path}."
        )
    return array


def _gradient(context: ScoreContext) -> Array:
    if context.gradient is None:
        raise ValueError(
            "`data` must be given for scores that need gradients. Received: data=None. "
            "Pass data=(x, y)."
        )
    return context.gradient
