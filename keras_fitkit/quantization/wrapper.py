"""QuantizeWrapper: one layer that trains on the grid it will be exported with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_fitkit._core import _private, arguments, kernels, mac_rules
from keras_fitkit._core.serialization import serializable
from keras_fitkit.quantization import (
    activations,
    layer_calls,
    rules,
    tables,
    wrapped_layer,
)
from keras_fitkit.quantization.config import QuantizeConfig, resolve
from keras_fitkit.quantization.fake_quantize import (
    FakeQuantize,
    is_exporting,
    is_float,
    observes,
)
from keras_fitkit.quantization.kernel_grids import KernelGrids


@serializable
class QuantizeWrapper(keras.layers.Wrapper):
    """A layer whose kernels and outputs are rounded while it trains.

    The variables stay floats and are trained as ever; what the layer computes with are
    their values on the grid of the config, with a straight-through gradient. Biases
    stay floats: LiteRT stores them as int32 with the scales of inputs and weights.
    An activation that LiteRT does not fuse into the layer gets a range before it too.

    `Concatenate` and average pooling use one range for inputs and output, as LiteRT
    does. Recurrent and attention layers have their kernels rounded and compute in
    float.

    Args:
        layer: the layer: Dense, EinsumDense, any convolution, Embedding, pooling,
            merging, activation, recurrent and attention layers, BatchNormalization, or
            one that `kf.quantization.register` knows.
        config: a `QuantizeConfig` or the name of a preset. Defaults to "int8".
        quantize_output: whether the output is put on a grid; False where the next layer
            is fused with this one, as BatchNormalization after a convolution. Defaults
            to True.
        stands_alone: of a BatchNormalization, that no layer before takes it in: a
            LiteRT file computes it in a kernel of its own. Defaults to False.
        **kwargs: as for `keras.layers.Layer`; the name defaults to "quant_" and that of
            the layer.

    Shapes:
        as the layer's.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a layer that
            cannot be quantized, and one that is quantized already.

    Example:
        >>> import keras, numpy as np
        >>> import keras_fitkit as kf
        >>> layer = kf.QuantizeWrapper(
        ...     keras.layers.Dense(3), kf.QuantizeConfig(weight_bits=2, ranges="auto")
        ... )
        >>> y = layer(np.ones((1, 4), "float32"))
        >>> sorted(layer.compression_info)
        ['quant_dense/dense/kernel']
    """

    def __init__(
        self,
        layer: Any,
        config: Any = "int8",
        *,
        quantize_output: bool = True,
        stands_alone: bool = False,
        **kwargs: Any,
    ) -> None:
        wrapped_layer.check(layer, done=(QuantizeWrapper, FakeQuantize))
        kwargs = {"name": f"quant_{layer.name}", "dtype": layer.dtype_policy, **kwargs}
        super().__init__(layer, **{"autocast": False, **kwargs})
        self.supports_masking = layer.supports_masking
        self.config: QuantizeConfig = resolve(config)
        self.quantize_output = arguments.flag("quantize_output", quantize_output)
        self.stands_alone = arguments.flag("stands_alone", stands_alone)
        self.rule = rules.rule_of(layer)
        self._kernels: list[rules.Kernel] = []
        self.grids = KernelGrids(self.config, (), self.add_weight)
        self._make_quantizers()

    def _make_quantizers(self) -> None:
        made = wrapped_layer.quantizers_of(
            self.layer, self.config, quantize_output=self.quantize_output
        )
        self._activation, self._shown = made.activation, made.shown
        self._positive = made.positive
        self.before, self.gate, self.after = made.before, made.gate, made.after
        # Within a separable convolution, or a sum or product of more than two.
        self.middle = made.middle

    def build(self, input_shape: Any = None) -> None:
        """Builds the layer, and makes what its grids need."""
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
        self._kernels = rules.kernels_of(self.layer)
        if self.after is not None and layer_calls.merges_many(self.layer):
            self.middle = wrapped_layer.quantizer(self.config, "middle")
        for quantizer in self.quantizers:
            if not quantizer.built:
                quantizer.build(None)
                quantizer.built = True
        config = self.config
        self._steps = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",
            autocast=False,
            name="steps",
        )
        self.grids = KernelGrids(config, self._kernels, self.add_weight)
        self.built = True

    def get_build_config(self) -> dict[str, Any] | None:
        """That of the layer: attention is built from several shapes."""
        return {"layer": self.layer.get_build_config()}

    def build_from_config(self, config: Any) -> None:
        """Builds the layer as it was built."""
        if not self.layer.built and config.get("layer"):
            self.layer.build_from_config(config["layer"])
        self.build()

    def call(
        self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any
    ) -> Any:
        """What the layer computes, with rounded kernels, rounded."""
        if training and self._counts:
            self._steps.assign(self._steps + 1)
        if self.rule.kind == rules.SHARED and self.after is not None:
            inputs = self._shared(inputs, training)
        kernels_ = [self._rounded(i, training) for i in range(len(self._kernels))]
        if training and self._rectifies and is_float(inputs) and not is_exporting():
            return self._rectified(inputs, args, kwargs, kernels_)
        outputs = self._computed(inputs, args, kwargs, kernels_, training)
        if self.before is not None:
            outputs = self.before(outputs, training=training)
            function, name = self.layer.activation, self._activation or ""
            outputs = activations.apply(function, name, outputs, self._gated(training))
        return self._shown_outputs(outputs, training)

    def _shown_outputs(self, outputs: Any, training: Any) -> Any:
        """The outputs on their grid, if they are put on one."""
        if self.after is None or self.rule.kind == rules.THROUGH:
            return outputs
        if self.rule.kind == rules.SHARED:
            return self.after.quantized(outputs, training=training)
        if observes(training):  # of several outputs one range covers all
            self.after.observe(
                [one for one in keras.tree.flatten(outputs) if is_float(one)],
                positive=self._positive,
            )
        return keras.tree.map_structure(
            lambda one: (
                self.after.quantized(one, training=training) if is_float(one) else one
            ),
            outputs,
        )

    @property
    def _rectifies(self) -> bool:
        """Whether rounding can do the work of the layer's ReLU in training."""
        if not self._positive or self.after is None or self.middle is not None:
            return False
        if self.rule.kind == rules.SHARED:
            return False
        return self.after.rectifies and self.layer.activity_regularizer is None

    def _rectified(self, inputs: Any, args: Any, kwargs: Any, kernels_: Any) -> Any:
        after: Any = self.after
        if self._shown is None:
            with self._replaced(kernels_, linear=True):
                inputs = self.layer(inputs, *args, **kwargs)
        ends_at_6 = "relu6" in (self._activation, self._shown)
        dtype = self.layer.compute_dtype
        return after.rectified(ops.cast(inputs, dtype), 6.0 if ends_at_6 else None)

    def _computed(
        self, inputs: Any, args: Any, kwargs: Any, kernels_: Any, training: Any
    ) -> Any:
        """The outputs, without an activation that has a range before it."""
        if self.middle is not None and self._kernels:
            return self._separable(inputs, kernels_, training)
        if kernels.is_one_of(self.layer, ("Average",)):
            return layer_calls.averaged(inputs, self.middle, self.after, training)
        if self.middle is not None:
            return layer_calls.merged(self.layer, inputs, self.middle, training)
        with self._replaced(kernels_, linear=self.before is not None):
            return self._run(inputs, args, kwargs, training)

    def _run(self, inputs: Any, args: Any, kwargs: Any, training: Any) -> Any:
        shown = self._shown
        if shown in activations.PRODUCT and self.gate is not None:
            return activations.apply(self.layer, shown, inputs, self._gated(training))
        if shown == activations.TABLE and is_exporting():
            return tables.marked(self.layer, inputs)
        norm = isinstance(self.layer, keras.layers.BatchNormalization)
        if norm and self.stands_alone and is_exporting():
            return layer_calls.norm_as_convolution(self.layer, inputs)
        frozen = self.config.freeze_batch_norm_after
        if not norm or frozen is None or not training:
            return self.layer(inputs, *args, **kwargs)
        past = self._steps > frozen
        return layer_calls.frozen_norm(self.layer, inputs, args, kwargs, past)

    def _separable(self, inputs: Any, values: Any, training: Any) -> Any:
        # Its inner range is assigned in the middle of the call. Replicas meet where
        # variables are assigned, so nothing of the layer may be replaced meanwhile.
        middle: Any = self.middle
        return layer_calls.separable(
            self.layer,
            inputs,
            {
                one.variable.name: v
                for one, v in zip(self._kernels, values, strict=True)
            },
            lambda x: middle(x, training=training),
            activate=self.before is None,
        )

    def _gated(self, training: Any) -> Any:
        return lambda x: x if self.gate is None else self.gate(x, training=training)

    def _shared(self, inputs: Any, training: Any) -> Any:
        """The inputs on the one grid that the output has.

        For an export the output alone is rounded: the converter gives its range to the
        inputs, and refuses to find it there.
        """
        if is_exporting():
            return inputs
        after: Any = self.after
        if observes(training):
            after.observe(keras.tree.flatten(inputs))
        return keras.tree.map_structure(
            lambda one: after.quantized(one, training=training), inputs
        )

    @contextlib.contextmanager
    def _replaced(self, values: Sequence[Any], *, linear: bool) -> Iterator[None]:
        """The layer finds the rounded kernels where it looks for its variables.

        And no activation, if `linear`: what comes before it is rounded, or it is
        computed elsewhere.
        """
        with contextlib.ExitStack() as stack:
            for kernel, value in zip(self._kernels, values, strict=True):
                stack.enter_context(
                    _private.replaced(kernel.owner, kernel.variable, value)
                )
            if linear:
                function, none = self.layer.activation, keras.activations.linear
                stack.enter_context(
                    _private.replaced(self.layer, function, none, name="activation")
                )
            yield

    def _rounded(self, index: int, training: Any) -> Any:
        kernel = self._kernels[index]
        weight = ops.convert_to_tensor(kernel.variable)
        if self.config.weight_bits is not None:
            found = self.grids.on_grid(index, weight)
            if self.config.start_step and not is_exporting():
                found = ops.where(self._steps > self.config.start_step, found, weight)
            weight = found
        return ops.cast(weight, kernel.owner.compute_dtype)

    @property
    def _counts(self) -> bool:
        """Whether anything asks how many steps there were."""
        frozen = self.config.freeze_batch_norm_after
        return self.config.start_step > 0 or frozen is not None

    @property
    def waits(self) -> bool:
        """Whether `start_step` has yet to come: its kernels were not rounded so far."""
        start = self.config.start_step
        return start > 0 and int(ops.convert_to_numpy(self._steps)) <= start

    @property
    def kernels(self) -> tuple[rules.Kernel, ...]:
        """The variables that are rounded, of a built layer."""
        return tuple(self._kernels)

    @property
    def quantizers(self) -> tuple[FakeQuantize, ...]:
        """Those of activations, in the order in which they are used."""
        found = (self.middle, self.before, self.gate, self.after)
        return tuple(one for one in found if one is not None)

    @property
    def does_something(self) -> bool:
        """Whether anything would be rounded, or frozen, in here."""
        weights = self.rule.kind in (rules.WEIGHTS, rules.INSIDE)
        if self.quantizers or (weights and self.config.weight_bits is not None):
            return True
        if self._shown == activations.TABLE and self.config.activation_bits is not None:
            return True  # in an export
        if not isinstance(self.layer, keras.layers.BatchNormalization):
            return False
        alone = self.stands_alone and self.config.activation_bits is not None
        return alone or self.config.freeze_batch_norm_after is not None

    def put_weights(self, layer: Any) -> None:
        """Gives a copy of the layer its weights, the kernels as they are rounded."""
        layer.set_weights(self.layer.get_weights())
        if self.config.weight_bits is None:
            return
        for index, kernel in enumerate(rules.kernels_of(layer)):
            weight = ops.convert_to_tensor(self._kernels[index].variable)
            kernel.variable.assign(self.grids.on_grid(index, weight))

    def settle(self) -> None:
        """Rounds from now on, whatever `start_step`."""
        steps = int(ops.convert_to_numpy(self._steps))
        self._steps.assign(max(steps, self.config.start_step + 1))
        for quantizer in self.quantizers:
            quantizer.settle()

    @property
    def compression_info(self) -> dict[str, dict[str, Any]]:
        """How each kernel is stored: path of the variable -> what is known of it.

        "bits"; "scale", an array that broadcasts to the variable; "zero_point", 0;
        "axis", those of the scales; "codebook", the values if there are at most 256 of
        them, and fewer than half as many as weights, else None.
        """
        return self.grids.info()

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """That of the layer."""
        return self.layer.compute_mask(inputs, previous_mask)

    def count_own_macs(self, input_shapes: Any, output_shapes: Any) -> int:
        """For `kf.count_macs`: those of a layer that is computed here, not called."""
        if not kernels.is_one_of(self.layer, kernels.SEPARABLE):
            return 0
        places = mac_rules.pixels(self.layer, output_shapes[0])
        return places * mac_rules.of_kernels(self.layer)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            **super().get_config(),
            "config": self.config.get_config(),
            "quantize_output": self.quantize_output,
            "stands_alone": self.stands_alone,
            "registered": rules.registered(self.layer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """A wrapper from what `get_config` gave; its layer's class is known by then."""
        config = {"registered": None, **config}
        told = config.pop("registered")
        layer = keras.saving.deserialize_keras_object(config["layer"], custom_objects)
        if told is not None and rules.registered(layer) is None:
            rules.register(type(layer), told["kernels"], kind=told["kind"])
        return cls(**{**config, "layer": layer})
