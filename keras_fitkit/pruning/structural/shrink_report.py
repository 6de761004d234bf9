"""What `shrink` took out: a row for each layer."""

from __future__ import annotations

import dataclasses
import html
from typing import Any


@dataclasses.dataclass(frozen=True)
class ShrunkLayer:
    """The channels of one layer.

    Attributes:
        path: names of the models that it is in and its own, joined by "/".
        before, after: its output channels (units, filters, heads).
        reason: why some of them could not go; "" where all could.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.pruning import ShrunkLayer
        >>> ShrunkLayer("conv", 64, 32).after
        32
    """

    path: str
    before: int
    after: int
    reason: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class ShrinkReport:
    """What a model was and is, and what stayed because it had to.

    Attributes:
        layers: a `ShrunkLayer` for each layer that makes channels.
        params_before, params_after: parameters, those that are not trained included.
        macs_before, macs_after: of one example, as `kf.count_macs` counts; None where a
            size of the inputs is not known.
        dropped: paths of whole layers that are gone.
        folded: biases that took in what dead channels gave.
        inexact: paths of normalizations whose statistics have changed.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((8,)),
        ...         keras.layers.Dense(16, "relu", name="hidden"),
        ...         keras.layers.Dense(2, name="head"),
        ...     ]
        ... )
        >>> small, report = kf.shrink(model, 0.5, return_report=True)
        >>> report.params_before, report.params_after
        (178, 90)
        >>> [(row.path, row.before, row.after) for row in report.layers]
        [('hidden', 16, 8), ('head', 2, 2)]
    """

    layers: tuple[ShrunkLayer, ...]
    params_before: int
    params_after: int
    macs_before: int | None
    macs_after: int | None
    dropped: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    inexact: tuple[str, ...] = ()

    @property
    def kept(self) -> dict[str, str]:
        """Why channels stayed, by layer."""
        return {row.path: row.reason for row in self.layers if row.reason}

    @property
    def sparsity(self) -> float:
        """The fraction of the channels of all layers that is gone."""
        before = sum(row.before for row in self.layers)
        return 1 - sum(row.after for row in self.layers) / before if before else 0.0

    @property
    def summary(self) -> str:
        """The report in one line."""
        text = f"parameters {self.params_before:,} -> {self.params_after:,}"
        if self.macs_before is not None and self.macs_after is not None:
            text += f", MACs {self.macs_before:,} -> {self.macs_after:,}"
        if self.dropped:
            text += f", {len(self.dropped)} layers gone"
        return text

    def render(self) -> str:
        """The report as text, a line a layer."""
        width = max([len(row.path) for row in self.layers], default=0)
        lines = [
            f"  {row.path:<{width}}  {row.before:>5} -> {row.after:<5}  {row.reason}"
            for row in self.layers
        ]
        notes = [f"gone: {path}" for path in self.dropped]
        notes += [f"takes in constants: {path}" for path in self.folded]
        notes += [f"statistics changed: {path}" for path in self.inexact]
        return "\n".join(line.rstrip() for line in [self.summary, *lines, *notes])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<ShrinkReport: {self.summary}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(row.path)}</td><td>{row.before}</td>"
            f"<td>{row.after}</td><td>{html.escape(row.reason)}</td></tr>"
            for row in self.layers
        )
        return f"<b>{html.escape(self.summary)}</b><table>{rows}</table>"
