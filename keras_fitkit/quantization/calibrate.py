"""calibrate: fewer bits without training, from a sample of the inputs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, finite, graph, layers, rewrite
from keras_fitkit.quantization import inputs
from keras_fitkit.quantization.calibration_report import CalibrationReport
from keras_fitkit.quantization.calibrator import METHODS, RANGES, STEPS, Calibrator
from keras_fitkit.quantization.fake_quantize import FakeQuantize
from keras_fitkit.quantization.wrapper import QuantizeWrapper


def calibrate(
    model: Any,
    x: Any,
    methods: Sequence[str] = METHODS,
    *,
    batch_size: int = 64,
    verbose: int = 1,
    return_report: bool = False,
) -> Any:
    """Fits a quantized model to its float self, without labels and without training.

    For a model that `kf.quantize_model` has just made of a trained one. One pass from
    the first layer to the last; each is fitted with those before it as they will be:

    - "ranges": the ranges of activations are measured on `x`, as in training: the mean
      of the batches' extremes.
    - "steps": the steps of weights of few bits (those that `quantize_model` would
      train) are those that move the weights least; with "rounding" they are fitted to
      the outputs as well. Where the largest weight makes the step, above 4 bits by
      default, it stays.
    - "rounding": each weight goes up or down, or further, where the outputs of its
      layer come nearest to the float ones on `x`. Zeros stay zeros; clustered kernels
      are left out.
    - "bias_correction": biases take up the mean error of the outputs. Statistics of
      BatchNormalization move so that mean and variance of its outputs stay; the scale
      of a channel changes by a factor of 2 at most.

    "rounding" is for layers whose outputs are one kernel times what reaches them:
    Dense, EinsumDense, plain, depthwise and transposed convolutions of Keras, with at
    most 4096 inputs to an output (and 1024 such outputs; the search takes minutes
    then). The kernels of others (recurrent, attention,
    separable, your own) are rounded to the nearest value. A layer that is called
    several times is fitted where it is called first. With biases and norms corrected,
    no output of such a layer, before its activation, gets further from the float one on
    `x`, as far as a bias or a norm right behind can take up the mean.

    At 8 bits there is little to gain; see the figures in `docs/results.md`. A model
    that was trained for integers needs none of this, and its ranges and steps would be
    lost: it warns of one (`UserWarning`). Activations whose range nobody knows, as
    without "ranges", stay floats; the report counts them.

    Args:
        model: what `kf.quantize_model` gave. It is not changed.
        x: inputs of the kind it was trained on, some hundred to thousand rows, in the
            structure of the model's inputs. No labels.
        methods: which of the four. Defaults to all.
        batch_size: rows in one step, >= 1. What is between layers is kept for all rows
            until it is used: take some hundred rows of large images. Defaults to 64.
        verbose: 0 silent, 1 a progress bar. Defaults to 1.
        return_report: also return a `CalibrationReport`. Defaults to False.

    Returns:
        The new model, not compiled; with `return_report` a pair of it and the report.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; a model that is
            not quantized, or whose weights are not finite; NaN in `x`, or another
            shape than the model's inputs.

    Example:
        >>> import keras, numpy as np
        >>> import keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
        >>> x = np.random.default_rng(0).normal(size=(256, 16)).astype("float32")
        >>> rounded = kf.quantize_model(model, "int4-weights")
        >>> better = kf.calibrate(rounded, x, verbose=0)
        >>> wanted = model(x)
        >>> error = keras.losses.MeanSquaredError()
        >>> bool(error(wanted, better(x)) < 0.5 * error(wanted, rounded(x)))
        True

    References:
        Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization",
        2020, arXiv:2004.10568 (what is minimized); Zhang et al., "COMQ: A
        Backpropagation-Free Algorithm for Post-Training Quantization", 2024,
        arXiv:2403.07134 (one weight after another, and the steps); Nagel et al.,
        "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
        arXiv:1906.04721 (biases).
    """
    _check_model(model)
    chosen = _check_methods(methods)
    arguments.integer("batch_size", batch_size, low=1)
    arguments.integer("verbose", verbose, low=0, high=1)
    arguments.flag("return_report", return_report)
    if x is None:
        raise TypeError(arguments.message("x", "arrays of inputs", x))
    given: Any = inputs.checked("x", x, model)
    _warn_if_trained(model, chosen)
    new = rewrite.Rewriter().run(model)
    bar = None
    if verbose:
        bar = keras.utils.Progbar(len(graph.flat(new).nodes), unit_name="layer")
    calibrator = Calibrator(new, chosen, bar)
    with _no_gradient():
        calibrator.run(list(_batches(given, batch_size)))
    report = CalibrationReport(
        chosen,
        len(given[0]),
        calibrator.ranges,
        calibrator.biases,
        tuple(calibrator.layers),
        calibrator.floats(),
    )
    return (new, report) if return_report else new


def _check_model(model: Any) -> None:
    layers.check_keras_model("model", model, built=True)
    graph.check_functional("model", model)
    calls = graph.flat(model).nodes
    if not any(
        isinstance(one.operation, (QuantizeWrapper, FakeQuantize)) for one in calls
    ):
        hint = "Begin with `kf.quantize_model(model, config)`."
        allowed = "a model that `kf.quantize_model` made"
        raise ValueError(arguments.message("model", allowed, model.name, hint))
    broken = finite.non_finite_weights(model)
    if broken:
        allowed = "a model whose weights are numbers"
        hint = f"NaN or infinite: {', '.join(broken[:3])}."
        raise ValueError(arguments.message("model", allowed, model.name, hint))


def _warn_if_trained(model: Any, methods: Sequence[str]) -> None:
    """Of what was found before and is lost: ranges, learned steps."""
    wrappers = [
        one.operation
        for one in graph.flat(model).nodes
        if isinstance(one.operation, (QuantizeWrapper, FakeQuantize))
    ]
    lost = []
    if RANGES in methods and any(map(_knows_ranges, wrappers)):
        lost.append("ranges")
    steps = [one.grids for one in wrappers if isinstance(one, QuantizeWrapper)]
    if STEPS in methods and any(one.trained for one in steps):
        lost.append("steps")
    if lost:
        warnings.warn(
            f"`calibrate` drops the {' and '.join(lost)} that `{model.name}` has from "
            "a training or an earlier calibration, and measures them anew. A model "
            "that was trained for integers needs no calibration.",
            UserWarning,
            stacklevel=3,
        )


def _knows_ranges(layer: Any) -> bool:
    found = (layer,) if isinstance(layer, FakeQuantize) else layer.quantizers
    return any(one.fixed is None and one.calibrated for one in found)


def _check_methods(methods: Any) -> tuple[str, ...]:
    allowed = f"a list of some of {', '.join(map(repr, METHODS))}"
    if isinstance(methods, str) or not isinstance(methods, Sequence) or not methods:
        raise TypeError(arguments.message("methods", allowed, methods))
    for one in methods:
        arguments.choice("methods", one, METHODS)
    return tuple(one for one in METHODS if one in methods)


@contextlib.contextmanager
def _no_gradient() -> Iterator[None]:
    """On torch: without it everything between the layers would be kept."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.no_grad():
        yield


def _batches(given: Sequence[Any], batch_size: int) -> Iterator[list[Any]]:
    """Rows of all places in each: a layer may do with some of them."""
    count = -(-len(given[0]) // batch_size)
    for index in range(count):
        yield [np.ascontiguousarray(one[index::count]) for one in given]
