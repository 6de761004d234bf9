"""What `bit_sensitivity` and `assign_bits` give."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping
from typing import Any

from keras_fitkit.quantization.config import QuantizeConfig

FLOAT_BYTES = 4
BYTE = 8


@dataclasses.dataclass(frozen=True)
class LayerSensitivity:
    """What the widths of one layer cost.

    Attributes:
        path: of the layer.
        num_weights: in its kernels.
        num_scales: of its kernels: one for each output channel, or one for all.
        increases: width in bits -> how much the loss rises.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.quantization import LayerSensitivity
        >>> LayerSensitivity("dense", 1000, 10, {8: 0.001, 4: 0.02}).num_bytes(4)
        540
    """

    path: str
    num_weights: int
    num_scales: int
    increases: Mapping[int, float]

    def num_bytes(self, bits: int) -> int:
        """Size of the kernels with this width, scales included."""
        return -(-self.num_weights * bits // BYTE) + FLOAT_BYTES * self.num_scales


@dataclasses.dataclass(frozen=True, repr=False)
class BitSensitivity:
    """How much the loss rises with each layer's kernels rounded, by width.

    Attributes:
        loss: with no kernel rounded.
        layers: a `LayerSensitivity` for each layer with kernels, in the model's order.
        num_params: all weights of the model.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.quantization import BitSensitivity, LayerSensitivity
        >>> row = LayerSensitivity("dense", 1000, 10, {8: 0.001, 4: 0.02})
        >>> print(BitSensitivity(0.3, (row,), 1010))
        Loss 0.3 with floats; it rises by, with one layer rounded:
                 weights     8 bits     4 bits
          dense    1,000   +0.00100   +0.02000
    """

    loss: float
    layers: tuple[LayerSensitivity, ...]
    num_params: int

    @property
    def bits(self) -> tuple[int, ...]:
        """The widths that were measured, the largest first."""
        return tuple(sorted(self.layers[0].increases, reverse=True))

    @property
    def summary(self) -> str:
        """The report in one line."""
        return f"Loss {self.loss:.5g} with floats; it rises by, with one layer rounded:"

    def render(self) -> str:
        """The report as text, a line a layer."""
        width = max(len(one.path) for one in self.layers)
        heads = "".join(f"{bits} bits".rjust(11) for bits in self.bits)
        lines = [self.summary, f"  {'':<{width}}  weights{heads}"]
        for one in self.layers:
            costs = "".join(
                f"{one.increases[bits]:+.5f}".rjust(11) for bits in self.bits
            )
            lines.append(f"  {one.path:<{width}}  {one.num_weights:>7,}{costs}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return {
            "loss": self.loss,
            "num_params": self.num_params,
            "layers": [
                {
                    "path": one.path,
                    "num_weights": one.num_weights,
                    "num_scales": one.num_scales,
                    "increases": {str(k): v for k, v in one.increases.items()},
                }
                for one in self.layers
            ],
        }

    def plot(self, path: Any = None) -> Any:
        """A picture: what each layer costs at each width.

        Args:
            path: the image file, by its suffix; None: none is written.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: a path that cannot be written.
        """
        from keras_fitkit.quantization import plots

        return plots.sensitivity(self, path)

    def __str__(self) -> str:
        """The text."""
        return self.render()

    def __repr__(self) -> str:
        """One line."""
        return f"<BitSensitivity: {len(self.layers)} layers at {self.bits} bits>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.render())}</pre>"


@dataclasses.dataclass(frozen=True, repr=False)
class BitAssignment:
    """A width for each layer; `kf.quantize_model` takes it as its config.

    Attributes:
        bits: path of a layer -> width of its kernels.
        sensitivity: what it was chosen by.
        config: everything but the widths.
        loss: measured with all kernels rounded together, before any training.
        floats: paths of the layers that stay float.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras_fitkit as kf
        >>> row = kf.quantization.LayerSensitivity(
        ...     "dense", 1000, 10, {8: 0.001, 4: 0.02}
        ... )
        >>> found = kf.BitSensitivity(0.3, (row,), 1010)
        >>> made = kf.BitAssignment({"dense": 4}, found, kf.QuantizeConfig(), 0.32)
        >>> made.num_bytes, made.bits["dense"]
        (580, 4)
    """

    bits: Mapping[str, int]
    sensitivity: BitSensitivity
    config: QuantizeConfig
    loss: float
    floats: tuple[str, ...] = ()

    @property
    def overrides(self) -> dict[str, QuantizeConfig | None]:
        """The configs of the layers, as `kf.quantize_model(overrides=)` takes them."""
        return {
            **dict.fromkeys(self.floats),
            **{
                path: dataclasses.replace(self.config, weight_bits=bits)
                for path, bits in self.bits.items()
            },
        }

    @property
    def num_bytes(self) -> int:
        """Kernels at their widths, their scales, and everything else in float32."""
        rows = self.sensitivity.layers
        kernels = sum(one.num_weights for one in rows)
        rest = FLOAT_BYTES * (self.sensitivity.num_params - kernels)
        return rest + sum(one.num_bytes(self.bits[one.path]) for one in rows)

    @property
    def size(self) -> float:
        """`num_bytes` as a fraction of the model in float32."""
        return self.num_bytes / (FLOAT_BYTES * self.sensitivity.num_params)

    @property
    def expected_increase(self) -> float:
        """The layers' increases of the loss added up."""
        rows = self.sensitivity.layers
        return sum(one.increases[self.bits[one.path]] for one in rows)

    @property
    def summary(self) -> str:
        """The report in one line."""
        return (
            f"{self.num_bytes:,} bytes, {self.size:.1%} of float32; loss "
            f"{self.sensitivity.loss:.5g} -> {self.loss:.5g} before training "
            f"({self.sensitivity.loss + self.expected_increase:.5g} expected)"
        )

    def render(self) -> str:
        """The report as text, a line a layer."""
        rows = self.sensitivity.layers
        width = max(len(one.path) for one in rows)
        lines = [self.summary]
        for one in rows:
            bits = self.bits[one.path]
            lines.append(
                f"  {one.path:<{width}}  {bits} bits  {one.num_bytes(bits):>10,} bytes"
                f"  loss {one.increases[bits]:+.5f}"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return {
            "bits": dict(self.bits),
            "floats": list(self.floats),
            "num_bytes": self.num_bytes,
            "size": self.size,
            "loss": self.loss,
            "expected_increase": self.expected_increase,
            "config": self.config.get_config(),
            "sensitivity": self.sensitivity.to_dict(),
        }

    def plot(self, path: Any = None) -> Any:
        """The picture of `BitSensitivity.plot`, with what was chosen marked.

        Args:
            path: the image file, by its suffix; None: none is written.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: a path that cannot be written.
        """
        from keras_fitkit.quantization import plots

        return plots.sensitivity(self.sensitivity, path, chosen=self.bits)

    def __str__(self) -> str:
        """The text."""
        return self.render()

    def __repr__(self) -> str:
        """One line."""
        return f"<BitAssignment: {self.summary}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.render())}</pre>"
