"""Walks through a quantized model once, with its own values and the float ones."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arrays, graph
from keras_fitkit._core._private import GraphNode
from keras_fitkit.quantization import fake_quant, kernel_matrices, norms, rounding
from keras_fitkit.quantization.calibration_report import LayerCalibration
from keras_fitkit.quantization.fake_quantize import FakeQuantize, observing
from keras_fitkit.quantization.kernel_matrices import KernelMatrix
from keras_fitkit.quantization.norms import Values
from keras_fitkit.quantization.rounding import Array, Moments
from keras_fitkit.quantization.wrapper import QuantizeWrapper

RANGES, STEPS, ROUNDING, BIASES = "ranges", "steps", "rounding", "bias_correction"
METHODS = (RANGES, STEPS, ROUNDING, BIASES)

ROUNDED, FLOAT = 0, 1  # which of the two models
MOST_ROWS = 4096  # of a matrix
MOST_MOMENTS = 2**24  # numbers of its second moments: some copies of 128 MiB
MOST_SEARCH = 2.0**34  # multiplications of one sweep of the search: seconds
PATCHES = 2**24  # numbers that are in memory at a time
WORK = 1e11  # multiplications for the second moments of a layer, at most about


class Calibrator:
    """Calibrates each layer when all before it are, and goes on with what it gives.

    Args:
        model: quantized; it is changed.
        methods: of `METHODS`.
        bar: a progress bar, or None.
    """

    def __init__(self, model: Any, methods: Sequence[str], bar: Any) -> None:
        self.model, self.methods, self.bar = model, frozenset(methods), bar
        self.ranges = self.biases = 0
        self.layers: list[LayerCalibration] = []
        self._floats: dict[int, tuple[Any, list[Array]]] = {}  # as they were
        self._before_norms = norms.before_norms(model)

    def run(self, batches: Sequence[Sequence[Any]]) -> None:
        """Calibrates on batches, each a list with an array for each input."""
        tensors = [[keras.ops.convert_to_tensor(one) for one in x] for x in batches]
        inputs = [list(one) for one in zip(*tensors, strict=True)]
        graph.walk(self.model, [(one, one) for one in inputs], self._visit)

    def floats(self) -> int:
        """How many activations are not rounded, as their range is not known."""
        found = {
            id(one.operation): one.operation for one in graph.flat(self.model).nodes
        }
        return sum(not one.calibrated for x in found.values() for one in _quantizers(x))

    def _visit(
        self, path: str, node: GraphNode, values: dict[int, Values]
    ) -> list[Values]:
        layer = node.operation
        with self._as_float(layer):
            floats = _called(node, values, FLOAT)
        first = id(layer) not in self._floats
        if first and isinstance(layer, keras.layers.Layer):
            inner = norms.inner(layer)
            weights = [arrays.copied(one) for one in inner.variables]
            self._floats[id(layer)] = (inner, weights)
            if isinstance(layer, QuantizeWrapper):
                self._put_on_grid(path, node, values, floats[0])
            if isinstance(inner, keras.layers.BatchNormalization):
                self._correct_norm(inner, values[id(node.inputs[0])])
        if RANGES in self.methods:
            self._observe(node, values, first)
        if isinstance(layer, (QuantizeWrapper, FakeQuantize)):
            layer.settle()
        rounded = _called(node, values, ROUNDED)
        if self.bar is not None:
            self.bar.add(1)
        return list(zip(rounded, floats, strict=True))

    @contextlib.contextmanager
    def _as_float(self, layer: Any) -> Iterator[None]:
        """A layer that is called again has the weights that it had at first."""
        if id(layer) not in self._floats:
            yield
            return
        inner, weights = self._floats[id(layer)]
        now = [arrays.copied(one) for one in inner.variables]
        _assign(inner, weights)
        try:
            yield
        finally:
            _assign(inner, now)

    def _observe(self, node: GraphNode, values: dict[int, Values], first: bool) -> None:
        layer = node.operation
        found = _quantizers(layer)
        if not found:
            return
        if first:
            self.ranges += len(found)
            for one in found:
                one.forget()
        with observing():
            _called(node, values, ROUNDED)

    def _put_on_grid(
        self, path: str, node: GraphNode, values: dict[int, Values], outputs: Any
    ) -> None:
        wrapper = node.operation
        bits = wrapper.config.weight_bits
        if not wrapper.kernels or not isinstance(bits, int):
            return
        matrix, reason = self._matrix(node, values)
        if matrix is None:
            if STEPS in self.methods and wrapper.config.learned_weights:
                for index in range(len(wrapper.kernels)):
                    self._step_alone(wrapper, index)
            self.layers.append(LayerCalibration(path, None, None, reason))
            return
        kernel = _Kernel(wrapper, matrix)
        moments = _moments(matrix, kernel.rows, values[id(node.inputs[0])], outputs)
        corrects = BIASES in self.methods and matrix.bias is not None
        norm = BIASES in self.methods and id(wrapper) in self._before_norms
        kernel.solve(moments, self.methods, centred=corrects or norm)
        kernel.put(self.methods)
        missing = moments.mean_error(kernel.now)
        if corrects:
            bias: Any = matrix.bias
            bias.assign(arrays.to_numpy(bias) + missing.reshape(bias.shape))
            self.biases += 1
        errors = kernel.errors(moments, corrects or norm)
        self.layers.append(LayerCalibration(path, *errors, kernel.reason))

    def _matrix(
        self, node: GraphNode, values: dict[int, Values]
    ) -> tuple[KernelMatrix | None, str]:
        """The layer as a matrix, or None and why not."""
        layer = node.operation.layer
        matrix = kernel_matrices.of_layer(layer)
        if matrix is None or len(node.inputs) != 1:
            kind = type(layer).__name__
            return None, f"rounded to the nearest: {kind} is not one matrix"
        kernel = node.operation.kernels[0].variable
        shape = matrix.to_rows(np.zeros(tuple(kernel.shape), "float32")).shape
        reason = _too_large(*shape)
        return (None, f"rounded to the nearest: {reason}") if reason else (matrix, "")

    def _step_alone(self, wrapper: QuantizeWrapper, index: int) -> None:
        """The step that moves a kernel's values least, without any data."""
        kernel = wrapper.kernels[index]
        bits: Any = wrapper.config.weight_bits
        value = arrays.to_numpy(kernel.variable).astype("float64")
        outputs = [axis for axis in range(value.ndim) if axis not in kernel.axes]
        order = [*kernel.axes, *outputs]
        count = math.prod(value.shape[axis] for axis in outputs)
        rows = value.transpose(order).reshape(1, -1, count)
        shared = not wrapper.config.per_channel
        step = rounding.best_step(rows, fake_quant.levels(bits), shared)
        shape = tuple(wrapper.grids.scale(index).shape)
        wrapper.grids.put_step(index, step.ravel()[: math.prod(shape)].reshape(shape))

    def _correct_norm(self, norm: Any, values: Values) -> None:
        """Its statistics move so that mean and variance of its outputs stay."""
        if BIASES not in self.methods:
            return
        mean, wanted, slope = norms.statistics(norm, values)
        shift = mean - (wanted - arrays.to_numpy(norm.moving_mean)) / slope
        old = arrays.to_numpy(norm.moving_variance) + norm.epsilon
        norm.moving_mean.assign(shift)
        norm.moving_variance.assign(np.maximum(old / slope**2 - norm.epsilon, 0.0))
        self.biases += 1


