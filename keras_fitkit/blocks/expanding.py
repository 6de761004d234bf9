"""expand: composite layers as plain ones; replace_grouped_conv: the fast layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from keras import layers

from keras_fitkit._core import arguments, expansion
from keras_fitkit._core._private import sublayers
from keras_fitkit._core.graph import check_functional, is_functional
from keras_fitkit._core.layers import check_keras_model
from keras_fitkit._core.rewrite import Replacement, Rewriter
from keras_fitkit.blocks.grouped import GroupedConv2D
from keras_fitkit.blocks.rewrite_report import LayerChange, RewriteReport


def expand(model: Any, *, return_report: bool = False) -> Any:
    """The same model with plain layers in place of composite ones.

    A composite layer hides its parts: `summary`, `clone_model` and every tool that
    loops over `model.layers` see one layer. Each layer that offers `expand()`, those of
    `kf.blocks` or your own, is replaced by what it gives, at every depth.

    Args:
        model: a built functional or Sequential model, with nested models of that kind.
            It is not changed.
        return_report: also return a `RewriteReport`. Defaults to False.

    Returns:
        A functional model, not compiled, with the same weights and predictions. Names
        begin with that of the composite layer: "block_expand_conv". With
        `return_report` a pair of it and the report.

    Raises:
        TypeError: no Keras 3 model, or `return_report` no flag.
        ValueError: a subclassed model, or one that is not built.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> inputs = keras.Input((8, 8, 3))
        >>> block = kf.blocks.ConvNormAct(4, name="stem")
        >>> plain = kf.expand(keras.Model(inputs, block(inputs)))
        >>> [layer.name for layer in plain.layers[1:]]
        ['stem_conv', 'stem_norm', 'stem_act']
    """
    check_model(model)
    arguments.flag("return_report", return_report)
    made, paths = expansion.expanded(model)
    if made is model:
        made = Rewriter().run(model)
    report = [LayerChange(path, True, "expanded") for path in paths]
    inside = hidden(model, is_composite, "inside a layer that cannot be expanded")
    found = RewriteReport((*report, *inside))
    return (made, found) if return_report else made


def hidden(
    model: Any, is_meant: Callable[[Any], bool], text: str, *, composite: bool = False
) -> list[LayerChange]:
    """Layers inside others, which no graph shows: each with the reason.

    Args:
        model: functional.
        is_meant: whether a layer is asked about.
        text: the reason.
        composite: also look into layers that can be expanded.
    """
    visible, _ = expansion.paths_of(model)
    return [
        LayerChange(inner, False, text)
        for path, layer in visible.items()
        if not is_functional(layer)
        and (composite or not expansion.offers(layer, "expand"))
        for inner in _inside(path, layer, is_meant)
    ]


def _inside(path: str, layer: Any, is_meant: Callable[[Any], bool]) -> Iterator[str]:
    for one in sublayers(layer):
        inner = f"{path}/{one.name}"
        if is_meant(one):
            yield inner
        else:
            yield from _inside(inner, one, is_meant)


def is_composite(layer: Any) -> bool:
    """Whether a layer offers another form of itself."""
    return expansion.offers(layer, "expand") or expansion.offers(layer, "fuse")


def check_model(model: Any) -> None:
    """A built functional or Sequential model of Keras 3."""
    check_keras_model("model", model, built=True)
    check_functional("model", model)


def replace_grouped_conv(model: Any, *, return_report: bool = False) -> Any:
    """The same model with `GroupedConv2D` in place of grouped `Conv2D` layers.

    Keras 3 trains `Conv2D(groups=...)` very slowly on TensorFlow's CPU backend. The
    layers of `kf.blocks` do so already; this is for models that exist.

    Args:
        model: a built functional or Sequential model, with nested models of that kind.
            It is not changed.
        return_report: also return a `RewriteReport`. Defaults to False.

    Returns:
        A functional model, not compiled, with the same weights, names and predictions.
        With `return_report` a pair of it and the report.

    Raises:
        TypeError: no Keras 3 model, or `return_report` no flag.
        ValueError: a subclassed model, or one that is not built.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> conv = keras.layers.Conv2D(8, 3, groups=2, name="conv")
        >>> fast = kf.replace_grouped_conv(
        ...     keras.Sequential([keras.Input((8, 8, 4)), conv])
        ... )
        >>> type(fast.get_layer("conv")).__name__
        'GroupedConv2D'
    """
    check_model(model)
    arguments.flag("return_report", return_report)
    replacing = _Replacing()
    made = replacing.run(model)
    text = "inside another layer: `kf.expand` opens composite ones"
    inside = hidden(model, _is_slow, text, composite=True)
    report = RewriteReport((*replacing.changes, *inside))
    return (made, report) if return_report else made


def _is_slow(layer: Any) -> bool:
    return type(layer) is layers.Conv2D and layer.groups > 1


class _Replacing(Rewriter):
    """Notes each grouped convolution that it replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[LayerChange] = []

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """The fast layer, for Keras's own class alone: a subclass has its reasons."""
        if not isinstance(layer, layers.Conv2D) or layer.groups == 1:
            return None
        if isinstance(layer, GroupedConv2D):
            return None
        if type(layer) is not layers.Conv2D:
            text = f"a {type(layer).__name__}, which may compute otherwise"
            self.changes.append(LayerChange(path, False, text))
            return None
        text = f"GroupedConv2D of {layer.groups} groups"
        self.changes.append(LayerChange(path, True, text))
        return self.copied(layer, GroupedConv2D)
