"""One stack, Keras 3 or tf_keras, that trains dense models and prunes them.

Started by prune_quality.py, one process a stack. What is compared differs in the
pruning alone: initial weights, order of the batches, optimizer, learning rates and the
sparsity schedule are the same numbers on both sides.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _child import serve
from _models import MODELS, load_stack

BATCH = 128
LEARNING_RATE = 2e-3
LAST_RATE = 0.01  # of the first, at the end of the cosine
RAMP = 0.5  # of the steps, until the final sparsity
UPDATES = 60
SAMPLE = 1000  # training rows for the gradients of RigL

OURS: dict[str, dict[str, str]] = {
    "kf uniform": {"allocation": "uniform"},
    "kf global": {"allocation": "global"},
    "kf lamp": {"allocation": "lamp"},
    "kf rigl": {"allocation": "erk", "regrow": "rigl"},
}


def settings() -> dict[str, float]:
    """What all arms share: a stored row with other values is measured anew."""
    return {
        "batch": BATCH,
        "learning_rate": LEARNING_RATE,
        "last_rate": LAST_RATE,
        "ramp": RAMP,
        "updates": UPDATES,
        "sample": SAMPLE,
    }


class Trainer:
    """The commands: `load` the data, make a `dense` start, `prune` it."""

    def __init__(self, stack: str) -> None:
        self.stack = stack
        self.keras = load_stack(stack)
        self.arrays: dict[str, Any] = {}

    def load(self, data: str, rows: int | None) -> dict[str, int]:
        """Reads an .npz like that of `keras.datasets.mnist`; the first `rows` train."""
        with np.load(data) as stored:
            self.arrays = {
                "x_train": stored["x_train"][:rows].astype(np.float32) / 255.0,
                "y_train": stored["y_train"][:rows].astype(np.int64),
                "x_test": stored["x_test"].astype(np.float32) / 255.0,
                "y_test": stored["y_test"].astype(np.int64),
            }
        return {name: len(array) for name, array in self.arrays.items()}

    def dense(self, model: str, seed: int, epochs: int, path: str) -> None:
        """Trains a dense model and keeps its weights in an .npz."""
        self.keras.utils.set_random_seed(seed)
        built = MODELS[model](self.keras)
        self._fit(built, [seed, 1], epochs, [])
        temporary = Path(path).with_suffix(".tmp.npz")
        np.savez(temporary, *built.get_weights())
        temporary.replace(path)
        self.keras.backend.clear_session()

    def prune(
        self,
        model: str,
        method: str,
        sparsity: float,
        seed: int,
        epochs: int,
        dense: str,
    ) -> dict[str, Any]:
        """Trains on from the dense start, with `method` or as it is ("dense").

        Returns:
            `errors` on the test set, its size, the fraction of zeros in the kernels,
            parameters that are not zero, `start_errors`, seconds (elapsed, CPU).
        """
        begun, cpu = time.perf_counter(), time.process_time()
        self.keras.utils.set_random_seed(seed)
        built = MODELS[model](self.keras)
        with np.load(dense) as stored:
            built.set_weights([stored[name] for name in stored.files])
        start_errors = self._errors(built)
        steps = epochs * self._steps()
        built, callbacks = self._pruned(built, method, sparsity, _plan(steps))
        self._fit(built, [seed, 2], epochs, callbacks)
        built = self._stripped(built)
        weights = [np.asarray(weight) for weight in built.get_weights()]
        kernels = [weight for weight in weights if weight.ndim > 1]
        nonzero = sum(int(np.count_nonzero(kernel)) for kernel in kernels)
        result = {
            "errors": self._errors(built),
            "tested": len(self.arrays["y_test"]),
            "zeros": 1 - nonzero / sum(kernel.size for kernel in kernels),
            "nonzero": sum(int(np.count_nonzero(weight)) for weight in weights),
            "start_errors": start_errors,
            "seconds": round(time.perf_counter() - begun, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
        }
        self.keras.backend.clear_session()
        return result

    def _steps(self) -> int:
        return len(self.arrays["y_train"]) // BATCH

    def _fit(
        self, model: Any, seed: list[int], epochs: int, callbacks: list[Any]
    ) -> None:
        """Adam with a cosine decay over the fit, on batches in an order by seed."""
        tf = importlib.import_module("tensorflow")
        keras, steps = self.keras, self._steps()
        decay = keras.optimizers.schedules.CosineDecay(
            LEARNING_RATE, epochs * steps, alpha=LAST_RATE
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(decay), loss)
        x = self.arrays["x_train"].reshape(-1, *model.input_shape[1:])
        images, labels = tf.constant(x), tf.constant(self.arrays["y_train"])
        order = np.concatenate(list(_orders(len(x), steps, epochs, seed)))
        data = tf.data.Dataset.from_tensor_slices(order)
        data = data.map(lambda rows: (tf.gather(images, rows), tf.gather(labels, rows)))
        data = data.repeat().prefetch(2)
        fit = {"epochs": epochs, "steps_per_epoch": steps, "verbose": 0}
        model.fit(data, callbacks=callbacks, **fit)

    def _pruned(
        self, model: Any, method: str, sparsity: float, plan: dict[str, int]
    ) -> tuple[Any, list[Any]]:
        """The model to fit and the callbacks to fit it with."""
        if method == "dense":
            return model, []
        if method == "tfmot":
            tfmot = importlib.import_module("tensorflow_model_optimization")
            api = tfmot.sparsity.keras
            schedule = api.PolynomialDecay(0.0, sparsity, **plan)
            wrapped = api.prune_low_magnitude(model, pruning_schedule=schedule)
            return wrapped, [api.UpdatePruningStep()]
        kf = importlib.import_module("keras_fitkit")
        arguments: dict[str, Any] = dict(OURS[method])
        schedule = kf.PolynomialSparsity(sparsity, **plan)
        if "regrow" in arguments:
            x = self.arrays["x_train"][:SAMPLE]
            shaped = x.reshape(-1, *model.input_shape[1:])
            arguments["data"] = (shaped, self.arrays["y_train"][:SAMPLE])
        return model, [kf.PruneSchedule(schedule, **arguments)]

    def _stripped(self, model: Any) -> Any:
        if self.stack == "keras":
            return model
        tfmot = importlib.import_module("tensorflow_model_optimization")
        return tfmot.sparsity.keras.strip_pruning(model)

    def _errors(self, model: Any) -> int:
        x = self.arrays["x_test"].reshape(-1, *model.input_shape[1:])
        predicted = model.predict(x, batch_size=1000, verbose=0).argmax(axis=1)
        return int(np.count_nonzero(predicted != self.arrays["y_test"]))


def _plan(steps: int) -> dict[str, int]:
    """A ramp whose last step is a multiple of the frequency: tfmot needs that."""
    frequency = max(1, round(RAMP * steps / UPDATES))
    end = max(1, int(RAMP * steps) // frequency) * frequency
    return {"begin_step": 0, "end_step": end, "frequency": frequency}


def _orders(rows: int, steps: int, epochs: int, seed: list[int]) -> Iterator[Any]:
    for epoch in range(epochs):
        order = np.random.default_rng([*seed, epoch]).permutation(rows)
        yield order[: steps * BATCH].reshape(steps, BATCH)


def main() -> None:
    """Serves the commands of one stack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stack", choices=("keras", "tf_keras"))
    trainer = Trainer(parser.parse_args().stack)
    names = ("load", "dense", "prune")
    serve({name: getattr(trainer, name) for name in names})


if __name__ == "__main__":
    main()
