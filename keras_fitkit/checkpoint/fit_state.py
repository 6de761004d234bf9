"""The variables of a fit: what they are, taken and put back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, arrays

_NUMBER = re.compile(r"_\d+(?=[_/]|$)")  # "dense_1" is "dense" of a second model


class FitState:
    """The variables of a model and of all its optimizers.

    Args:
        model: a built, compiled model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.optimizers = _optimizers(model)
        for optimizer in self.optimizers.values():
            if not optimizer.built:
                optimizer.build(model.trainable_variables)

    def groups(self) -> dict[str, list[Any]]:
        """The variables by owner: "model" and the name of each optimizer."""
        found = {"model": list(self.model.variables)}
        for name, optimizer in self.optimizers.items():
            found[name] = list(optimizer.variables)
        return found

    def take(self) -> dict[str, Any]:
        """All of them, not copied."""
        return {
            name: {_key(i, one): one for i, one in enumerate(variables)}
            for name, variables in self.groups().items()
        }

    def put(self, taken: Mapping[str, Any]) -> None:
        """Puts back what `take` gave, checked by `check_same` before."""
        for name, variables in self.groups().items():
            values = taken[name].values()
            for variable, value in zip(variables, values, strict=True):
                variable.assign(np.array(value))  # its own: nothing may share it

    def described(self) -> dict[str, Any]:
        """What must be the same when the run goes on."""
        return {
            "variables": {
                name: [_described(one) for one in variables]
                for name, variables in self.groups().items()
            },
            "optimizers": {
                name: {"class": type(one).__name__, "config": _config(one)}
                for name, one in self.optimizers.items()
            },
        }


def check_same(then: Mapping[str, Any], now: Mapping[str, Any], folder: str) -> None:
    """Compares two descriptions of a run, each of `FitState.described` and more.

    Raises:
        ValueError: says what differs.
    """
    changes = [
        *_changed_optimizers(then["optimizers"], now["optimizers"]),
        *_changed_variables(then["variables"], now["variables"]),
        *_changed_list("callbacks", then["callbacks"], now["callbacks"]),
        *_changed_values("data", then["data"] or {}, now["data"] or {}),
        *_changed_values("", {"backend": then["backend"]}, {"backend": now["backend"]}),
    ]
    if changes:
        shown = "; ".join(changes[:5]) + ("; ..." if len(changes) > 5 else "")
        hint = f"Changed: {shown}. Undo that, or take another folder."
        allowed = "a folder of the same run, or an empty one"
        raise ValueError(arguments.message("directory", allowed, folder, hint))


def _optimizers(model: Any) -> dict[str, Any]:
    """The optimizer, and others that a model of one's own has as attributes."""
    found = {"optimizer": getattr(model, "optimizer", None)}
    for name, value in vars(model).items():
        if value is not found["optimizer"]:
            found[f"optimizer {name}"] = value
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, keras.optimizers.Optimizer)
    }


def _key(index: int, variable: Any) -> str:
    return f"{index:05d}/{variable.path}"


def _described(variable: Any) -> dict[str, Any]:
    return {
        "path": variable.path,
        "shape": [int(size) for size in variable.shape],
        "dtype": str(variable.dtype),
    }


def _config(optimizer: Any) -> dict[str, Any]:
    """The plain settings of an optimizer, without what changes in a fit."""
    leave = ("learning_rate", "name", "initial_scale")
    return {
        name: value
        for name, value in optimizer.get_config().items()
        if name not in leave and isinstance(value, (bool, int, float, str, type(None)))
    }


def _changed_variables(then: Any, now: Any) -> list[str]:
    changes = []
    for owner in dict.fromkeys([*then, *now]):
        before, after = then.get(owner, []), now.get(owner, [])
        if len(before) != len(after):
            changes.append(f"{owner} had {len(before)} variables, has {len(after)}")
        for one, other in zip(before, after, strict=False):
            if _compared(one) != _compared(other):
                changes.append(f"{owner} had {_text(one)}, has {_text(other)}")
    return changes


def _compared(one: Mapping[str, Any]) -> Any:
    return _NUMBER.sub("", one["path"]), one["shape"], one["dtype"]


def _text(one: Mapping[str, Any]) -> str:
    return f"{one['path']} {tuple(one['shape'])} {one['dtype']}"


def _changed_optimizers(then: Any, now: Any) -> list[str]:
    classes = [
        {name: one["class"] for name, one in given.items()} for given in (then, now)
    ]
    changes = _changed_values("", *classes)
    for name in then:
        if name in now and then[name]["class"] == now[name]["class"]:
            changes += _changed_values(name, then[name]["config"], now[name]["config"])
    return changes


def _changed_values(owner: str, then: Any, now: Any) -> list[str]:
    label = f"{owner}'s " if owner else ""
    return [
        f"{label}{name} was {then.get(name)!r}, is {now.get(name)!r}"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]


def _changed_list(name: str, then: Sequence[str], now: Sequence[str]) -> list[str]:
    if list(then) == list(now):
        return []
    return [f"{name} were [{', '.join(then)}], are [{', '.join(now)}]"]


def history_of(
    model: Any, epoch: int, logs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The History with this epoch in it: Keras adds it after the user's callbacks."""
    history: Any = getattr(model, "history", None)
    if not isinstance(history, keras.callbacks.History):
        return {"epoch": [], "history": {}}
    epochs = list(history.epoch)
    values = {name: list(column) for name, column in history.history.items()}
    if not epochs or epochs[-1] != epoch:
        epochs.append(epoch)
        for name, value in (logs or {}).items():
            values.setdefault(name, []).append(_number(value))
    return {"epoch": epochs, "history": values}


def put_history(model: Any, taken: Mapping[str, Any]) -> None:
    """Makes the History what `history_of` gave."""
    history: Any = getattr(model, "history", None)
    if isinstance(history, keras.callbacks.History):
        history.epoch = list(taken["epoch"])
        history.history = {name: list(v) for name, v in taken["history"].items()}


def _number(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    array = arrays.to_numpy(value)
    return array.item() if array.ndim == 0 else array
