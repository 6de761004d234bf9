"""FakeQuantize: puts activations on the grid of an integer type."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fitkit._core import arguments
from keras_fitkit._core.serialization import serializable
from keras_fitkit.quantization import fake_quant

SYMMETRIC_BITS = 16
SETTLE = 100  # steps in which learned ranges are observed before they are only trained
_exporting = contextvars.ContextVar("exporting", default=False)
_observing = contextvars.ContextVar("observing", default=False)


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """While it lasts, everything is quantized, whatever the step: no switch is left."""
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


def is_exporting() -> bool:
    """Whether a model is being traced for an export."""
    return _exporting.get()


@contextlib.contextmanager
def observing() -> Iterator[None]:
    """While it lasts, ranges follow what comes in inference too: norms stay still."""
    token = _observing.set(True)
    try:
        yield
    finally:
        _observing.reset(token)


def observes(training: Any) -> bool:
    """Whether ranges follow the values of a call."""
    return bool(training) or _observing.get()


def is_float(tensor: Any) -> bool:
    """Whether a tensor is of floats: others (indices, masks) are never rounded."""
    dtype = str(keras.backend.standardize_dtype(tensor.dtype))
    return dtype.startswith(("float", "bfloat"))


@serializable
class FakeQuantize(keras.layers.Layer):
    """Rounds a tensor to 2^bits values between two ends that it learns.

    In training the ends follow the smallest and the largest value of the batches: their
    plain mean at first, a moving average later. Zero always is within them and on the
    grid; with 16 bits it is in the middle, as LiteRT's int16 has it. Values that are
    not finite change nothing. Before the first training step nothing is rounded, as no
    range is known.

    Args:
        bits: width, 2 to 16. Defaults to 8.
        learned: train the ends with the weights, as LSQ+ does,
            after their average was taken over the first 100 steps. Defaults to False.
        momentum: of the moving average, in [0, 1). Defaults to 0.99.
        start_step: training steps before anything is rounded. Defaults to 0.
        fixed: None, or the two ends, if they are known beforehand. Defaults to None.
        **kwargs: as for `keras.layers.Layer`.

    Shapes:
        input and output: any; floats.

    Raises:
        TypeError, ValueError: an argument outside its range, by name.

    Example:
        >>> import keras, numpy as np
        >>> from keras_fitkit.quantization import FakeQuantize
        >>> layer = FakeQuantize(bits=4)
        >>> x = np.linspace(0, 3, 100).astype("float32")
        >>> y = layer(x, training=True)
        >>> len(np.unique(keras.ops.convert_to_numpy(y)))
        16

    References:
        Jacob et al., 2018, arXiv:1712.05877 (ranges by moving averages); Bhalgat et
        al., "LSQ+", 2020, arXiv:2004.09576 (learned ranges).
    """

    def __init__(
        self,
        bits: int = 8,
        *,
        learned: bool = False,
        momentum: float = 0.99,
        start_step: int = 0,
        fixed: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.supports_masking = True
        self.bits = arguments.integer("bits", bits, low=2, high=16)
        self.learned = arguments.flag("learned", learned)
        self.momentum = arguments.number(
            "momentum", momentum, low=0.0, high=1.0, include_high=False
        )
        self.start_step = arguments.integer("start_step", start_step, low=0)
        self.fixed = None if fixed is None else _ends(fixed)

    def build(self, input_shape: Any) -> None:
        """Makes the ends, and what counts the steps."""
        if self.fixed is not None:
            return

        def number(name: str, value: str, **how: Any) -> Any:
            return self.add_weight(
                shape=(), initializer=value, name=name, autocast=False, **how
            )

        ends = {"dtype": "float32", "trainable": False, "aggregation": "mean"}
        self.low = number("low", "zeros", **ends)
        self.high = number("high", "zeros", **ends)
        self.seen = number(
            "seen",
            "zeros",
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",
        )
        if self.learned:
            self.low_change = number("low_change", "zeros", dtype="float32")
            self.high_change = number("high_change", "zeros", dtype="float32")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The tensor on the grid, in its own dtype; integers as they are."""
        if not is_float(inputs):
            return inputs
        if observes(training):
            self.observe([inputs])
        return self.quantized(inputs, training=training)

    def observe(
        self,
        tensors: Sequence[Any],
        *,
        positive: bool = False,
        most: float | None = None,
    ) -> None:
        """Takes the extremes of a batch into the ends.

        Args:
            tensors: the batch; one range is for all.
            positive: whether none can be below zero, as behind a ReLU: the lower end
                stays zero, and one pass over them is saved. What is below zero
                counts as zero then.
            most: what larger values count as, or None.
        """
        if self.fixed is not None or not tensors:
            return
        values = [ops.cast(ops.stop_gradient(one), "float32") for one in tensors]
        high = -_least([-ops.max(one) for one in values])
        if positive:
            high = ops.maximum(high, 0.0)
        if most is not None:
            high = ops.minimum(high, most)
        found, usable = [(self.high, high)], ops.isfinite(high)
        if not positive:
            low = _least([ops.min(one) for one in values])
            found = [(self.low, low), *found]
            usable = ops.logical_and(usable, ops.isfinite(low))
        seen = ops.cast(self.seen, "float32")
        rate = ops.maximum(1.0 - self.momentum, 1.0 / (seen + 1.0))
        if self.learned:
            rate = ops.where(seen < self._settled, rate, 0.0)
        for end, new in found:
            old = ops.convert_to_tensor(end)
            end.assign(ops.where(usable, old + rate * (new - old), old))
        self.seen.assign(self.seen + ops.cast(usable, "int32"))

    @property
    def rectifies(self) -> bool:
        """Whether `rectified` may be used: its range begins at zero, as observed."""
        observed = not self.learned and self.fixed is None and not self.start_step
        return observed and self.bits < SYMMETRIC_BITS

    def rectified(self, x: Any, most: float | None = None) -> Any:
        """In training what `relu(x)` would give, with fewer passes over the values.

        Where x is just `most`, and that is the end of the range, the gradient is 1.

        Args:
            x: what goes into the ReLU.
            most: where the ReLU ends, or None.
        """
        self.observe([x], positive=True, most=most)
        _, high = self.ends()
        dtype = keras.backend.standardize_dtype(x.dtype)
        found = fake_quant.rectified(ops.cast(x, "float32"), high, self.bits)
        return ops.cast(found, dtype)

    def forget(self) -> None:
        """Knows no range any more."""
        if self.fixed is None:
            changes = (self.low_change, self.high_change) if self.learned else ()
            for variable in (self.low, self.high, self.seen, *changes):
                variable.assign(np.zeros((), str(variable.dtype)))

    def settle(self) -> None:
        """Rounds from now on, whatever `start_step`, if it knows a range."""
        if self.fixed is None and self.calibrated:
            seen = int(keras.ops.convert_to_numpy(self.seen))
            self.seen.assign(max(seen, self.start_step + 1))

    def quantized(self, x: Any, *, training: bool | None = None) -> Any:
        """`x` on the grid as it is now."""
        dtype = keras.backend.standardize_dtype(x.dtype)
        learns = self.learned and training and self.fixed is None
        low, high = self._trained_ends(x) if learns else self.ends()
        function = fake_quant.learned_range if learns else fake_quant.fake_quant
        found = ops.cast(function(ops.cast(x, "float32"), low, high, self.bits), dtype)
        if self.fixed is not None or is_exporting():
            return found
        if training and not self.start_step:
            return found  # `observe` has just given it a range
        return ops.where(self.seen > self.start_step, found, x)

    def ends(self) -> tuple[Any, Any]:
        """The two ends, as tensors."""
        if self.fixed is not None:
            return self.fixed
        low, high = ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
        if self.learned:
            low = low * (1.0 + ops.convert_to_tensor(self.low_change))
            high = high * (1.0 + ops.convert_to_tensor(self.high_change))
        return self._joined(low, high)

    def _joined(self, low: Any, high: Any) -> tuple[Any, Any]:
        """With zero inside; of 16 bits as far below it as above, as LiteRT's int16."""
        low, high = fake_quant.with_zero(low, high)
        if self.bits < SYMMETRIC_BITS:
            return low, high
        far = ops.maximum(-low, high)
        return -far, far

    def _trained_ends(self, x: Any) -> tuple[Any, Any]:
        """The ends with the gradients that LSQ gives to a step.

        Of high = observed (1 + change) and step = (high - low) / last, moving the step
        by g dL/dstep takes a gradient for `change` of g last^2 / observed^2 times its
        own; g is 1 / sqrt(values of a row * last).
        """
        last = 2.0**self.bits - 1
        size, rows = ops.cast(ops.size(x), "float32"), ops.shape(x)[0]
        values = ops.maximum(size / ops.cast(rows, "float32"), 1.0)
        gain = last**2 / ops.sqrt(values * last)

        def end(observed: Any, change: Any) -> Any:
            observed = ops.convert_to_tensor(observed)
            known = ops.abs(observed) > fake_quant.NARROWEST
            square = ops.where(known, ops.square(observed), 1.0)
            scale = ops.where(known, gain / square, 0.0)
            change = ops.convert_to_tensor(change)
            return observed * (1.0 + fake_quant.scaled_gradient(change, scale))

        low, high = (end(self.low, self.low_change), end(self.high, self.high_change))
        return self._joined(low, high)

    @property
    def calibrated(self) -> bool:
        """Whether it knows a range."""
        if self.fixed is not None:
            return True
        return self.built and int(keras.ops.convert_to_numpy(self.seen)) > 0

    @property
    def waits(self) -> bool:
        """Whether `start_step` has yet to come: it has rounded nothing so far."""
        if self.fixed is not None or not self.start_step:
            return False
        return int(keras.ops.convert_to_numpy(self.seen)) <= self.start_step

    @property
    def _settled(self) -> float:
        return float(max(SETTLE, self.start_step))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape

    def count_own_macs(self, input_shapes: Any, output_shapes: Any) -> int:
        """For `kf.count_macs`: rounding has none."""
        return 0

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            **super().get_config(),
            "bits": self.bits,
            "learned": self.learned,
            "momentum": self.momentum,
            "start_step": self.start_step,
            "fixed": None if self.fixed is None else list(self.fixed),
        }


def _ends(fixed: Sequence[float]) -> tuple[float, float]:
    allowed = "None or two numbers, the first <= 0 <= the second"
    try:
        low, high = (float(end) for end in fixed)
    except (TypeError, ValueError):
        raise TypeError(arguments.message("fixed", allowed, fixed)) from None
    if not low <= 0.0 <= high or low == high:
        raise ValueError(arguments.message("fixed", allowed, fixed))
    return low, high


def _least(values: Sequence[Any]) -> Any:
    found = values[0]
    for value in values[1:]:
        found = ops.minimum(found, value)
    return found
