"""assign_bits: the best width for each layer, within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_fitkit._core import arguments
from keras_fitkit._core.selection import Selection
from keras_fitkit.quantization import bit_sensitivity as sensitivity_
from keras_fitkit.quantization import knapsack
from keras_fitkit.quantization.bit_reports import (
    FLOAT_BYTES,
    BitAssignment,
    BitSensitivity,
)
from keras_fitkit.quantization.config import resolve


def assign_bits(
    model: Any,
    x: Any,
    y: Any,
    bits: Sequence[int] = (8, 4, 2),
    *,
    size_budget: float | None = None,
    max_loss_increase: float | None = None,
    config: Any = "int8",
    sensitivity: BitSensitivity | None = None,
    exclude: Selection = None,
    batch_size: int = 256,
    verbose: int = 1,
) -> BitAssignment:
    """Chooses a width for the kernels of each layer, exactly, by measured costs.

    The costs are those of `kf.bit_sensitivity`, taken to add up. Give one of the two
    limits. Training afterwards, `kf.quantize_model(model, assignment)`, wins much of
    the loss back; small widths gain most.

    The size counts each width as it is. LiteRT stores 8 and 4 bits as such, and others
    in the next wider of these; a packed file stores them all.

    Args:
        model: as for `kf.bit_sensitivity`.
        x: inputs.
        y: targets.
        bits: the widths to choose from, 2 to 8. Defaults to (8, 4, 2).
        size_budget: the largest size, as a fraction of the model in float32, in
            (0, 1]: the least loss within it is chosen.
        max_loss_increase: the largest sum of increases of the loss, >= 0: the least
            size within it is chosen.
        config: everything but the widths of weights. Defaults to "int8".
        sensitivity: what `kf.bit_sensitivity` gave for this model, or None to measure.
            Defaults to None.
        exclude: layers that stay float, as for `kf.quantize_model`. Defaults to None.
        batch_size: rows in one step. Defaults to 256.
        verbose: 0 silent, 1 a progress bar. Defaults to 1.

    Returns:
        A `BitAssignment`: a config for `kf.quantize_model`, with `overrides`, a table
        and `plot()`.

    Raises:
        TypeError, ValueError: an argument outside its range, by name; no limit or two;
            a budget that no choice keeps.

    Example:
        >>> import keras, numpy as np
        >>> import keras_fitkit as kf
        >>> layers = [keras.Input((4,)), keras.layers.Dense(64), keras.layers.Dense(2)]
        >>> model = keras.Sequential(layers)
        >>> model.compile("sgd", "mse")
        >>> x = np.random.default_rng(0).normal(size=(64, 4))
        >>> found = kf.assign_bits(model, x, x[:, :2], size_budget=0.8, verbose=0)
        >>> len(found.bits), found.size <= 0.8
        (2, True)

    References:
        Dong et al., "HAWQ-V2", 2020, arXiv:1911.03852 (choosing widths by summed layer
        sensitivities); the knapsack is solved exactly here.
    """
    sensitivity_.check_model(model)
    base = resolve(config)
    _check_limits(size_budget, max_loss_increase)
    model, exclude = sensitivity_.plain_model(model, exclude)
    chosen = dict(sensitivity_.quantized_layers(model, exclude))
    if sensitivity is None:
        sensitivity = sensitivity_.bit_sensitivity(
            model,
            x,
            y,
            bits,
            config=base,
            exclude=exclude,
            batch_size=batch_size,
            verbose=verbose,
        )
    _check_sensitivity(sensitivity, chosen)
    widths = [one for one in sensitivity_.check_bits(bits) if one in sensitivity.bits]
    picked = _picked(sensitivity, widths, size_budget, max_loss_increase)
    assigned = {
        one.path: widths[index]
        for one, index in zip(sensitivity.layers, picked, strict=True)
    }
    with sensitivity_.rounded(chosen, assigned, base):
        loss = sensitivity_.measured_loss(model, x, y, batch_size)
    floats = [
        path
        for path, _ in sensitivity_.quantized_layers(model, None)
        if path not in assigned
    ]
    return BitAssignment(assigned, sensitivity, base, loss, tuple(floats))


def _check_limits(size_budget: Any, max_loss_increase: Any) -> None:
    if (size_budget is None) == (max_loss_increase is None):
        raise ValueError(
            "One of `size_budget` and `max_loss_increase` must be given. Received: "
            f"size_budget={size_budget!r}, max_loss_increase={max_loss_increase!r}."
        )
    if size_budget is not None:
        arguments.number(
            "size_budget", size_budget, low=0.0, high=1.0, include_low=False
        )
    else:
        arguments.number("max_loss_increase", max_loss_increase, low=0.0)


def _check_sensitivity(sensitivity: Any, chosen: Any) -> None:
    if not isinstance(sensitivity, BitSensitivity):
        allowed = "what `kf.bit_sensitivity` gave, or None"
        raise TypeError(arguments.message("sensitivity", allowed, sensitivity))
    paths = [one.path for one in sensitivity.layers]
    if paths != list(chosen):
        allowed = f"that of a model with the layers {list(chosen)}"
        raise ValueError(arguments.message("sensitivity", allowed, paths))


def _picked(
    found: BitSensitivity,
    widths: Sequence[int],
    size_budget: float | None,
    max_loss_increase: float | None,
) -> list[int]:
    rows = found.layers
    sizes = [np.array([one.num_bytes(bits) for bits in widths]) for one in rows]
    losses = [np.array([one.increases[bits] for bits in widths]) for one in rows]
    if max_loss_increase is not None:
        picked = knapsack.smallest_size(sizes, losses, max_loss_increase)
        if picked is None:
            least = sum(float(one.min()) for one in losses)
            allowed = f"at least {least:.3g} with widths {tuple(widths)}"
            raise ValueError(
                arguments.message("max_loss_increase", allowed, max_loss_increase)
            )
        return picked
    budget: Any = size_budget
    whole = FLOAT_BYTES * found.num_params
    rest = whole - FLOAT_BYTES * sum(one.num_weights for one in rows)
    picked = knapsack.smallest_loss(sizes, losses, budget * whole - rest)
    if picked is None:
        least = (rest + sum(int(one.min()) for one in sizes)) / whole
        allowed = f"at least {least:.4f} with widths {tuple(widths)}"
        hint = "Biases, norms and excluded layers stay float32."
        raise ValueError(arguments.message("size_budget", allowed, budget, hint))
    return picked
