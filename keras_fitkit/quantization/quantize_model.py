"""quantize_model: the same model, training on the grid it will be exported with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_fitkit._core import arguments, graph, layers, selection
from keras_fitkit._core._private import GraphNode
from keras_fitkit._core.selection import Choice, Selection
from keras_fitkit.quantization import plan, rules
from keras_fitkit.quantization.bit_reports import BitAssignment
from keras_fitkit.quantization.config import QuantizeConfig, resolve
from keras_fitkit.quantization.fake_quantize import FakeQuantize, is_float
from keras_fitkit.quantization.wrapper import QuantizeWrapper


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
    and the next quantizer, in float. See `return_report`.

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
    if any(isinstance(one, (QuantizeWrapper, FakeQuantize)) for one in model.layers):
        hint = "It is quantized already: begin with `kf.strip_quantization(model)`."
        raise ValueError(arguments.message("model", "a plain model", model.name, hint))
    arguments.flag("return_report", return_report)
    if isinstance(config, BitAssignment):
        overrides = {**(overrides or {}), **_added(config.overrides, overrides)}
        config = config.config
    choices = _Choices(model, resolve(config), overrides or {}, exclude)
    quantizer = _Quantizer(choices)
    made = quantizer.rebuild(model)
    if not quantizer.wrapped:
        listed = "; ".join(f"{one.name}: {one.reason}" for one in quantizer.floats)
        raise ValueError(
            f"`model` must have a layer to quantize. Those there stay float: {listed}."
        )
    return (made, quantizer.floats) if return_report else made


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
        selection.check("exclude", exclude)
        self.config = config
        self.overrides = [
            (Choice("overrides", pattern), None if one is None else resolve(one))
            for pattern, one in overrides.items()
        ]
        self.excluded = Choice("exclude", exclude)
        self.paths = dict(layer_paths(model))
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


def layer_paths(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs of path and layer, nested models and what is in them too."""
    for layer in model.layers:
        path = f"{prefix}{layer.name}"
        yield path, layer
        if isinstance(layer, keras.Model):
            yield from layer_paths(layer, f"{path}/")


