"""Dropout and noise whose strength is a variable, so that it can change in a fit."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import keras
from keras import ops

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable

Tensor: TypeAlias = Any
SHAPES = ("elements", "channels", "examples")


class _Adjustable(keras.layers.Layer):
    """A layer that is active in training alone, with one number in a variable."""

    def __init__(
        self, start: float, variable: str, *, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.seed = None if seed is None else arguments.integer("seed", seed, low=0)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True
        self._start, self._variable_name = start, variable

    def build(self, input_shape: Any) -> None:
        """Makes the variable, always float32."""
        self.strength = self.add_weight(
            name=self._variable_name,
            shape=(),
            initializer=keras.initializers.Constant(self._start),
            trainable=False,
            dtype="float32",
            autocast=False,
        )
        self.built = True

    @property
    def current(self) -> float:
        """The strength now: what was given, until something moves it."""
        return float(self.strength) if self.built else self._start

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "seed": self.seed}


@serializable
class AdjustableDropout(_Adjustable):
    """Dropout whose rate is a variable, `dropout_rate`.

    In training each part of the input is set to zero with probability `rate`, and what
    stays is divided by 1 - rate, so that the expectation is the same; at inference the
    input passes unchanged. The variable can be moved in a compiled fit:
    `kf.HyperparameterSchedule("*/dropout_rate", 0.0, 0.3)`. At rate 0 the input passes
    exactly. `kf.shrink`, `kf.quantize_model` and `kf.expand` put Keras's own layer with
    the rate of that moment in its place.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting", 2014; whole channels: Tompson et al., 2015, arXiv:1411.4280; whole
    examples of a residual branch: Huang et al., 2016, arXiv:1603.09382.

    Args:
        rate: the probability to drop, in [0, 1).
        parts: what is dropped as one: "elements", "channels" (the last axis, or the
            second with `data_format="channels_first"`), "examples". Defaults to
            "elements".
        data_format: "channels_last", "channels_first", or None for Keras's setting.
            Defaults to None.
        seed: an integer >= 0 for the same draws in each run, or None. Defaults to None.
        kwargs: those of `keras.layers.Layer`: `name`, `dtype`, `trainable`.

    Input shape:
        Any, the first axis being the examples.

    Output shape:
        The same.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.regularizers.AdjustableDropout(0.5, seed=1)
        >>> dropped = layer(keras.ops.ones((4, 5)), training=True)
        >>> sorted({float(one) for one in keras.ops.ravel(dropped)})
        [0.0, 2.0]
        >>> [one.name for one in layer.weights]
        ['dropout_rate']
    """

    def __init__(
        self,
        rate: float,
        *,
        parts: str = "elements",
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.rate = check_rate("rate", rate)
        super().__init__(self.rate, "dropout_rate", seed=seed, **kwargs)
        self.parts = arguments.choice("parts", parts, SHAPES)
        formats = ("channels_last", "channels_first")
        if data_format is not None:
            arguments.choice("data_format", data_format, formats)
        self.data_format = data_format

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Drops in training, passes on at inference."""
        if not training:
            return inputs
        # In float32: a draw in half precision has few values.
        draw = keras.random.uniform(
            self._noise_shape(inputs), dtype="float32", seed=self.seed_generator
        )
        rate = ops.convert_to_tensor(self.strength)
        scale = ops.where(draw >= rate, 1 / (1 - rate), 0.0)
        return inputs * ops.cast(scale, inputs.dtype)

    def _noise_shape(self, inputs: Tensor) -> tuple[Any, ...]:
        shape = tuple(ops.shape(inputs))
        if self.parts == "elements":
            return shape
        ones: list[Any] = [1] * (len(shape) - 1)
        if self.parts == "channels":
            form = self.data_format or keras.config.image_data_format()
            place = 0 if form == "channels_first" and len(shape) > 2 else -1
            ones[place] = shape[1 + place] if place == 0 else shape[-1]
        return (shape[0], *ones)

    def expand(self) -> Any:
        """Keras's own layer with the rate of this moment."""
        name, rate, rank = self.name, self.current, self._rank()
        given = {"name": name, "dtype": self.dtype_policy, "seed": self.seed}
        if self.parts == "elements":
            return keras.layers.Dropout(rate, **given)
        shape: list[Any] = [None, *[1] * (rank - 1)]
        if self.parts == "channels":
            form = self.data_format or keras.config.image_data_format()
            shape[1 if form == "channels_first" and rank > 2 else -1] = None
        return keras.layers.Dropout(rate, noise_shape=tuple(shape), **given)

    def _rank(self) -> int:
        return len(self.get_build_config()["input_shape"])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"parts": self.parts, "data_format": self.data_format}
        return {**super().get_config(), "rate": self.rate, **own}


@serializable
class AdjustableNoise(_Adjustable):
    """Normal noise of a width that is a variable, `noise_stddev`.

    In training normal noise with mean 0 is added; at inference the input passes
    unchanged. For small noise it acts as a penalty on the derivatives of the function:
    Bishop, "Training with Noise is Equivalent to Tikhonov Regularization", 1995. The
    variable can be moved in a compiled fit:
    `kf.HyperparameterSchedule("*/noise_stddev", 0.1, 0.0)`. The transforms that
    `AdjustableDropout` names put `keras.layers.GaussianNoise` in its place.

    Args:
        stddev: the standard deviation, in the units of the input, >= 0.
        seed: an integer >= 0 for the same draws in each run, or None. Defaults to None.
        kwargs: those of `keras.layers.Layer`: `name`, `dtype`, `trainable`.

    Input shape:
        Any, of floats.

    Output shape:
        The same.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> layer = kf.regularizers.AdjustableNoise(0.1, seed=1)
        >>> noisy = layer(keras.ops.ones((4, 5)), training=True)
        >>> bool(keras.ops.max(keras.ops.abs(noisy - 1)) > 0)
        True
    """

    def __init__(
        self, stddev: float, *, seed: int | None = None, **kwargs: Any
    ) -> None:
        self.stddev = arguments.number("stddev", stddev, low=0)
        super().__init__(self.stddev, "noise_stddev", seed=seed, **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Adds noise in training, passes on at inference."""
        if not training:
            return inputs
        noise = keras.random.normal(
            ops.shape(inputs), dtype="float32", seed=self.seed_generator
        )
        return inputs + ops.cast(noise * self.strength, inputs.dtype)

    def expand(self) -> Any:
        """Keras's own layer with the width of this moment."""
        return keras.layers.GaussianNoise(
            self.current, name=self.name, dtype=self.dtype_policy, seed=self.seed
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "stddev": self.stddev}


def check_rate(name: str, value: object) -> float:
    """A probability to drop, in [0, 1)."""
    hint = ""
    if isinstance(value, (int, float)) and 1 < value <= 100 and math.isfinite(value):
        hint = f"For {value:g} % pass {value / 100:g}."
    return arguments.number(name, value, low=0, high=1, include_high=False, hint=hint)
