"""The presets, and how to find one."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit.regularizers.preset import Preset
from keras_fitkit.regularizers.recipes import RECIPES

OURS = "this package's own steps"
NONE = "none"
PRESETS: dict[str, Preset] = {}


def get(name: str) -> Any:
    """The penalty of a preset, as a Keras regularizer.

    Args:
        name: of a preset that has a penalty on weights, such as "l2-medium".

    Returns:
        A `keras.regularizers.Regularizer` for `kernel_regularizer`.

    Raises:
        TypeError, ValueError: no preset of that name, or one without a penalty.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> regularizer = kf.regularizers.get("l2-medium")
        >>> layer = keras.layers.Dense(64, kernel_regularizer=regularizer)
        >>> float(regularizer.l2)
        0.0001
    """
    preset = find("name", name)
    found = preset.regularizer
    if found is None:
        having = [one for one in PRESETS if PRESETS[one].regularizer is not None]
        hint = "Use `kf.regularize(model, ...)`: it is no penalty on weights."
        allowed = f"one of {', '.join(having)}"
        raise ValueError(arguments.message("name", allowed, name, hint))
    return found


def find(argument: str, name: Any) -> Preset:
    """The preset of a name, or a preset itself.

    Raises:
        TypeError, ValueError: there is none, by the argument's name.
    """
    if isinstance(name, Preset):
        return name
    return PRESETS[arguments.choice(argument, name, tuple(PRESETS))]


@dataclasses.dataclass(frozen=True, repr=False)
class PresetTable:
    """The presets as a table.

    Attributes:
        presets: a `Preset` each.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras_fitkit as kf
        >>> table = kf.regularizers.list_presets()
        >>> [one.name for one in table.presets][:3]
        ['l1-light', 'l1-medium', 'l1-strong']
    """

    presets: tuple[Preset, ...]

    def render(self) -> str:
        """The table as text, a line a preset."""
        width = max(len(one.name) for one in self.presets)
        return "\n".join(
            f"{one.name:<{width}}  {_settings(one)}  [{one.source}]"
            for one in self.presets
        )

    def to_dict(self) -> dict[str, Any]:
        """The presets as plain values that `json.dumps` takes."""
        return {"presets": [dataclasses.asdict(one) for one in self.presets]}

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return self.render()  # so that a prompt shows the table

    def __rich__(self) -> Any:
        """A table for rich, which Keras brings."""
        from rich.table import Table
        from rich.text import Text

        table = Table("preset", "what it sets", "source", "conversion")
        for one in self.presets:
            cells = (one.name, _settings(one), one.source, one.conversion)
            table.add_row(*map(Text, cells))
        return table

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td>{html.escape(text)}</td>"
                for text in (one.name, _settings(one), one.source, one.conversion)
            )
            + "</tr>"
            for one in self.presets
        )
        return f"<table>{rows}</table>"


def _settings(preset: Preset) -> str:
    return ", ".join(
        f"{name}={value}" if isinstance(value, str) else f"{name}={value:g}"
        for name, value in preset.settings.items()
    )


def list_presets() -> PresetTable:
    """All presets with what they set and where the numbers come from.

    Returns:
        A `PresetTable`; print it, or take its `.presets`.

    Raises:
        TypeError: an argument is given.

    Example:
        >>> import keras_fitkit as kf
        >>> print(kf.regularizers.list_presets().render().splitlines()[0])
        l1-light              l1=1e-06  [this package's own steps]
    """
    return PresetTable(tuple(PRESETS.values()))


def _add(name: str, **fields: Any) -> None:
    PRESETS[name] = Preset(name, **{"source": OURS, **fields})


STEPS = ("light", "medium", "strong")
FACTOR = "a factor of the sum over each kernel"
for _kind, _fields in (
    ("l1", ({"l1": 1e-6}, {"l1": 1e-5}, {"l1": 1e-4})),
    ("l2", ({"l2": 1e-5}, {"l2": 1e-4}, {"l2": 1e-3})),
    (
        "l1l2",
        ({"l1": 1e-6, "l2": 1e-5}, {"l1": 1e-5, "l2": 1e-4}, {"l1": 1e-4, "l2": 1e-3}),
    ),
):
    for _step, _own in zip(STEPS, _fields, strict=True):
        _add(f"{_kind}-{_step}", conversion=FACTOR, **_own)
for _step, _dropout, _spatial in zip(
    STEPS, (0.1, 0.3, 0.5), (0.05, 0.1, 0.2), strict=True
):
    _add(f"dropout-{_step}", dropout=_dropout, spatial_dropout=_spatial)
_add("l1-sparse", l1=1e-3, conversion="weights that do not matter go to almost 0")
_add("spatial-dropout", spatial_dropout=0.2)
_add("gaussian-noise", noise=0.1, conversion="for inputs that are scaled to 1")
_add("stochastic-depth", stochastic_depth=0.1)
_add("orthogonal", orthogonal=1e-2, conversion="Keras's penalty on Dense columns")
for _name, _recipe in RECIPES.items():
    _add(_name, **_recipe)
