"""Checks of what a study is given, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, rows
from keras_fitkit.evidence import folds
from keras_fitkit.evidence.folds import Ints

ARRAYS = "arrays, or a dict, list or tuple of arrays"
FEW = 20  # rows of a class, on average: with fewer, whole numbers are taken for values


def data(x: Any, y: Any, names: tuple[str, str] = ("x", "y")) -> tuple[Any, Any, int]:
    """`x` and `y` as NumPy arrays, and how many rows they have.

    Raises:
        TypeError: no arrays.
        ValueError: other lengths, no rows, NaN or infinite numbers.
    """
    for name, part in zip(names, (x, y), strict=True):
        if part is None or not keras.tree.flatten(part):
            raise TypeError(arguments.message(name, ARRAYS, part))
    count = rows.length(names[0], x, ARRAYS)
    others = rows.length(names[1], y, ARRAYS)
    if others != count:
        hint = f"{names[0]} has {count}."
        received = f"{others} rows"
        allowed = f"of the length of `{names[0]}`"
        raise ValueError(arguments.message(names[1], allowed, received, hint))
    made = [rows.take(part, slice(None)) for part in (x, y)]
    for name, part in zip(names, made, strict=True):
        _check_finite(name, part)
    return made[0], made[1], count


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """`(x, y)`, checked and as NumPy arrays."""
    allowed = "a pair (x, y) of arrays"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(arguments.message(name, allowed, value))
    names = (f"{name}[0]", f"{name}[1]")
    try:
        found = data(value[0], value[1], names)
    except (TypeError, ValueError) as error:
        hint = str(error)
        raise type(error)(arguments.message(name, allowed, _kinds(value), hint)) from (
            error
        )
    return found[0], found[1]


def _kinds(value: Any) -> str:
    return ", ".join(type(part).__name__ for part in value)


def _check_finite(name: str, part: Any) -> None:
    for leaf in keras.tree.flatten(part):
        if leaf is None or leaf.dtype.kind not in "fc":
            continue
        fine = np.isfinite(leaf)
        if fine.all():
            continue
        bad = np.flatnonzero(~fine.reshape(len(leaf), -1).all(axis=1))
        received = f"NaN or infinity in {len(bad)} of {len(leaf)} rows"
        hint = f"The first is row {bad[0]}. Leave such rows out, or fill them in."
        raise ValueError(arguments.message(name, "finite numbers", received, hint))


def classes(y: Any, stratify: Any, parts: int, splits: str) -> Ints | None:
    """What to stratify by: the class of each row, or None.

    Args:
        y: the targets.
        stratify: "auto", True or False.
        parts: how many rows of each class are needed.
        splits: what needs them, in words, such as "folds=5".

    Raises:
        TypeError: another `stratify`.
        ValueError: no classes where they are asked for, or a class with too few rows.
    """
    auto = isinstance(stratify, str) and stratify == "auto"
    if not auto and not isinstance(stratify, bool):
        kind = ValueError if isinstance(stratify, str) else TypeError
        raise kind(arguments.message("stratify", "'auto', True or False", stratify))
    if not stratify:
        return None
    flat = keras.tree.flatten(y)
    found = folds.classes_of(flat[0]) if len(flat) == 1 else None
    if found is None:
        if auto:
            return None
        hint = "Stratify by classes: one whole number a row, or one-hot rows."
        allowed = "False where y are no classes"
        raise ValueError(arguments.message("stratify", allowed, stratify, hint))
    counts = np.bincount(found)
    if auto and (len(counts) < 2 or len(found) < FEW * len(counts)):
        return None
    if counts.min() < parts:
        labels = np.unique(np.asarray(flat[0])) if flat[0].ndim == 1 else None
        rare = int(counts.argmin())
        label = rare if labels is None else labels[rare]
        received = f"{counts.min()} rows of class {label} for {splits}"
        hint = "Take fewer, or pass stratify=False."
        allowed = "False, or y with as many rows of each class as there are parts"
        raise ValueError(arguments.message("stratify", allowed, received, hint))
    return found


def seeds(name: str, value: Any, least: int = 1) -> tuple[int, ...]:
    """Different integers >= 0, at least so many."""
    allowed = f"{least} or more different integers >= 0"
    if isinstance(value, str) or not isinstance(value, (tuple, list, range)):
        raise TypeError(arguments.message(name, allowed, value))
    found = tuple(arguments.integer(name, one, low=0) for one in value)
    if len(found) < least or len(set(found)) != len(found):
        raise ValueError(arguments.message(name, allowed, value))
    return found


def callbacks(value: Any) -> Callable[[], list[Any]]:
    """A function that makes the callbacks of one run; None makes none."""
    if value is None:
        return list
    signature = "() -> list of callbacks"
    if isinstance(value, (list, tuple, keras.callbacks.Callback)):
        hint = (
            "Callbacks carry their state from one fit into the next: pass "
            "`callbacks=lambda: [...]`, which makes fresh ones for each."
        )
        allowed = f"a callable {signature}"
        raise TypeError(arguments.message("callbacks", allowed, value, hint))
    make = arguments.function("callbacks", value, signature, count=0)
    first, second = make(), make()
    for one in (first, second):
        if not isinstance(one, (list, tuple)) or not all(
            isinstance(each, keras.callbacks.Callback) for each in one
        ):
            hint = "It must return a list."
            allowed = f"a callable {signature}"
            raise TypeError(arguments.message("callbacks", allowed, one, hint))
    if {id(one) for one in first} & {id(one) for one in second}:
        hint = "Make them inside the function: it gave the same object twice."
        allowed = "a callable that makes fresh callbacks each time"
        raise ValueError(arguments.message("callbacks", allowed, first, hint))
    return lambda: list(make())
