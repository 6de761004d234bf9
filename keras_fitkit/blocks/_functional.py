"""The functional builder of a block, from the block's own class."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Concatenate, ParamSpec, cast

import keras

from keras_fitkit._core import arguments
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._plan import Tensor
from keras_fitkit.blocks.block import Block

P = ParamSpec("P")


def functional(
    block: Callable[P, Block], example: str
) -> Callable[Concatenate[Tensor, P], Tensor]:
    """A function that applies a block as plain Keras layers.

    Args:
        block: the class of the block. Signature and docstring come from it.
        example: arguments for a call, to be shown in the docstring.

    Returns:
        A function of the inputs and the arguments of the class. Its name is that of
        the class in snake case.
    """

    def build(inputs: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if not isinstance(inputs, keras.KerasTensor):
            hint = f"On data use the layer: kf.blocks.{_name(block)}(...)(inputs)."
            text = arguments.message("inputs", _arguments.INPUTS, inputs, hint)
            raise TypeError(text)
        made = block(*args, **kwargs)
        return made.wire(inputs.shape, f"{made.name}_")(inputs)

    build.__name__ = build.__qualname__ = _snake_case(_name(block))
    build.__module__ = block.__module__
    build.__doc__ = _document(block, example)
    signature = inspect.signature(block)
    first = inspect.Parameter(
        "inputs", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="Tensor"
    )
    build.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[first, *signature.parameters.values()], return_annotation="Tensor"
    )
    return cast("Callable[Concatenate[Tensor, P], Tensor]", build)


def _name(block: Callable[..., Block]) -> str:
    return str(getattr(block, "__name__", block))


def _snake_case(name: str) -> str:
    """InvertedResidual -> inverted_residual; FusedMBConv -> fused_mb_conv."""
    starts = r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
    return re.sub(starts, "_", name).lower()


def _document(block: Callable[..., Block], example: str) -> str:
    """The class's docstring with the tensor as first argument."""
    name = _name(block)
    _, _, body = (inspect.getdoc(block) or "").partition("\nArgs:\n")
    own_arguments, _, rest = body.partition("\n\n")
    shapes, _, _ = rest.partition("Example:\n")
    return (
        f"`{name}` as plain Keras layers, visible to every tool.\n\n"
        f"The layers have the names of those inside `{name}`, after the name of the\n"
        "block. Weights, outputs and number of parameters are the same.\n\n"
        "Args:\n    inputs: a KerasTensor, such as `keras.Input(shape)`.\n"
        f"{own_arguments}\n\n"
        "Returns:\n    A KerasTensor.\n\n"
        f"{shapes}"
        "Example:\n    >>> import keras, keras_fitkit as kf\n"
        f"    >>> outputs = kf.blocks.{_snake_case(name)}({example})\n"
    )
