"""cross_validate: scores of rows that were held out, and how far they vary."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments
from keras_fitkit._core.console import say
from keras_fitkit.evidence import building, folds, inputs, membership, running
from keras_fitkit.evidence.cross_validation_report import (
    CrossValidationReport,
    FoldResult,
)
from keras_fitkit.evidence.folds import Ints

Folds = Ints


def cross_validate(
    build_fn: Callable[[], Any],
    x: Any,
    y: Any,
    *,
    folds: int = 5,
    stratify: Any = "auto",
    groups: Any = None,
    epochs: int,
    batch_size: int = 32,
    seed: int = 0,
    callbacks: Callable[[], Any] | None = None,
    verbose: int = 1,
) -> CrossValidationReport:
    """Trains a fresh model for each fold, on the others, and measures it on that one.

    One split says what one split says. Each row is held out once; the report has the
    scores of each fold, the honest gap (training measured as validation is, see
    `kf.OverfitMonitor`), the verdict on its curves, and how much is remembered of
    single rows (`kf.membership_auc`).

    The scores are those of the weights after the fit. A callback that picks the best
    epoch on the held-out rows (`kf.EarlyStopping(restore_best_weights=True)`) makes
    them a little too good; choosing between models by them does so as well.

    The intervals are Student's t with the correction of Nadeau and Bengio, which allows
    for training sets that overlap; no interval from the folds alone is exact.

    Args:
        build_fn: a function without arguments that gives a new, compiled model.
        x: an array, or a dict, list or tuple of arrays.
        y: the targets, likewise.
        folds: how many, an integer >= 2. Defaults to 5.
        stratify: True: each fold has the classes of `y` in the same shares. "auto":
            where `y` are classes, with 20 rows of each or more on average. Defaults to
            "auto".
        groups: a value for each row, such as a patient; the rows of a group stay
            together, or the model is asked about patients it has seen. Defaults to
            None.
        epochs: of each fit, an integer >= 1. With fewer than 5 there is no verdict.
        batch_size: of each fit, an integer >= 1. Defaults to 32.
        seed: of the folds; each fit has `seed` plus the number of its fold. The random
            states of the caller are put back. Defaults to 0.
        callbacks: a function without arguments that makes the callbacks of one fit:
            `lambda: [kf.EarlyStopping(patience=5)]`. Defaults to None.
        verbose: 0 silent, 1 a line for each fold. Defaults to 1.

    Returns:
        A `CrossValidationReport`.

    Raises:
        TypeError, ValueError: before any training, by name: an argument outside its
            range, a `build_fn` that gives the same model twice or shares layers or the
            optimizer between models, one that is not compiled, NaN in the data, more
            folds than rows of a class or groups, a list of callbacks.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> def build():
        ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        ...     model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
        ...     return model
        >>> x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
        >>> report = kf.cross_validate(
        ...     build, x, x.sum(axis=1), folds=2, epochs=5, verbose=0
        ... )
        >>> sorted(report.scores)
        ['loss', 'mae']

    Reference: Nadeau and Bengio, "Inference for the generalization error", Machine
    Learning 52, 2003; Bengio and Grandvalet, "No unbiased estimator of the variance of
    k-fold cross-validation", JMLR 5, 2004.
    """
    folds = arguments.integer("folds", folds, low=2)
    epochs = arguments.integer("epochs", epochs, low=1)
    batch_size = arguments.integer("batch_size", batch_size, low=1)
    seed = arguments.integer("seed", seed, low=0)
    verbose = arguments.integer("verbose", verbose, low=0, high=1)
    x, y, count = inputs.data(x, y)
    if folds > count:
        text = arguments.message("folds", f"at most {count}, the rows of x", folds)
        raise ValueError(text)
    placed, split = _folds(y, count, folds, stratify, groups, seed)
    make_callbacks = inputs.callbacks(callbacks)
    found = []
    with running.own_randomness():
        build = building.check(build_fn)
        for fold in range(folds):
            parts = [
                running.part((x, y), np.flatnonzero(chosen))
                for chosen in (placed != fold, placed == fold)
            ]
            keras.utils.set_random_seed(seed + fold)
            found.append(
                _one(fold, build(), parts, epochs, batch_size, seed, make_callbacks())
            )
            if verbose:
                say(_line(found[-1], folds))
    return CrossValidationReport(tuple(found), split, epochs, seed)


def _folds(
    y: Any, count: int, number: int, stratify: Any, groups: Any, seed: int
) -> tuple[Folds, str]:
    """The fold of each row, and how they were made."""
    rng = np.random.default_rng(seed)
    kinds = inputs.classes(y, stratify, number, f"folds={number}")
    if groups is None:
        if kinds is None:
            return folds.plain(count, number, rng), "random"
        return folds.stratified(kinds, number, rng), "stratified by class"
    given = np.asarray(groups)
    if given.shape != (count,):
        received = f"an array of shape {given.shape}"
        allowed = f"one value for each of the {count} rows"
        raise ValueError(arguments.message("groups", allowed, received))
    numbers = np.unique(given, return_inverse=True)[1].astype(np.int64)
    if numbers.max() + 1 < number:
        received = f"{numbers.max() + 1} groups for folds={number}"
        raise ValueError(arguments.message("groups", "as many as folds", received))
    placed = folds.grouped(numbers, kinds, number, rng)
    named = "whole groups" if kinds is None else "whole groups, classes kept even"
    return placed, named


def _one(
    fold: int,
    model: Any,
    parts: list[running.Data],
    epochs: int,
    batch_size: int,
    seed: int,
    callbacks: list[Any],
) -> FoldResult:
    """Trains and measures one fold."""
    train, held = parts
    counts = [len(keras.tree.flatten(part[0])[0]) for part in parts]
    done = running.fit(
        model,
        train,
        held,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed + fold,
        callbacks=callbacks,
    )
    seen = running.sample(train, counts[0])
    return FoldResult(
        fold,
        counts[0],
        counts[1],
        running.scores(model, held, batch_size),
        running.scores(model, seen, batch_size),
        done.diagnosis,
        _remembered(model, seen, running.sample(held, counts[1])),
        done.seconds,
    )


def _remembered(model: Any, seen: running.Data, unseen: running.Data) -> Any:
    """The membership report; None where a model's own loss gives none for a row."""
    try:
        losses = [membership.row_losses(model, part) for part in (seen, unseen)]
    except Exception as error:  # of a loss of the user's; the fold itself is right
        text = "No membership AUC: the loss of single rows cannot be computed"
        warnings.warn(f"{text} ({type(error).__name__}: {error})", stacklevel=2)
        return None
    if not all(np.isfinite(one).all() for one in losses):
        return None
    return membership.of_losses(*losses)


def _line(result: FoldResult, number: int) -> str:
    found = ", ".join(f"{name} {value:.4g}" for name, value in result.scores.items())
    return (
        f"fold {result.fold + 1} of {number}: {found}, gap {result.gap:+.4g}, "
        f"{result.diagnosis.state} ({result.seconds:.0f} s)"
    )
