"""What EarlyStopping finds in `logs`: missing names, training values, sparsity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from keras_fitkit._core import metric_names
from keras_fitkit.monitoring.prechelt import GeneralizationLoss, SuccessiveStrips
from keras_fitkit.monitoring.rules import Rule


def has_validation(logs: Mapping[str, Any]) -> bool:
    """Whether `fit` validated in this epoch."""
    return any(name.startswith("val_") for name in logs)


def check_name(name: str, logs: Mapping[str, Any]) -> None:
    """Raises when `name` should be in `logs` by now and is not.

    A `val_` metric is not missed in an epoch without validation (`validation_freq`).
    """
    expected = has_validation(logs) or not name.startswith("val_")
    if expected and logs.get(name) is None:
        raise metric_names.missing(name, logs)


def no_validation(names: Sequence[str]) -> str:
    """What to say after a fit in which nothing was validated."""
    listed = ", ".join(f"`{name}`" for name in names)
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
        f"criterion={rule!r}, which compares `{name}` with its training value, but "
        f"there is neither 'train_{bare}' nor '{bare}' in `logs`. Compile the model "
        "with that metric, or use criterion='gl' or 'up'."
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
