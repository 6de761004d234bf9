"""Stopping a fit at the right moment, with the weights of the right epoch.

What counts and when it ends is in `_stopping_run` and `_stopping_conditions`, the
weights in `_best_weights`, the argument checks in `_stopping_arguments`; here they meet
Keras.
The inherited `on_epoch_end` is never called: Keras is changing it (keras#23559).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import keras

from keras_fitkit._core import fits, metric_names
from keras_fitkit._core.callback import FitCallback
from keras_fitkit._core.console import say
from keras_fitkit._core.finite import non_finite_weights
from keras_fitkit.monitoring import _best_weights, _stopping_arguments, _stopping_logs
from keras_fitkit.monitoring.rules import Rule
from keras_fitkit.monitoring.stopping_report import StoppingReport

PerMetric: TypeAlias = float | Mapping[str, float]

_monotonic = time.monotonic  # a name of this module, so that tests can turn the clock


class EarlyStopping(FitCallback, keras.callbacks.EarlyStopping):
    """`keras.callbacks.EarlyStopping` that survives NaN, noise, a typo, Ctrl-C and EMA.

    With its default arguments it stops where Keras 3.15.1 stops. An epoch is an
    improvement when (mode "min"; "max" mirrored)

        value + min_delta         < best      min_delta_mode="absolute"
        value + min_delta * |best| < best     min_delta_mode="relative"

    and training stops after `patience` epochs without one; `patience` 0 and 1 are the
    same. `value` is the metric, or with `smoothing` b its bias-corrected average
    s(t) / (1 - b^t), s(t) = b s(t-1) + (1 - b) metric(t); `best`, thresholds and best
    weights then follow the average.

    * A value that is not finite is never `best` and counts as no improvement. When it
      appears and the weights hold NaN too, training stops at once. (A finite metric can
      hide NaN weights: `OverfitMonitor` looks for those.)
    * Epochs in which `monitor` is not in `logs` (`validation_freq`) do not count, nor
      do those in which a `train_` or `gap_` metric is NaN: `OverfitMonitor(every=n)`
      did not measure it there.
    * With `baseline`, `wait` starts again only with an epoch that beats the best one
      and the baseline, as in Keras; but one bad epoch does not end a run that was still
      improving below the baseline, that takes two in a row.
    * With `SwapEMAWeights` the best weights are the averaged ones, which validation
      used, and a fit that this callback stops, or one before it in the list, ends with
      the averages in the model. With `swap_on_epoch=True` a stop at an epoch end by a
      callback after this one ends with the raw weights, as in Keras, unless
      `restore_best_weights=True`: put EarlyStopping last.
    * An epoch cut short by `max_seconds` counts: its weights were validated.

    The run state can be carried over with `get_state` and `set_state`.

    Args:
        monitor: a name in `logs`, or a list of names. `best` and the best weights
            follow the first. Defaults to "val_loss".
        min_delta: smallest improvement, >= 0, in units of the metric or of |best|.
            With a rule as `criterion` it says only which epoch is best. Defaults to 0.
        patience: epochs without improvement, >= 0; 0 with another `criterion`.
            Defaults to 0.
        verbose: 0 is silent, 1 prints why it stopped and what it restored.
        mode: "min", "max" or "auto" (from the metric or its name). Defaults to "auto".
        baseline: value to beat within `patience` epochs, or None.
        restore_best_weights: put the best weights into the model when the fit ends.
            Defaults to False.
        start_from_epoch: first epoch that counts, >= 0, counted from epoch 0 of the
            model's training (`initial_epoch`). Earlier ones are never best.
        min_delta_mode: "absolute" or "relative". Defaults to "absolute".
        smoothing: b in [0, 1); 0 is off. Defaults to 0.0.
        check_finite: warn once about values that are not finite and look into the
            weights. Defaults to True.
        stopping_threshold: stop once the value is at least that good, or None.
        divergence_threshold: stop once a value is worse than that, or None; one metric
            of a list is enough.
        min_epochs: epochs of this fit, >= 0, before which only `max_seconds` and
            NaN weights stop it. Defaults to 0.
        max_seconds: wall clock of this fit, > 0, or None. Training ends after the
            running batch, validation of that epoch still runs.
        criterion: "patience"; "gl", "pq" or "up" (Prechelt 1998) or any callable
            `(train, validation) -> bool` on the curves so far, lower is better. Rules
            do not use `patience`. PQ reads `train_<name>` or `<name>`.
        restore_best_optimizer: also restore all optimizer variables of the best epoch.
            Defaults to False.
        best_weights_path: file ending in `.weights.h5`, or None. Each best epoch is
            written there, whole or not at all, over what was there; Ctrl-C or a kill
            leaves it, and no second copy of the model is kept in memory.
        start_when: "auto": epochs with `sparsity` below `sparsity_target` do not count
            and are never best, and the rule starts afresh at the target; a callable
            `(logs) -> bool`: counting starts with the first epoch for which it is true;
            None: all epochs count. Defaults to "auto".
        combine: for a list, whether "all" or "any" metric must ask for the stop.

    With a list, `mode`, `min_delta`, `baseline` and the thresholds are one value
    for all or a dict by name.

    Logs:
        Reads the monitored names, `sparsity` and `sparsity_target`, and with
        `criterion` the training values. Writes nothing.

    Raises:
        ValueError, TypeError: an argument outside its range, by name.
        ValueError: during `fit`, at the end of the first epoch that should have it: a
            metric that is not in `logs`, an array instead of a number, a direction that
            cannot be told; at the end of the fit when nothing was validated (of which
            a warning tells at its beginning, where the fit shows it).

    Example:
        >>> import keras, numpy as np
        >>> import keras_fitkit as kf
        >>> keras.utils.set_random_seed(0)
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> stopper = kf.EarlyStopping(
        ...     "loss",
        ...     patience=3,
        ...     min_delta=0.05,
        ...     min_delta_mode="relative",
        ...     stopping_threshold=0.1,
        ... )
        >>> history = model.fit(x, y, epochs=100, verbose=0, callbacks=[stopper])
        >>> stopper.report().condition, len(history.epoch) < 100
        ('stopping_threshold', True)

    References: Prechelt, "Early Stopping - But When?", 1998 (GL, PQ, UP). Defects of
    Keras's callback that this one answers: keras#15863 (relative min_delta), #20323
    (restored weights), #21001 (list of monitors), #12052 (which condition stopped),
    #16393, #23559, #2629 (state), tensorflow#33739 (Prechelt's rules).
    """

    _state_attributes: ClassVar[tuple[str, ...]] = (
        "run_",  # first: it may refuse a state, and nothing is changed then
        "stopped_epoch",
        "best_weights",
        "best_optimizer_weights_",
        "best_on_disk_",
        "restored_",
    )

    def __init__(
        self,
        monitor: str | Sequence[str] = "val_loss",
        min_delta: PerMetric = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str | Mapping[str, str] = "auto",
        baseline: PerMetric | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        *,
        min_delta_mode: Literal["absolute", "relative"] = "absolute",
        smoothing: float = 0.0,
        check_finite: bool = True,
        stopping_threshold: PerMetric | None = None,
        divergence_threshold: PerMetric | None = None,
        min_epochs: int = 0,
        max_seconds: float | None = None,
        criterion: str | Rule = "patience",
        restore_best_optimizer: bool = False,
        best_weights_path: Any = None,
        start_when: str | Callable[[Mapping[str, Any]], bool] | None = "auto",
        combine: Literal["all", "any"] = "all",
    ) -> None:
        super().__init__(
            patience=patience,
            verbose=verbose,
            restore_best_weights=restore_best_weights,
            start_from_epoch=start_from_epoch,
        )
        self.monitor, self.mode, self.baseline = monitor, mode, baseline
        self.min_delta, self.min_delta_mode = min_delta, min_delta_mode
        self.smoothing, self.check_finite = smoothing, check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.min_epochs, self.max_seconds = min_epochs, max_seconds
        self.criterion, self.combine, self.start_when = criterion, combine, start_when
        self.restore_best_optimizer = restore_best_optimizer
        self.best_weights_path = best_weights_path
        _stopping_arguments.check_plain(self)
        self._path = _stopping_arguments.weights_path(best_weights_path)
        self._run = _stopping_arguments.run_of(self)
        self._swaps: tuple[Any, ...] = ()
        self._pruners: tuple[Any, ...] = ()
        self._reset(None)

    @property
    def run_(self) -> dict[str, Any]:
        """The state of the run and of each metric, as plain values."""
        return self._run.snapshot()

    @run_.setter
    def run_(self, snapshot: Mapping[str, Any]) -> None:
        self._run.resume(snapshot)
        self._mirror()

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Forgets the last fit and looks which callbacks are in this one."""
        super().on_train_begin(logs)
        self._reset(_monotonic())
        fit = fits.running_fit(self.model)
        peers = () if fit is None else fit.callbacks
        if fit is not None:
            _stopping_logs.check_fit(self._run.names, self, fit)
        self._swaps = tuple(
            peer for peer in peers if isinstance(peer, keras.callbacks.SwapEMAWeights)
        )
        self._pruners = tuple(filter(metric_names.shows_sparsity, peers))
        for watch in self._run.watches:
            # The others wait for the end of an epoch: on TensorFlow a new model has no
            # metric objects yet that could say which way is better.
            name, mode = watch.settings.name, watch.settings.mode
            if mode == "auto" and metric_names.training_name(name) == "loss":
                watch.turn("min")
        self._mirror()

    def on_train_batch_begin(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Ends training after this batch when the time is up.

        Keras calls this hook in the training loop itself; a hook at the end of a batch
        would cost its asynchronous calls.
        """
        super().on_train_batch_begin(batch, logs)
        if self.max_seconds is not None and self._run.time_is_up(_monotonic()):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Counts the epoch and decides."""
        self._run.tick(_monotonic())
        outcome = self._run.epoch(
            epoch,
            logs,
            self._pruners,
            direction=lambda name, mode: metric_names.require_direction(
                name, self.model, mode
            ),
            broken=lambda: next(iter(non_finite_weights(self.model)), None),
        )
        if outcome.forgotten:
            self._forget_weights()
        if outcome.improved and (self.restore_best_weights or self._path is not None):
            self._take_weights()
        self._mirror()
        self.stopped_epoch = epoch if outcome.reason else 0
        if outcome.reason:
            self.model.stop_training = True
        if self._swaps and self.model.stop_training:
            _best_weights.keep_averages(self._swaps, epoch)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Says what ended the fit and restores the best weights."""
        self._run.tick(_monotonic())
        state = self._run.state
        if state.condition == "running":
            stopped = bool(getattr(self.model, "stop_training", False))
            state.condition = "other" if stopped else "finished"
        elif self.verbose:
            because = "" if state.condition == "patience" else f" ({state.why})"
            say(f"Epoch {self.stopped_epoch + 1}: early stopping{because}")
        if self.restore_best_weights:
            self._restore_weights()
        self._swaps = self._pruners = ()
        self._complain()

    def get_monitor_value(self, logs: Mapping[str, Any] | None) -> float | None:
        """The value of the first monitored metric in `logs`, or None."""
        return metric_names.read(logs or {}, self._run.names[0])

    def report(self) -> StoppingReport:
        """Which condition ended the fit, since when, and with which numbers."""
        keys = ("value", "raw", "best", "best_epoch", "wait")
        state = self._run.state
        return StoppingReport(
            condition=state.condition,
            epoch=state.last_epoch,
            best_epoch=None if self.best is None else self.best_epoch,
            best=self.best,
            monitor=self._run.names,
            why=state.why,
            values={
                watch.settings.name: {key: getattr(watch.progress, key) for key in keys}
                for watch in self._run.watches
            },
            seconds=state.seconds,
            restored=self.restored_,
            notes=tuple(self._run.notes()),
        )

    def _reset(self, now: float | None) -> None:
        self._run.begin(now)
        self._mirror()
        self._forget_weights()
        self.stopped_epoch = 0
        self.restored_ = self._write_failed = False

    def _forget_weights(self) -> None:
        self.best_weights: Any = None
        self.best_optimizer_weights_: Any = None
        self.best_on_disk_ = False

    def _mirror(self) -> None:
        """Shows the run under the names that Keras gave them."""
        first = self._run.first
        self.best, self.best_epoch = first.best, first.best_epoch
        self.wait = self._run.wait
        operators = {"min": keras.ops.less, "max": keras.ops.greater}
        self.monitor_op = operators.get(first.direction or "")

    def _take_weights(self) -> None:
        best = _best_weights.take(
            self.model,
            self._swaps,
            path=self._path,
            memory=self.restore_best_weights,
            optimizer=self.restore_best_optimizer,
            warn=not self._write_failed,
        )
        self._write_failed = self._path is not None and not best.on_disk
        self.best_weights, self.best_on_disk_ = best.weights, best.on_disk
        self.best_optimizer_weights_ = best.optimizer

    def _restore_weights(self) -> None:
        best = _best_weights.BestWeights(
            self.best_weights, self.best_optimizer_weights_, self.best_on_disk_
        )
        self.restored_ = _best_weights.restore(
            self.model,
            best,
            self._swaps,
            path=self._path,
            optimizer=self.restore_best_optimizer,
        )
        if self.restored_ and self.verbose:
            number = self.best_epoch + 1
            say(f"Restoring model weights from the end of the best epoch: {number}.")

    def _complain(self) -> None:
        state, unseen = self._run.state, self._run.never_seen()
        if unseen:
            text = _stopping_logs.no_validation(unseen)
            if state.condition == "finished":
                raise ValueError(text)
            warnings.warn(text, stacklevel=2)
        elif state.logs_seen and self.restore_best_weights and self.best is None:
            text = " ".join(["No best weights were restored.", *self._run.notes()])
            warnings.warn(text, stacklevel=2)
