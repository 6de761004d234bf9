"""The rewriting that puts penalties, dropout, noise and augmentation into a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_fitkit._core import expansion, graph
from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.graph import Call
from keras_fitkit._core.rewrite import Replacement, Rewriter
from keras_fitkit.regularizers import augmenting, configs, layer_kinds, placing
from keras_fitkit.regularizers.adjustable import AdjustableDropout, AdjustableNoise
from keras_fitkit.regularizers.choosing import Chosen, is_outside
from keras_fitkit.regularizers.preset import Preset
from keras_fitkit.regularizers.report import RegularizedLayer

SPATIAL = (
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)
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
        before = self.place.call.operation
        whole = isinstance(before, keras.layers.Layer)  # and not one of keras.ops
        return AdjustableDropout(
            self.rate,
            parts=layer_kinds.PARTS[self.place.kind],
            data_format=format_,
            name=name,
            dtype=(before if whole else self.place.layer).dtype_policy,
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
        self._depths: dict[int, float] = {}  # of the layers that are there
        self._owners = placing.owners(model)
        self._find_drops(model)
        self._noisy: dict[int, Any] = {}
        if settings.preset.noise is not None:
            self._find_inputs(model)

    def _find_drops(self, model: Any) -> None:
        for one in placing.dropouts(model):
            self._dropouts.setdefault(id(one.operation), one)
        still = 0
        nested = _frozen_models(model)
        for place in placing.places(model):
            rate = self._settings.rate(place.kind)
            if rate is None or not self._means(place):
                continue
            if place.frozen or place.call.path.startswith(nested):
                still += 1
            else:
                self._add(rate, place)
        if still:
            text = f"no dropout among frozen layers, {still} places"
            self._say(model.name, False, text)
        if self._settings.preset.stochastic_depth is not None:
            self._find_branches(model, self._settings.preset.stochastic_depth)

    def _find_branches(self, model: Any, last: float) -> None:
        """Rates on a line over the branches, those that are dropped already too."""
        there = {
            one.key: one
            for one in self._dropouts.values()
            if layer_kinds.kind_of(one) == layer_kinds.DEPTH
        }
        new = {one.call.key: one for one in placing.branches(model)}
        ends = [
            call.key
            for call in graph.flat(model).nodes
            if call.key in there or call.key in new
        ]
        if not ends:
            self._say(model.name, False, "has no residual branches to drop")
        for number, key in enumerate(ends):
            rate = last * (number + 1) / len(ends)
            if key in there:
                self._depths.setdefault(id(there[key].operation), rate)
            elif self._means(new[key]) and not new[key].frozen:
                self._add(rate, new[key])

    def _means(self, place: placing.Place) -> bool:
        end = place.call
        if is_outside(end.path, place.owner):
            return self._chosen.takes(end.path, end.operation)
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
        name = self.free_name("input_noise")
        return AdjustableNoise(noise, name=name, dtype=tensor.dtype)(tensor)

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
        if layer_kinds.is_dropout(layer):
            owner = self._owners.get(id(layer))
            taken = self._chosen.takes_dropout(path, layer, owner)
            return self._rated(path, layer) if taken else None
        if not self._chosen.takes(path, layer):
            return None
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
        if orthogonal and layer.units < 2:  # a mean over no pairs, in Keras 0 / 0
            self._say(path, False, "one unit is orthogonal to nothing")
            return config, []
        changed, kernels = configs.with_penalty(config, self._penalty)
        if not kernels and _has_kernels(layer):
            text = f"{type(layer).__name__} has no `kernel_regularizer`"
            self._say(path, False, text)
        text = configs.text_of(keras.regularizers.serialize(self._penalty))
        return changed, [f"{text} on {name}" for name in kernels]

    def _rated(self, path: str, layer: Any) -> Replacement | None:
        """A dropout layer at the new rate, adjustable where Keras's can be."""
        kind = layer_kinds.kind_of(self._dropouts[id(layer)]) or "dropout"
        rate = self._settings.rate(kind)
        if rate is not None and kind == layer_kinds.DEPTH:
            rate = self._depths.get(id(layer))
        config = layer.get_config()
        if rate is None or "rate" not in config:
            return None
        before = getattr(layer, "current", layer.rate)  # a schedule may have moved it
        self._say(path, True, f"rate {before:g} -> {rate:g}")
        shape = getattr(layer, "noise_shape", None)
        spatial = isinstance(layer, SPATIAL)
        # As the layer drops, not as one would be put here.
        parts = "channels" if spatial else "elements"
        if shape is not None:
            parts = layer_kinds.PARTS[kind]
        known = shape is None or parts != "elements"
        if not spatial and not (type(layer) is layers.Dropout and known):
            return type(layer).from_config({**config, "rate": rate})
        return AdjustableDropout(
            rate,
            parts=parts,
            data_format=getattr(layer, "data_format", None),
            seed=config.get("seed"),
            name=layer.name,
            dtype=layer.dtype_policy,
        )


def _frozen_models(model: Any) -> tuple[str, ...]:
    """The beginnings of the paths of what is in nested models that are frozen."""
    return tuple(
        f"{path}/"
        for path, layer in expansion.paths_of(model)[0].items()
        if isinstance(layer, keras.Model) and not layer.trainable
    )


def _has_kernels(layer: Any) -> bool:
    return any(len(one.shape) > 1 for one in layer.trainable_variables)
