"""What the weight regularizers add to Keras's losses, so that it can be taken out."""

from __future__ import annotations

from typing import Any

import keras

from keras_fitkit._core import metric_names


def penalty(model: Any) -> float:
    """The sum of the weight regularizers, which Keras adds to loss and val_loss alike.

    From the variables: `model.losses` may hold leaked symbolic tensors after a compiled
    step. Losses that depend on the data (activity regularizers, `add_loss`) stay in, on
    both sides. A model that computes its loss or its test step itself may leave the
    penalty out: nothing is known then, and it is 0.
    """
    own = type(model)
    for name in ("compute_loss", "test_step"):
        if getattr(own, name, None) is not getattr(keras.Model, name):
            return 0.0
    terms = [
        variable.regularizer(variable)
        for variable in model.trainable_weights
        if getattr(variable, "regularizer", None) is not None
    ]
    return float(sum(metric_names.scalar("penalty", term) for term in terms))
