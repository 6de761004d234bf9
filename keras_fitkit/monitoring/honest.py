"""The honest measurement of a training sample.

Honest means: the same rows every time, in inference mode, with the weights that
validation used, without the penalty of the regularizers, and without a trace in the
training: no random state, metric or history value is different afterwards.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_fitkit._core import _private, metric_names, random_state
from keras_fitkit.monitoring.train_sample import TrainSample


def penalty(model: Any) -> float:
    """The sum of the weight regularizers, which Keras adds to loss and val_loss alike.

    From the variables: `model.losses` may hold leaked symbolic tensors after a compiled
    step. Losses that depend on the data (activity regularizers, `add_loss`) stay in,
    on both sides.
    """
    terms = [
        variable.regularizer(variable)
        for variable in model.trainable_weights
        if getattr(variable, "regularizer", None) is not None
    ]
    return float(sum(metric_names.scalar("penalty", term) for term in terms))


def measure(
    model: Any, sample: TrainSample, batch_size: int, callbacks: tuple[Any, ...]
) -> dict[str, float]:
    """All metrics of `sample` in inference mode, with validation's weights.

    `loss` still contains the penalty. Only for `on_epoch_end`: it resets the metrics.
    """
    with random_state.preserved(model), _private.validation_weights(callbacks):
        logs = model.evaluate(
            sample.x,
            sample.y,
            sample_weight=sample.sample_weight,
            batch_size=batch_size,
            verbose=0,
            return_dict=True,
        )
    return {
        name: metric_names.scalar(name, value)
        for name, value in logs.items()
        if np.size(keras.ops.convert_to_numpy(value)) == 1
    }
