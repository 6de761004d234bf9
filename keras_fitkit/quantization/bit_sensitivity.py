"""bit_sensitivity: what each layer's width costs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fitkit._core import arguments, arrays, graph, layers, rows
from keras_fitkit._core.selection import Choice, Selection
from keras_fitkit._core.selection import check as check_selection
from keras_fitkit.quantization import fake_quant, rules
from keras_fitkit.quantization.bit_reports import BitSensitivity, LayerSensitivity
from keras_fitkit.quantization.config import QuantizeConfig, resolve
from keras_fitkit.quantization.quantize_model import without_blocks

LOWEST, HIGHEST = 2, 8


def bit_sensitivity(
    model: Any,
    x: Any,
    y: Any,
    bits: Sequence[int] = (8, 4, 2),
    *,
    config: Any = "int8",
    exclude: Selection = None,
    batch_size: int = 256,
    verbose: int = 1,
) -> BitSensitivity:
    """Measures how much the loss rises with the kernels of one layer rounded.

    The kernels of each layer in turn, and of no other, are put on the grid of each
    width, and the model's loss on `(x, y)` is measured. The weights are put back.

    Args:
        model: a built functional or Sequential model that is compiled with a loss, and
            trained.
        x: inputs, as for `model.evaluate`: arrays; some hundred to thousand rows.
        y: the targets for them.
        bits: the widths, 2 to 8. Defaults to (8, 4, 2).
        config: everything but the widths, as for `kf.quantize_model`: its `per_channel`
            and `ranges` are those of the grids. Defaults to "int8".
        exclude: layers to leave out, as for `kf.quantize_model`. Defaults to None.
        batch_size: rows in one step. Defaults to 256.
        verbose: 0 silent, 1 a progress bar. Defaults to 1.

    Returns:
        A `BitSensitivity`: a row a layer, `render()`, `plot()`, `to_dict()`.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a model that is
            not compiled; nothing to quantize; a loss that is not finite.

    Example:
        >>> import keras, numpy as np
        >>> import keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model.compile("sgd", "mse")
        >>> x = np.random.default_rng(0).normal(size=(64, 4))
        >>> y = keras.ops.convert_to_numpy(model(x))
        >>> found = kf.bit_sensitivity(model, x, y, (8, 2), verbose=0)
        >>> found.layers[0].increases[2] > found.layers[0].increases[8]
        True
    """
    check_model(model)
    widths = check_bits(bits)
    kind = resolve(config)
    check_selection("exclude", exclude)
    arguments.integer("batch_size", batch_size, low=1)
    arguments.integer("verbose", verbose, low=0, high=1)
    rows.length("x", x, "arrays of inputs")
    rows.length("y", y, "arrays of targets")
    model, exclude = plain_model(model, exclude)
    chosen = quantized_layers(model, exclude)
    bar = None
    if verbose:
        bar = keras.utils.Progbar(len(chosen) * len(widths), unit_name="width")
    base = measured_loss(model, x, y, batch_size)
    found = []
    for path, kernels in chosen:
        increases = {}
        for width in widths:
            with rounded({path: kernels}, {path: width}, kind):
                increases[width] = measured_loss(model, x, y, batch_size) - base
            if bar is not None:
                bar.add(1)
        size = sum(int(np.prod(kernel.variable.shape)) for kernel in kernels)
        scales = sum(_scales(kernel, kind) for kernel in kernels)
        found.append(LayerSensitivity(path, size, scales, increases))
    return BitSensitivity(base, tuple(found), model.count_params())


def check_model(model: Any) -> None:
    """One that can be evaluated and quantized."""
    layers.check_keras_model("model", model, built=True)
    graph.check_functional("model", model)
    if not model.compiled or model.loss is None:
        raise ValueError(
            "`model` must be compiled with a loss. Received: one that is not. Call "
            "`model.compile(optimizer, loss)` first."
        )


def plain_model(model: Any, exclude: Selection) -> tuple[Any, Selection]:
    """The model that is measured: with the layers that its blocks stand for."""
    plain, exclude = without_blocks(model, exclude)
    if plain is not model:
        plain.compile_from_config(model.get_compile_config())
    return plain, exclude


def check_bits(bits: Any) -> tuple[int, ...]:
    """Widths, each once, the largest first."""
    allowed = "a list of different widths of 2 to 8"
    if isinstance(bits, str) or not isinstance(bits, Sequence) or not bits:
        raise TypeError(arguments.message("bits", allowed, bits))
    for one in bits:
        arguments.integer("bits", one, low=LOWEST, high=HIGHEST)
    if len(set(bits)) != len(bits):
        raise ValueError(arguments.message("bits", allowed, bits))
    return tuple(sorted(bits, reverse=True))


def quantized_layers(
    model: Any, exclude: Selection
) -> list[tuple[str, list[rules.Kernel]]]:
    """The layers whose kernels `quantize_model` would round: path and kernels."""
    unwanted = Choice("exclude", exclude)
    found: list[tuple[str, list[rules.Kernel]]] = []
    seen: set[int] = set()
    paths = list(layers.layer_paths(model))
    for path, layer in paths:
        if unwanted.takes(path, layer) or isinstance(layer, keras.Model):
            continue
        kernels = rules.kernels_of(layer)
        if kernels and id(layer) not in seen:
            found.append((path, kernels))
        seen.add(id(layer))
    unwanted.check_all_matched([path for path, _ in paths])
    if not found:
        allowed = "a model with kernels to quantize"
        raise ValueError(arguments.message("model", allowed, model.name))
    return found


@contextlib.contextmanager
def rounded(chosen: Any, widths: Any, config: QuantizeConfig) -> Iterator[None]:
    """While it lasts, kernels are on grids; then they are as they were.

    Args:
        chosen: path of a layer -> its kernels.
        widths: path of a layer -> its bits.
        config: the kind of the grids.
    """
    kept = [
        (kernel, arrays.copied(kernel.variable), widths[path])
        for path, kernels in chosen.items()
        for kernel in kernels
    ]
    try:
        for kernel, value, width in kept:
            grid = dataclasses.replace(config, weight_bits=width)
            kernel.variable.assign(_on_grid(value, kernel.axes, grid))
        yield
    finally:
        for kernel, value, _ in kept:
            kernel.variable.assign(value)


def measured_loss(model: Any, x: Any, y: Any, batch_size: int) -> float:
    """The loss that `evaluate` gives.

    Raises:
        ValueError: it is not finite.
    """
    logs = model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)
    loss = float(logs["loss"])
    if not np.isfinite(loss):
        raise ValueError(
            f"`x` and `y` must give a finite loss. Received: {loss}. Are there NaN in "
            "the data, or has the model diverged?"
        )
    return loss


def _on_grid(value: Any, axes: Any, config: QuantizeConfig) -> Any:
    """As `quantize_model` begins."""
    weight = ops.convert_to_tensor(value, "float32")
    bits: Any = config.weight_bits
    shared = axes if config.per_channel else None
    if config.learned_weights:
        step = fake_quant.first_step(weight, shared, bits)
        return fake_quant.learned_weights(weight, step, bits)
    return fake_quant.fake_quant_weights(weight, shared, bits)


def _scales(kernel: rules.Kernel, config: QuantizeConfig) -> int:
    if not config.per_channel:
        return 1
    shape = kernel.variable.shape
    kept = [size for axis, size in enumerate(shape) if axis not in kernel.axes]
    return int(np.prod(kept))
