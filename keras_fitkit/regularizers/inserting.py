"""The rewriting that puts penalties, dropout, noise and augmentation into a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_fitkit._core import graph
from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.graph import Call
from keras_fitkit._core.rewrite import Replacement, Rewriter
from keras_fitkit.regularizers import augmenting, configs, placing
from keras_fitkit.regularizers.adjustable import AdjustableDropout, AdjustableNoise
from keras_fitkit.regularizers.choosing import Chosen
from keras_fitkit.regularizers.preset import Preset
from keras_fitkit.regularizers.report import RegularizedLayer

PARTS = {
    "dropout": "elements",
    "spatial_dropout": "channels",
    "stochastic_depth": "examples",
}
SCALING = (layers.Rescaling, layers.Normalization, layers.Resizing, layers.CenterCrop)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is to be put into a model."""

    preset: Preset
    augment: str | None = None

    def rate(self, kind: str) -> float | None:
        """The rate of a kind of dropout."""
        found: float | None = getattr(self.preset, kind)
        return found


@dataclasses.dataclass(frozen=True)
class _Drop:
    """A dropout layer to be made after a call."""

    rate: float
    place: placing.Place

    def make(self, name: str) -> Any:
        """The layer."""
        format_ = getattr(self.place.layer, "data_format", None)
        return AdjustableDropout(
            self.rate,
            parts=PARTS[self.place.kind],
            data_format=format_,
            name=name,
            dtype=self.place.call.operation.dtype_policy
            if isinstance(self.place.call.operation, keras.layers.Layer)
            else None,
        )


