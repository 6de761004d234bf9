"""channel_groups: what is tied to what, and what may not go, for people."""

from __future__ import annotations

import dataclasses
import html
from pathlib import Path
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit._core.graph import check_functional
from keras_fitkit._core.layers import check_keras_model
from keras_fitkit.pruning.structural.channel_graph import IN, OUT, ChannelGraph
from keras_fitkit.pruning.structural.rebuilding import refuse_quantized
from keras_fitkit.pruning.structural.walk import THROUGH


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
    """Channels that stand in the same weights.

    Attributes:
        name: path of the first layer that makes them.
        channels: how many may go, each by itself.
        made_by: the layers that make them: a channel of a sum is made by each term.
        passes: the layers that work on each of them by itself.
        used_by: the layers that use them up.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.pruning import ChannelGroup
        >>> str(ChannelGroup("a", 8, ("a", "b"), (), ("c",)))
        '8 channels of a + b, used by c'
    """

    name: str
    channels: int
    made_by: tuple[str, ...]
    passes: tuple[str, ...]
    used_by: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.channels} channels of {' + '.join(self.made_by) or self.name}"
        text += f", through {', '.join(self.passes)}" if self.passes else ""
        return text + (f", used by {', '.join(self.used_by)}" if self.used_by else "")


@dataclasses.dataclass(frozen=True)
class FrozenChannels:
    """Channels of a layer that may not go.

    Attributes:
        path: of the layer that makes them.
        channels: how many.
        reason: why.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.pruning import FrozenChannels
        >>> str(FrozenChannels("head", 10, "an output of the model"))
        '10 channels of head stay: an output of the model'
    """

    path: str
    channels: int
    reason: str

    def __str__(self) -> str:
        return f"{self.channels} channels of {self.path} stay: {self.reason}"


@dataclasses.dataclass(frozen=True, repr=False)
class ChannelGroups:
    """The channels of a model, by what they are tied to.

    Attributes:
        groups: those that may go.
        frozen: those that may not.
        inexact: with `allow_inexact` the normalizations whose statistics would change.
        layers: paths of all layers with channels, in the order of their calls.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> inputs = keras.Input((4,))
        >>> x = keras.layers.Dense(8, name="a")(inputs)
        >>> y = keras.layers.Dense(8, name="b")(inputs)
        >>> outputs = keras.layers.Dense(2, name="c")(keras.layers.Add()([x, y]))
        >>> print(kf.channel_groups(keras.Model(inputs, outputs)))
        1 group of 8 channels may shrink, 2 channels stay
          8 channels of a + b, used by c
          2 channels of c stay: an output of the model
    """

    groups: tuple[ChannelGroup, ...]
    frozen: tuple[FrozenChannels, ...]
    inexact: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """How many may go."""
        return sum(one.channels for one in self.groups)

    @property
    def frozen_share(self) -> float:
        """The fraction of channels that may not go, but for the model's outputs."""
        stay = sum(
            one.channels for one in self.frozen if "an output of the" not in one.reason
        )
        whole = stay + self.channels
        return stay / whole if whole else 0.0

    @property
    def summary(self) -> str:
        """The report in one line."""
        many = "group" if len(self.groups) == 1 else "groups"
        stay = sum(one.channels for one in self.frozen)
        return (
            f"{len(self.groups)} {many} of {self.channels} channels may shrink, "
            f"{stay} channels stay"
        )

    def render(self) -> str:
        """The report as text, a line a group."""
        notes = [f"its statistics would change: {path}" for path in self.inexact]
        rows = [*map(str, self.groups), *map(str, self.frozen), *notes]
        return "\n".join([self.summary, *(f"  {row}" for row in rows)])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return dataclasses.asdict(self)

    def plot(self, path: str | Path | None = None) -> Any:
        """Draws the layers in their order: what they use left, what they make right.

        Channels of one group have one color; grey ones stay.

        Args:
            path: a picture file. Defaults to none.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is missing.
        """
        from keras_fitkit.pruning.structural import plots

        return plots.draw(self, path)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<ChannelGroups: {self.summary}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(str(row))}</td></tr>"
            for row in (*self.groups, *self.frozen)
        )
        return f"<b>{html.escape(self.summary)}</b><table>{rows}</table>"


def channel_groups(model: Any, *, allow_inexact: bool = False) -> ChannelGroups:
    """Which channels of a model are tied to which, and which may not go, and why.

    Channels that meet in a sum, a product or a shared layer go together; each is taken
    out of every weight that it stands in. This is what `kf.shrink` does and what
    `PruneSchedule(pattern="channel")` sets to zero.

    Args:
        model: a built functional or Sequential model. It is not changed. Composite
            layers that offer `expand()` are looked into.
        allow_inexact: see `kf.shrink`. Defaults to False.

    Returns:
        `ChannelGroups`, to be printed or plotted.

    Raises:
        TypeError: no Keras 3 model, or `allow_inexact` no flag.
        ValueError: a subclassed model, one that is not built or is quantized.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((4,)),
        ...         keras.layers.Dense(6, name="hidden"),
        ...         keras.layers.Dense(2, name="head"),
        ...     ]
        ... )
        >>> kf.channel_groups(model).groups[0].used_by
        ('head',)
    """
    check_keras_model("model", model, built=True)
    check_functional("model", model)
    refuse_quantized(model)
    arguments.flag("allow_inexact", allow_inexact)
    graph = ChannelGraph(model, allow_inexact)
    groups = tuple(
        ChannelGroup(
            group.name,
            group.size,
            group.paths(OUT),
            group.paths(THROUGH),
            group.paths(IN),
        )
        for group in graph.groups
    )
    frozen = tuple(
        FrozenChannels(path, count, reason)
        for path, (count, reason) in graph.frozen().items()
    )
    order = dict.fromkeys(one.path for one in graph.walk.bindings.values())
    return ChannelGroups(groups, frozen, tuple(graph.walk.inexact), tuple(order))