class _Quantizer:
    """Rebuilds a model and the models in it; a shared layer becomes one shared copy."""

    def __init__(self, choices: _Choices) -> None:
        self.choices = choices
        self.floats: list[StaysFloat] = []
        self.wrapped = 0
        self._copies: dict[int, Any] = {}
        self._quantizers: dict[tuple[int, int], FakeQuantize] = {}

    def rebuild(self, model: Any, prefix: str = "") -> Any:
        """The new model."""
        found = graph.graph_of(model)
        configs = {
            id(node.operation): self._config(prefix, node.operation)
            for node in found.nodes
        }
        floats = {key for key, config in configs.items() if config is None}
        places = plan.places(found, floats)
        made: list[tuple[Any, Any]] = []

        def begin(old: Any, new: Any) -> Any:
            if prefix or not plan.rounds_input(found, old, places):
                return new  # an inner model gets what is on a grid already
            return self._rounded(old, 0, self.choices.config, new)

        def call(node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
            operation, place = node.operation, places[id(node)]
            config = configs[id(operation)]
            path = f"{prefix}{operation.name}"
            if id(operation) not in self._copies:
                copy = self._copy(operation, place, config, path)
                self._copies[id(operation)] = copy
                made.append((operation, copy))
                if place.reason:
                    self.floats.append(StaysFloat(path, place.reason))
            outputs = self._copies[id(operation)](*args, **kwargs)
            wraps = isinstance(self._copies[id(operation)], QuantizeWrapper)
            if not place.quantizes_output or wraps:
                return outputs
            config = config or self.choices.config
            flat = [
                self._rounded(operation, place_, config, one)
                for place_, one in enumerate(keras.tree.flatten(outputs))
            ]
            return keras.tree.pack_sequence_as(outputs, flat)

        inputs, outputs = graph.rebuild(found, call, begin)
        new = keras.Model(inputs, outputs, name=model.name)
        if not model.trainable:
            new.trainable = False
        for old, copy in made:
            _copy_weights(old, copy)
            _copy_trainable(old, copy)
        return new

    def _config(self, prefix: str, operation: Any) -> QuantizeConfig | None:
        if not isinstance(operation, keras.layers.Layer):
            return self.choices.config
        return self.choices.of(f"{prefix}{operation.name}", operation)

    def _copy(self, operation: Any, place: Any, config: Any, path: str) -> Any:
        if isinstance(operation, keras.Model):
            graph.check_functional("model", operation)
            return self.rebuild(operation, f"{path}/")
        if not isinstance(operation, keras.layers.Layer):
            return operation
        copy = type(operation).from_config(operation.get_config())
        if place.rule.kind == rules.INSIDE:  # attention is built from several shapes
            copy.build_from_config(operation.get_build_config())
        if config is None or place.rule.kind == rules.FLOAT:
            return copy
        wrapper = QuantizeWrapper(
            copy,
            config,
            quantize_output=place.quantizes_output,
            stands_alone=place.stands_alone,
        )
        if not wrapper.does_something:
            return copy
        self.wrapped += 1
        return wrapper

    def _rounded(
        self, source: Any, place: int, config: QuantizeConfig, tensor: Any
    ) -> Any:
        """One output of an operation, or an input, on a grid of its own."""
        if config.activation_bits is None or not is_float(tensor):
            return tensor
        key = (id(source), place)
        if key not in self._quantizers:
            name = f"quant_{source.name}" + (f"_{place}" if place else "")
            self._quantizers[key] = FakeQuantize(
                config.activation_bits,
                learned=config.learned_ranges,
                momentum=config.momentum,
                start_step=config.start_step,
                name=name,
            )
        return self._quantizers[key](tensor)


def _copy_weights(old: Any, copy: Any) -> None:
    if not isinstance(old, keras.layers.Layer) or isinstance(old, keras.Model):
        return
    plain = copy.layer if isinstance(copy, QuantizeWrapper) else copy
    plain.set_weights(old.get_weights())
    for _, layer in (("", plain), *layers.leaf_layers(plain)):
        if hasattr(layer, "finalize_state"):  # an adapted Normalization
            layer.finalize_state()
    if isinstance(copy, QuantizeWrapper):
        copy.begin_grids()


def _copy_trainable(old: Any, copy: Any) -> None:
    """Flags of a layer, of all below it and of its variables: setting one sets all."""
    if not isinstance(old, keras.layers.Layer) or isinstance(old, keras.Model):
        return
    old_layer = old.layer if isinstance(old, QuantizeWrapper) else old
    copy.trainable = old_layer.trainable
    plain = copy.layer if isinstance(copy, QuantizeWrapper) else copy
    pairs = zip(layers.leaf_layers(old_layer), layers.leaf_layers(plain), strict=True)
    for (_, one), (_, other) in pairs:
        if other.trainable != one.trainable:
            other.trainable = one.trainable
    for one, other in zip(old_layer.variables, plain.variables, strict=True):
        if other.trainable != one.trainable:
            other.trainable = one.trainable


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
    made = stripper.rebuild(model)
    if not stripper.found:
        allowed = "a model that `kf.quantize_model` made"
        raise ValueError(arguments.message("model", allowed, model.name))
    return made


class _Stripper:
    """Rebuilds a model without what quantizes it."""

    def __init__(self) -> None:
        self.found = False
        self._copies: dict[int, Any] = {}

    def rebuild(self, model: Any) -> Any:
        """The plain model."""
        made: list[tuple[Any, Any]] = []

        def call(node: GraphNode, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
            operation = node.operation
            if isinstance(operation, FakeQuantize):
                self.found = True
                return args[0]
            if id(operation) not in self._copies:
                self._copies[id(operation)] = self._copy(operation)
                made.append((operation, self._copies[id(operation)]))
            return self._copies[id(operation)](*args, **kwargs)

        inputs, outputs = graph.rebuild(graph.graph_of(model), call)
        new = keras.Model(inputs, outputs, name=model.name)
        for old, copy in made:
            if isinstance(old, QuantizeWrapper):
                old.put_weights(copy)
            else:
                _copy_weights(old, copy)
            _copy_trainable(old, copy)
        if not model.trainable:
            new.trainable = False
        return new

    def _copy(self, operation: Any) -> Any:
        if isinstance(operation, keras.Model):
            return self.rebuild(operation)
        if not isinstance(operation, keras.layers.Layer):
            return operation
        if isinstance(operation, QuantizeWrapper):
            self.found = True
            operation = operation.layer
        return type(operation).from_config(operation.get_config())
