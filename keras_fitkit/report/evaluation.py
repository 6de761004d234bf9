"""What models say on data: their metrics, how certain those are, and paired tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import _private, arrays, metric_names
from keras_fitkit.report import statistics
from keras_fitkit.report.metric_values import MetricValue, PairedTest

Array = Any


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric that can be taken of any model's outputs.

    Attributes:
        name: as Keras calls it.
        direction: "max" or "min"; "min" where it is not known.
        rows: a value for each row, whose mean the metric is; None where it is no mean.
        whole: the value over all rows.
    """

    name: str
    direction: str
    rows: Callable[[Array, Array], Array | None]
    whole: Callable[[Array, Array], float]


def measures_of(model: Any, targets: Array, outputs: Array) -> list[Measure]:
    """The compiled loss and metrics of a model of one output; empty without any."""
    found: list[Measure] = []
    if not getattr(model, "compiled", False):
        return found
    loss = keras.tree.flatten(model.loss)
    if len(loss) == 1 and loss[0] is not None:
        found.append(_of_loss(keras.losses.get(loss[0])))
    some = slice(0, 2)
    for metric in _private.compiled_metrics(model, targets[some], outputs[some]):
        found.append(_of_metric(metric))
    return found


def values(measures: Sequence[Measure], targets: Array, outputs: Array) -> Any:
    """Each metric of one model, with its interval."""
    found = []
    for one in measures:
        rows = one.rows(targets, outputs)
        if rows is None:
            value = _resampled(one, targets, outputs)
        elif is_right(rows) and one.direction == "max":
            right, count = int(rows.sum()), len(rows)
            interval = statistics.wilson(right, count)
            value = MetricValue(one.name, right / count, *interval, "Wilson")
        else:
            value = _mean(one.name, rows)
        found.append(dataclasses.replace(value, better=one.direction))
    return tuple(found)


def _mean(name: str, rows: Array) -> MetricValue:
    mean = float(np.mean(rows, dtype=float))
    if not np.isfinite(rows).all():
        return MetricValue(name, mean, None, None, "", "it is no number of every row")
    if len(rows) < 2:
        return MetricValue(name, mean, None, None, "", "one row")
    return MetricValue(name, mean, *statistics.mean_interval(rows), "bootstrap")


def tests(
    measures: Sequence[Measure], targets: Array, outputs: Array, baseline: Array
) -> tuple[PairedTest, ...]:
    """Each metric of one model against that of another."""
    return tuple(_test(one, targets, outputs, baseline) for one in measures)


def is_right(rows: Array) -> bool:
    """Whether the values of rows say right or wrong."""
    return bool(np.isin(rows, (0, 1)).all())


def main_measure(found: Sequence[MetricValue]) -> MetricValue | None:
    """What a picture shows: a fraction of right rows, else a metric, else the loss."""
    right = [one for one in found if one.method == "Wilson"]
    others = [one for one in found if one.name != "loss"]
    return next(iter([*right, *others, *found]), None)


def labels(
    model: Any, targets: Array, outputs: Mapping[str, Array]
) -> tuple[Array, dict[str, Array]] | str:
    """The classes that are right and those that models name, or why there are none.

    Args:
        model: the one whose loss says what outputs mean.
        targets: class numbers, 0 and 1, or one-hot rows.
        outputs: those of each model: (rows, classes), or (rows, 1) for two classes.
    """
    shape = next(iter(outputs.values())).shape
    if len(shape) != 2:
        return "no classes: the output of an example is no list of scores"
    count = shape[1]
    if targets.shape == shape and count > 1:
        one_hot = np.isin(targets, (0, 1)).all() and (targets.sum(1) == 1).all()
        if not one_hot:
            return "no classes: the targets are not one-hot"
        named = {name: one.argmax(1) for name, one in outputs.items()}
        return targets.argmax(1), named
    flat = targets.reshape(len(targets), -1)
    if flat.shape[1] != 1 or not np.equal(np.mod(flat, 1), 0).all() or flat.min() < 0:
        return "no classes: the targets are no class numbers"
    true = flat[:, 0].astype(int)
    if count > 1:
        if true.max() >= count:
            return "no classes: a target is no number of an output"
        return true, {name: one.argmax(1) for name, one in outputs.items()}
    if true.max() > 1:
        return "no classes: one output, and targets that are not 0 or 1"
    if not _is_crossentropy(model):
        return "no classes: one output, and a loss that is none of classes"
    cut = 0.0 if _from_logits(model) else 0.5
    found = {name: (one[:, 0] > cut).astype(int) for name, one in outputs.items()}
    return true, found


