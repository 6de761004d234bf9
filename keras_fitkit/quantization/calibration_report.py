"""What `calibrate` gives: how far each layer's outputs are from the float ones."""

from __future__ import annotations

import dataclasses
import html
from typing import Any


@dataclasses.dataclass(frozen=True)
class LayerCalibration:
    """How far what a layer gives out is from what it gave out as floats.

    Attributes:
        path: of the layer.
        error_before: mean squared error, before bias and activation, over the variance
            of the float outputs, with the kernel on the grid it came with; what reaches
            the layer is that of the calibrated model. None where it was not measured.
        error_after: the same with the new grid, without the mean error where the bias,
            or the norm that follows, takes it up.
        reason: why it was not measured or not changed, or an empty text.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.quantization import LayerCalibration
        >>> row = LayerCalibration("dense", 0.02, 0.005, "")
        >>> row.error_before / row.error_after
        4.0
    """

    path: str
    error_before: float | None
    error_after: float | None
    reason: str


@dataclasses.dataclass(frozen=True, repr=False)
class CalibrationReport:
    """What calibration changed.

    Attributes:
        methods: what was done, in that order.
        rows: of the sample.
        ranges: how many activation ranges were measured.
        biases: how many biases and norms were corrected.
        layers: a `LayerCalibration` for each layer with kernels, in the model's order.
        floats: how many activations stay floats, as their range is not known. Defaults
            to 0.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.quantization import CalibrationReport, LayerCalibration
        >>> row = LayerCalibration("dense", 0.02, 0.005, "")
        >>> print(CalibrationReport(("steps", "rounding"), 500, 0, 0, (row,)))
        500 rows: steps, rounding; 0 ranges, 0 biases and norms; error of the outputs:
                   before     after
          dense   2.0000%   0.5000%
    """

    methods: tuple[str, ...]
    rows: int
    ranges: int
    biases: int
    layers: tuple[LayerCalibration, ...]
    floats: int = 0

    @property
    def summary(self) -> str:
        """The report in one line."""
        done = ", ".join(self.methods)
        found = f"{self.ranges} ranges, {self.biases} biases and norms"
        if self.floats:
            found += f", {self.floats} activations left as floats (no range)"
        return f"{self.rows} rows: {done}; {found}; error of the outputs:"

    def render(self) -> str:
        """The report as text, a line a layer."""
        width = max((len(one.path) for one in self.layers), default=0)
        lines = [self.summary]
        if self.layers:
            lines.append(f"  {'':<{width}}{'before':>10}{'after':>10}")
        for one in self.layers:
            cells = f"{_percent(one.error_before)}{_percent(one.error_after)}"
            reason = f"  {one.reason}" if one.reason else ""
            lines.append(f"  {one.path:<{width}}{cells}{reason}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return {
            **dataclasses.asdict(self),
            "methods": list(self.methods),
            "layers": [dataclasses.asdict(one) for one in self.layers],
        }

    def __str__(self) -> str:
        """The text."""
        return self.render()

    def __repr__(self) -> str:
        """One line."""
        return f"<CalibrationReport: {len(self.layers)} layers, {self.rows} rows>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.render())}</pre>"


def _percent(error: float | None) -> str:
    return f"{'-':>10}" if error is None else f"{error:>10.4%}"
