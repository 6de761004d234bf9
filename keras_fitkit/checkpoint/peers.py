"""The run state of the other callbacks of a fit, Keras's own included."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_fitkit._core import arguments

# The run state of Keras's callbacks (3.12 to 3.15), which they offer no way to read.
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": (
        "best",
        "epochs_since_last_save",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
    ),
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "TensorBoard": ("_global_train_batch", "_global_test_batch"),
    # What they work with is in the optimizer, in the logs, or in the History itself.
    "LearningRateScheduler": (),
    "TerminateOnNaN": (),
    "History": (),
    "ProgbarLogger": (),
    "RemoteMonitor": (),
}
_OTHER_RESUMERS = ("BackupAndRestore",)


@dataclasses.dataclass(frozen=True)
class Peer:
    """A callback and how to take its state and put it back."""

    callback: Any
    get: Callable[[], Any]
    put: Callable[[Any], None]

    @property
    def name(self) -> str:
        """The name of its class, with that of the module."""
        kind = type(self.callback)
        return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def check(callbacks: Any, owner: Any) -> list[Any]:
    """The argument `callbacks`, flat.

    Raises:
        TypeError: something that is no callback.
        ValueError: one that cannot be resumed.
    """
    flat = keras.tree.flatten(callbacks) if callbacks is not None else []
    for one in flat:
        if not isinstance(one, keras.callbacks.Callback):
            allowed = "a list of keras.callbacks.Callback"
            raise TypeError(arguments.message("callbacks", allowed, one))
        if isinstance(one, owner):
            allowed = "a list without another Checkpoint"
            raise ValueError(arguments.message("callbacks", allowed, one))
        peer(one)
    return flat


def peer(callback: Any) -> Peer:
    """How a callback's state is taken and put back.

    Raises:
        ValueError: nobody knows, or it cannot be.
    """
    kinds = [
        kind.__name__
        for kind in type(callback).__mro__
        if kind.__module__.startswith("keras.")
    ]
    for get, put in (("get_state", "set_state"), ("state_dict", "load_state_dict")):
        if _forgets(callback):
            break
        if callable(getattr(callback, get, None)) and hasattr(callback, put):
            return Peer(callback, getattr(callback, get), getattr(callback, put))
    if type(callback).__module__.startswith("keras."):
        known = _of_keras(callback, kinds)
        if known is not None:
            return known
    raise ValueError(_unknown(callback, kinds))


def _of_keras(callback: Any, kinds: Sequence[str]) -> Peer | None:
    """One of Keras's own classes."""
    name = kinds[0]
    if name == "CSVLogger":
        if not callback.append:
            hint = "Otherwise it empties its file when the run goes on."
            allowed = "a CSVLogger with append=True"
            raise ValueError(arguments.message("callbacks", allowed, callback, hint))
        log = _CsvLog(callback)
        return Peer(callback, log.get, log.put)
    if name not in _ATTRIBUTES:
        return None
    state = _Attributes(callback, _ATTRIBUTES[name])
    return Peer(callback, state.get, state.put)


def _forgets(callback: Any) -> bool:
    """Whether its class adds to one of this package and inherits what it remembers."""
    for kind in type(callback).__mro__:
        if kind.__module__.startswith("keras_fitkit."):
            return kind is not type(callback)
        if {"get_state", "_state_attributes"} & set(vars(kind)):
            return False
    return False


def _unknown(callback: Any, kinds: Sequence[str]) -> str:
    name = type(callback).__name__
    if any(kind in _OTHER_RESUMERS for kind in kinds):
        hint = "Both would resume the fit: leave one out."
        return arguments.message("callbacks", "a list without it", callback, hint)
    hint = (
        f"Nothing is known of what {name} must remember. Give its class `get_state()`, "
        "which returns a dict of plain values and arrays ({} if there is nothing; what "
        "its base class gives, if that has one), and `set_state(state)`."
    )
    return arguments.message(
        "callbacks", "a list of callbacks whose state can be stored", callback, hint
    )


class _Attributes:
    """State that is a number of attributes."""

    def __init__(self, callback: Any, names: Sequence[str]) -> None:
        self.callback, self.names = callback, names

    def get(self) -> dict[str, Any]:
        return {
            name: getattr(self.callback, name)
            for name in self.names
            if hasattr(self.callback, name)
        }

    def put(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self.callback, name, value)


class _CsvLog:
    """The rows of a CSVLogger: those of epochs that will run again are cut off."""

    def __init__(self, callback: Any) -> None:
        self.callback = callback

    def get(self) -> dict[str, Any]:
        return {"bytes": self._size(), "keys": self.callback.keys}

    def put(self, state: dict[str, Any]) -> None:
        path, size = self.callback.filename, state["bytes"]
        found = self._size()
        if found > size:
            os.truncate(path, size)
        elif found < size:
            warnings.warn(
                f"{path} is shorter than when the checkpoint was written: rows of "
                "earlier epochs are missing.",
                UserWarning,
                stacklevel=2,
            )
        self.callback.append_header = size == 0
        self.callback.keys = state["keys"]  # the columns that the header names

    def _size(self) -> int:
        path = Path(self.callback.filename)
        return path.stat().st_size if path.exists() else 0
