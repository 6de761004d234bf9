"""One stack, Keras 3 or tf_keras, with several fits that take turns step by step.

Started by prune_overhead.py, one process a stack. Each arm is one long `fit` in a
thread of its own, which waits after each order: only one runs at a time, all have their
train step compiled, and the CPU clock of the process is that of the arm that runs.
"""

from __future__ import annotations

import argparse
import importlib
import queue
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _child import serve
from _models import MODELS, load_stack

BATCH = 128
BATCHES = 20
FOREVER = 10_000_000  # steps of an epoch: no arm gets to its end
RAMP = 20_000  # steps until the final sparsity: more than an arm runs
FINAL_SPARSITY = 0.8


class Stack:
    """The commands: `start` an arm, run `steps` of it, or whole fits with `once`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.keras = load_stack(name)
        self.arms: dict[str, Arm] = {}

    def version(self) -> str:
        """The version of the Keras in use."""
        return str(self.keras.__version__)

    def start(self, arm: str, model: str, frequency: int | None, warm: int) -> None:
        """Begins a fit (`frequency` None: nothing is pruned) and runs `warm` steps."""
        fitted, callbacks = self._compiled(model), []
        if frequency is not None:
            fitted, callbacks = self._pruned(fitted, frequency)
        self.arms[arm] = Arm(self.keras, fitted, callbacks, self._data(model))
        self.arms[arm].run(warm)

    def steps(self, arm: str, count: int) -> float:
        """CPU seconds of `count` more steps of an arm."""
        return self.arms[arm].run(count)

    def once(self, model: str) -> dict[str, float]:
        """CPU seconds of whole fits of one step, one after the other."""
        data = self._data(model)
        fitted = self._compiled(model)

        def fit(one: Any, callbacks: list[Any]) -> float:
            return _cpu_seconds(
                lambda: one.fit(data, steps_per_epoch=1, verbose=0, callbacks=callbacks)
            )

        seconds = {"first fit": fit(fitted, []), "fit again": fit(fitted, [])}
        begun = time.process_time()
        pruned, callbacks = self._pruned(fitted, 100)
        wrapping = time.process_time() - begun
        seconds["pruned fit"] = wrapping + fit(pruned, callbacks)
        if pruned is fitted:
            seconds["fit after it"] = fit(fitted, [])
        self.keras.backend.clear_session()
        return seconds

    def _data(self, model: str) -> Any:
        tf = importlib.import_module("tensorflow")
        rng = np.random.default_rng(0)
        shape = MODELS[model](self.keras).input_shape[1:]
        x = rng.normal(size=(BATCH * BATCHES, *shape)).astype("float32")
        y = rng.integers(10, size=len(x))
        data = tf.data.Dataset.from_tensor_slices((x, y))
        return data.batch(BATCH, drop_remainder=True).cache().repeat()

    def _compiled(self, model: str) -> Any:
        built = MODELS[model](self.keras)
        _compile(self.keras, built)
        return built

    def _pruned(self, model: Any, frequency: int) -> tuple[Any, list[Any]]:
        """The model to fit and the callbacks to fit it with."""
        plan = {"begin_step": 0, "end_step": RAMP, "frequency": frequency}
        if self.name == "keras":
            kf = importlib.import_module("keras_fitkit")
            return model, [
                kf.PruneSchedule(kf.PolynomialSparsity(FINAL_SPARSITY, **plan))
            ]
        tfmot = importlib.import_module("tensorflow_model_optimization")
        sparsity = tfmot.sparsity.keras
        schedule = sparsity.PolynomialDecay(0.0, FINAL_SPARSITY, **plan)
        wrapped = sparsity.prune_low_magnitude(model, pruning_schedule=schedule)
        _compile(self.keras, wrapped)
        return wrapped, [sparsity.UpdatePruningStep()]


class Arm:
    """One `fit` in a thread, which runs as many steps as it is told."""

    def __init__(self, keras: Any, model: Any, callbacks: list[Any], data: Any) -> None:
        self._orders: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        orders, answers = self._orders, self._answers

        class Gate(keras.callbacks.Callback):  # type: ignore[misc]
            """Lets `fit` go on by the number of steps ordered."""

            left = 0

            def on_train_begin(self, logs: Any = None) -> None:
                self.left = orders.get()

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                self.left -= 1
                if self.left == 0:
                    answers.put(None)
                    self.left = orders.get()

        def fit() -> None:
            try:
                model.fit(
                    data,
                    steps_per_epoch=FOREVER,
                    verbose=0,
                    callbacks=[*callbacks, Gate()],
                )
            except Exception as error:
                answers.put(error)

        threading.Thread(target=fit, daemon=True).start()

    def run(self, steps: int) -> float:
        """CPU seconds of so many steps."""
        begun = time.process_time()
        self._orders.put(steps)
        error = self._answers.get()
        if error is not None:
            raise error
        return time.process_time() - begun


def _compile(keras: Any, model: Any) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)


def _cpu_seconds(action: Callable[[], Any]) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun


def main() -> None:
    """Serves the commands of one stack."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stack", choices=("keras", "tf_keras"))
    warnings.simplefilter("ignore")  # a fit of one step ends below its target
    stack = Stack(parser.parse_args().stack)
    names = ("version", "start", "steps", "once")
    serve({name: getattr(stack, name) for name in names})


if __name__ == "__main__":
    main()
