"""`diagnose`: the verdict for a run that has ended, from what it left behind."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from keras_fitkit._core import arguments, metric_names
from keras_fitkit.monitoring import learning_rates, rules
from keras_fitkit.monitoring.curve_maths import Array
from keras_fitkit.monitoring.curves import RUNNING_MEAN, Curves, Mode, half_epoch
from keras_fitkit.monitoring.diagnosis import Diagnosis, diagnose_run

LOGGED = "measured in inference mode at each epoch's end (OverfitMonitor's column)"
_NO_CONSTANT = "a finished run does not record it"
_MAX_BYTES = 100_000_000


def diagnose(
    source: Any,
    *,
    monitor: str = "loss",
    mode: Literal["auto", "min", "max"] = "auto",
    rule: Any = "auto",
) -> Diagnosis:
    """The verdict for a finished run: overfitting, underfitting, and what to do.

    Uses the column `train_<monitor>` where an `OverfitMonitor` wrote one, else Keras's
    running mean moved by half an epoch; the report says which. What needs the data (the
    constant predictor, the weights) is not known here: prefer `OverfitMonitor` in the
    fit where you can. Without the constant predictor "underfitting" is never said.

    Args:
        source: what the run left: a `History`, a dict of lists (`history.history`), or
            the path of a file written by `keras.callbacks.CSVLogger`. Of a file with
            several runs one after the other (`append=True`), the last one counts.
        monitor: training name of the quantity, without `val_`. Defaults to "loss".
        mode: "min", "max", or "auto": told from the name. Defaults to "auto".
        rule: how overfitting is flagged: "auto" (strict for runs of 40 epochs and more,
            quick for shorter ones), "gl", "pq", "up" (Prechelt 1998), or a callable
            `(train, validation) -> bool` on the values so far, lower is better.

    Returns:
        A `Diagnosis`. No validation column or too few epochs give the state "unknown"
        with the reason.

    Raises:
        TypeError: `source` is of another kind, or one of its columns is no list.
        ValueError: the metric is not there (lists those that are), its columns differ
            in length or are no numbers, the direction cannot be told, or the file is no
            CSVLogger file.
        FileNotFoundError: there is no such file.

    Example:
        >>> import keras_fitkit as kf
        >>> falling = [1.0 / (epoch + 1) for epoch in range(12)]
        >>> kf.diagnose({"loss": falling, "val_loss": falling}).state
        'undertrained'
        >>> kf.diagnose({"loss": falling}).summary[:44]
        'unknown, because there is no finite val_loss'

    Reference: the rule is measured in `benchmarks/diagnosis.py`; Prechelt, "Early
    Stopping - But When?", 1998.
    """
    name = check_monitor(monitor)
    arguments.choice("mode", mode, metric_names.MODES)
    rules.resolve(rule, 0)
    epochs, columns, notes = _read(source, name)
    model = getattr(source, "model", None)
    way: Mode = metric_names.require_direction(name, model, mode)  # type: ignore[assignment]
    curves = curves_from(columns, epochs, name, way, notes)
    rate = learning_rates.present_rate(model)
    return diagnose_run(dataclasses.replace(curves, optimizer=rate), rule)


def check_monitor(value: object) -> str:
    """The `monitor` argument: a training name."""
    if not isinstance(value, str):
        raise TypeError(arguments.message("monitor", "the name of a metric", value))
    if not value or value.startswith("val_"):
        allowed = "a training name, without 'val_'"
        hint = f"Pass {value.removeprefix('val_')!r}: both sides are looked at."
        raise ValueError(
            arguments.message("monitor", allowed, value, hint if value else "")
        )
    return value


def curves_from(
    columns: Mapping[str, Array],
    epochs: npt.NDArray[np.int64],
    monitor: str,
    mode: Mode,
    notes: Sequence[str] = (),
) -> Curves:
    """`Curves` from logged columns of equal length."""
    validation, penalty = _validation(columns, monitor, mode)
    running = columns[monitor] - penalty
    clean = columns.get(f"train_{monitor}")
    estimated = columns.get(estimated_name(monitor), np.zeros(0))
    honest = (
        clean is not None
        and bool(np.isfinite(clean).any())
        and not bool((estimated > 0).any())
    )
    return Curves(
        monitor=monitor,
        mode=mode,
        epochs=epochs,
        train=clean if clean is not None and honest else half_epoch(running, mode),
        validation=validation,
        keras_train=running,
        train_source=LOGGED if honest else RUNNING_MEAN,
        honest=honest,
        constant_note=_NO_CONSTANT,
        start=settled_from(columns),
        notes=tuple(notes),
    )


def _validation(
    columns: Mapping[str, Array], monitor: str, mode: Mode
) -> tuple[Array, Array]:
    """Validation as OverfitMonitor judged it, and what Keras's column has beyond that.

    `gap_<monitor>` is the difference of two values without the penalty of the weight
    regularizers; `val_<monitor>` contains it. Between the epochs that the monitor
    measured, the penalty is taken along a straight line.
    """
    logged = columns.get(f"val_{monitor}", np.full(len(columns[monitor]), np.nan))
    train, gap = columns.get(f"train_{monitor}"), columns.get(f"gap_{monitor}")
    if train is None or gap is None:
        return logged, np.zeros(len(logged))
    clean = train + gap if mode == "min" else train - gap
    beyond = logged - clean
    known = np.flatnonzero(np.isfinite(beyond))
    if len(known) == 0:
        return np.where(np.isfinite(clean), clean, logged), np.zeros(len(logged))
    penalty = np.interp(np.arange(len(logged)), known, beyond[known])
    return np.where(np.isfinite(clean), clean, logged - penalty), penalty


def estimated_name(monitor: str) -> str:
    """The column by which OverfitMonitor says that it did not measure training."""
    return f"train_{monitor}_estimated"


def settled_from(columns: Mapping[str, Array]) -> int:
    """Index of the first epoch after the last one below its sparsity target."""
    if "sparsity" not in columns or "sparsity_target" not in columns:
        return 0
    target = columns["sparsity_target"] - metric_names.SPARSITY_TOLERANCE
    ramp = np.flatnonzero(columns["sparsity"] < target)
    return int(ramp[-1]) + 1 if len(ramp) else 0


_Run: TypeAlias = tuple[npt.NDArray[np.int64], dict[str, Array], list[str]]


def _needed(monitor: str) -> tuple[str, ...]:
    """The columns that the verdict on `monitor` reads."""
    own = (monitor, f"val_{monitor}", f"train_{monitor}", f"gap_{monitor}")
    return (*own, estimated_name(monitor), "sparsity", "sparsity_target")


def _read(source: Any, monitor: str) -> _Run:
    """Epochs, the columns the verdict needs, notes."""
    if isinstance(source, keras.callbacks.History):
        columns = _numbers(source.history, monitor)
        epochs = np.asarray(source.epoch, dtype=np.int64)
        return epochs, _aligned(columns, monitor, len(epochs)), []
    if isinstance(source, Mapping):
        columns = _numbers(source, monitor)
        count = len(columns.get(monitor, ()))
        return np.arange(count), _aligned(columns, monitor, count), []
    if isinstance(source, (str, os.PathLike)):
        epochs, columns, notes = _read_csv(Path(source))
        return epochs, _aligned(columns, monitor, len(epochs)), notes
    allowed = "a History, a dict of lists, or the path of a CSVLogger file"
    raise TypeError(arguments.message("source", allowed, source))


def _numbers(history: Mapping[Any, Any], monitor: str) -> dict[str, Array]:
    """The columns of a history that hold one number an epoch."""
    columns = {}
    for name, values in history.items():
        text = isinstance(values, (str, bytes))
        if name in _needed(monitor) and (text or not isinstance(values, Iterable)):
            allowed = "a dict of lists, one number an epoch"
            raise TypeError(arguments.message("source", allowed, {name: values}))
        try:
            rows = [metric_names.scalar(str(name), value) for value in values]
        except (TypeError, ValueError) as error:
            if name in _needed(monitor):
                allowed = "a dict of lists, one number an epoch"
                raise ValueError(
                    arguments.message("source", allowed, {name: values})
                ) from error
            continue  # a column of arrays or texts
        columns[str(name)] = np.array(rows, dtype=float)
    return columns


def _aligned(columns: dict[str, Array], monitor: str, count: int) -> dict[str, Array]:
    """Needed columns, of `count` values; validation every k epochs gets NaN in between.

    Keras's History leaves out the epochs that `validation_freq=k` skips; k follows from
    the lengths unless there were too few validations to tell.
    """
    if monitor not in columns:
        raise _no_column(monitor, columns)
    return {
        name: _spread(name, columns[name], count)
        for name in _needed(monitor)
        if name in columns
    }


def _no_column(monitor: str, columns: Mapping[str, Array]) -> ValueError:
    """The error for a metric that the run did not record as one number an epoch."""
    if not columns:
        allowed = "the record of a run, with one number an epoch in each column"
        hint = f"It has no such column, and {monitor!r} is asked for."
        return ValueError(arguments.message("source", allowed, {}, hint))
    return missing_metric(monitor, columns, "the columns of `source`")


def missing_metric(
    monitor: str, known: Iterable[str], where: str, *, compile_it: bool = False
) -> ValueError:
    """The error for a training name that is not among the `known` ones.

    Names of validation, and those of OverfitMonitor, are not suggested: they are no
    value of `monitor`.
    """
    names = [name for name in known if not name.startswith(("val_", "train_", "gap_"))]
    listed = ", ".join(repr(name) for name in sorted(names)) or "none"
    allowed = f"one of the metrics in {where}: {listed}"
    hint = arguments.near(monitor, names)
    if compile_it:
        hint = hint or "Compile the model with that metric."
    return ValueError(arguments.message("monitor", allowed, monitor, hint))


def _spread(name: str, values: Array, count: int) -> Array:
    if len(values) == count:
        return values
    fits = [k for k in range(2, count + 1) if count // k == len(values)]
    if name.startswith("val_") and len(fits) == 1:
        out = np.full(count, np.nan)
        out[fits[0] - 1 :: fits[0]] = values
        return out
    allowed = f"a history whose columns have one value an epoch ({count})"
    hint = f"Column {name!r} has {len(values)}."
    if name.startswith("val_"):
        hint += (
            " With validation_freq > 1 pass the CSVLogger file, which marks the gaps."
        )
    raise ValueError(arguments.message("source", allowed, {name: len(values)}, hint))


def _read_csv(path: Path) -> _Run:
    if path.is_dir():
        raise ValueError(arguments.message("source", "a file, not a folder", str(path)))
    if not path.exists():
        raise FileNotFoundError(
            f"`source` must be a file that exists. Received: {path}."
        )
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(arguments.message("source", "a file under 100 MB", str(path)))
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _no_csv_logger(path, "it is not a text file") from error
    lines = text.splitlines()
    if not lines or not lines[0].startswith("epoch"):
        raise _no_csv_logger(path, "its first column is not 'epoch'")
    separator = lines[0].removeprefix("epoch")[:1] or ","
    try:
        rows = list(csv.DictReader(lines, delimiter=separator))
    except csv.Error as error:
        raise _no_csv_logger(path, f"it cannot be parsed ({error})") from error
    if not rows:
        raise _no_csv_logger(path, "it holds no epoch")
    # CSVLogger ends every row with a line break: without one the row was cut, and its
    # last number may be the beginning of another.
    cut = not text.endswith(("\n", "\r")) or None in rows[-1].values()
    if len(rows) == 1 or not cut:
        return _columns(path, rows)
    epochs, columns, notes = _columns(path, rows[:-1])
    return epochs, columns, [*notes, "the file's last row is unfinished and left out"]


def _columns(path: Path, rows: list[dict[str, str]]) -> _Run:
    if any(None in row or None in row.values() for row in rows):
        raise _no_csv_logger(path, "a row has more or fewer values than the header")
    try:
        epochs = np.array([int(row["epoch"]) for row in rows], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise _no_csv_logger(path, "an epoch is not a whole number") from error
    begin = max([i for i in range(1, len(rows)) if epochs[i] <= epochs[i - 1]] or [0])
    columns = {}
    for name in rows[0]:
        with contextlib.suppress(ValueError):  # a column of arrays or texts
            columns[name] = np.array([_cell(row[name]) for row in rows[begin:]])
    del columns["epoch"]
    notes = (
        [f"the file holds several runs; rows {begin + 1} and later count"]
        if begin
        else []
    )
    return epochs[begin:], columns, notes


def _cell(text: str) -> float:
    return float("nan") if text in ("NA", "") else float(text.strip('"[]'))


def _no_csv_logger(path: Path, why: str) -> ValueError:
    allowed = "a file written by keras.callbacks.CSVLogger (a header 'epoch,loss,...')"
    return ValueError(arguments.message("source", allowed, str(path), f"Here {why}."))
