"""The variables of a fit: what they are, taken and put back."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import _private, arguments, arrays
from keras_fitkit.checkpoint import settings

_NUMBER = re.compile(r"_\d+(?=[_/]|$)")  # "dense_1" is "dense" of a second model


class FitState:
    """The variables of a model and of all its optimizers.

    Args:
        model: a built, compiled model.

    Raises:
        ValueError: an optimizer beside the compiled one is not built.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.optimizers = _optimizers(model)
        for name, optimizer in self.optimizers.items():
            if optimizer.built:
                continue
            if optimizer is not model.optimizer:
                hint = "Call its `build(variables)` before `fit`."
                allowed = "a model whose optimizers are built"
                raise ValueError(arguments.message("model", allowed, name, hint))
            strategy = getattr(model, "distribute_strategy", None)  # TensorFlow only
            with strategy.scope() if strategy else contextlib.nullcontext():
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
        """What must be the same when the run goes on, at the beginning of a fit."""
        return {
            "variables": {
                name: [_described(one) for one in variables]
                for name, variables in self.groups().items()
            },
            "settings": {
                **{
                    name: {"class": type(one).__name__, **settings.of(one)}
                    for name, one in self.optimizers.items()
                },
                "loss": settings.of_loss(self.model),
                **settings.of_layers(self.model),
            },
        }


def check_same(then: Mapping[str, Any], now: Mapping[str, Any], folder: str) -> None:
    """Compares two descriptions of a run, each of `FitState.described` and more.

    Raises:
        ValueError: says what differs.
    """
    changes = [
        *_changed_settings(then["settings"], now["settings"]),
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
    """The optimizer, and others that the model or a part of it has as attributes."""
    found: dict[str, Any] = {}
    waiting, seen = [("", model)], set()
    while waiting:
        place, owner = waiting.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        for name, value in vars(owner).items():
            for one in _flat(value):
                if isinstance(one, keras.optimizers.Optimizer):
                    found.setdefault(f"optimizer {place}{name}", one)
        waiting += [
            (f"{place}{layer.name}/", layer) for layer in _private.sublayers(owner)
        ]
    main = getattr(model, "optimizer", None)
    others = {name: one for name, one in found.items() if one is not main}
    return {"optimizer": main, **others} if main is not None else others


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _key(index: int, variable: Any) -> str:
    return f"{index:05d}/{variable.path}"


def _described(variable: Any) -> dict[str, Any]:
    return {
        "path": variable.path,
        "shape": [int(size) for size in variable.shape],
        "dtype": str(variable.dtype),
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


def _changed_settings(then: Any, now: Any) -> list[str]:
    changes = []
    for owner in dict.fromkeys([*then, *now]):
        if owner in then and owner in now:
            found = _changed_values(owner, then[owner], now[owner])
            other = then[owner].get("class") != now[owner].get("class")
            changes += found[:1] if other else found  # its settings are others as well
        else:
            changes.append(f"{owner} is {'gone' if owner in then else 'new'}")
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
    # One whose fit was refused before it began has no `epoch`.
    if not isinstance(history, keras.callbacks.History) or not hasattr(
        history, "epoch"
    ):
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
