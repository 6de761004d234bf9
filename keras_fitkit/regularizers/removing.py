"""The rewriting that takes regularization out of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.rewrite import Replacement, Rewriter
from keras_fitkit.regularizers import configs, layer_kinds, placing
from keras_fitkit.regularizers.adjustable import AdjustableNoise
from keras_fitkit.regularizers.choosing import Chosen
from keras_fitkit.regularizers.report import RegularizedLayer

# Active in training alone, whatever they do.
RANDOM = (
    layers.ActivityRegularization,
    layers.GaussianNoise,
    AdjustableNoise,
    layers.RandAugment,
    layers.AugMix,
    # RandomCrop cuts out the middle at inference: it stays.
    *(
        getattr(layers, name)
        for name in dir(layers)
        if name.startswith("Random") and name != "RandomCrop"
    ),
)


class Remover(Rewriter):
    """Rewrites a model without what acts in training alone; `rows` tells what.

    Args:
        model: the one that will be rewritten, without composite layers.
        chosen: the layers that are asked about.
    """

    def __init__(self, model: Any, chosen: Chosen) -> None:
        super().__init__()
        self.rows: list[RegularizedLayer] = []
        self._chosen = chosen
        self._owners = placing.owners(model)
        self._told: set[str] = set()

    def call(
        self, path: str, node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """The call, or what goes into it."""
        layer = node.operation
        if layer_kinds.is_dropout(layer):
            owner = self._owners.get(id(layer))
            gone = self._chosen.takes_dropout(path, layer, owner)
        else:
            gone = isinstance(layer, RANDOM) and self._chosen.takes(path, layer)
        if not gone:
            return super().call(path, node, args, kwargs)
        if path not in self._told:
            self._told.add(path)
            self._say(path, f"the {type(layer).__name__} is gone")
        return args[0]

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """The layer without penalties and rates of its own."""
        if layer_kinds.is_dropout(layer) or not self._chosen.takes(path, layer):
            return None
        config, done = configs.without(layer.get_config())
        if not done:
            return None
        self._say(path, "; ".join(done))
        return self.copied(layer, config=config)

    def _say(self, path: str, text: str) -> None:
        self.rows.append(RegularizedLayer(path, True, text))
