"""What `Checkpoint` checks about the fit it is in, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_fitkit._core import arguments
from keras_fitkit._core.reproducible_dataset import ReproducibleDataset

_DEFAULTS = (keras.callbacks.History, keras.callbacks.ProgbarLogger)


def check_order(checkpoint: Any, running: Sequence[Any]) -> None:
    """The callbacks of the fit are those that `checkpoint` was given, and itself last.

    Raises:
        ValueError: they are not.
    """
    given = [*checkpoint.callbacks, checkpoint]
    # Keras adds its own at the end, unless the user has given some.
    theirs = [
        one
        for one in running
        if any(one is known for known in given) or not isinstance(one, _DEFAULTS)
    ]
    if len(given) == len(theirs) and all(
        one is other for one, other in zip(given, theirs, strict=True)
    ):
        return
    hint = (
        f"Checkpoint was given [{_names(given[:-1])}]. Pass "
        "callbacks=kf.resumable(directory, [...]) to `fit`, which puts it last."
    )
    allowed = "those that Checkpoint was given, in that order, and Checkpoint"
    raise ValueError(
        f"`callbacks` of `fit` must be {allowed}. Received: [{_names(theirs)}]. {hint}"
    )


def _names(callbacks: Sequence[Any]) -> str:
    return ", ".join(type(one).__name__ for one in callbacks)


def find_data(data: Any, x: Any) -> Any:
    """The data whose epoch is set, given what `fit` trains on.

    Raises:
        ValueError: `data` is another one.
    """
    if data is None:
        return x if isinstance(x, ReproducibleDataset) else None
    if x is not data and (isinstance(x, ReproducibleDataset) or hasattr(x, "shape")):
        allowed = "the data set that is given to `fit`"
        raise ValueError(arguments.message("data", allowed, data))
    return data


def description(data: Any) -> dict[str, Any] | None:
    """What must be the same of the data, where that is known."""
    return data.description if isinstance(data, ReproducibleDataset) else None


def check_directory(directory: Any) -> None:
    """A path of this machine that is a folder or can become one.

    Raises:
        ValueError, TypeError: it is not.
    """
    if "://" in str(directory):
        allowed = "a path of this machine, not the address of a store"
        raise ValueError(arguments.message("directory", allowed, directory))
    arguments.folder("directory", directory)


def resumed(
    content: Mapping[str, Any], finished: bool, file: Path, fit: Any, data: Any
) -> str:
    """The line at the beginning of a fit that was interrupted, or is over."""
    epochs = content["epochs"]
    if content["history"] is None:
        return f"Checkpoint: begins anew with the weights of the first start ({file})."
    if finished:
        why = "was stopped" if content["stopped"] else "ended"
        return (
            f"Checkpoint: this fit {why} after {epochs} epochs; nothing is trained. "
            "Another directory starts a new one"
            + ("." if content["stopped"] else ", more epochs go on.")
        )
    line = f"Checkpoint: goes on after epoch {epochs} ({file})."
    difference = _difference(fit, data)
    return f"{line} {difference}" if difference else line


def _difference(fit: Any, data: Any) -> str:
    """In what the data differs from that of a fit without an interruption."""
    if data is not None or fit is None:
        return ""
    if hasattr(fit.x, "shape") or isinstance(fit.x, (list, dict, tuple)):
        if not fit.shuffle:
            return ""
        return (
            "`fit` shuffles these arrays, now in another order than without the "
            "interruption: pass kf.ReproducibleDataset for the same."
        )
    return (
        "The data begins anew, which need not be what it would have given in this "
        "epoch: pass kf.ReproducibleDataset for the same batches."
    )


def unstorable(error: Exception, callbacks: Sequence[Any]) -> str:
    """The error for a state that is neither plain values nor arrays."""
    allowed = "callbacks whose state is plain values and arrays"
    return f"`callbacks` must be {allowed}. Received: [{_names(callbacks)}]: {error}."


def unusable(error: OSError, folder: Path) -> OSError:
    """The error for a folder that cannot be made or written to."""
    reason = error.strerror or str(error)
    allowed = "a folder that can be written to"
    text = arguments.message("directory", allowed, str(folder), f"{reason}.")
    return OSError(error.errno, text)


def unwritten(error: OSError, folder: Path, done: int) -> OSError:
    """The error for a file that could not be written."""
    text = (
        f"Checkpoint could not write the file after epoch {done} into {folder}: "
        f"{error.strerror or error}. The files written before are whole: make room or "
        "give access, and run the same script again."
    )
    return OSError(error.errno, text)
