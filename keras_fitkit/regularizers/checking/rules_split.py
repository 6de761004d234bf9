"""Mistakes in how the rows are split: no validation, or rows that are in both parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_fitkit.regularizers.checking import rules_labels
from keras_fitkit.regularizers.checking.report import Finding
from keras_fitkit.regularizers.checking.rules_losses import CROSS_ENTROPIES
from keras_fitkit.regularizers.checking.subject import (
    HASHED,
    HASHED_BYTES,
    CannotCheck,
    Subject,
    sampled,
)

ALL = 0.95  # of the validation rows, from which they are the training data
MANY = 0.01
FEW = 8  # rows
OTHERWISE = 10.0  # times as large: no chance
SURE = 10.0  # rows of a class expected: that there is none has a chance of exp(-10)
SPLIT = (
    "from sklearn.model_selection import train_test_split\n"
    "x, x_val, y, y_val = train_test_split(x, y, test_size=0.2, random_state=0)"
)


def broken(subject: Subject) -> Iterator[Finding]:
    """Data of a known kind that cannot be read: lengths that differ, no rows."""
    for why in subject.broken:
        fix = "Look at the shapes of x and y."
        if "numpy.array" in why:
            fix = "x, y = np.array(x), np.array(y)"
        yield Finding("data", "error", why, fix, {})


def no_validation(subject: Subject) -> Iterator[Finding]:
    """Without rows that are not trained on nobody sees overfitting."""
    if subject.validation_data is None:
        text = "no validation data: scores on training data show nothing"
        yield Finding("no validation", "warning", text, SPLIT, {})
        return
    if subject.validation is None or subject.sample is None:
        return
    if subject.validation.y is None and subject.sample.y is not None:
        text = "the validation data have no labels"
        fix = "validation_data=(x_val, y_val)"
        yield Finding("no validation", "error", text, fix, {})


def scaled_otherwise(subject: Subject) -> Iterator[Finding]:
    """Validation rows of another size: the scaling of the training rows forgotten."""
    if subject.validation is None:
        return
    pairs = zip(subject.inputs, subject.of_validation().inputs, strict=True)
    for one, other in pairs:
        numbers = one.values.dtype.kind + other.values.dtype.kind
        few = min(len(one.values), len(other.values)) < FEW
        if one.use == "tokens" or few or not set(numbers) <= set("fiu"):
            continue
        sizes = [
            float(np.abs(part.values.astype("float64")).mean()) for part in (one, other)
        ]
        if not np.isfinite(sizes).all() or min(sizes) == 0:
            continue
        ratio = sizes[1] / sizes[0]
        if not 1 / OTHERWISE < ratio < OTHERWISE:
            text = (
                f"the values of '{one.name}' have a mean size of {sizes[0]:.3g} in "
                f"training and {sizes[1]:.3g} in validation"
            )
            fix = (
                "Scale both in the same way, by numbers of the training rows: "
                "keras.layers.Normalization or Rescaling in the model."
            )
            evidence = {"training": sizes[0], "validation": sizes[1]}
            yield Finding("scaled otherwise", "error", text, fix, evidence)


def other_classes(subject: Subject) -> Iterator[Finding]:
    """Classes that only one part has: split by order, not at random."""
    if subject.validation is None or not subject.arrays:
        return
    other = subject.of_validation()
    for one, two in zip(subject.heads, other.heads, strict=True):
        known = one.loss is not None and one.loss.kind in CROSS_ENTROPIES
        if not known or one.targets is None or two.targets is None:
            continue
        train, validation = (rules_labels.counted(head) for head in (one, two))
        if train is None or validation is None:
            continue
        size = max(len(train), len(validation))
        train, validation = (np.pad(x, (0, size - len(x))) for x in (train, validation))
        yield from _unseen(one.name, train, validation, other.arrays)


def _unseen(name: str, train: Any, validation: Any, whole: bool) -> Iterator[Finding]:
    fix = SPLIT.replace(")", ", stratify=y)")
    new = np.flatnonzero((validation > 0) & (train == 0))
    if len(new):
        text = f"classes of '{name}' that no training row has are in validation: "
        text += ", ".join(map(str, new[:10]))
        evidence = {"classes": new.tolist()}
        yield Finding("other classes", "warning", text, fix, evidence)
    expected = train / train.sum() * validation.sum()
    gone = np.flatnonzero((expected >= SURE) & (validation == 0))
    if whole and len(gone):
        text = f"classes of '{name}' that training has are in no validation row: "
        text += ", ".join(map(str, gone[:10]))
        evidence = {"classes": gone.tolist()}
        yield Finding("other classes", "warning", text, fix, evidence)


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
