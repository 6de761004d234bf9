"""fuse: one convolution in place of branches and batch normalizations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_fitkit._core import arguments, expansion
from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.rewrite import Replacement, Rewriter
from keras_fitkit.blocks import _branches, _folding
from keras_fitkit.blocks.expanding import check_model, hidden, is_composite
from keras_fitkit.blocks.rewrite_report import LayerChange, RewriteReport


def fuse(model: Any, *, return_report: bool = False) -> Any:
    """The same function at inference with fewer layers.

    In this order:

    - Layers that offer `fuse()`, such as `RepConv` and `MobileOne`, become their plain
      form; other composite layers become plain ones, as by `kf.expand`.
    - A BatchNormalization directly after a convolution of any kind or a Dense layer
      without activation is folded into its kernel and bias.
    - Convolutions of the same tensor that are added up become one, the form that
      `kf.blocks.rep_conv` and `kf.blocks.mobile_one` build.

    The arithmetic is in float64. The result is for inference: what is folded no longer
    adapts its statistics.

    Args:
        model: a built functional or Sequential model, with nested models of that kind.
            It is not changed.
        return_report: also return a `RewriteReport`, which names each
            BatchNormalization that stays and the reason. Defaults to False.

    Returns:
        A functional model, not compiled. With `return_report` a pair of it and the
        report.

    Raises:
        TypeError: no Keras 3 model, or `return_report` no flag.
        ValueError: a subclassed model, or one that is not built.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> inputs = x = keras.Input((8, 8, 3))
        >>> x = kf.blocks.RepConv(8, name="rep")(x)
        >>> x = kf.blocks.conv_norm_act(x, 8, name="conv")
        >>> deploy = kf.fuse(keras.Model(inputs, x))
        >>> [layer.name for layer in deploy.layers[1:]]
        ['rep_conv', 'rep_act', 'conv_conv', 'conv_act']
    """
    check_model(model)
    arguments.flag("return_report", return_report)
    changes: list[LayerChange] = []
    while expansion.has_offers(model, ("fuse", "expand")):
        step = _Plain(model)
        model = step.run(model)
        changes += step.changes
    folding = _Folding(model)
    made = folding.run(model)
    changes += folding.changes
    merging = _Merging(made)
    if merging.sums:
        made = merging.run(made)
    changes = [one for one in changes if one.name not in merging.absorbed]
    changes += merging.changes
    text = "inside a layer that cannot be expanded"
    changes += hidden(model, is_composite, text)
    return (made, RewriteReport(tuple(changes))) if return_report else made


class _Plain(Rewriter):
    """Composite layers become their fused form, or plain layers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.changes: list[LayerChange] = []
        # The fused form is that of inference.
        self._training = {
            key
            for key, places in _folding.calls(model).items()
            if any(_folding.trains(place.node) for place in places)
        }

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """What `fuse()`, or else `expand()`, of the layer gives."""
        for method, text in (("fuse", "fused"), ("expand", "expanded")):
            if method == "fuse" and id(layer) in self._training:
                continue
            if expansion.offers(layer, method):
                self.changes.append(LayerChange(path, True, text))
                return getattr(layer, method)()
        return None


class _Folding(Rewriter):
    """BatchNormalization layers vanish into what is before them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.pairs, self.changes = _folding.pairs(model)
        self._norms = {id(norm) for _, norm in self.pairs.values()}

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """The convolution with the normalization in its kernel."""
        if id(layer) not in self.pairs:
            return None
        return _folding.folded_layer(*self.pairs[id(layer)])

    def call(
        self, path: str, node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """A normalization that is folded passes its input on."""
        if id(node.operation) in self._norms:
            return args[0]
        return super().call(path, node, args, kwargs)


class _Merging(Rewriter):
    """Sums of convolutions become one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.sums = _branches.sums(model)
        self.changes = [
            LayerChange(one.path, True, f"{len(one.branches)} branches merged")
            for one in self.sums.values()
        ]
        self.absorbed = {path for one in self.sums.values() for path in one.norm_paths}
        self._main = {id(one.main): one for one in self.sums.values()}

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """The largest convolution of a sum becomes the sum."""
        if id(layer) not in self._main:
            return None
        return _branches.merged_layer(self._main[id(layer)])

    def call(
        self, path: str, node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """An addition passes on the branch that is the sum already."""
        if id(node.operation) in self.sums:
            return args[0][self.sums[id(node.operation)].position]
        return super().call(path, node, args, kwargs)
