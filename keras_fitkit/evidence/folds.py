"""Which rows go where: folds, orders, and what a class is. Plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def plain(count: int, folds: int, rng: np.random.Generator) -> Ints:
    """The fold of each row: random, sizes that differ by one row at most."""
    return _dealt(rng.permutation(count), folds)


def stratified(classes: Ints, folds: int, rng: np.random.Generator) -> Ints:
    """The fold of each row: sizes, and those of each class, differ by one row at most.

    The rows are shuffled, sorted by class, and dealt out like cards.
    """
    order = rng.permutation(len(classes))
    return _dealt(order[np.argsort(classes[order], kind="stable")], folds)


def _dealt(order: Ints, folds: int) -> Ints:
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % folds
    return fold


def grouped(
    groups: Ints, classes: Ints | None, folds: int, rng: np.random.Generator
) -> Ints:
    """The fold of each row, with all rows of a group in one fold.

    The largest groups first (equal ones at random), each into the fold that is
    emptiest; with `classes` into the one in which the shares of the classes become
    most even over the folds.
    """
    number = int(groups.max()) + 1
    kinds = np.zeros(len(groups), dtype=np.int64) if classes is None else classes
    counts = np.zeros((number, int(kinds.max()) + 1))
    np.add.at(counts, (groups, kinds), 1)
    shuffled = rng.permutation(number)
    sizes = counts.sum(axis=1) if classes is None else counts.std(axis=1)
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    filled = np.zeros((folds, counts.shape[1]))
    home = np.empty(number, dtype=np.int64)
    totals = np.maximum(counts.sum(axis=0), 1)
    for group in order:
        unevenness = []
        for fold in range(folds):
            trial = filled.copy()
            trial[fold] += counts[group]
            spread = (trial / totals).std(axis=0).mean()
            unevenness.append((round(float(spread), 12), filled[fold].sum()))
        best = min(range(folds), key=unevenness.__getitem__)
        filled[best] += counts[group]
        home[group] = best
    return home[groups]


def order(count: int, classes: Ints | None, rng: np.random.Generator) -> Ints:
    """All rows in a random order of which every beginning is like the whole.

    With `classes` each beginning holds the classes in their shares, to a row or so. So
    the first rows are a fair validation set, and beginnings of different lengths are
    nested training sets.
    """
    if classes is None:
        return rng.permutation(count)
    place = np.empty(count)
    for kind in np.unique(classes):
        rows = np.flatnonzero(classes == kind)
        place[rows] = (rng.permutation(len(rows)) + rng.uniform()) / len(rows)
    return np.argsort(place, kind="stable")


def classes_of(y: Any) -> Ints | None:
    """The class of each row, numbered from 0, or None where `y` is no column of them.

    One-hot rows, and one whole number, bool or text a row.
    """
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] > 1:
        ones = (values == 1).sum(axis=1) == 1
        if values.dtype.kind not in "biuf" or not (ones & _rest_zero(values)).all():
            return None
        return np.asarray(values.argmax(axis=1), dtype=np.int64)
    if values.ndim > 2 or (values.ndim == 2 and values.shape[1] != 1):
        return None
    column = values.reshape(len(values))
    if column.dtype.kind == "f" and not (column == np.floor(column)).all():
        return None
    numbers = np.unique(column, return_inverse=True)[1]
    return np.asarray(numbers, dtype=np.int64).reshape(-1)


def _rest_zero(values: Any) -> Any:
    return (values == 0).sum(axis=1) == values.shape[1] - 1
