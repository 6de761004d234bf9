"""OverfitMonitor: an honest train/validation gap in every epoch, and a verdict."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from keras_fitkit._core import _private, arguments, fits, metric_names, train_sample
from keras_fitkit._core.callback import FitCallback
from keras_fitkit._core.console import say
from keras_fitkit._core.finite import non_finite_weights
from keras_fitkit._core.train_sample import CannotReread, TrainSample
from keras_fitkit.monitoring import (
    _monitor_sample,
    _monitor_texts,
    honest,
    learning_rates,
    rules,
)
from keras_fitkit.monitoring.constant_predictor import constant_predictor
from keras_fitkit.monitoring.curves import RUNNING_MEAN, Curves, Mode, half_epoch
from keras_fitkit.monitoring.diagnosis import Diagnosis, diagnose_run
from keras_fitkit.monitoring.sources import check_monitor, missing_metric

DEFAULT_BATCH = 32  # Keras's own, where fit was given none


class OverfittingWarning(UserWarning):
    """The model overfits, says `OverfitMonitor`. Filter it by this class.

    Raises:
        OverfittingWarning: not by itself; a flag ends the run with it after
            `warnings.simplefilter("error", kf.OverfittingWarning)`.

    Example:
        >>> import keras_fitkit as kf
        >>> issubclass(kf.OverfittingWarning, UserWarning)
        True
    """


class OverfitMonitor(FitCallback):
    """Measures the train/validation gap honestly and says when the model overfits.

    What Keras prints for training is a mean over the epoch while the weights move, with
    dropout and augmentation on; the gap to validation often has the wrong sign. At the
    end of each epoch this callback measures a fixed sample of the training data as
    validation is measured: inference mode, end-of-epoch weights (those of
    `SwapEMAWeights` where validation used them), without the weight penalty. Training
    itself is the same, to the bit, with and without it. (A `PyDataset` is read once
    more before the training: the global random generators and those it holds are put
    back; another state of its own, such as a counter, has moved.)

        gap = validation - training   (for scores: training - validation)

    so a positive gap always means that validation is worse. For `monitor="loss"` the
    penalty of the weight regularizers, which both of Keras's losses contain, is taken
    from both sides.

    Sample weights are used where validation has them too, else left out on both sides;
    `class_weight`, which validation does not know, never is. (The running mean, where
    it must do, contains both.)

    A flag never ends the run by default: before its second descent, double descent
    looks the same. Where another callback is still changing the model on purpose
    (`sparsity` below `sparsity_target` in the logs) the verdict starts afresh after it.

    Args:
        monitor: training name of the quantity, without `val_`. Defaults to "loss".
        mode: "min", "max", or "auto": told from the metric. Defaults to "auto".
        train_data: what to measure: `(x, y)` or `(x, y, sample_weight)`, a
            `PyDataset`, a `tf.data.Dataset` or a torch `DataLoader`; build the
            `tf.data` one without augmentation, and without `shuffle`, whose order
            every reader moves. "auto" takes what `fit` was given where that can be
            read again (arrays, `PyDataset`), and otherwise says so and falls back.
            None: Keras's running mean, moved by half an epoch. Defaults to "auto".
        sample: rows that are measured, >= 1, or None for all. Defaults to 512.
        rule: "auto" (strict for runs of 40 epochs and more, quicker for shorter ones),
            "gl", "pq", "up" (Prechelt 1998), or a callable
            `(train, validation) -> bool` on the values so far, lower is better.
            Defaults to "auto".
        every: measure every so many epochs, >= 1; NaN in between. Defaults to 1.
        action: when it flags: "warn" (once, as `OverfittingWarning`), "stop" (warns and
            ends the run), or a callable that gets the `Diagnosis`. Defaults to "warn".
        check_weights: look for NaN and infinite weights at each epoch's end; on some
            backends relu hides them from the loss. Defaults to True.
        verbose: 0 silent, 1 the verdict when training ends, 2 a line each epoch too.
            Defaults to 1.

    Logs:
        `train_<monitor>` and `gap_<monitor>` in every epoch (NaN where `every` skips),
        and `train_<monitor>_estimated` = 1 where it is not measured. Put loggers such
        as `CSVLogger` after this callback.

    Raises:
        ValueError, TypeError: an argument outside its range, by name; at the first
            epoch's end for a `monitor` that is not there (lists the metrics).

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> keras.utils.set_random_seed(0)
        >>> x = np.random.default_rng(0).normal(size=(64, 8))
        >>> y = x[:, :1] ** 2
        >>> model = keras.Sequential(
        ...     [keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
        ... )
        >>> model.compile("adam", "mse")
        >>> monitor = kf.OverfitMonitor(verbose=0)
        >>> history = model.fit(
        ...     x, y, validation_split=0.5, epochs=6, verbose=0, callbacks=[monitor]
        ... )
        >>> sorted(history.history)
        ['gap_loss', 'loss', 'train_loss', 'val_loss']
        >>> monitor.report().train_source
        'the data given to fit: 32 rows of the arrays, inference mode'

    Reference: Prechelt, "Early Stopping - But When?", 1998; keras#3562, #6977 and #2344
    on the biased gap; `benchmarks/diagnosis.py` for what the rule is worth.
    """

    _state_attributes: ClassVar[tuple[str, ...]] = (
        "epochs_",
        "train_",
        "validation_",
        "keras_train_",
        "flagged_epoch_",
        "start_",
        "bad_weights_",
        "mode_",
        "train_source_",
        "honest_",
        "constant_",
        "rows_",
        "optimizer_",
        "fallback_",
    )

    def __init__(
        self,
        monitor: str = "loss",
        *,
        mode: Literal["auto", "min", "max"] = "auto",
        train_data: Any = "auto",
        sample: int | None = 512,
        rule: Any = "auto",
        every: int = 1,
        action: Literal["warn", "stop"] | Callable[[Diagnosis], Any] = "warn",
        check_weights: bool = True,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        self.monitor = check_monitor(monitor)
        self.mode = arguments.choice("mode", mode, metric_names.MODES)
        self.train_data = train_data
        self.sample = (
            None if sample is None else arguments.integer("sample", sample, low=1)
        )
        rules.resolve(rule, 0)
        self.rule = rule
        self.every = arguments.integer("every", every, low=1)
        self.action = _monitor_texts.check_action(action)
        self.check_weights = arguments.flag("check_weights", check_weights)
        self.verbose = arguments.integer("verbose", verbose, low=0, high=2)
        self._given = _monitor_sample.of_argument(train_data, self.sample)
        self._reset()

    def _reset(self) -> None:
        self.epochs_: list[int] = []
        self.train_: list[float] = []
        self.validation_: list[float] = []
        self.keras_train_: list[float] = []
        self.flagged_epoch_: int | None = None
        self.start_ = 0
        self.bad_weights_: list[Any] | None = None
        self.mode_: Mode | None = None
        self.train_source_ = RUNNING_MEAN
        self.honest_ = False
        self.constant_: list[Any] | None = None
        self.rows_: list[int | None] = [None, None]
        self.optimizer_: list[Any] | None = None
        self.fallback_ = ""
        self._sample: TrainSample | None = None
        self._peers: tuple[Any, ...] = ()
        self._batch_size = DEFAULT_BATCH

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts afresh: takes the training sample of this fit."""
        super().on_train_begin(logs)
        self._reset()
        fit = fits.running_fit(self.model)
        if fit is not None:
            self._peers = fit.callbacks
            self._batch_size = fit.batch_size or DEFAULT_BATCH
            self._check(fit)
        self._sample = self._given
        if self._given is None and self.train_data is not None:
            try:
                self._sample = _monitor_sample.of_fit(fit, self.sample)
            except CannotReread as error:
                self._fall_back(str(error), None if fit is None else fit.x)
        if self._sample is not None:
            self.honest_, self.train_source_ = True, self._sample.source
            rows = None if fit is None else fit.validation_rows
            self.rows_ = [self._sample.rows, rows]

    def _check(self, fit: fits.RunningFit) -> None:
        """What the fit shows to be wrong before it has begun."""
        same = [
            peer
            for peer in fit.callbacks
            if isinstance(peer, OverfitMonitor) and peer.monitor == self.monitor
        ]
        if len(same) > 1:
            raise ValueError(_monitor_texts.twice(self.monitor))
        if not fit.validates:
            warnings.warn(_monitor_texts.NO_VALIDATION, UserWarning, stacklevel=2)
        if fit.x is self.train_data and train_sample.is_tf_dataset(fit.x):
            warnings.warn(_monitor_texts.MOVED_ORDER, UserWarning, stacklevel=2)

    def _fall_back(self, why: str, fit_data: Any = None) -> None:
        """From now on the running mean; says why."""
        self._sample, self.honest_ = None, False
        self.train_source_, self.fallback_ = RUNNING_MEAN, why
        self.rows_ = [None, None]
        instead = _monitor_sample.instead(self.train_data, fit_data)
        warnings.warn(_monitor_texts.fell_back(why, instead), UserWarning, stacklevel=2)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures, writes into `logs`, judges, and acts when the rule flags."""
        if logs is None:
            return
        model = self.model
        running = metric_names.read(logs, self.monitor)
        if running is None:
            raise missing_metric(self.monitor, logs, "`logs`", compile_it=True)
        if self.mode_ is None:
            self.mode_ = metric_names.require_direction(  # type: ignore[assignment]
                self.monitor, model, self.mode
            )
        self.epochs_.append(int(epoch))
        self.keras_train_.append(running - self._penalty(model))
        with _private.validation_weights(self._peers):
            penalty = self._penalty(model)
            self.train_.append(self._train_value(model, penalty))
        given = metric_names.read(logs, f"val_{self.monitor}")
        self.validation_.append(math.nan if given is None else given - penalty)
        rate = learning_rates.present_rate(model)
        self.optimizer_ = None if rate is None else list(rate)
        self._look_at_weights(model, epoch)
        if metric_names.settling(logs, self._peers):
            self.start_ = len(self.epochs_)
        curves = self._curves()
        logs[f"train_{self.monitor}"] = float(curves.train[-1])
        logs[f"gap_{self.monitor}"] = float(curves.gap[-1])
        if not self.honest_:
            logs[f"train_{self.monitor}_estimated"] = 1.0
        if self.verbose > 1:
            say(_monitor_texts.line(epoch, curves))
        self._judge(epoch, curves)

    def _penalty(self, model: Any) -> float:
        return honest.penalty(model) if self.monitor == "loss" else 0.0

    def _train_value(self, model: Any, penalty: float) -> float:
        """The honest training value, NaN where there is none in this epoch."""
        if self._sample is None or (len(self.epochs_) - 1) % self.every:
            return math.nan
        try:
            values = honest.measure(model, self._sample, self._batch_size)
        # A test step that cannot take the sample (a fixed batch size, say): the first
        # epoch tells, and the training goes on.
        except Exception as error:
            why = _monitor_sample.misfit(model, self._sample)
            failed = f"measuring failed with {type(error).__name__}: {error}"
            self._fall_back(why or failed)
            return math.nan
        if self.monitor not in values:
            self._fall_back(f"evaluate does not give {self.monitor!r}")
            return math.nan
        if self.constant_ is None:
            found = constant_predictor(
                model, self._sample, self.monitor, str(self.mode_)
            )
            self.constant_ = list(found)
        return values[self.monitor] - penalty

    def _look_at_weights(self, model: Any, epoch: int) -> None:
        if not self.check_weights or self.bad_weights_ is not None:
            return
        bad = non_finite_weights(model)
        if bad:
            self.bad_weights_ = [int(epoch), bad]
            text = _monitor_texts.bad_weights(epoch, bad)
            warnings.warn(text, UserWarning, stacklevel=2)

    def _curves(self) -> Curves:
        way: Mode = self.mode_ or "min"
        running = np.array(self.keras_train_, dtype=float)
        if self.honest_:
            train = np.array(self.train_, dtype=float)
        else:
            train = half_epoch(running, way)
            train[np.arange(len(train)) % self.every != 0] = math.nan
        bad, rate, why = self.bad_weights_, self.optimizer_, self.fallback_
        value, note = self.constant_ or (None, "needs train_data")
        return Curves(
            monitor=self.monitor,
            mode=way,
            epochs=np.array(self.epochs_, dtype=np.int64),
            train=train,
            validation=np.array(self.validation_, dtype=float),
            keras_train=running,
            train_source=self.train_source_,
            honest=self.honest_,
            constant=value,
            constant_note=note,
            start=self.start_,
            bad_weights=None if bad is None else (int(bad[0]), tuple(bad[1])),
            rows=(self.rows_[0], self.rows_[1]),
            optimizer=(rate[0], float(rate[1])) if rate else None,
            live=True,
            notes=(f"training is not measured: {why}",) if why else (),
        )

    def _judge(self, epoch: int, curves: Curves) -> None:
        """Asks the rule about this epoch, and acts the first time it flags."""
        usable = curves.usable
        if self.flagged_epoch_ is not None or not (len(usable) and usable[-1]):
            return
        planned = int((self.params or {}).get("epochs") or 0) // self.every
        rule = rules.resolve(self.rule, planned)
        train, validation = (
            curves.oriented(curves.train),
            curves.oriented(curves.validation),
        )
        if rule(train, validation):
            self._flag(epoch, curves)

    def _flag(self, epoch: int, curves: Curves) -> None:
        self.flagged_epoch_ = int(epoch)
        if callable(self.action):
            self.action(diagnose_run(curves, self.rule))
            return
        stops = self.action == "stop"
        if stops:
            self.model.stop_training = True
        text = _monitor_texts.flagged(epoch, curves, self.rule, stops=stops)
        warnings.warn(text, OverfittingWarning, stacklevel=3)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Prints the verdict (`verbose` 1 and up) and lets go of the training data.

        A run that something else ended early may have been too short for the rule of
        the planned length: what the report says then is said here.
        """
        super().on_train_end(logs)
        if self.epochs_:
            verdict = self.report()
            if verdict.state == "overfitting" and self.flagged_epoch_ is None:
                self._flag(self.epochs_[-1], verdict.curves)
            if self.verbose:
                say(f"OverfitMonitor: {self.monitor}: {verdict.summary}")
        self._sample = None

    def report(self) -> Diagnosis:
        """The verdict on the epochs so far; also after a fit that was interrupted.

        Returns:
            A `Diagnosis`: state, since when, severity, evidence, advice.
        """
        return diagnose_run(self._curves(), self.rule)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The picture of `report()`: see `Diagnosis.plot`."""
        return self.report().plot(path)