class _Kernel:
    """The one kernel of a wrapper, as matrices."""

    def __init__(self, wrapper: QuantizeWrapper, matrix: KernelMatrix) -> None:
        self.wrapper, self.matrix = wrapper, matrix
        variable = wrapper.kernels[0].variable
        self.value = arrays.to_numpy(variable).astype("float64")
        self.rows = matrix.to_rows(self.value)
        bits: Any = wrapper.config.weight_bits
        self.last = fake_quant.levels(bits)
        self.shared = not wrapper.config.per_channel
        self.learned = wrapper.config.learned_weights
        self.step = self._rows_of_step(arrays.to_numpy(wrapper.grids.scale(0)))
        self.codes = rounding.nearest(self.rows, self.step, self.last)
        self.before = self.now = self.codes * self.step
        info = next(iter(wrapper.compression_info.values()))
        self.clustered = info["codebook"] is not None
        self.reason = ""

    def _rows_of_step(self, step: Array) -> Array:
        whole = np.broadcast_to(step, self.value.shape).astype("float64")
        rows: Array = self.matrix.to_rows(whole)[:, :1]
        return rows

    def solve(self, moments: Moments, methods: frozenset[str], centred: bool) -> None:
        """Better steps and integers, if outputs come nearer to the float ones."""
        if not methods & {STEPS, ROUNDING}:
            return
        step, fits = self.step, STEPS in methods and self.learned
        if fits:
            step = rounding.best_step(self.rows, self.last, self.shared)
        codes = rounding.nearest(self.rows, step, self.last)
        true = moments.quadratic(centred)
        if ROUNDING in methods and self.clustered:
            self.reason = "rounded to the nearest: its weights are clustered"
        elif ROUNDING in methods:
            quadratic, free = true.damped(self.rows), self._free(codes)
            for _ in range(rounding.ROUNDS):
                if fits:
                    step = rounding.refitted(quadratic, codes, step, self.shared)
                codes = rounding.search(quadratic, codes, step, self.last, free)
        self._keep_better(true, codes, step)

    def _free(self, codes: Array) -> Array:
        """Zeros stay zeros. Where the largest weight makes the step, it stays too."""
        free: Array = self.rows != 0.0
        if not self.learned:
            free &= np.abs(codes) < self.last
        return free

    def _keep_better(self, true: Any, codes: Array, step: Array) -> None:
        after, before = true.error(codes * step), true.error(self.before)
        if self.shared:
            better = np.full_like(after, after.sum() < before.sum(), dtype=bool)
        else:
            better = after < before
        better = better[:, None]
        self.codes = np.where(better, codes, self.codes)
        self.step = np.where(better, step, self.step)
        self.now = self.codes * self.step

    def put(self, methods: frozenset[str]) -> None:
        """Gives the layer what was found; what was searched lies on the grid."""
        step = self.step.astype("float32").astype("float64")
        whole = self.matrix.from_rows(np.broadcast_to(step, self.rows.shape))
        if STEPS in methods and self.learned:
            shape = tuple(self.wrapper.grids.scale(0).shape)
            first = tuple(slice(1) if size == 1 else slice(None) for size in shape)
            self.wrapper.grids.put_step(0, whole[first])
        if ROUNDING in methods and not self.clustered:
            value = self.matrix.from_rows(self.codes) * whole
            self.wrapper.kernels[0].variable.assign(value)

    def errors(self, moments: Moments, corrected: bool) -> tuple[float, float]:
        """Before and after, over the variance of the float outputs."""
        whole = moments.quadratic(centred=False)
        scale = max(float(moments.quadratic(centred=True).power.sum()), rounding.TINY)
        before, after = whole.error(self.before), whole.error(self.now)
        if corrected:
            after = moments.quadratic(centred=True).error(self.now)
        return float(before.sum()) / scale, float(after.sum()) / scale


