"""exclude_norms_and_biases: decoupled weight decay the way papers mean it."""

from __future__ import annotations

from typing import Any

import keras

from keras_fitkit._core import arguments

# The whole names: Keras looks for a pattern anywhere in the name, which is the path,
# with ":0" behind it where it is TensorFlow's own variable.
NAMES = ("bias", "gamma", "beta", "scale", "depthwise_bias", "recurrent_bias")


def exclude_norms_and_biases(optimizer: Any) -> Any:
    """Keeps an optimizer's weight decay away from biases and normalizations.

    Weight decay is for kernels: pulled to zero, the scales and shifts of normalizations
    and the biases only fit worse. Papers leave them out mostly without saying so; Goyal
    et al., "Accurate, Large Minibatch SGD", 2017, arXiv:1706.02677, say it. In Keras
    decay is decoupled and multiplied by the learning rate, as in PyTorch's `AdamW`.

    Args:
        optimizer: a Keras optimizer with `weight_decay`, before its first step.

    Returns:
        The same optimizer.

    Raises:
        TypeError: no Keras optimizer.
        ValueError: one without weight decay, or that has been used.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> optimizer = kf.exclude_norms_and_biases(keras.optimizers.AdamW(1e-3))
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        allowed = "a Keras optimizer, such as keras.optimizers.AdamW(...)"
        raise TypeError(arguments.message("optimizer", allowed, optimizer))
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not inner.weight_decay:
        hint = "Pass `weight_decay=...` to it: nothing decays now."
        text = arguments.message("optimizer", "one with weight decay", optimizer, hint)
        raise ValueError(text)
    if inner.built:
        hint = "Call this before `fit`; Keras fixes what decays with the first step."
        text = arguments.message("optimizer", "not built yet", optimizer, hint)
        raise ValueError(text)
    inner.exclude_from_weight_decay(var_names=[rf"(^|/){name}(:0)?$" for name in NAMES])
    return optimizer
