"""learning_curve: the loss against the number of training rows."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

from keras_fitkit._core import arguments
from keras_fitkit._core.console import say
from keras_fitkit.evidence import building, folds, inputs, running
from keras_fitkit.evidence.folds import Ints
from keras_fitkit.evidence.learning_report import LearningCurveReport, SizeRun
from keras_fitkit.pruning import widen


def learning_curve(
    build_fn: Callable[[], Any],
    x: Any,
    y: Any,
    *,
    fractions: Any = (0.1, 0.3, 1.0),
    seeds: Any = (0, 1, 2),
    validation_data: Any = None,
    validation_split: float = 0.25,
    epochs: int,
    batch_size: int = 32,
    at: Literal["best", "last"] = "best",
    capacity: float | None = 2.0,
    least: float = 0.02,
    stratify: Any = "auto",
    verbose: int = 1,
) -> LearningCurveReport:
    """Would more data help, or more capacity? Measured on parts of the data.

    Fresh models learn from nested parts of the training rows, each part with several
    seeds, and with all rows also a wider one. Every run takes the same number of update
    steps: `epochs` of all rows; a part is repeated, shuffled, to as many. (With equal
    epochs the small parts would be trained less, and any curve would fall.)

    The verdict on data comes from the last two sizes, that on capacity from the wider
    model; both are paired by seed. See `LearningCurveReport` for the rule.

    Args:
        build_fn: a function without arguments that gives a new, compiled model.
        x: an array, or a dict, list or tuple of arrays.
        y: the targets, likewise.
        fractions: of the training rows, two or more in (0, 1], increasing. Defaults to
            (0.1, 0.3, 1.0).
        seeds: different integers >= 0; two or more give an interval. Defaults to
            (0, 1, 2).
        validation_data: (x, y) for all runs. The intervals then say nothing about other
            validation rows. Defaults to None: each seed holds out rows of its own, and
            the intervals allow for the overlap (Nadeau and Bengio 2003).
        validation_split: the fraction that each seed holds out, in (0, 1). Defaults to
            0.25.
        epochs: of all rows, an integer >= 1.
        batch_size: an integer >= 1. Defaults to 32.
        at: which epoch of a run counts: "best", the one with the lowest validation
            loss, as with `kf.EarlyStopping(restore_best_weights=True)` (a little too
            good, at every size alike), or "last". Defaults to "best".
        capacity: how many times as many units the wider model has (`kf.widen`, with new
            weights), > 1; None trains none. Defaults to 2.0.
        least: the fall of the loss that is worth having, as a fraction in (0, 1).
            Defaults to 0.02.
        stratify: True: each part has the classes of `y` in the same shares. "auto":
            where `y` are classes, with 20 rows of each or more. Defaults to "auto".
        verbose: 0 silent, 1 a line for each run. Defaults to 1.

    Returns:
        A `LearningCurveReport`.

    Raises:
        TypeError, ValueError: before any training, by name: an argument outside its
            range; a `build_fn` that gives the same model twice, shared layers, or a
            model that is not compiled; NaN in the data; a part of fewer than 2 rows.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> def build():
        ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        ...     model.compile(keras.optimizers.SGD(0.1), "mse")
        ...     return model
        >>> x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
        >>> report = kf.learning_curve(
        ...     build,
        ...     x,
        ...     x.sum(axis=1),
        ...     fractions=(0.5, 1.0),
        ...     seeds=(0, 1),
        ...     epochs=3,
        ...     capacity=None,
        ...     verbose=0,
        ... )
        >>> [point.rows for point in report.points]
        [15, 30]

    Reference: Nadeau and Bengio, "Inference for the generalization error", Machine
    Learning 52, 2003.
    """
    study = _Study(
        epochs=arguments.integer("epochs", epochs, low=1),
        batch_size=arguments.integer("batch_size", batch_size, low=1),
        at=arguments.choice("at", at, ("best", "last")),
        capacity=_capacity(capacity),
    )
    seeds = inputs.seeds("seeds", seeds)
    shares = _fractions(fractions)
    least = arguments.number("least", least, **_OPEN)
    split = arguments.number("validation_split", validation_split, **_OPEN)
    verbose = arguments.integer("verbose", verbose, low=0, high=1)
    x, y, count = inputs.data(x, y)
    fixed = (
        None
        if validation_data is None
        else inputs.pair("validation_data", validation_data)
    )
    held = 0 if fixed is not None else max(1, round(split * count))
    _check_sizes(shares, count - held)
    kinds = inputs.classes(y, stratify, 2, "two parts")
    runs: list[SizeRun] = []
    with running.own_randomness():
        study.build = building.check(build_fn)
        study.prepare(running.part((x, y), slice(0, 1))[0])
        for seed in seeds:
            order = folds.order(count, kinds, np.random.default_rng(seed))
            validation = fixed or running.part((x, y), order[:held])
            for run in study.of_seed((x, y), order[held:], validation, shares, seed):
                runs.append(run)
                if verbose:
                    say(_line(run))
    overlap = held / (count - held)
    notes = _notes(study, fixed is not None)
    wide = study.capacity
    return LearningCurveReport(tuple(runs), overlap, least, wide, study.why_not, notes)


_OPEN: dict[str, Any] = {
    "low": 0,
    "high": 1,
    "include_low": False,
    "include_high": False,
}


@dataclasses.dataclass
class _Study:
    """What is the same for all runs."""

    epochs: int
    batch_size: int
    at: str
    capacity: float | None
    why_not: str = ""
    build: Any = None

    def prepare(self, row: Any) -> None:
        """Whether a wider model can be made, before anything is trained."""
        self.row = row
        if self.capacity is None:
            self.why_not = "not asked for"
            return
        try:
            self._wider()
        except (TypeError, ValueError) as error:
            self.capacity, self.why_not = None, str(error)

    def of_seed(
        self,
        data: running.Data,
        order: Ints,
        validation: running.Data,
        shares: tuple[float, ...],
        seed: int,
    ) -> Any:
        """The runs of one seed, one after another."""
        for share in shares:
            rows = order[: round(share * len(order))]
            yield self._run(self.build, data, rows, len(order), validation, share, seed)
        if self.capacity is not None:
            args = (data, order[: round(shares[-1] * len(order))], len(order))
            yield self._run(self._wider, *args, validation, shares[-1], seed, wide=True)

    def _wider(self) -> Any:
        original = building.built(self.build(), self.row)
        made = building.fresh(widen(original, self.capacity or 2.0))
        return building.compile_like(made, original)

    def _run(
        self,
        make: Callable[[], Any],
        data: running.Data,
        rows: Ints,
        total: int,
        validation: running.Data,
        share: float,
        seed: int,
        wide: bool = False,
    ) -> SizeRun:
        keras.utils.set_random_seed(seed)
        done = running.fit(
            make(),
            running.part(data, np.resize(rows, total)),
            validation,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=seed,
            measured=running.part(data, rows),
        )
        epoch = done.best if self.at == "best" else self.epochs - 1
        losses = (
            (math.nan, math.nan)
            if epoch is None
            else (done.train[epoch], done.validation[epoch])
        )
        return SizeRun(
            share, len(rows), seed, *losses, epoch, done.diagnosis.state, wide
        )


def _fractions(value: Any) -> tuple[float, ...]:
    allowed = "two or more increasing fractions in (0, 1]"
    if isinstance(value, str) or not isinstance(value, (tuple, list)):
        raise TypeError(arguments.message("fractions", allowed, value))
    found = [
        arguments.number("fractions", one, low=0, high=1, include_low=False)
        for one in value
    ]
    if len(found) < 2 or any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(arguments.message("fractions", allowed, value))
    return tuple(found)


def _capacity(value: Any) -> float | None:
    if value is None:
        return None
    return arguments.number("capacity", value, low=1, include_low=False)


def _check_sizes(shares: tuple[float, ...], rows: int) -> None:
    """Every part has rows enough, and no two parts the same ones."""
    sizes = [round(share * rows) for share in shares]
    if sizes[0] < 2 or len(set(sizes)) < len(sizes):
        received = f"parts of {sizes} rows of {rows}"
        allowed = "fractions that give different parts of 2 rows or more"
        raise ValueError(arguments.message("fractions", allowed, received))


def _notes(study: _Study, fixed: bool) -> tuple[str, ...]:
    steps = f"every run: the same number of steps, {study.epochs} epochs of all rows"
    epoch = (
        "counted: the epoch with the lowest validation loss, a little too good at "
        "every size alike"
        if study.at == "best"
        else "counted: the last epoch"
    )
    rows = (
        "all runs share the validation rows: the intervals are over weights, order and "
        "parts, not over other validation rows"
        if fixed
        else "each seed holds out rows of its own; intervals as Nadeau and Bengio 2003"
    )
    return steps, epoch, rows


def _line(run: SizeRun) -> str:
    wide = ", wider" if run.wider else ""
    return (
        f"{run.rows} rows, seed {run.seed}{wide}: training {run.train:.4g}, validation "
        f"{run.validation:.4g} ({run.state})"
    )
