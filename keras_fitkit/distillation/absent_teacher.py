"""The teacher of a distiller that was loaded without it: its shapes are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit.distillation import heads
from keras_fitkit.distillation.distillation_loss import OutputSpec
from keras_fitkit.distillation.network import ModelOutputs


class AbsentTeacher:
    """What a distiller knows of a teacher that it was not saved with.

    Args:
        known: what `described` gave.
    """

    cached, absent, supports_jit = False, True, True
    variables: tuple[Any, ...] = ()

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._outputs = [_spec(one) for one in known["outputs"]]
        self._layers = {path: _spec(one) for path, one in known["layers"].items()}
        self._names = list(known["names"])
        self.inputs_made = bool(known.get("inputs_made"))  # by a function, now lost

    @property
    def number(self) -> int:
        """How many outputs there are."""
        return len(self._outputs)

    def output_spec(self, index: int) -> OutputSpec:
        """What is known of an output."""
        return self._outputs[index]

    def require_logits(self, index: int, sigmoid: bool) -> None:
        """They were there; what they are the logits of may not have been said.

        Raises:
            ValueError: a loss for sigmoids, and what may be a softmax.
        """
        if sigmoid:
            one = self._outputs[index]
            heads.refuse_assumed("teacher", one.activation, one.assumed)

    def use_as(self, index: int, sigmoid: bool | None) -> None:
        """Nothing is mixed here."""

    def layer_spec(self, path: str) -> OutputSpec:
        """What is known of a layer."""
        return self._layers[path]

    def output_names(self) -> list[str]:
        """The names of the outputs."""
        return self._names

    def __call__(self, inputs: Any) -> ModelOutputs:
        """Raises: there is nobody to ask."""
        allowed = "set: the distiller was loaded without it"
        hint = "Call `distiller.set_teacher(teacher)`."
        raise ValueError(arguments.message("teacher", allowed, None, hint))


def described(teacher: Any, paths: Iterable[str]) -> dict[str, Any]:
    """What is known of a teacher, as plain values."""
    outputs = [teacher.output_spec(i) for i in range(teacher.number)]
    return {
        "outputs": [dataclasses.asdict(one) for one in outputs],
        "layers": {p: dataclasses.asdict(teacher.layer_spec(p)) for p in paths},
        "names": teacher.output_names(),
    }


def refuse_other_teacher(then: Any, now: Any, paths: Iterable[str]) -> None:
    """Raises where the shapes that losses were prepared for have changed."""
    before, after = described(then, paths), described(now, paths)
    for group in ("outputs", "layers"):
        if _shapes(before[group]) != _shapes(after[group]):
            allowed = f"a model with the {group} of the first, {_shapes(before[group])}"
            received = f"{_shapes(after[group])}"
            raise ValueError(arguments.message("teacher", allowed, received))


def _spec(config: Mapping[str, Any]) -> OutputSpec:
    shape = config["shape"]
    return OutputSpec(**{**config, "shape": None if shape is None else tuple(shape)})


def _shapes(group: Any) -> Any:
    if isinstance(group, dict):
        return {name: list(one["shape"] or []) for name, one in group.items()}
    return [list(one["shape"] or []) for one in group]
