"""CPU time and peak memory of the mask updates of one kernel of 10 million weights.

Started by prune_overhead.py, in a fresh process for each arm, because the peak of the
resident memory is that of a process.
"""

from __future__ import annotations

import argparse
import importlib
import time
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _child import serve
from _memory import resident_rise
from _models import load_stack

SHAPE = (2500, 4000)
SPARSITY = 0.8
COLD = 2  # updates that are not counted
Row = dict[str, float]


def choices(rounds: int, pruned: bool) -> dict[str, list[float]]:
    """CPU milliseconds of one choice of weights, ours and those of NumPy, in turns.

    Args:
        rounds: how often.
        pruned: whether the zeros of a mask are in the weights already.
    """
    masks = importlib.import_module("keras_fitkit.pruning.masks")
    rng = np.random.default_rng(0)
    weights = rng.normal(size=SHAPE).astype(np.float32)
    keep = round(weights.size * (1 - SPARSITY))
    if pruned:
        weights *= masks.keep_largest(np.abs(weights), keep)
    place = weights.size - keep
    arms: dict[str, Callable[[], Any]] = {
        "keep_largest": lambda: masks.keep_largest(np.abs(weights), keep),
        "np.partition": lambda: np.partition(np.abs(weights).ravel(), place),
        "np.argpartition": lambda: np.argpartition(np.abs(weights).ravel(), place),
    }
    found: dict[str, list[float]] = {name: [] for name in arms}
    for done in range(rounds + 1):
        for name in rng.permutation(list(arms)):
            seconds = _cpu_seconds(arms[name])
            if done:  # the first round is not counted
                found[name].append(1000 * seconds)
    return found


def update(allocation: str, updates: int, trace: bool) -> list[Row]:
    """Whole updates by PruneSchedule: reading, choice, masks, zeros.

    Args:
        allocation: its argument of that name.
        updates: how many.
        trace: whether the peak is that of Python's memory (NumPy's arrays) instead of
            the resident one.
    """
    keras = load_stack("keras")
    kf = importlib.import_module("keras_fitkit")
    rows: list[Row] = []

    class Measured(kf.PruneSchedule):  # type: ignore[misc]
        """Measures each of its updates."""

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            rows.append(
                _measured(
                    lambda: kf.PruneSchedule.on_train_batch_begin(self, batch, logs),
                    trace,
                )
            )

    model = keras.Sequential(
        [keras.Input(SHAPE[:1]), keras.layers.Dense(SHAPE[1], use_bias=False)]
    )
    model.compile("sgd", "mse")
    plan = kf.PolynomialSparsity(SPARSITY, 0, 10_000, frequency=1)
    steps = updates + COLD
    x, y = (np.zeros((steps, size), np.float32) for size in SHAPE)
    prune = Measured(plan, allocation=allocation)
    model.fit(x, y, batch_size=1, verbose=0, callbacks=[prune])
    return rows[COLD:]


def tfmot_update(updates: int) -> list[Row]:
    """The same by tfmot's ops, compiled as they are in its train step."""
    keras = load_stack("tf_keras")
    tf = importlib.import_module("tensorflow")
    sparsity = importlib.import_module("tensorflow_model_optimization").sparsity.keras
    layer = sparsity.prune_low_magnitude(
        keras.layers.Dense(SHAPE[1], use_bias=False),
        pruning_schedule=sparsity.PolynomialDecay(
            0.0, SPARSITY, 0, 10_000, frequency=1
        ),
    )
    layer.build((None, SHAPE[0]))

    @tf.function  # type: ignore[untyped-decorator]
    def run() -> None:
        layer.pruning_step.assign_add(1)
        layer.pruning_obj.conditional_mask_update()
        layer.pruning_obj.weight_mask_op()

    layer.pruning_step.assign(0)
    return [_measured(run, trace=False) for _ in range(updates + COLD)][COLD:]


def _measured(action: Callable[[], Any], trace: bool) -> Row:
    """CPU milliseconds, and the rise of the peak of memory in kernels."""
    if trace:
        tracemalloc.start()
        action()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return {"numpy": peak / _kernel_bytes()}
    seconds: list[float] = []
    rise = resident_rise(lambda: seconds.append(_cpu_seconds(action)))
    return {"ms": 1000 * seconds[0], "resident": rise / _kernel_bytes()}


def _kernel_bytes() -> int:
    return 4 * SHAPE[0] * SHAPE[1]


def _cpu_seconds(action: Callable[[], Any]) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun


def main() -> None:
    """Serves the commands."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    warnings.simplefilter("ignore")  # the fit ends below its target
    serve({"choices": choices, "update": update, "tfmot_update": tfmot_update})


if __name__ == "__main__":
    main()
