"""SharedStack: one block applied several times."""

from __future__ import annotations

import inspect
from typing import Any

import keras
from keras import layers

from keras_fitkit._core import arguments
from keras_fitkit._core.layers import leaf_layers
from keras_fitkit._core.serialization import serializable
from keras_fitkit.blocks._functional import functional
from keras_fitkit.blocks._plan import Part, Plan, Shape, Wiring
from keras_fitkit.blocks.block import Block

NORMALIZATIONS = ("batch", "layer")


@serializable
class SharedStack(Block):
    """One block applied n times with the same weights, as ALBERT shares its layers.

    The parameters are divided by n, the multiplications are not. Batch statistics of
    different depths do not mix: each step has its own batch normalizations
    (`normalization="batch"`), or they give way to layer normalizations over the
    channels, which the steps share ("layer"). What has no batch normalization is used
    as it is. Lan et al., "ALBERT: A Lite BERT for Self-supervised Learning of Language
    Representations", 2019, arXiv:1909.11942 ("cross-layer parameter sharing").

    Parameters: those of the block, its batch normalizations times n, or 2 in place of 4
    for each channel with "layer".

    Args:
        block: a layer that keeps the shape of its input and is not built yet: one of
            `kf.blocks`, or another Keras layer without batch normalizations inside. It
            serves as the pattern: the object itself is not used, and name, dtype and
            `trainable` are those of the stack.
        repeats: n, an integer >= 1.
        normalization: "batch" or "layer". Defaults to "batch".
        kwargs: `name`, `dtype` and `trainable`, as for every layer.

    Input shape:
        That of the block.

    Output shape:
        The same.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a block that
            changes the shape.

    Example:
        >>> import keras, keras_fitkit as kf
        >>> block = kf.blocks.ConvNormAct(16)
        >>> layer = kf.blocks.SharedStack(block, repeats=4)
        >>> layer(keras.Input((8, 8, 16))).shape
        (None, 8, 8, 16)
        >>> layer.count_params() == 3**2 * 16 * 16 + 4 * (4 * 16)
        True
    """

    def __init__(
        self, block: Any, repeats: int, *, normalization: str = "batch", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.repeats = arguments.integer("repeats", repeats, low=1)
        choice = arguments.choice("normalization", normalization, NORMALIZATIONS)
        self.normalization = choice
        if not isinstance(block, keras.layers.Layer):
            raise TypeError(arguments.message("block", "a Keras layer", block))
        if block.built and block.weights:
            hint = "Its weights would not be used: give a new layer."
            text = arguments.message("block", "a layer that is not built", block, hint)
            raise ValueError(text)
        _check_one_input(block)
        # Only the pattern: Keras must not track a layer that never runs.
        self._pattern = (type(block), block.get_config())
        first = getattr(block, "data_format", None) == "channels_first"
        self._axis = 1 if first else -1

    def argument(self, name: str) -> Any:
        """The block is made anew: the one given is not kept."""
        return self._new_block() if name == "block" else super().argument(name)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SharedStack:
        """The layer from its configuration."""
        block = keras.saving.deserialize_keras_object(config["block"])
        rest = {name: value for name, value in config.items() if name != "block"}
        stack: SharedStack = super().from_config({**rest, "block": block})
        return stack

    @property
    def channel_axis(self) -> int:
        """That of the block."""
        return self._axis

    def wire(self, input_shape: Shape, prefix: str) -> Wiring:
        """New plain layers for an input of this shape, without weights."""
        found = self._new_block().compute_output_shape(input_shape)
        if tuple(found) != tuple(input_shape):
            raise ValueError(
                f"Layer '{self.name}': `block` must keep the shape of its input, "
                f"{tuple(input_shape)}. Received: one that gives {tuple(found)}."
            )
        return super().wire(input_shape, prefix)

    def build(self, input_shape: Shape) -> None:
        """Makes the layers and their variables."""
        super().build(input_shape)
        for layer in self.layers:
            for path, leaf in leaf_layers(layer):
                if path and isinstance(leaf, layers.BatchNormalization):
                    raise ValueError(
                        f"Layer '{self.name}': `block` must have no batch "
                        "normalization inside, unless it is one of kf.blocks: its "
                        f"steps would share the statistics. Received: '{path}'."
                    )

    def plan(self, channels: int) -> Plan:
        """The block's plan n times, with the same parts except for the norms."""
        pattern, plan = self._pattern_plan(channels), Plan()
        shared: dict[str, int] = {}
        value = 0
        for step in range(self.repeats):
            values = [value]
            for call in pattern.calls:
                inputs = [values[number] for number in call.inputs]
                part = pattern.parts[call.part]
                values.append(self._step(plan, shared, part, step, inputs))
            value = values[-1]
        return plan

    def _pattern_plan(self, channels: int) -> Plan:
        block = self._new_block()
        if isinstance(block, Block) and type(block).call is Block.call:
            return block.plan(channels)  # a `call` of its own does something else
        config = block.get_config()
        for name in ("name", "dtype", "trainable"):
            config.pop(name, None)
        plan = Plan()
        plan.call(plan.part(block.name, type(block), config), 0)
        return plan

    def _new_block(self) -> Any:
        kind, config = self._pattern
        return kind.from_config(_plain(config))  # wrappers take theirs apart

    def _step(
        self,
        plan: Plan,
        shared: dict[str, int],
        part: Part,
        step: int,
        inputs: list[int],
    ) -> int:
        """Calls a part of the pattern; it is added to the plan when it is new."""

        def call(name: str, kind: type[Any], given: dict[str, Any], *x: int) -> int:
            if name not in shared:
                shared[name] = plan.part(name, kind, given)
            return plan.call(shared[name], *x)

        name, given = part.name, part.arguments
        if not issubclass(part.kind, layers.BatchNormalization):
            return call(name, part.kind, given, *inputs)
        if self.normalization == "batch":
            return call(f"{name}_{step}", part.kind, given, *inputs)
        own = {"axis": -1, "epsilon": given["epsilon"]}
        if self._axis == -1:
            return call(name, layers.LayerNormalization, own, *inputs)
        # On torch Keras normalizes the last axis only, whatever it is told.
        x = call(f"{name}_last", layers.Permute, {"dims": (2, 3, 1)}, *inputs)
        x = call(name, layers.LayerNormalization, own, x)
        return call(f"{name}_first", layers.Permute, {"dims": (3, 1, 2)}, x)


shared_stack = functional(
    SharedStack, "keras.Input((8, 8, 16)), kf.blocks.ConvNormAct(16), repeats=4"
)


def _check_one_input(block: Any) -> None:
    """Attention, say, takes a query and a value."""
    needed = [
        one.name
        for one in inspect.signature(block.call).parameters.values()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    if len(needed) > 1:
        hint = "Wrap it in a layer of your own that hands its input to all of them."
        received = f"{type(block).__name__}({', '.join(needed)})"
        allowed = "a layer of one input"
        raise ValueError(arguments.message("block", allowed, received, hint))


def _plain(config: Any) -> Any:
    """A copy without the dicts that Keras makes of a layer's attributes.

    Those refuse new layers once the layer is built.
    """
    if isinstance(config, dict):
        return {name: _plain(value) for name, value in config.items()}
    if isinstance(config, list):
        return [_plain(value) for value in config]
    return config
