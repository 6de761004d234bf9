"""What distillation costs: CPU time of a step, beside its ideal and Keras's own.

    python benchmarks/distill_speed.py [--quick] [--only PART] [--json PATH]

Parts: `small`, `medium` and `large`, three pairs of nets. Arms, each one long fit that
waits for its turn (`evaluate` runs over a fixed number of batches), all compiled and
warm:

- "student": a plain fit of the student.
- "ideal": one forward pass of the teacher and one step of the student, with the loss
  that it was compiled with, and soft targets written by hand: no logs of the terms, no
  schedules, no checks. The limits refer to it, with a tap too. "ideal + tap" has the
  squared difference of a layer as well, to show what that alone costs; ", logged" the
  means of the terms in four Keras metrics: the logs that `kf.Distiller` gives.
- "kf" and "keras": `kf.Distiller` and `keras.distillation.Distiller` with soft targets
  (Keras's with a KLDivergence object, the one that works), "+ tap" with a layer.
- "cached": `kf.Distiller` with a cache, against the same batches without it. "one array
  more" is a plain fit on batches that carry what the teacher said, which nobody reads:
  what Keras takes to hand an array over. "ideal cached" reads it in a loss written by
  hand, with fixed numbers and no logs: as near to the plain fit as a cache can come;
  ", logged" has two Keras metrics.
- "evaluate": of the student, of `kf.Distiller` and of Keras's, with a tap.

In a round all arms take turns in random order; a ratio is taken within a round. Beside
the median stands its interval from the order statistics. A limit is met when the
interval's lower end is within it.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from _child import Child
from _overhead import HEADINGS, Figure
from _report import console, print_rows, write_json

ROUNDS, QUICK_ROUNDS = 15, 3
STEPS, QUICK_STEPS = 40, 10
ARMS = (
    "student",
    "ideal",
    "kf",
    "keras",
    "ideal + tap",
    "ideal + tap, logged",
    "kf + tap",
    "keras + tap",
    "student from rows",
    "one array more",
    "ideal cached",
    "ideal cached, logged",
    "cached",
    "evaluate student",
    "evaluate kf",
    "evaluate keras",
)
# Over, under, and the limit of issue 7.
RATIOS = (
    ("kf", "ideal", 1.05),
    ("keras", "ideal", None),
    ("kf + tap", "ideal", 1.05),
    ("keras + tap", "ideal", None),
    ("ideal + tap", "ideal", None),
    ("ideal + tap, logged", "ideal", None),
    ("cached", "student from rows", 1.08),
    ("one array more", "student from rows", None),
    ("ideal cached", "student from rows", None),
    ("ideal cached, logged", "student from rows", None),
    ("cached", "ideal cached", None),
    ("evaluate kf", "evaluate student", 1.05),
    ("evaluate keras", "evaluate student", None),
    ("kf", "student", None),
)
PARTS = {
    "small": "Teacher 4x as wide: 64-256-256-10, student 64-64-64-10, batch 128, CPU",
    "medium": "Teacher 784-512-512-10, student 784-256-256-10, batch 128, CPU",
    "large": "Teacher 784-1200-1200-10, student 784-800-800-10, batch 128, CPU",
}


def measure(part: str, quick: bool) -> list[Figure]:
    """CPU milliseconds of every arm in turns, and the ratios."""
    rounds, steps = (QUICK_ROUNDS, QUICK_STEPS) if quick else (ROUNDS, STEPS)
    turns: dict[str, list[float]] = {arm: [] for arm in ARMS}
    rng = random.Random(0)
    with Child("_distill_speed_child.py", part) as child:
        for arm in ARMS:
            child.ask("start", arm=arm, warm=steps)
        for done in range(1, rounds + 1):
            for arm in rng.sample(ARMS, len(ARMS)):
                seconds = child.ask("steps", arm=arm, count=steps)
                turns[arm].append(1000 * seconds / steps)
            print(f"\r{part}: round {done} of {rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    found = [Figure.of(f"{arm}: a batch", turns[arm], "ms") for arm in ARMS]
    for over, under, limit in RATIOS:
        share = [a / b for a, b in zip(turns[over], turns[under], strict=True)]
        found.append(Figure.of(f"{over} over {under}", share, "x", limit))
    return found


def main() -> None:
    """Measures, prints the tables, writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="in two minutes")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures")
    arguments = parser.parse_args()
    results: dict[str, object] = {"quick": arguments.quick}
    required: list[Figure] = []
    wanted = ("small",) if arguments.quick else tuple(PARTS)
    for part in (arguments.only,) if arguments.only else wanted:
        found = measure(part, arguments.quick)
        print_rows(PARTS[part], HEADINGS, [figure.cells() for figure in found])
        results[part] = [figure.to_dict() for figure in found]
        required += [figure for figure in found if figure.limit is not None]
    missed = [figure.name for figure in required if not figure.met]
    verdict = f"NOT met: {', '.join(missed)}" if missed else "all met"
    console.print(f"Required: {len(required)} limits, {verdict}.")
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
