"""The picture of a channel graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_fitkit._core import arguments, pictures

if TYPE_CHECKING:
    from keras_fitkit.pruning.structural.channel_groups import ChannelGroups

# Okabe and Ito's palette, told apart by colour-blind readers; it repeats.
_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_GREY = "#BBBBBB"


def draw(found: ChannelGroups, path: str | Path | None) -> Any:
    """A row a layer: the group that it uses, its name, the group that it makes."""
    target = None if path is None else arguments.path("path", path)
    rows = {layer: row for row, layer in enumerate(found.layers)}
    figure = pictures.figure(8.0, max(2.0, 0.3 * len(rows) + 1.0))
    axes = figure.subplots()
    for row, layer in enumerate(found.layers):
        axes.text(1.5, row, layer, ha="center", va="center", fontsize=8)
    for number, group in enumerate(found.groups):
        color = _COLORS[number % len(_COLORS)]
        text = f"group {number + 1}: {group.channels}"
        for column, layers in (
            (0, group.used_by),
            (0, group.passes),
            (3, group.made_by),
            (3, group.passes),
        ):
            for layer in layers:
                _box(axes, column, rows[layer], color, text)
    for stays in found.frozen:
        if stays.path in rows:
            _box(axes, 3, rows[stays.path], _GREY, f"{stays.channels} stay")
    axes.set_xlim(-0.6, 3.6)
    axes.set_ylim(len(rows) - 0.4, -1.0)
    for place, title in ((0, "uses"), (1.5, "layer"), (3, "makes")):
        axes.text(place, -0.8, title, ha="center", weight="bold", fontsize=9)
    axes.axis("off")
    figure.suptitle(found.summary, fontsize=10)
    return pictures.written(figure, target)


def _box(axes: Any, column: int, row: int, color: str, text: str) -> None:
    axes.text(
        column,
        row,
        text,
        ha="center",
        va="center",
        fontsize=8,
        bbox={"boxstyle": "round", "facecolor": color, "edgecolor": "none"},
    )
