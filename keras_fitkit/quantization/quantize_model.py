"""quantize_model: the same model, training on the grid it will be exported with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_fitkit._core import arguments, expansion, graph, layers, rewrite, selection
from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.selection import Choice, Selection
from keras_fitkit.quantization import plan, rules, traps, wrapped_layer
from keras_fitkit.quantization.bit_reports import BitAssignment
from keras_fitkit.quantization.config import QuantizeConfig, resolve
from keras_fitkit.quantization.fake_quantize import FakeQuantize, is_float
from keras_fitkit.quantization.wrapper import QuantizeWrapper

INT8 = 8  # bits of the activations that LiteRT's integer kernels take


@dataclasses.dataclass(frozen=True)
class StaysFloat:
    """A layer that is not, or not wholly, quantized, and why.

    Attributes:
        name: path of the layer.
        reason: why.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras_fitkit as kf
        >>> kf.quantization.StaysFloat("norm", "a norm").reason
        'a norm'
    """

    name: str
    reason: str


def quantize_model(
    model: Any,
    config: Any = "int8",
    *,
    overrides: Mapping[str, Any] | None = None,
    exclude: Selection = None,
    return_report: bool = False,
) -> Any:
    """A copy of a model with the same weights that trains for integers.

    Each layer is put into a `QuantizeWrapper` ("quant_" and its name), inputs of floats
    get a `FakeQuantize`, and what LiteRT computes in one kernel, such as a convolution
    with its BatchNormalization and ReLU, is rounded once. Compile the result and train
    it for some epochs with a low learning rate; then `kf.export_litert`.

    Layers without a rule stay float; LiteRT computes these, and what is between them
    and the next quantizer, in float. See `return_report`. One warning names layers that
    are slow in int8: depthwise kernels above 5 x 5, squeeze-and-excite with hard-swish.

    Args:
        model: a built functional or Sequential model, with nested models of that kind.
            It is not changed.
        config: a `QuantizeConfig`, the name of a preset, or what `kf.assign_bits` gave.
            Defaults to "int8".
        overrides: configs of some layers: a dict from patterns (as in a shell) of layer
            names or paths to a config, the name of a preset, or None for float; the
            first that matches counts. Defaults to none.
        exclude: layers that stay float: patterns or layers, as for `PruneSchedule`.
            Defaults to None.
        return_report: also return the list of what stays float, with the reasons.
            Defaults to False.

    Returns:
        The new model, functional and not compiled; with `return_report` a pair of it
        and a list of `StaysFloat`.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a subclassed
            model, one that is quantized already, a pattern that matches nothing,
            nothing to quantize.

    Example:
        >>> import keras
        >>> import keras_fitkit as kf
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((8,)),
        ...         keras.layers.Dense(16, "relu"),
        ...         keras.layers.Dense(2),
        ...     ]
        ... )
        >>> qat = kf.quantize_model(model, "int8")
        >>> [type(layer).__name__ for layer in qat.layers]
        ['InputLayer', 'FakeQuantize', 'QuantizeWrapper', 'QuantizeWrapper']
    """
    layers.check_keras_model("model", model, built=True)
    graph.check_functional("model", model)
    _check_plain(model)
    arguments.flag("return_report", return_report)
    if isinstance(config, BitAssignment):
        overrides = {**(overrides or {}), **_added(config.overrides, overrides)}
        config = config.config
    selection.check("exclude", exclude)
    model, exclude = without_blocks(model, exclude)
    choices = _Choices(model, resolve(config), overrides or {}, exclude)
    quantizer = _Quantizer(model, choices)
    made = quantizer.run(model)
    if not quantizer.wrappers:
        listed = "; ".join(f"{one.name}: {one.reason}" for one in quantizer.floats)
        stays = listed or "all, as `config` has no bits for what is in them"
        raise ValueError(
            f"`model` must have a layer to quantize. Those there stay float: {stays}."
        )
    if any(one.config.activation_bits == INT8 for one in quantizer.wrappers):
        traps.warn_if_slow(model)
    return (made, quantizer.floats) if return_report else made


def without_blocks(model: Any, exclude: Selection) -> tuple[Any, Selection]:
    """A model whose blocks are plain layers, and the same selection by paths.

    LiteRT computes a block as the layers that it stands for; each has its own grid.
    """
    plain, excluded = expansion.without_blocks(
        model, ("exclude", exclude), keep="exclude"
    )
    return plain, excluded


def _check_plain(model: Any) -> None:
    """Nothing in it may be quantized, here or by Keras itself."""
    for _, layer in layers.layer_paths(model):
        if isinstance(layer, (QuantizeWrapper, FakeQuantize)):
            hint = "It is quantized already: begin with `kf.strip_quantization(model)`."
        elif wrapped_layer.is_of_keras(layer):
            hint = (
                f"`model.quantize()` has made integers of {layer.name}'s kernel, which "
                "trains no more: begin with the model as it was before."
            )
        else:
            continue
        raise ValueError(arguments.message("model", "a plain model", model.name, hint))


def _added(found: Mapping[str, Any], overrides: Any) -> dict[str, Any]:
    """What was assigned, but for what the user has named."""
    if not isinstance(overrides, Mapping):
        return dict(found)
    return {path: one for path, one in found.items() if path not in overrides}


class _Choices:
    """Which config each layer gets."""

    def __init__(
        self,
        model: Any,
        config: QuantizeConfig,
        overrides: Mapping[str, Any],
        exclude: Selection,
    ) -> None:
        if not isinstance(overrides, Mapping):
            allowed = "a dict from patterns of layers to configs"
            raise TypeError(arguments.message("overrides", allowed, overrides))
        self.config = config
        self.overrides = [
            (
                Choice("overrides", pattern),
                None if one is None else resolve(one, "overrides"),
            )
            for pattern, one in overrides.items()
        ]
        self.excluded = Choice("exclude", exclude)
        self.paths = dict(layers.layer_paths(model))
        for path, layer in self.paths.items():
            self.of(path, layer)  # marks what has matched
        for choice in (*(one for one, _ in self.overrides), self.excluded):
            choice.check_all_matched(list(self.paths))

    def of(self, path: str, layer: Any) -> QuantizeConfig | None:
        """The config of a layer, or None for float."""
        matching = [one for choice, one in self.overrides if choice.takes(path, layer)]
        if self.excluded.takes(path, layer):
            return None
        return matching[0] if matching else self.config


class _Quantizer(rewrite.Rewriter):
    """Rebuilds a model and the models in it; a shared layer becomes one shared copy."""

    def __init__(self, model: Any, choices: _Choices) -> None:
        super().__init__()
        self.choices = choices
        self.floats: list[StaysFloat] = []
        self.wrappers: list[QuantizeWrapper] = []
        calls = graph.flat(model).nodes
        configs = {
            id(one.operation): self._config(one.path, one.operation) for one in calls
        }
        self._plan = plan.Plan(
            model,
            floats={key for key, config in configs.items() if config is None},
            unrounded={
                key
                for key, config in configs.items()
                if config is not None and config.activation_bits is None
            },
        )
        self._places: dict[int, plan.Place] = {}
        for call in calls:
            self._places.setdefault(id(call.operation), self._plan.by_key(call.key))
        self._quantizers: dict[tuple[int, int], FakeQuantize] = {}
        for call in calls:  # `replace` sees the layers
            reason = self._plan.by_key(call.key).reason
            if reason and not isinstance(call.operation, keras.layers.Layer):
                self.floats.append(StaysFloat(call.path, reason))

    def run(self, model: Any) -> Any:
        """The new model, its learned steps begun from the weights it now has."""
        made = super().run(model)
        for wrapper in self.wrappers:
            wrapper.grids.begin()
        return made

    def begin(self, prefix: str, old: Any, new: Any) -> Any:
        """Rounds the inputs; an inner model gets what is on a grid already."""
        if prefix or not self._plan.rounds(old):
            return new
        return self._rounded(old, 0, self._config_of_input(old), new)

    def _config_of_input(self, tensor: Any) -> QuantizeConfig:
        """That of the layers that take it, the one with the widest activations."""
        users = self._plan.graph.users(tensor)
        found = [self._config(one.path, one.operation) for one in users]
        given = [one for one in found if one is not None]
        if any(one.activation_bits is None for one in given) or not given:
            return self.choices.config
        return max(given, key=lambda one: one.activation_bits or 0)

    def call(
        self, path: str, node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Rounds what comes out where no wrapper does."""
        operation, place = node.operation, self._plan.at(node)
        used = self.use(path, operation)
        outputs = used(*args, **kwargs)
        if not place.quantizes_output or isinstance(used, QuantizeWrapper):
            return outputs
        config = self._config(path, operation) or self.choices.config
        flat = [
            self._rounded(operation, place_, config, one)
            for place_, one in enumerate(keras.tree.flatten(outputs))
        ]
        return keras.tree.pack_sequence_as(outputs, flat)

    def replace(self, path: str, layer: Any) -> Any:
        """The wrapped copy of a layer; None where it stays as it is."""
        place, config = self._places[id(layer)], self._config(path, layer)
        if place.reason:
            self.floats.append(StaysFloat(path, place.reason))
        if config is None or place.rule.kind == rules.FLOAT:
            return None
        copy = self.copied(layer)
        if place.rule.kind == rules.INSIDE:  # attention is built from several shapes
            copy.build_from_config(layer.get_build_config())
        wrapper = QuantizeWrapper(
            copy,
            config,
            quantize_output=place.quantizes_output,
            stands_alone=place.stands_alone,
        )
        if not wrapper.does_something:
            return copy
        wrapper.trainable = layer.trainable
        self.wrappers.append(wrapper)
        return wrapper

    def _config(self, path: str, operation: Any) -> QuantizeConfig | None:
        if not isinstance(operation, keras.layers.Layer):
            return self.choices.config
        return self.choices.of(path, operation)

    def _rounded(
        self, source: Any, place: int, config: QuantizeConfig, tensor: Any
    ) -> Any:
        """One output of an operation, or an input, on a grid of its own."""
        if config.activation_bits is None or not is_float(tensor):
            return tensor
        key = (id(source), place)
        if key not in self._quantizers:
            name = f"quant_{source.name}" + (f"_{place}" if place else "")
            self._quantizers[key] = wrapped_layer.quantizer(config, name)
        return self._quantizers[key](tensor)
