"""What a checkpoint costs, beside `model.save_weights`.

A model of 25 million weights is saved by `kf.Checkpoint` (only the weights, and then
with Adam's two averages of each) and by `model.save_weights`, which forgets the
optimizer, in turn. CPU seconds, wall seconds and, for the memory, the rise of the peak
over what was resident before, and the peak of what Python and NumPy allocate, both over
the bytes that are saved. The memory needs Linux.

    python benchmarks/checkpoint.py [--quick] [--json results.jsonl]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from _memory import resident_rise
from import_cost import median_interval

import keras_fitkit as kf

ROUNDS, QUICK_ROUNDS = 15, 5
WIDTH = 5000  # 5000 * 5000 weights
TIME_LIMIT, MEMORY_LIMIT = 1.3, 1.2


def model_of(width: int, optimizer: Any) -> keras.Model:
    """One dense layer of `width` squared weights."""
    model = keras.Sequential(
        [keras.Input((width,)), keras.layers.Dense(width, use_bias=False)]
    )
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def saver(model: keras.Model, folder: Path) -> Callable[[int], None]:
    """What `fit` calls at an epoch end."""
    checkpoint = kf.Checkpoint(folder, verbose=0, keep=1)
    checkpoint.set_model(model)
    checkpoint.set_params({"epochs": 10**6, "steps": 1})
    checkpoint.on_train_begin()
    return lambda epoch: checkpoint.on_epoch_end(epoch, {"loss": 0.0})


def measured(action: Callable[[], None]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def peak(action: Callable[[], None]) -> int:
    """The peak of bytes allocated meanwhile."""
    tracemalloc.start()
    action()
    _, found = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return found


def epoch_overhead(rounds: int, width: int) -> dict[str, Any]:
    """CPU of an epoch of 20 steps of 32 rows, with a save at its end over without."""
    rows = 20 * 32
    x = np.zeros((rows, width), "float32")
    model = model_of(width, "adam")
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:

        def fit(callbacks: list[Any]) -> None:
            model.fit(x, x, shuffle=False, verbose=0, callbacks=callbacks)

        for done in range(rounds + 1):
            folder = Path(scratch, str(done))
            save = kf.Checkpoint(folder, verbose=0, keep=1)
            with_it = measured(lambda: fit([save]))[0]  # noqa: B023
            without = measured(lambda: fit([]))[0]
            if done:
                ratios.append(with_it / without)
            for path in folder.iterdir():
                path.unlink()
    low, high, _ = median_interval(ratios)
    return {
        "name": "epoch of 20 steps",
        "cpu_ratio": statistics.median(ratios),
        "cpu_interval": (low, high),
        "rounds": rounds,
    }


def row(name: str, optimizer: Any, rounds: int, width: int) -> dict[str, Any]:
    """One line of the table."""
    model = model_of(width, optimizer)
    size = 4 * sum(int(np.prod(v.shape)) for v in model.optimizer.variables if v.shape)
    state = 4 * width * width + size
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save = saver(model, folder / "run")

        def theirs() -> None:
            model.save_weights(folder / "m.weights.h5")

        ratios: dict[str, list[float]] = {"cpu": [], "wall": []}
        seconds = []
        for done in range(rounds + 1):
            ours_first = done % 2 == 0
            if ours_first:
                ours = measured(lambda: save(done))  # noqa: B023
            other = measured(theirs)
            if not ours_first:
                ours = measured(lambda: save(done))  # noqa: B023
            if done:  # the first of each is not counted
                ratios["cpu"].append(ours[0] / other[0])
                ratios["wall"].append(ours[1] / other[1])
                seconds.append(ours[1])
            print(f"\r{name}: {done} of {rounds}", end="", file=sys.stderr, flush=True)
        resident = resident_rise(lambda: save(rounds + 1)) / state
        allocated = peak(lambda: save(rounds + 2)) / state
        written = next((folder / "run").glob("*.npz")).stat().st_size
    print(file=sys.stderr)
    return {
        "name": name,
        "weights": width * width,
        "file_megabytes": written / 1e6,
        "seconds": statistics.median(seconds),
        "cpu_ratio": statistics.median(ratios["cpu"]),
        "cpu_interval": median_interval(ratios["cpu"])[:2],
        "wall_ratio": statistics.median(ratios["wall"]),
        "wall_interval": median_interval(ratios["wall"])[:2],
        "resident_over_state": resident,
        "allocated_over_state": allocated,
        "rounds": rounds,
        "keras": keras.__version__,
    }


def main() -> None:
    """Measures, prints the table, appends the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 rounds, 4 M weights")
    parser.add_argument("--json", type=Path, metavar="PATH", help="append the rows")
    options = parser.parse_args()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    width = 2000 if options.quick else WIDTH
    rows = [
        row("weights alone (SGD)", "sgd", rounds, width),
        row("with Adam's averages", "adam", rounds, width),
    ]
    print(f"limits: {TIME_LIMIT}x save_weights for the weights alone, "
          f"memory {MEMORY_LIMIT}x the state")  # fmt: skip
    for one in rows[:2]:
        low, high = one["cpu_interval"]
        first, last = one["wall_interval"]
        print(
            f"{one['name']:<22} {one['file_megabytes']:6.0f} MB  "
            f"CPU {one['cpu_ratio']:.2f}x ({low:.2f}-{high:.2f})  "
            f"wall {one['wall_ratio']:.2f}x ({first:.2f}-{last:.2f}), "
            f"{one['seconds']:.2f} s  memory {one['resident_over_state']:.2f}x "
            f"resident, {one['allocated_over_state']:.2f}x allocated by NumPy"
        )
    epoch = epoch_overhead(QUICK_ROUNDS, width)
    low, high = epoch["cpu_interval"]
    print(
        f"{epoch['name']} with the file before the first and the one at its end: "
        f"CPU {epoch['cpu_ratio']:.2f}x ({low:.2f}-{high:.2f})"
    )
    rows.append(epoch)
    if options.json:
        with options.json.open("a") as file:
            file.writelines(json.dumps(one) + "\n" for one in rows)


if __name__ == "__main__":
    main()
