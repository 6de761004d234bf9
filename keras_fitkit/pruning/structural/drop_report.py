"""What `drop_layers` could take out of a model, and what it took."""

from __future__ import annotations

import dataclasses
import html
from typing import Any


@dataclasses.dataclass(frozen=True)
class Droppable:
    """A part of a model without which it still fits together.

    Attributes:
        path: of the sum that ends a residual branch, or of the layer.
        layers: paths of the layers with weights that go with it.
        score: what it is worth, by the scores that were asked for.
        dropped: whether it is gone.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.pruning import Droppable
        >>> Droppable("block/add", ("block/conv",), 0.1, True).dropped
        True
    """

    path: str
    layers: tuple[str, ...]
    score: float
    dropped: bool


@dataclasses.dataclass(frozen=True, repr=False)
class DropReport:
    """What `drop_layers` could take out of a model, and what it took.

    Attributes:
        parts: a `Droppable` each, the least important first.
        params_before, params_after: parameters.
        macs_before, macs_after: of one example; None where a size is not known.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> inputs = keras.Input((4,))
        >>> x = keras.layers.Add(name="sum")(
        ...     [inputs, keras.layers.Dense(4, name="branch")(inputs)]
        ... )
        >>> model = keras.Model(inputs, keras.layers.Dense(2)(x))
        >>> small, report = kf.drop_layers(model, 1, return_report=True)
        >>> print(report)
        1 of 1 parts dropped, parameters 30 -> 10
          sum: dropped, with branch
    """

    parts: tuple[Droppable, ...]
    params_before: int
    params_after: int
    macs_before: int | None
    macs_after: int | None

    @property
    def dropped(self) -> tuple[str, ...]:
        """Paths of what is gone."""
        return tuple(one.path for one in self.parts if one.dropped)

    @property
    def summary(self) -> str:
        """The report in one line."""
        return (
            f"{len(self.dropped)} of {len(self.parts)} parts dropped, parameters "
            f"{self.params_before:,} -> {self.params_after:,}"
        )

    def render(self) -> str:
        """The report as text, a line a part."""
        return "\n".join([self.summary, *(f"  {_text(one)}" for one in self.parts)])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<DropReport: {self.summary}>"

    def _repr_html_(self) -> str:
        lines = "".join(
            f"<tr><td>{html.escape(_text(one))}</td></tr>" for one in self.parts
        )
        return f"<b>{html.escape(self.summary)}</b><table>{lines}</table>"


def _text(one: Droppable) -> str:
    what = "dropped" if one.dropped else "stays"
    return f"{one.path}: {what}, with {', '.join(one.layers) or 'no weights'}"
