"""StochasticDepth: whole residual branches dropped in training."""

from __future__ import annotations

from typing import Any

import keras

from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks import _arguments
from keras_fitkit.blocks._configured import ConfiguredLayer
from keras_fitkit.blocks._plan import Shape, Tensor


@serializable
class StochasticDepth(ConfiguredLayer):
    """Sets whole examples of a residual branch to zero, at random, in training.

    What stays is divided by 1 - rate, so that its expectation is the same; at inference
    the input passes unchanged. Put it at the end of a branch, before the addition.
    Huang et al., "Deep Networks with Stochastic Depth", 2016, arXiv:1603.09382, figure
    2; here in the form with the scale at training time, as EfficientNet uses it.

    Args:
        rate: the fraction of examples that is dropped, in [0, 1).
        seed: an integer for the same draws in each run, or None. Defaults to None.
        kwargs: those of `keras.layers.Layer`: `name`, `dtype`, `trainable`.

    Input shape:
        Any, the first axis being the examples.

    Output shape:
        The same.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> drop = kf.blocks.StochasticDepth(0.5, seed=1)
        >>> branch = keras.ops.ones((4, 2, 2, 3))
        >>> kept = keras.ops.max(drop(branch, training=True), axis=(1, 2, 3))
        >>> sorted({float(one) for one in kept}) in ([0.0], [0.0, 2.0], [2.0])
        True
    """

    def __init__(self, rate: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = _arguments.rate("rate", rate)
        self.seed = _arguments.seed("seed", seed)
        self.supports_masking = True
        if self.rate > 0:
            self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.built = True

    def call(self, inputs: Tensor, training: bool | None = False) -> Tensor:
        """Drops in training, passes on at inference."""
        if not training or self.rate == 0:
            return inputs
        return keras.random.dropout(
            inputs,
            self.rate,
            noise_shape=(None, *[1] * (len(inputs.shape) - 1)),
            seed=self.seed_generator,
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """That of the input."""
        return tuple(input_shape)
