"""The honest measurement of a training sample.

Honest means: the same rows every time, in inference mode, with the weights that
validation used, without the penalty of the regularizers, and without a trace in the
training: no random state, metric or history value is different afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arrays, metric_names, random_state
from keras_fitkit._core.penalty import penalty as penalty
from keras_fitkit._core.train_sample import TrainSample

# States that a test step may move (stateful RNNs) are small; frozen kernels, which it
# does not move, can be large and are not copied.
SMALL = 1_000_000


@contextlib.contextmanager
def _survives_failure(model: Any) -> Iterator[None]:
    """JAX: puts the weights back when the block raises.

    Keras's loops take the values out of the variables for a compiled step, and after a
    step that raised (one traced with the wrong shapes, say) they have none.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    kept = [(variable, variable.value) for variable in model.variables]
    try:
        yield
    except Exception:
        model.jax_state_sync()
        for variable, value in kept:
            if not value.is_deleted():  # a step that ran has freed it and given another
                variable.assign(value)
        raise


def measure(model: Any, sample: TrainSample, batch_size: int) -> dict[str, float]:
    """All metrics of `sample` in inference mode, with the weights of now.

    `loss` still contains the penalty. Only for `on_epoch_end`: it resets the metrics.
    """
    kept = [
        (weight, arrays.to_numpy(weight))
        for weight in model.non_trainable_weights
        if np.prod(weight.shape) <= SMALL
    ]
    with random_state.model_preserved(model), _survives_failure(model):
        logs = model.evaluate(
            sample.x,
            sample.y,
            sample_weight=sample.sample_weight,
            batch_size=batch_size,
            verbose=0,
            return_dict=True,
        )
    for weight, value in kept:
        weight.assign(value)
    return {
        name: metric_names.scalar(name, value)
        for name, value in logs.items()
        if np.size(keras.ops.convert_to_numpy(value)) == 1
    }
