"""Whether the weights of a model are still numbers."""

from __future__ import annotations

from typing import Any

import keras


def non_finite_weights(model: Any) -> list[str]:
    """Paths of the weights that hold NaN, or infinity where they are trained.

    A weight that is not trained may hold infinities on purpose (an attention mask). One
    answer is fetched from the device for all of them.
    """
    trained = {id(weight) for weight in getattr(model, "trainable_weights", ())}
    floats = [
        weight
        for weight in (getattr(model, "weights", ()) if trained else ())
        if keras.backend.is_float_dtype(weight.dtype)
    ]
    if not floats:
        return []
    answers = [
        keras.ops.all(keras.ops.isfinite(weight))
        if id(weight) in trained
        else keras.ops.logical_not(keras.ops.any(keras.ops.isnan(weight)))
        for weight in floats
    ]
    fine = keras.ops.convert_to_numpy(keras.ops.stack(answers))
    return [
        str(weight.path) for weight, good in zip(floats, fine, strict=True) if not good
    ]
