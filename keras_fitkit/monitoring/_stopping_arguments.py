"""The arguments of EarlyStopping: checked, and sorted by the metric they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_fitkit._core import arguments, metric_names
from keras_fitkit.monitoring import rules
from keras_fitkit.monitoring._stopping_conditions import MetricSettings, MetricWatch
from keras_fitkit.monitoring._stopping_run import RunSettings, StoppingRun
from keras_fitkit.monitoring.rules import Rule

WEIGHTS_SUFFIX = ".weights.h5"
CRITERIA = ("patience", "gl", "pq", "up")


def monitor_names(monitor: Any) -> tuple[str, ...]:
    """The metric names in `monitor`: one name, or a list of different names."""
    names = (monitor,) if isinstance(monitor, str) else monitor
    allowed = "the name of a metric or a list of different names"
    if not isinstance(names, (list, tuple)):
        raise TypeError(arguments.message("monitor", allowed, monitor))
    if not all(isinstance(name, str) for name in names):
        raise TypeError(arguments.message("monitor", allowed, monitor))
    if not names or not all(names) or len(set(names)) < len(names):
        raise ValueError(arguments.message("monitor", allowed, monitor))
    return tuple(names)


def stopping_criterion(criterion: Any, patience: int) -> tuple[str, Rule | None]:
    """The name of the criterion and its rule; None for "patience"."""
    if isinstance(criterion, str):
        arguments.choice("criterion", criterion, CRITERIA)
        if criterion == "patience":
            return criterion, None
        name, rule = criterion, rules.stopping_rule(criterion)
    else:
        rule = rules.function("criterion", criterion, CRITERIA)
        name = getattr(rule, "__name__", type(rule).__name__)
    if patience:
        hint = f"criterion={name!r} decides by itself; patience belongs to 'patience'."
        raise ValueError(arguments.message("patience", "0 with a rule", patience, hint))
    return name, rule


def watches_of(stopper: Any, rule: Rule | None) -> tuple[MetricWatch, ...]:
    """One watch for each monitored metric, from the constructor's attributes."""
    names = monitor_names(stopper.monitor)
    modes = _by_name("mode", stopper.mode, names, "auto", _mode)
    deltas = _by_name("min_delta", stopper.min_delta, names, 0.0, _not_negative)
    baselines = _by_name("baseline", stopper.baseline, names, None, _optional)
    good, bad = "stopping_threshold", "divergence_threshold"
    goals = _by_name(good, stopper.stopping_threshold, names, None, _optional)
    limits = _by_name(bad, stopper.divergence_threshold, names, None, _optional)
    return tuple(
        MetricWatch(
            MetricSettings(
                name=name,
                mode=modes[name],
                min_delta=deltas[name],
                relative=stopper.min_delta_mode == "relative",
                baseline=baselines[name],
                stopping_threshold=goals[name],
                divergence_threshold=limits[name],
                smoothing=stopper.smoothing,
            ),
            stopper.patience,
            rule,
        )
        for name in names
    )


def run_of(stopper: Any) -> StoppingRun:
    """The run that the constructor's attributes describe."""
    criterion, rule = stopping_criterion(stopper.criterion, stopper.patience)
    settings = RunSettings(
        criterion=criterion,
        combine=stopper.combine,
        min_epochs=stopper.min_epochs,
        start_from_epoch=stopper.start_from_epoch,
        start_when=stopper.start_when,
        max_seconds=stopper.max_seconds,
        check_finite=stopper.check_finite,
    )
    return StoppingRun(settings, watches_of(stopper, rule))


def check_plain(stopper: Any) -> None:
    """The arguments that do not depend on the metric."""
    arguments.integer("patience", stopper.patience, low=0)
    verbose = stopper.verbose  # True and False are common here, and Keras takes them
    arguments.integer(
        "verbose", int(verbose) if isinstance(verbose, bool) else verbose, low=0
    )
    arguments.flag("restore_best_weights", stopper.restore_best_weights)
    arguments.integer("start_from_epoch", stopper.start_from_epoch, low=0)
    arguments.choice("min_delta_mode", stopper.min_delta_mode, ("absolute", "relative"))
    arguments.number("smoothing", stopper.smoothing, low=0, high=1, include_high=False)
    arguments.flag("check_finite", stopper.check_finite)
    arguments.integer("min_epochs", stopper.min_epochs, low=0)
    if stopper.max_seconds is not None:
        seconds = stopper.max_seconds
        arguments.number("max_seconds", seconds, low=0, include_low=False)
    arguments.flag("restore_best_optimizer", stopper.restore_best_optimizer)
    if stopper.restore_best_optimizer and not stopper.restore_best_weights:
        hint = "The optimizer goes back to the epoch of the best weights: restore both."
        allowed = "False without restore_best_weights=True"
        raise ValueError(
            arguments.message("restore_best_optimizer", allowed, True, hint)
        )
    _check_start(stopper.start_when)
    arguments.choice("combine", stopper.combine, ("all", "any"))


def _check_start(given: Any) -> None:
    text = isinstance(given, str)
    if given == "auto" if text else given is None or callable(given):
        return
    allowed = "one of 'auto', None, or a callable (logs) -> bool"
    hint = arguments.near(given, ("auto",)) if text else ""
    kind = ValueError if text else TypeError
    raise kind(arguments.message("start_when", allowed, given, hint))


def weights_path(given: Any) -> Path | None:
    """`best_weights_path` as an absolute path, or None."""
    if given is None:
        return None
    return arguments.path("best_weights_path", given, suffix=WEIGHTS_SUFFIX).absolute()


def _by_name(
    argument: str,
    given: Any,
    names: tuple[str, ...],
    default: Any,
    check: Callable[[str, Any], Any],
) -> dict[str, Any]:
    """A value for each metric: one for all of them, or a dict by name."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, check(argument, given))
    for name in given:
        if name not in names:
            listed = ", ".join(repr(known) for known in names)
            allowed = f"one value or a dict by monitored name: {listed}"
            hint = arguments.near(str(name), names)
            raise ValueError(arguments.message(argument, allowed, dict(given), hint))
    return {name: check(argument, given.get(name, default)) for name in names}


def _mode(argument: str, value: Any) -> str:
    return arguments.choice(argument, value, metric_names.MODES)


def _not_negative(argument: str, value: Any) -> float:
    return arguments.number(argument, value, low=0)


def _optional(argument: str, value: Any) -> float | None:
    return None if value is None else arguments.number(argument, value)
