"""Taking the weights of the best epoch and putting them back; in memory or on disk.

The weights taken are those that validation used: with `SwapEMAWeights` the averages.
What the optimizer holds as averages must then follow the weights, see
`averages_from_weights`. When to take and when to restore is not decided here.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import _private, arrays, files, step_variables

SUFFIX = ".weights.h5"


@dataclasses.dataclass(frozen=True)
class BestWeights:
    """Where the best weights are: in `weights`, or in the file when `on_disk`."""

    weights: Any = None
    optimizer: list[np.ndarray[Any, Any]] | None = None
    on_disk: bool = False


def take(
    model: Any,
    swaps: Sequence[Any],
    *,
    path: Path | None,
    memory: bool,
    optimizer: bool,
    warn: bool = True,
) -> BestWeights:
    """The weights of now.

    Args:
        model: the model in training.
        swaps: the `SwapEMAWeights` callbacks of the fit.
        path: file to write, or None.
        memory: whether a copy in memory is wanted where no file can be had.
        optimizer: whether the optimizer belongs to it (the file always has it).
        warn: whether to say that the file could not be written.
    """
    with _private.validation_weights(tuple(swaps)):
        if path is not None:
            try:
                with files.atomic_path(path, suffix=SUFFIX) as temporary:
                    model.save_weights(temporary)
            except (OSError, RuntimeError) as error:  # HDF5 raises either
                if warn:
                    _warn_not_written(path, error, memory)
            else:
                return BestWeights(on_disk=True)
        if not memory:
            return BestWeights()
        return BestWeights(
            weights=model.get_weights(),
            optimizer=_optimizer_arrays(model) if optimizer else None,
        )


def restore(
    model: Any,
    best: BestWeights,
    swaps: Sequence[Any],
    *,
    path: Path | None,
    optimizer: bool,
) -> bool:
    """Puts the best weights into the model; returns whether that was possible."""
    if best.on_disk:
        try:
            _load(model, path, optimizer)
        except (OSError, KeyError, ValueError) as error:
            _warn_not_read(path, error)
            return False
    elif best.weights is None:
        return False
    else:
        model.set_weights(best.weights)
        if optimizer and best.optimizer is not None:
            for variable, value in zip(
                step_variables.lasting(model.optimizer), best.optimizer, strict=True
            ):
                variable.assign(value)
    if swaps:
        averages_from_weights(model)
    return True


def averages_from_weights(model: Any) -> None:
    """Makes the optimizer's moving averages equal to the model's weights.

    The next `fit` then goes on from the restored weights, and not from averages of
    other epochs. Uses the public hooks of Keras's own callback: the first one swaps
    weights and averages, the second one swaps them back and, as on the last epoch of a
    fit, copies the weights into the averages. The swaps round, hence the last step.
    """
    exact = model.get_weights()
    first = keras.callbacks.SwapEMAWeights()
    first.set_model(model)
    first.on_test_begin()
    second = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    second.set_model(model)
    second.set_params({"epochs": 1})
    second.on_epoch_end(0)
    model.set_weights(exact)


def keep_averages(swaps: Sequence[Any], epoch: int) -> None:
    """Ends a fit in this epoch with the averaged weights, wherever the callback stands.

    `SwapEMAWeights(swap_on_epoch=True)` makes its averages final in the last planned
    epoch only; after an early stop Keras's `fit` then puts the raw weights into the
    model. Told that this is the last epoch, the callback does the right thing.
    """
    for swap in swaps:
        if swap.swap_on_epoch:
            swap.on_epoch_begin(epoch)
            swap.on_epoch_end(swap.params["epochs"] - 1)


def _load(model: Any, path: Path | None, optimizer: bool) -> None:
    # Keras stores the optimizer in the file as well, and would load it.
    skip = [] if optimizer or model.optimizer is None else [model.optimizer]
    model.load_weights(path, objects_to_skip=skip)


def _optimizer_arrays(model: Any) -> list[np.ndarray[Any, Any]]:
    variables = step_variables.lasting(model.optimizer)
    return [arrays.to_numpy(variable) for variable in variables]


def _warn_not_written(path: Path, error: Exception, memory: bool) -> None:
    instead = "They are kept in memory instead." if memory else "Training goes on."
    warnings.warn(
        f"The best weights could not be written to '{path}': {error}. {instead}",
        stacklevel=2,
    )


def _warn_not_read(path: Path | None, error: Exception) -> None:
    warnings.warn(
        f"The best weights could not be read from '{path}': {error}. The model keeps "
        "the weights of the last epoch.",
        stacklevel=2,
    )
