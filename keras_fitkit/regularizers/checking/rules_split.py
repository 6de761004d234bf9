"""Mistakes in how the rows are split: no validation, or rows that are in both parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_fitkit.regularizers.checking.report import Finding
from keras_fitkit.regularizers.checking.subject import (
    HASHED,
    HASHED_BYTES,
    CannotCheck,
    Subject,
    sampled,
)

ALL = 0.95  # of the validation rows, from which they are the training data
MANY = 0.01
SPLIT = (
    "from sklearn.model_selection import train_test_split\n"
    "x, x_val, y, y_val = train_test_split(x, y, test_size=0.2, random_state=0)"
)


def broken(subject: Subject) -> Iterator[Finding]:
    """Data of a known kind that cannot be read: lengths that differ, no rows."""
    for why in subject.broken:
        fix = "Look at the shapes of x and y."
        yield Finding("data", "error", why, fix, {})


def no_validation(subject: Subject) -> Iterator[Finding]:
    """Without rows that are not trained on nobody sees overfitting."""
    if subject.validation_data is None:
        text = "no validation data: scores on training data show nothing"
        yield Finding("no validation", "warning", text, SPLIT, {})


def shared_rows(subject: Subject) -> Iterator[Finding]:
    """Validation rows that are training rows as well."""
    if subject.validation_data is None:
        return  # told by `no_validation`
    if subject.validation_data is subject.data:
        yield _same("`validation_data` is `data` itself")
        return
    if subject.validation is None or subject.sample is None:
        raise CannotCheck(subject.unread or "there are no rows to compare")
    train = Counter(_keys(_many(subject.data, subject)))
    validation = _keys(subject.validation.x)
    shared = sum(key in train for key in validation) / len(validation)
    rows = sum(train.values())
    text = f"{shared:.1%} of {len(validation):,} validation rows are among {rows:,} "
    text += "training rows"
    if not shared:
        return
    # Rows of few values repeat by themselves; then as often within training.
    again = sum(count for count in train.values() if count > 1) / rows
    spread = 3 * (again * (1 - again) / len(validation)) ** 0.5
    evidence = {"share": shared, "within_training": again, "rows": rows}
    if again and shared <= again + spread and not _equal(subject):
        text += f", and {again:.1%} of those occur twice there: rows repeat in these "
        text += "data"
        fix = "Keep rows that belong together in one part: GroupShuffleSplit."
        yield Finding("duplicates", "note", text, fix, evidence)
        return
    if shared >= ALL:
        yield _same(text)
        return
    fix = (
        "known = {row.tobytes() for row in x}\n"
        "keep = np.array([row.tobytes() not in known for row in x_val])\n"
        "x_val, y_val = x_val[keep], y_val[keep]"
    )
    severity = "error" if shared >= MANY else "warning"
    yield Finding("duplicates", severity, text, fix, evidence)


def _same(text: str) -> Finding:
    text += ": the model is judged by what it was trained on"
    return Finding("evaluated on training", "error", text, SPLIT, {})


def _equal(subject: Subject) -> bool:
    """Whether the looked-at rows of both parts are the same ones in the same order."""
    one, other = subject.rows().x, None
    if subject.validation is not None:
        other = subject.validation.x
    pairs = zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=False)
    return all(np.array_equal(a, b) for a, b in pairs)


def _many(data: Any, subject: Subject) -> Any:
    """More rows than the other rules look at, where the data are arrays."""
    few = subject.rows()
    size = sum(np.asarray(leaf[:1]).nbytes for leaf in keras.tree.flatten(few.x))
    rows = min(HASHED, HASHED_BYTES // max(size, 1))
    arrays = isinstance(data, (tuple, list, dict)) or hasattr(data, "shape")
    if not arrays or rows <= few.rows:
        return few.x
    more, _, _ = sampled(data, "data", rows)
    return few.x if more is None else more.x


def _keys(x: Any) -> list[bytes]:
    """The rows as bytes: float32 and float64 of the same number are the same."""
    parts = []
    for leaf in keras.tree.flatten(x):
        array = np.asarray(leaf)
        if array.dtype.kind == "f":
            array = array.astype("float32") + 0.0  # no -0.0
        elif array.dtype.kind in "iub":
            exact = not array.size or np.abs(array.astype("int64")).max() < 2**24
            array = array.astype("float32" if exact else "int64")
        else:
            array = array.astype("U")
        parts.append(array.reshape(len(array), -1))
    return [
        b"|".join(np.ascontiguousarray(row).tobytes() for row in rows)
        for rows in zip(*parts, strict=True)
    ]