class Inserter(Rewriter):
    """Rewrites a model by settings; `rows` tells what was done.

    Args:
        model: the one that will be rewritten, without composite layers.
        settings: what to put in.
        chosen: the layers that are to be regularized.
    """

    def __init__(self, model: Any, settings: Settings, chosen: Chosen) -> None:
        super().__init__()
        self.rows: list[RegularizedLayer] = []
        self._settings, self._chosen = settings, chosen
        self._penalty = settings.preset.regularizer
        self._drops: dict[int, list[_Drop]] = {}
        self._dropouts: dict[int, Call] = {}
        self._find_drops(model)
        self._noisy: dict[int, Any] = {}
        if settings.preset.noise is not None:
            self._find_inputs(model)

    def _find_drops(self, model: Any) -> None:
        for one in placing.dropouts(model):
            self._dropouts.setdefault(id(one.operation), one)
        for place in placing.places(model):
            rate = self._settings.rate(place.kind)
            if rate is not None and self._means(place):
                self._add(rate, place)
        rate = self._settings.preset.stochastic_depth
        if rate is not None:
            found = placing.branches(model)
            if not found:
                self._say(model.name, False, "has no residual branches to drop")
            for number, place in enumerate(found):
                if self._means(place):
                    self._add(rate * (number + 1) / len(found), place)

    def _means(self, place: placing.Place) -> bool:
        end = place.call
        taken = self._chosen.takes(place.owner, place.layer)
        return taken and not self._chosen.excludes(end.path, end.operation)

    def _add(self, rate: float, place: placing.Place) -> None:
        self._drops.setdefault(place.call.key, []).append(_Drop(rate, place))
        what = {
            "dropout": "dropout",
            "spatial_dropout": "dropout of channels",
            "stochastic_depth": "dropout of the branch",
        }[place.kind]
        self._say(place.call.path, True, f"{what} {rate:g} after it")

    def _find_inputs(self, model: Any) -> None:
        """The tensors that get noise: inputs of floats, scaled if that comes first."""
        found = graph.flat(model)
        for tensor in model.inputs:
            name, at = tensor.name, tensor
            while len(users := found.users(at)) == 1 and isinstance(
                users[0].operation, SCALING
            ):
                at, name = users[0].outputs[0], users[0].path
            tokens = any(
                isinstance(user.operation, layers.Embedding) for user in found.users(at)
            )
            if tokens or not keras.backend.is_float_dtype(at.dtype):
                self._say(name, False, "no noise on what is no number to add to")
                continue
            producer = found.producer(at)
            self._noisy[id(tensor) if producer is None else producer.key] = name
            self._say(name, True, f"noise of {self._settings.preset.noise:g} on it")

    def _say(self, name: str, changed: bool, text: str) -> None:
        self.rows.append(RegularizedLayer(name, changed, text))

    def begin(self, prefix: str, old: Any, new: Any) -> Any:
        """Augmentation and noise on the inputs of the outermost model."""
        if prefix:
            return new
        if self._settings.augment is not None:
            found = augmenting.in_model(self._settings.augment, old)
            if not found:
                self._say(old.name, False, "is no image to augment")
            for layer in found:
                new = layer(new)
            if found:
                names = ", ".join(type(one).__name__ for one in found)
                self._say(old.name, True, f"augmented by {names}")
        return self._with_noise(new) if id(old) in self._noisy else new

    def _with_noise(self, tensor: Any) -> Any:
        noise = self._settings.preset.noise or 0.0
        return AdjustableNoise(noise, name=self.free_name("input_noise"))(tensor)

    def call(
        self, path: str, node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """The call, with what is dropped or added after it."""
        outputs = super().call(path, node, args, kwargs)
        key = graph.key_of(node)
        if key in self._noisy:
            outputs = self._with_noise(outputs)
        for drop in self._drops.get(key, []):
            layer = drop.make(self.free_name(f"{node.operation.name}_dropout"))
            if isinstance(outputs, (list, tuple)):  # the features, then states
                outputs = type(outputs)([layer(outputs[0]), *outputs[1:]])
            else:
                outputs = layer(outputs)
        return outputs

    def replace(self, path: str, layer: Any) -> Replacement | None:
        """The layer with another configuration, where it gets one."""
        if not self._chosen.takes(path, layer):
            return None
        if placing.is_dropout(layer):
            return self._rated(path, layer)
        config = layer.get_config()
        done: list[str] = []
        if self._penalty is not None:
            config, done = self._with_penalty(path, layer, config)
        if self._settings.preset.max_norm is not None:
            norm = self._settings.preset.max_norm
            config, kernels = configs.with_max_norm(layer, config, norm)
            done += [f"norm at most {norm:g} on {name}" for name in kernels]
            if not kernels and _has_kernels(layer):
                self._say(
                    path,
                    False,
                    f"{type(layer).__name__} has no `kernel_constraint` of known axes",
                )
        rate = self._settings.preset.dropout
        if rate is not None:
            config, changed = configs.with_rates(config, rate)
            done += changed
        if not done:
            return None
        if not layer.trainable:
            done.append("but it is frozen, so that this has no effect now")
        self._say(path, True, "; ".join(done))
        return self.copied(layer, config=config)

    def _with_penalty(
        self, path: str, layer: Any, config: Any
    ) -> tuple[Any, list[str]]:
        orthogonal = self._settings.preset.orthogonal is not None
        if orthogonal and not isinstance(layer, layers.Dense):
            if _has_kernels(layer):
                self._say(path, False, "Keras's orthogonality is for Dense kernels")
            return config, []
        changed, kernels = configs.with_penalty(config, self._penalty)
        if not kernels and _has_kernels(layer):
            text = f"{type(layer).__name__} has no `kernel_regularizer`"
            self._say(path, False, text)
        text = configs.text_of(keras.regularizers.serialize(self._penalty))
        return changed, [f"{text} on {name}" for name in kernels]

    def _rated(self, path: str, layer: Any) -> Replacement | None:
        """A dropout layer at the new rate, adjustable where Keras's can be."""
        kind = _kind(layer, self._dropouts[id(layer)])
        rate = self._settings.rate(kind)
        if rate is None:
            return None
        self._say(path, True, f"rate {layer.rate:g} -> {rate:g}")
        config = {**layer.get_config(), "rate": rate}
        shaped = getattr(layer, "noise_shape", None) is not None
        spatial = (
            layers.SpatialDropout1D,
            layers.SpatialDropout2D,
            layers.SpatialDropout3D,
        )
        plain = type(layer) is layers.Dropout and not shaped
        if not plain and not isinstance(layer, spatial):
            return type(layer).from_config(config)
        return AdjustableDropout(
            rate,
            parts="channels" if isinstance(layer, spatial) else "elements",
            data_format=getattr(layer, "data_format", None),
            seed=config.get("seed"),
            name=layer.name,
            dtype=layer.dtype_policy,
        )


def _kind(layer: Any, call: Call) -> str:
    if type(layer).__name__ == "StochasticDepth":
        return "stochastic_depth"
    if isinstance(layer, AdjustableDropout):
        return {parts: kind for kind, parts in PARTS.items()}[layer.parts]
    sizes = call.inputs[0].shape[1:]
    # Pooled features may keep their axes: 1 x 1 x channels is a row.
    images = len(sizes) > 2 and sum(size != 1 for size in sizes) > 1
    spatial = type(layer).__name__.startswith("SpatialDropout")
    return "spatial_dropout" if images or spatial else "dropout"


def _has_kernels(layer: Any) -> bool:
    return any(len(one.shape) > 1 for one in layer.trainable_variables)
