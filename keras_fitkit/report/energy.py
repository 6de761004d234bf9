"""What a forward pass costs in energy, by a model of 2014: for ranking only."""

from __future__ import annotations

import dataclasses

from keras_fitkit._core import arguments

_PICO = 1e-12


@dataclasses.dataclass(frozen=True)
class EnergyModel:
    """Joules of a forward pass, from counts alone: a ranking, not a measurement.

    Energy = sum over layers of (MACs)(multiplication + addition) + (bits of all
    weights / 32)(one DRAM read of 32 bits): each weight comes from DRAM once,
    activations from nowhere. Figures are those of a 45 nm process at 0.9 V. A modern
    chip takes less, a cache changes the share of the memory: compare models with it,
    nothing else.

    Attributes:
        float32_add, float32_multiply: in pJ.
        float16_add, float16_multiply: in pJ.
        int8_multiply: in pJ; of a layer whose weights and inputs are integers of at
            most 8 bits.
        int32_add: in pJ, the sum that products of int8 go into.
        dram_read: of 32 bits, in pJ; the lower end of Horowitz's 1.3 to 2.6 nJ for 64.

    Raises:
        TypeError, ValueError: a figure that is no number >= 0.

    Example:
        >>> from keras_fitkit.report import EnergyModel
        >>> energy = EnergyModel()
        >>> round(energy.of_macs(1000, "int8") / 1e-12) == 1000 * 0.3  # 0.2 + 0.1
        True
        >>> round(energy.of_weights(64) / 1e-12) == 64 / 32 * 640
        True

    References:
        Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC
        2014. The 640 pJ are those of Han et al., arXiv:1602.01528, table 1.
    """

    float32_add: float = 0.9
    float32_multiply: float = 3.7
    float16_add: float = 0.4
    float16_multiply: float = 1.1
    int8_multiply: float = 0.2
    int32_add: float = 0.1
    dram_read: float = 640.0

    def __post_init__(self) -> None:
        """Checks the figures."""
        for field in dataclasses.fields(self):
            arguments.number(field.name, getattr(self, field.name), low=0)

    def of_macs(self, macs: float, kind: str) -> float:
        """Joules of multiplications: kind "float32", "float16" or "int8"."""
        picojoules = {
            "float32": self.float32_add + self.float32_multiply,
            "float16": self.float16_add + self.float16_multiply,
            "int8": self.int8_multiply + self.int32_add,
        }[kind]
        return macs * picojoules * _PICO

    def of_weights(self, bits: float) -> float:
        """Joules of reading weights of so many bits in all."""
        return bits / 32 * self.dram_read * _PICO
