"""What `OverfitMonitor` says: every sentence of it, apart from the verdict's own."""

from __future__ import annotations

from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit.monitoring.curves import Curves
from keras_fitkit.monitoring.evidence import best_index
from keras_fitkit.monitoring.rules import name_of

_ACTIONS = ("warn", "stop")
NO_VALIDATION = (
    "OverfitMonitor cannot judge a fit without validation data: its verdict will be "
    "'unknown'. Pass validation_data or validation_split to fit."
)
MOVED_ORDER = (
    "OverfitMonitor read the tf.data.Dataset that fit trains on. If it shuffles, this "
    "moved its random order: the run is as good, but not the same to the bit as "
    "without the monitor. Pass one without shuffle()."
)


def check_action(action: Any) -> Any:
    """The `action` argument."""
    if callable(action) or (isinstance(action, str) and action in _ACTIONS):
        return action
    kind: type[Exception] = TypeError
    hint = ""
    if isinstance(action, str):
        kind, hint = ValueError, arguments.near(action, _ACTIONS)
    allowed = "'warn', 'stop', or a callable that gets the Diagnosis"
    raise kind(arguments.message("action", allowed, action, hint))


def fell_back(why: str, instead: str) -> str:
    """Why the training data is not measured, and what to do about it."""
    return (
        f"OverfitMonitor cannot measure the training data: {why}. It uses Keras's "
        f"running mean, moved by half an epoch. {instead}"
    )


def bad_weights(epoch: int, names: list[str]) -> str:
    """Which weights hold NaN or infinity, and what to do about it."""
    return (
        f"Epoch {epoch + 1}: NaN or infinite weights in {', '.join(names[:5])}"
        f"{' ...' if len(names) > 5 else ''}. The model has diverged; the loss "
        "may hide it. Lower the learning rate and look for NaN in the data."
    )


def flagged(epoch: int, curves: Curves, rule: Any, *, stops: bool) -> str:
    """That the model overfits, since when, by which rule."""
    judged = curves.usable
    values, epochs = curves.validation[judged], curves.epochs[judged]
    best = best_index(curves.oriented(curves.validation))
    ending = " Training stops." if stops else ""
    return (
        f"Epoch {epoch + 1}: {curves.monitor} overfits (rule {name_of(rule)}): "
        f"validation is {values[-1]:.4g}, its best (smoothed) was "
        f"{values[best]:.4g} in epoch {epochs[best] + 1}.{ending} See report() for "
        "what to do."
    )


def twice(monitor: str) -> str:
    """That two monitors of a fit would write the same columns."""
    return (
        "`monitor` must be another one in each OverfitMonitor of a fit. Received: "
        f"monitor={monitor!r} twice. Both would write train_{monitor} and "
        f"gap_{monitor}; leave one out."
    )


def line(epoch: int, curves: Curves) -> str:
    """One epoch in one line."""
    return (
        f"Epoch {epoch + 1}: train_{curves.monitor} {curves.train[-1]:.4g}, "
        f"val {curves.validation[-1]:.4g}, gap {curves.gap[-1]:+.4g}"
    )
