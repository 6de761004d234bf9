"""strip_quantization: the plain model behind a quantized one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_fitkit._core import arguments, graph, layers, rewrite
from keras_fitkit._core._private import GraphNode
from keras_fitkit.quantization.fake_quantize import FakeQuantize
from keras_fitkit.quantization.wrapper import QuantizeWrapper


def strip_quantization(model: Any) -> Any:
    """A plain Keras model with the weights that a quantized one computes with.

    Args:
        model: what `quantize_model` gave, trained or not. It is not changed.

    Returns:
        A model of the plain layers, without fake quantizers and not compiled; its
        kernels lie on their grids.

    Raises:
        TypeError, ValueError: no functional model, or nothing in it is quantized.

    Example:
        >>> import keras
        >>> import keras_fitkit as kf
        >>> layers = [keras.Input((8,)), keras.layers.Dense(2, name="out")]
        >>> qat = kf.quantize_model(keras.Sequential(layers), "int8")
        >>> [layer.name for layer in kf.strip_quantization(qat).layers[1:]]
        ['out']
    """
    layers.check_keras_model("model", model, built=True)
    graph.check_functional("model", model)
    stripper = _Stripper()
    made = stripper.run(model)
    if not stripper.found:
        allowed = "a model that `kf.quantize_model` made"
        raise ValueError(arguments.message("model", allowed, model.name))
    return made


class _Stripper(rewrite.Rewriter):
    """Rebuilds a model without what quantizes it."""

    def __init__(self) -> None:
        super().__init__()
        self.found = False
        self._wrapped: list[tuple[QuantizeWrapper, Any]] = []

    def run(self, model: Any) -> Any:
        """The plain model, its kernels on their grids."""
        made = super().run(model)
        for wrapper, copy in self._wrapped:
            wrapper.put_weights(copy)
        return made

    def call(
        self, path: str, node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Nothing, for a fake quantizer."""
        if isinstance(node.operation, FakeQuantize):
            self.found = True
            return args[0]
        return super().call(path, node, args, kwargs)

    def replace(self, path: str, layer: Any) -> Any:
        """What was wrapped."""
        if not isinstance(layer, QuantizeWrapper):
            return None
        self.found = True
        copy = self.copied(layer.layer)
        self._wrapped.append((layer, copy))
        return copy
