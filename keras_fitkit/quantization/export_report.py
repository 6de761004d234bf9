"""ExportReport: what is in a LiteRT file, and how near it is to the Keras model."""

from __future__ import annotations

import dataclasses
import html
from typing import Any


@dataclasses.dataclass(frozen=True)
class LayerError:
    """How far one layer of the file is from the same layer in Keras.

    Attributes:
        name: of the layer.
        sqnr: signal to quantization noise in dB; infinite where they are equal.
        max_steps: the largest difference in steps of the layer's grid; None where it
            has none.
        exact: fraction of values on the same step; None where it has no grid.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.quantization import LayerError
        >>> LayerError("dense", sqnr=41.0, max_steps=1.0, exact=0.99).max_steps
        1.0
    """

    name: str
    sqnr: float
    max_steps: float | None
    exact: float | None


@dataclasses.dataclass(frozen=True)
class FloatOp:
    """An operation that computes with floats in a file of integers.

    Attributes:
        op: its name in LiteRT.
        layer: the layer it comes from, "" if that cannot be told.
        reason: why it is allowed.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.quantization import FloatOp
        >>> FloatOp("BATCH_MATMUL", "attention", "computes in float").op
        'BATCH_MATMUL'
    """

    op: str
    layer: str
    reason: str


@dataclasses.dataclass(frozen=True, repr=False)
class ExportReport:
    """What `kf.export_litert` has written, and how it compares.

    Attributes:
        path: the file.
        mode: the format: "float32", "float16", "dynamic", "int8" or "int16x8".
        size_bytes: its size.
        ops: pairs of an operation's name and the types it works with, in their order.
        float_ops: operations in float that were allowed; empty for a float file.
        layers: a `LayerError` for each layer with a grid; empty without `check_data`.
        rows: rows of `check_data`; 0 without.
        agreement: fraction of rows with the same largest output; None where that cannot
            be said.
        max_error: largest difference of an output, in units of the outputs' range;
            None without `check_data`.
        histogram: how many values of the outputs are 0, 1, 2 ... steps of their grid
            off, the last of ten and more; empty where they have no trained grid.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.quantization import ExportReport
        >>> report = ExportReport("m.tflite", "float32", 1024, (), ())
        >>> print(report)
        m.tflite: float32, 1,024 bytes. Not compared: no `check_data`.
    """

    path: str
    mode: str
    size_bytes: int
    ops: tuple[tuple[str, tuple[str, ...]], ...]
    float_ops: tuple[FloatOp, ...]
    layers: tuple[LayerError, ...] = ()
    rows: int = 0
    agreement: float | None = None
    max_error: float | None = None
    histogram: tuple[int, ...] = ()

    @property
    def summary(self) -> str:
        """The report in one line."""
        line = f"{self.path}: {self.mode}, {self.size_bytes:,} bytes."
        if not self.rows:
            return f"{line} Not compared: no `check_data`."
        parts = [f"largest difference {self.max_error:.2%} of the outputs' range"]
        if self.agreement is not None:
            parts.append(f"same class in {self.agreement:.2%} of {self.rows} rows")
        return f"{line} Against Keras: {', '.join(parts)}."

    def render(self) -> str:
        """The report as text: the operations in float and a line a layer."""
        lines = [self.summary]
        for one in self.float_ops:
            lines.append(f"  in float: {one.op} of {one.layer or '?'} ({one.reason})")
        if self.histogram:
            parts = [
                f"{steps}: {count / sum(self.histogram):.2%}"
                for steps, count in enumerate(self.histogram)
            ]
            lines.append(f"  outputs, by steps off: {', '.join(parts)}")
        width = max([len(one.name) for one in self.layers], default=0)
        for layer in self.layers:
            steps = ""
            if layer.max_steps is not None and layer.exact is not None:
                steps = (
                    f"  at most {layer.max_steps:.1f} steps, {layer.exact:.1%} on the "
                    "same"
                )
            lines.append(f"  {layer.name:<{width}}  {layer.sqnr:6.1f} dB{steps}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return dataclasses.asdict(self)

    def plot(self, path: Any = None) -> Any:
        """A picture of each layer's signal to noise ratio, and of the outputs' steps.

        Args:
            path: the image file, by its suffix; None: none is written.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: nothing was compared, or a path that cannot be written.
        """
        from keras_fitkit.quantization import plots

        return plots.layer_errors(self, path)

    def __str__(self) -> str:
        """The text."""
        return self.render()

    def __repr__(self) -> str:
        """One line."""
        return f"<ExportReport: {self.summary}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.render())}</pre>"
