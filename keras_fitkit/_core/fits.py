"""The `fit` that is running: what it was given and where it is.

Private: all of it reads local variables of `Model.fit` on the call stack, as Keras has
no public way (keras#2813, #8165, tensorflow#36376, and what each function names).
`tests/_core/test_fits.py` fails when Keras moves a name.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import keras


@dataclasses.dataclass(frozen=True)
class RunningFit:
    """What the `fit` in progress was given (see `running_fit`).

    Attributes:
        x, y, sample_weight: the training data after `validation_split` was taken off.
        validation_weighted: whether array validation data carries sample weights; None
            where that cannot be seen (no validation, or a dataset).
        batch_size: as given to `fit`, or None.
        callbacks: all callbacks of the run, Keras's own included.
        validates: whether validation data was given in any form.
        validation_rows: how many rows array validation data has; None where that cannot
            be seen (no validation, a dataset, `validation_steps`).
        shuffle: as given to `fit`.
    """

    x: Any
    y: Any
    sample_weight: Any
    validation_weighted: bool | None
    batch_size: int | None
    callbacks: tuple[Any, ...]
    validates: bool
    validation_rows: int | None = None
    shuffle: Any = True


def running_fit(model: Any) -> RunningFit | None:
    """The arguments of the `fit` call that is running for `model`, or None.

    A callback has no public way to the training data or to the other callbacks. Only
    names that are arguments of the public `fit` are read, plus its local `callbacks`.
    Never keep the result: it holds the user's data.
    """
    for frame in _frames("fit"):
        names = _locals(frame, "self", "sample_weight", *_DATA, *_MORE)
        callbacks = names.get("callbacks")
        if names.get("self") is not model or "sample_weight" not in names:
            continue
        if isinstance(callbacks, keras.callbacks.CallbackList):
            return RunningFit(
                x=names["x"],
                y=names.get("y"),
                sample_weight=names["sample_weight"],
                validation_weighted=_validation_weighted(names),
                batch_size=names.get("batch_size"),
                callbacks=tuple(callbacks.callbacks),
                validates=names.get("validation_data") is not None,
                validation_rows=_validation_rows(names),
                shuffle=names.get("shuffle", True),
            )
    return None


def running_callbacks() -> list[Any]:
    """All callbacks of the fits that are running, a fit within a fit included.

    A callback cannot ask whether another one is still at work (keras#2813).
    """
    found: list[Any] = []
    for frame in _frames("fit"):
        callbacks = _locals(frame, "callbacks").get("callbacks")
        if isinstance(callbacks, keras.callbacks.CallbackList):
            found += callbacks.callbacks
    return found


@dataclasses.dataclass(frozen=True)
class RunningEpoch:
    """Where the loop of the running `fit` is, seen from its own data.

    Attributes:
        epoch: the epoch that runs; before the first one, the epoch that will be first.
        began: whether the loop over the epochs has begun.
        shuffle: as given to `fit`.
        steps_per_epoch: as given to `fit`.
    """

    epoch: int
    began: bool
    shuffle: Any
    steps_per_epoch: int | None


def running_epoch(data: Any) -> RunningEpoch | None:
    """The epoch of the `fit` that trains on `data`, when called from within its loop.

    A `PyDataset` is told that an epoch begins, but not which one, and an end without a
    beginning before the first epoch and after the build of a model (Keras 3.15). None
    within `evaluate` and `predict`, also those that run inside a fit.
    """
    for frame in _frames("fit", "evaluate", "predict"):
        names = _locals(frame, "x", *_EPOCH)
        if frame.f_code.co_name != "fit" or names.get("x") is not data:
            return None
        return RunningEpoch(
            epoch=int(names.get("epoch", names.get("initial_epoch", 0))),
            began="epoch" in names,
            shuffle=names.get("shuffle"),
            steps_per_epoch=names.get("steps_per_epoch"),
        )
    return None


_DATA = ("x", "y", "callbacks")
_MORE = ("validation_data", "validation_steps", "batch_size", "shuffle")
_EPOCH = ("epoch", "initial_epoch", "shuffle", "steps_per_epoch")


def _frames(*functions: str) -> Iterator[FrameType]:
    """Calls of Keras's loops on the stack, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        own = str(frame.f_globals.get("__name__")).startswith("keras.")
        if own and code.co_name in functions and "callbacks" in code.co_varnames:
            yield frame
        frame = frame.f_back


def _locals(frame: FrameType, *wanted: str) -> dict[str, Any]:
    """Those of the wanted local variables that a frame has.

    Before Python 3.13 `f_locals` is a copy that the frame keeps, with all it refers to:
    an iterator of `tf.data` that it kept until the next epoch ended took 3 to 9
    seconds to go, each time. So the copy is emptied, which leaves the variables alone;
    not under a debugger, which writes what it finds in the copy back to them.
    """
    names = frame.f_locals
    found = {name: names[name] for name in wanted if name in names}
    if sys.version_info < (3, 13) and sys.gettrace() is None:
        names.clear()
    return found


def _validation_weighted(names: Mapping[str, Any]) -> bool | None:
    given = names.get("validation_data")
    if not isinstance(given, tuple):
        return None
    return len(given) == 3 and given[2] is not None


def _validation_rows(names: Mapping[str, Any]) -> int | None:
    given = names.get("validation_data")
    if not isinstance(given, tuple) or names.get("validation_steps") is not None:
        return None
    shapes = [getattr(leaf, "shape", None) for leaf in keras.tree.flatten(given[:1])]
    return int(shapes[0][0]) if shapes and shapes[0] else None
