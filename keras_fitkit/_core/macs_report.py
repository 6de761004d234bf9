"""What `count_macs` found: a row for each layer."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

_HEADINGS = ("layer", "class", "calls", "MACs", "share")


@dataclasses.dataclass(frozen=True)
class LayerMacs:
    """The MACs of one layer, over all of its calls.

    Attributes:
        path: names of the layers that it is in and its own, joined by "/".
        kind: the name of its class.
        calls: how often one forward pass calls it.
        macs: multiplications with addition for one example, over all calls; None where
            they are not known.
        input_shape, output_shape: of the first call, the batch of 1 included; the first
            tensor of several.
        reason: why `macs` is None; "" where it is not.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit import LayerMacs
        >>> LayerMacs("head", "Dense", 1, 640, (1, 64), (1, 10)).macs
        640
    """

    path: str
    kind: str
    calls: int
    macs: int | None
    input_shape: tuple[int, ...] | None
    output_shape: tuple[int, ...] | None
    reason: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class MacsReport:
    """The multiplications with addition (MACs) of a forward pass of one example.

    One MAC is two floating point operations (FLOPs). MACs are not time: layers with few
    of them are often limited by memory.

    Attributes:
        layers: a `LayerMacs` for each layer with MACs, and for each whose MACs are not
            known, in the order of their first call.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> model = keras.Sequential(
        ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")]
        ... )
        >>> report = kf.count_macs(model)
        >>> report.total == 6 * 6 * 4 * (3 * 3 * 3)
        True
        >>> report.by_layer
        {'conv': 3888}
    """

    layers: tuple[LayerMacs, ...]

    @property
    def total(self) -> int:
        """All MACs that are known. Whether that is all of them says `complete`."""
        return sum(row.macs for row in self.layers if row.macs is not None)

    @property
    def by_layer(self) -> dict[str, int]:
        """The known MACs by path."""
        return {row.path: row.macs for row in self.layers if row.macs is not None}

    @property
    def uncounted(self) -> dict[str, str]:
        """The layers whose MACs are not known, by path, each with the reason."""
        return {row.path: row.reason for row in self.layers if row.macs is None}

    @property
    def complete(self) -> bool:
        """Whether the MACs of all layers are known."""
        return not self.uncounted

    @property
    def summary(self) -> str:
        """The report in one line."""
        text = f"{self.total:,} MACs ({2 * self.total:,} FLOPs) an example"
        if self.complete:
            return text
        return f"at least {text}; {len(self.uncounted)} layers not counted"

    def render(self) -> str:
        """The report as text, a line a layer."""
        rows = [_HEADINGS, *(self._cells(row) for row in self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if place < 2 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        left = [f"not counted: {path}: {why}" for path, why in self.uncounted.items()]
        return "\n".join([self.summary, *lines, *left])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        rows = [dataclasses.asdict(row) for row in self.layers]
        return {"total": self.total, "complete": self.complete, "layers": rows}

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<MacsReport: {self.summary}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in self._cells(row))
            + f"<td>{html.escape(row.reason)}</td></tr>"
            for row in self.layers
        )
        heads = "".join(f"<th>{one}</th>" for one in (*_HEADINGS, "note"))
        text = html.escape(self.summary)
        return f"<b>{text}</b><table><tr>{heads}</tr>{rows}</table>"

    def _cells(self, row: LayerMacs) -> tuple[str, ...]:
        known = row.macs is not None
        share = f"{row.macs / self.total:.1%}" if row.macs and self.total else ""
        macs = f"{row.macs:,}" if known else "?"
        return row.path, row.kind, str(row.calls), macs, share
