"""What EarlyStopping finds in `logs`: missing names, training values, sparsity."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras

from keras_fitkit._core import metric_names
from keras_fitkit.monitoring.overfit_monitor import OverfitMonitor
from keras_fitkit.monitoring.prechelt import GeneralizationLoss, SuccessiveStrips
from keras_fitkit.monitoring.rules import Rule, name_of


def has_validation(logs: Mapping[str, Any]) -> bool:
    """Whether `fit` validated in this epoch."""
    return any(name.startswith("val_") for name in logs)


def check_name(name: str, logs: Mapping[str, Any]) -> None:
    """Raises when `name` should be in `logs` by now and is not.

    A `val_` metric is not missed in an epoch without validation (`validation_freq`).
    """
    expected = has_validation(logs) or not name.startswith("val_")
    if expected and logs.get(name) is None:
        raise _not_measured(name, logs) or metric_names.missing(name, logs)


def _not_measured(name: str, logs: Mapping[str, Any]) -> ValueError | None:
    """The error for a value that OverfitMonitor writes, and has not written yet."""
    bare = name.removeprefix("train_").removeprefix("gap_")
    if bare == name or bare not in logs:
        return None
    first = "" if bare == "loss" else repr(bare)
    return ValueError(
        f"`monitor` must be one of the metrics in `logs`. Received: monitor={name!r}, "
        f"which kf.OverfitMonitor({first}) writes. Put that callback before this one "
        "in the list."
    )


def _may_write(callback: Any) -> bool:
    """Whether a callback may write a `val_` value of its own into `logs`."""
    known = type(callback).__module__.startswith(("keras.", "keras_fitkit."))
    return not known or isinstance(callback, keras.callbacks.LambdaCallback)


def check_fit(names: Sequence[str], owner: Any, fit: Any) -> None:
    """What a fit shows to be wrong with the monitored `names` before it has begun."""
    position = next((i for i, peer in enumerate(fit.callbacks) if peer is owner), None)
    for name in names:
        found = [
            index
            for index, peer in enumerate(fit.callbacks)
            if isinstance(peer, OverfitMonitor)
            and name in (f"train_{peer.monitor}", f"gap_{peer.monitor}")
        ]
        if position is not None and found and min(found) > position:
            raise ValueError(
                f"`monitor` must be written before it is read. Received: monitor="
                f"{name!r}, but the OverfitMonitor that writes it stands later in the "
                f"list of callbacks than this {type(owner).__name__}. Put it first."
            )
    if fit.validates or not names[0].startswith("val_"):
        return
    if not any(map(_may_write, fit.callbacks[:position])):
        warnings.warn(
            f"This fit validates nothing, and {type(owner).__name__} monitors "
            f"{names[0]!r}: it will not stop the fit, which ends with an error. Pass "
            "validation_data= to fit, or monitor a training metric.",
            stacklevel=3,
        )


def no_validation(names: Sequence[str]) -> str:
    """What to say after a fit in which nothing was validated."""
    listed = repr(names[0] if len(names) == 1 else list(names))
    return (
        f"`monitor` must be a metric that `fit` logs. Received: monitor={listed}, but "
        "no epoch of this fit had validation. Pass validation_data= to fit (with "
        "validation_freq=, enough epochs to get there) or monitor a training metric."
    )


def training_value(name: str, logs: Mapping[str, Any], rule: Rule) -> float | None:
    """The training value beside `name`; OverfitMonitor's honest one where it is there.

    None for the rules that read the validation curve only.
    """
    if isinstance(rule, (GeneralizationLoss, SuccessiveStrips)):
        return None
    bare = metric_names.training_name(name)
    for key in (f"train_{bare}", bare):
        value = metric_names.read(logs, key)
        if value is not None:
            return value
    raise ValueError(
        f"`criterion` must be a rule that `logs` has the values for. Received: "
        f"criterion={name_of(rule)}, which compares `{name}` with its training value, "
        f"but there is neither 'train_{bare}' nor '{bare}' in `logs`. Compile the "
        "model with that metric, or use criterion='gl' or 'up'."
    )


def has_started(
    start_when: str | Callable[[Mapping[str, Any]], bool] | None,
    started: bool,
    logs: Mapping[str, Any],
    pruners: Iterable[Any],
) -> bool:
    """Whether this epoch counts. A callable is asked until it says yes once.

    "auto": not while `sparsity` is below `sparsity_target`. A pruning callback later in
    the list has not written its logs yet: its attributes say the same.
    """
    if start_when is None:
        return True
    if not isinstance(start_when, str):
        return started or bool(start_when(logs))
    return not metric_names.settling(logs, pruners)
