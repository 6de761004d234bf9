"""What a model is compiled with, as far as Keras tells it."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

KINDS = {
    "sparsecategoricalcrossentropy": "sparse",
    "categoricalcrossentropy": "categorical",
    "categoricalfocalcrossentropy": "categorical",
    "binarycrossentropy": "binary",
    "binaryfocalcrossentropy": "binary",
    "meansquarederror": "regression",
    "meanabsoluteerror": "regression",
    "meanabsolutepercentageerror": "regression",
    "meansquaredlogarithmicerror": "regression",
    "huber": "regression",
    "logcosh": "regression",
}
# Enough numbers that those of a linear layer lie in [0, 1] by chance next to never.
ENOUGH = 32


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss of one output.

    Attributes:
        name: of its class or function.
        kind: "sparse", "categorical", "binary" or "regression"; None for another.
        from_logits: whether it takes numbers before the softmax or sigmoid.
        ignored: a class that does not count, None for none.
    """

    name: str
    kind: str | None
    from_logits: bool = False
    ignored: int | None = None


def by_output(model: Any, names: list[str]) -> list[Loss | None]:
    """The loss of each output; None where it is not compiled with one."""
    given = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
    if isinstance(given, dict):
        return [_loss(given.get(name)) for name in names]
    if isinstance(given, (list, tuple)):
        found = [_loss(one) for one in given]
        return found if len(found) == len(names) else [None] * len(names)
    return [_loss(given)] * len(names)


def _loss(given: Any) -> Loss | None:
    if given is None:
        return None
    if isinstance(given, str):
        given = keras.losses.get(given)
    whole = isinstance(given, keras.losses.Loss)
    name = type(given).__name__ if whole else getattr(given, "__name__", "")
    kind = KINDS.get(name.replace("_", "").lower())
    config = given.get_config() if whole and kind is not None else {}
    logits = bool(config.get("from_logits", False))
    return Loss(name or "loss", kind, logits, config.get("ignore_class"))


def metric_names(model: Any) -> list[str]:
    """The metrics that a model is compiled with, by name or class."""
    if not getattr(model, "compiled", False):
        return []
    config = model.get_compile_config() or {}
    found = []
    for key in ("metrics", "weighted_metrics"):
        for one in _flat(config.get(key)):
            found.append(one)
    return found


def _flat(config: Any) -> list[str]:
    if config is None:
        return []
    if isinstance(config, str):
        return [config]
    if isinstance(config, dict) and "class_name" in config:
        inside = config.get("config")
        own = inside.get("name") if isinstance(inside, dict) else inside
        kind = config["class_name"]
        return [str(own if kind == "function" else kind)]
    values = config.values() if isinstance(config, dict) else config
    return [name for one in values for name in _flat(one)]


def told_from(values: Any) -> str | None:
    """What the values of an output look like: "softmax", "sigmoid" or "linear"."""
    if values.size == 0 or not np.isfinite(values).all():
        return None
    if values.min() < 0 or values.max() > 1:
        return "linear"
    many = values.ndim > 1 and values.shape[-1] > 1
    if many and np.allclose(values.sum(-1), 1, atol=1e-3) and len(values) > 1:
        return "softmax"
    return "sigmoid" if values.size >= ENOUGH else None
