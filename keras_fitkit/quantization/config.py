"""QuantizeConfig: how many bits, on which grid, from which step on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable

FLOATS = ("float16", "bfloat16")
RANGES = ("auto", "moving_average", "learned")
LEARNED_BITS = 4  # at and below, "auto" learns step sizes


@serializable
@dataclasses.dataclass(frozen=True)
class QuantizeConfig:
    """How a layer is quantized: widths, grids, when it starts.

    Weights are symmetric with a narrow range: integers from -n to n, n = 2^(bits-1) -
    1, times a scale for each output channel. Activations are affine: 2^bits values
    between two ends that include zero.

    Args:
        weight_bits: width of the weights, 2 to 16; "float16" or "bfloat16" rounds them
            to that type (a LiteRT file has float16 for both: it knows no bfloat16, and
            float16 holds the same values from 8e-6 to 65504); None leaves them as they
            are. Where activations have 8 bits, a LiteRT file has 8 for such weights
            too, from the largest of each channel. Defaults to 8.
        activation_bits: width of the activations, 2 to 16, or None for floats. Defaults
            to 8.
        per_channel: whether each output channel has a scale of its own, or a weight
            one. Defaults to True.
        ranges: where scales and ranges come from. "moving_average": a weight's scale
            from its largest value, a range from a moving average of the batches'
            extremes; "learned": trained along with the weights (LSQ, LSQ+); "auto":
            "learned" at 4 bits and below. Defaults to "auto".
        momentum: of the moving average, in [0, 1). Defaults to 0.99.
        start_step: training steps before anything is rounded, >= 0; ranges are observed
            from the first on. A layer counts its own calls, so one that is called
            twice in a step counts two. Defaults to 0.
        freeze_batch_norm_after: training step, counted in the same way, after which
            BatchNormalization normalizes by its moving statistics and stops changing
            them, >= 0, or None for never. Defaults to None.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras_fitkit as kf
        >>> kf.QuantizeConfig(weight_bits=4, activation_bits=8).learned_weights
        True

    References:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", 2018, arXiv:1712.05877 (the scheme).
    """

    weight_bits: int | str | None = 8
    activation_bits: int | None = 8
    per_channel: bool = True
    ranges: str = "auto"
    momentum: float = 0.99
    start_step: int = 0
    freeze_batch_norm_after: int | None = None

    def __post_init__(self) -> None:
        """Checks each argument."""
        if self.weight_bits is not None and self.weight_bits not in FLOATS:
            hint = f"For floats pass one of {', '.join(map(repr, FLOATS))}, or None."
            arguments.integer(
                "weight_bits", self.weight_bits, low=2, high=16, hint=hint
            )
        if self.activation_bits is not None:
            arguments.integer(
                "activation_bits",
                self.activation_bits,
                low=2,
                high=16,
                hint="For floats pass None.",
            )
        arguments.flag("per_channel", self.per_channel)
        arguments.choice("ranges", self.ranges, RANGES)
        arguments.number(
            "momentum", self.momentum, low=0.0, high=1.0, include_high=False
        )
        arguments.integer("start_step", self.start_step, low=0)
        if self.freeze_batch_norm_after is not None:
            arguments.integer(
                "freeze_batch_norm_after", self.freeze_batch_norm_after, low=0
            )

    @property
    def learned_weights(self) -> bool:
        """Whether the weights' step sizes are trained."""
        return self._learned(self.weight_bits)

    @property
    def learned_ranges(self) -> bool:
        """Whether the ranges of activations are trained."""
        return self._learned(self.activation_bits)

    def _learned(self, bits: int | str | None) -> bool:
        if not isinstance(bits, int):
            return False
        if self.ranges == "auto":
            return bits <= LEARNED_BITS
        return self.ranges == "learned"

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> QuantizeConfig:
        """A config from what `get_config` gave."""
        return cls(**config)


PRESETS: dict[str, QuantizeConfig] = {
    "int8": QuantizeConfig(),
    "int8-weights": QuantizeConfig(activation_bits=None),
    "int4-weights": QuantizeConfig(weight_bits=4, activation_bits=None),
    "int2-weights": QuantizeConfig(weight_bits=2, activation_bits=None),
    "int4": QuantizeConfig(weight_bits=4, activation_bits=4),
    "int16x8": QuantizeConfig(activation_bits=16),
    "float16": QuantizeConfig(weight_bits="float16", activation_bits=None),
}
"""Ready-made configs, each with the format that it stands for:

- "int8": int8 weights and activations, LiteRT's full-integer kernels everywhere.
- "int8-weights": int8 weights that LiteRT turns into floats when it runs.
- "int4-weights", "int2-weights": 4 or 2 bits a weight, computed in float or int8.
- "int4": 4-bit weights and activations. LiteRT has no such activations: what
  `export_litert(mode="float32")` writes has the weights alone on their grid.
- "int16x8": int16 activations and int8 weights; LiteRT's reference kernels, slow. The
  ranges of the file come from `calibration_data`: from trained ones TensorFlow's
  converter makes files that are wrong.
- "float16": float16 weights; LiteRT computes in float32 on a CPU.
"""


def resolve(config: Any, name: str = "config") -> QuantizeConfig:
    """A config, one of the arguments in a dict, or the preset of a name.

    Args:
        config: what a user gave.
        name: of the argument that it was, for the messages.

    Raises:
        TypeError, ValueError: neither.
    """
    if isinstance(config, QuantizeConfig):
        return config
    if isinstance(config, Mapping):
        known = [one.name for one in dataclasses.fields(QuantizeConfig)]
        for key in config:
            arguments.choice(name, key, known)
        return QuantizeConfig(**config)
    if not isinstance(config, str):
        allowed = "a QuantizeConfig or the name of a preset"
        raise TypeError(arguments.message(name, allowed, config))
    return PRESETS[arguments.choice(name, config, tuple(PRESETS))]
