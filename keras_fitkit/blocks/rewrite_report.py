"""What `fuse`, `expand` and `replace_grouped_conv` did, layer by layer."""

from __future__ import annotations

import dataclasses
import html
from typing import Any


@dataclasses.dataclass(frozen=True)
class LayerChange:
    """What became of one layer.

    Attributes:
        name: of the layer, after the names of the models that it is in.
        changed: whether it was changed.
        text: what it became, or why it stays.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.blocks import LayerChange
        >>> str(LayerChange("stem/norm", True, "folded into 'stem/conv'"))
        "stem/norm: folded into 'stem/conv'"
    """

    name: str
    changed: bool
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclasses.dataclass(frozen=True, repr=False)
class RewriteReport:
    """What a transform changed in a model, and what it could not change.

    Attributes:
        layers: a `LayerChange` for each layer that the transform is about.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> inputs = keras.Input((8, 8, 3))
        >>> model = keras.Model(inputs, kf.blocks.RepConv(4, name="rep")(inputs))
        >>> deploy, report = kf.fuse(model, return_report=True)
        >>> print(report)
        1 changed, 0 stay
          rep: fused
    """

    layers: tuple[LayerChange, ...]

    @property
    def changed(self) -> tuple[LayerChange, ...]:
        """The layers that were changed."""
        return tuple(one for one in self.layers if one.changed)

    @property
    def kept(self) -> tuple[LayerChange, ...]:
        """The layers that stay, each with the reason."""
        return tuple(one for one in self.layers if not one.changed)

    @property
    def summary(self) -> str:
        """The report in one line."""
        return f"{len(self.changed)} changed, {len(self.kept)} stay"

    def render(self) -> str:
        """The report as text, a line a layer."""
        return "\n".join([self.summary, *(f"  {one}" for one in self.layers)])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return {"layers": [dataclasses.asdict(one) for one in self.layers]}

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<RewriteReport: {self.summary}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(one.name)}</td><td>{html.escape(one.text)}</td></tr>"
            for one in self.layers
        )
        return f"<b>{html.escape(self.summary)}</b><table>{rows}</table>"
