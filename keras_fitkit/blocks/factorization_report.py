"""What `factorize` did: a row a layer."""

from __future__ import annotations

import dataclasses
import html
from typing import Any


@dataclasses.dataclass(frozen=True)
class FactorizedLayer:
    """One layer that could be factorized, whether it was or not.

    Attributes:
        name: of the layer, after the names of the models that it is in.
        scheme: "dense", "channel" or "spatial" (see `LowRankConv2D`); "" where the
            layer was not factorized.
        rank: that it was given; None where it was not factorized.
        full_rank: the largest one of the scheme, or of the kernel; None for a layer
            that has no such form.
        variance: the fraction of the squared singular values that the rank keeps; with
            `data` those of the outputs. 1.0 where nothing was lost.
        params_before, params_after: parameters.
        macs_before, macs_after: of one example; None where a size of the model is not
            known.
        reason: why the layer stays as it is; "" for one that was factorized.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.blocks import FactorizedLayer
        >>> row = FactorizedLayer("a", "dense", 2, 8, 0.9, 80, 42, 64, 32)
        >>> row.rank, row.changed
        (2, True)
    """

    name: str
    scheme: str
    rank: int | None
    full_rank: int | None
    variance: float
    params_before: int
    params_after: int
    macs_before: int | None
    macs_after: int | None
    reason: str = ""

    @property
    def changed(self) -> bool:
        """Whether it was factorized."""
        return self.rank is not None


@dataclasses.dataclass(frozen=True, repr=False)
class FactorizationReport:
    """The layers that `factorize` looked at, and what became of them.

    Attributes:
        layers: a `FactorizedLayer` each.
        params_before, params_after: of the whole model.
        macs_before, macs_after: of the whole model for one example, as far as
            `kf.count_macs` can tell; None where a size is not known.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> model = keras.Sequential(
        ...     [keras.Input((64,)), keras.layers.Dense(64, name="a")]
        ... )
        >>> small, report = kf.factorize(model, rank=8, return_report=True)
        >>> report.macs_before, report.macs_after
        (4096, 1024)
        >>> [(row.name, row.rank, row.full_rank) for row in report.layers]
        [('a', 8, 64)]
    """

    layers: tuple[FactorizedLayer, ...]
    params_before: int
    params_after: int
    macs_before: int | None
    macs_after: int | None

    @property
    def changed(self) -> tuple[FactorizedLayer, ...]:
        """The layers that were factorized."""
        return tuple(row for row in self.layers if row.changed)

    @property
    def kept(self) -> tuple[FactorizedLayer, ...]:
        """The layers that stay, each with its `reason`."""
        return tuple(row for row in self.layers if not row.changed)

    @property
    def summary(self) -> str:
        """The report in one line."""
        text = (
            f"{len(self.changed)} of {len(self.layers)} layers factorized; parameters "
            f"{self.params_before:,} -> {self.params_after:,}"
        )
        if self.macs_before is None or self.macs_after is None:
            return text
        return f"{text}; MACs {self.macs_before:,} -> {self.macs_after:,}"

    def render(self) -> str:
        """The report as text, a line a layer."""
        width = max([len(row.name) for row in self.layers], default=0)
        lines = [f"  {row.name:<{width}}  {_text(row)}" for row in self.layers]
        return "\n".join([self.summary, *lines])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return {
            "params_before": self.params_before,
            "params_after": self.params_after,
            "macs_before": self.macs_before,
            "macs_after": self.macs_after,
            "layers": [dataclasses.asdict(row) for row in self.layers],
        }

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<FactorizationReport: {self.summary}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(row.name)}</td><td>{html.escape(_text(row))}</td></tr>"
            for row in self.layers
        )
        return f"<b>{html.escape(self.summary)}</b><table>{rows}</table>"


def _text(row: FactorizedLayer) -> str:
    if not row.changed:
        return row.reason
    return (
        f"{row.scheme}, rank {row.rank} of {row.full_rank}, variance "
        f"{row.variance:.2%}, parameters {row.params_before:,} -> {row.params_after:,}"
    )