def _too_large(groups: int, rows: int, outputs: int) -> str:
    """Why matrices are left out, or nothing."""
    if rows > MOST_ROWS:
        return f"{rows} inputs, more than {MOST_ROWS}"
    if groups * rows**2 > MOST_MOMENTS:
        return f"{groups} matrices of {rows} inputs are too many"
    if float(groups * rows**2) * outputs > MOST_SEARCH:
        return f"{rows} inputs and {outputs} outputs are too many"
    return ""


def _quantizers(layer: Any) -> list[FakeQuantize]:
    """Those of a layer whose ranges are measured."""
    found = [layer] if isinstance(layer, FakeQuantize) else []
    found += getattr(layer, "quantizers", ())
    return [one for one in found if one.fixed is None]


def _called(node: GraphNode, values: dict[int, Values], which: int) -> list[list[Any]]:
    """What a call gives in one of the two models: for each output its batches."""
    operation = node.operation
    if which == FLOAT and isinstance(operation, FakeQuantize):
        return [values[id(node.inputs[0])][FLOAT]]
    if which == FLOAT:
        operation = norms.inner(operation)
    call = getattr(operation, "call", operation)
    told = "training" in inspect.signature(call).parameters
    found = []
    for batch in range(len(values[id(node.inputs[0])][which])):
        picked = {id(one): values[id(one)][which][batch] for one in node.inputs}
        args, kwargs = node.arguments(picked)
        if told:
            kwargs = {**kwargs, "training": False}
        found.append(keras.tree.flatten(operation(*args, **kwargs)))
    return [list(one) for one in zip(*found, strict=True)]


def _moments(
    matrix: KernelMatrix, rows: Array, values: Values, outputs: Sequence[Any]
) -> Moments:
    """Of evenly drawn batches, as many as are worth their time."""
    found = Moments()
    places = math.prod(outputs[0].shape[1:]) / (len(rows) * rows.shape[2])
    at_once = max(1, int(PATCHES / (places * len(rows) * rows.shape[1])))
    for given, wanted in zip(*values, strict=True):
        for start in range(0, len(given), at_once):
            some = slice(start, start + at_once)
            targets = matrix.patches(wanted[some]) @ rows.astype("float32")
            found.add(matrix.patches(given[some]), targets)
        if found.count * len(rows) * float(rows.shape[1]) ** 2 > WORK:
            break
    return found


def _assign(layer: Any, values: Sequence[Array]) -> None:
    for variable, value in zip(layer.variables, values, strict=True):
        variable.assign(value)