def _of_loss(loss: Any) -> Measure:
    function = loss.call if isinstance(loss, keras.losses.Loss) else loss

    def rows(targets: Array, outputs: Array) -> Array:
        return _by_row(function, targets, outputs)

    return Measure("loss", "min", rows, lambda y, p: float(np.mean(rows(y, p))))


def _of_metric(metric: Any) -> Measure:
    function = _private.row_function(metric)
    direction = _private.metric_direction(metric)
    direction = direction or metric_names.direction(metric.name) or "min"

    def rows(targets: Array, outputs: Array) -> Array | None:
        return None if function is None else _by_row(function, targets, outputs)

    def whole(targets: Array, outputs: Array) -> float:
        metric.reset_state()
        metric.update_state(targets, outputs)
        value = float(arrays.to_numpy(metric.result()))
        metric.reset_state()
        return value

    return Measure(metric.name, direction, rows, whole)


def _by_row(function: Any, targets: Array, outputs: Array) -> Array | None:
    """The mean of each row's values; None where there is not one a row."""
    if targets.ndim == outputs.ndim - 1 and outputs.shape[-1] == 1:
        targets = targets[..., None]  # as Keras does before a loss
    tensors = (keras.ops.convert_to_tensor(one) for one in (targets, outputs))
    found = arrays.to_numpy(function(*tensors))
    if found.ndim == 0 or len(found) != len(outputs):
        return None
    return found.reshape(len(found), -1).mean(1)


def _resampled(measure: Measure, targets: Array, outputs: Array) -> MetricValue:
    value = measure.whole(targets, outputs)
    drawn = statistics.resampled(
        lambda picked: [measure.whole(targets[picked], outputs[picked])], len(targets)
    )
    if np.isnan(drawn).all() or len(targets) < 2:
        reason = "one row" if len(targets) < 2 else "no number"
        return MetricValue(measure.name, value, None, None, "", reason)
    low, high = statistics.quantiles(drawn)
    return MetricValue(measure.name, value, low, high, "bootstrap")


def _test(one: Measure, targets: Array, outputs: Array, baseline: Array) -> PairedTest:
    count = len(targets)
    mine, other = one.rows(targets, outputs), one.rows(targets, baseline)
    if mine is None or other is None:
        whole = one.whole(targets, outputs) - one.whole(targets, baseline)
        drawn = statistics.resampled(
            lambda picked: [
                one.whole(targets[picked], outputs[picked])
                - one.whole(targets[picked], baseline[picked])
            ],
            count,
        )
        if np.isnan(whole) or np.isnan(drawn).all():
            return _no_test(one.name, whole, count)
        spread: tuple[float | None, float | None] = (None, None)
        if count > 1:
            spread = statistics.quantiles(drawn)
        chance = max(statistics.least_p_value(count), statistics.p_value(drawn))
        return PairedTest(
            one.name, whole, *spread, chance, "bootstrap", None, None, count
        )
    differences = mine.astype(float) - other
    mean = float(differences.mean())
    if not np.isfinite(differences).all():
        return _no_test(one.name, mean, count)
    interval: tuple[float | None, float | None] = (None, None)
    if count > 1:
        interval = statistics.mean_interval(differences)
    if one.direction == "max" and is_right(mine) and is_right(other):
        lost, gained = int((differences < 0).sum()), int((differences > 0).sum())
        chance = statistics.mcnemar(lost, gained)
        return PairedTest(
            one.name, mean, *interval, chance, "McNemar", lost, gained, count
        )
    chance = statistics.mean_p_value(differences)
    return PairedTest(one.name, mean, *interval, chance, "bootstrap", None, None, count)


def _no_test(name: str, difference: float, rows: int) -> PairedTest:
    return PairedTest(name, difference, None, None, None, "", None, None, rows)


def _loss_of(model: Any) -> Any:
    found = keras.tree.flatten(getattr(model, "loss", None))
    return keras.losses.get(found[0]) if found and found[0] is not None else None


def _is_crossentropy(model: Any) -> bool:
    loss = _loss_of(model)
    name = getattr(loss, "name", None) or getattr(loss, "__name__", "")
    return "crossentropy" in str(name) or "hinge" in str(name)


def _from_logits(model: Any) -> bool:
    loss = _loss_of(model)
    if "hinge" in str(getattr(loss, "name", "") or getattr(loss, "__name__", "")):
        return True
    if not isinstance(loss, keras.losses.Loss):
        return False
    return bool(loss.get_config().get("from_logits", False))
