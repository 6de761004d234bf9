"""What `regularize` did, layer by layer."""

from __future__ import annotations

import dataclasses
import html
from typing import Any


@dataclasses.dataclass(frozen=True)
class RegularizedLayer:
    """What became of one layer.

    Attributes:
        name: path of the layer.
        changed: whether something was done.
        text: what was done, or why nothing.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.regularizers import RegularizedLayer
        >>> str(RegularizedLayer("dense", True, "dropout 0.3 after it"))
        'dense: dropout 0.3 after it'
    """

    name: str
    changed: bool
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclasses.dataclass(frozen=True, repr=False)
class RegularizationReport:
    """What `kf.regularize` changed, what it left, and what is left to do.

    Attributes:
        layers: a `RegularizedLayer` for each thing that was done or could not be.
        by_hand: what belongs to the optimizer, the loss or the data, with the code.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((4,)),
        ...         keras.layers.Dense(8, "relu", name="hidden"),
        ...         keras.layers.Dense(1, name="head"),
        ...     ]
        ... )
        >>> _, report = kf.regularize(model, dropout=0.3, return_report=True)
        >>> print(report)
        1 changed, 0 stay
          hidden: dropout 0.3 after it
    """

    layers: tuple[RegularizedLayer, ...]
    by_hand: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[RegularizedLayer, ...]:
        """What was done."""
        return tuple(one for one in self.layers if one.changed)

    @property
    def kept(self) -> tuple[RegularizedLayer, ...]:
        """What could not be done, with the reason."""
        return tuple(one for one in self.layers if not one.changed)

    @property
    def summary(self) -> str:
        """The report in one line."""
        text = f"{len(self.changed)} changed, {len(self.kept)} stay"
        return f"{text}, {len(self.by_hand)} to do" if self.by_hand else text

    def render(self) -> str:
        """The report as text, a line for each thing."""
        rest = [f"  to do: {one}" for one in self.by_hand]
        return "\n".join([self.summary, *(f"  {one}" for one in self.layers), *rest])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<RegularizationReport: {self.summary}>"

    def _repr_html_(self) -> str:
        lines = "".join(
            f"<tr><td>{html.escape(one)}</td></tr>"
            for one in self.render().splitlines()[1:]
        )
        return f"<b>{html.escape(self.summary)}</b><table>{lines}</table>"
