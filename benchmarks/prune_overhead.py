"""What pruning costs: CPU time of a training step and of a mask update, and memory.

    python benchmarks/prune_overhead.py [--quick] [--only PART] [--json PATH]

Parts: `MLP` and `CNN` measure training steps, `once` what begins and ends a fit,
`masks` the updates of a kernel of 10 million weights. `--quick` has 3 rounds instead of
15, and no `CNN` unless it is asked for.

Steps: `kf.PruneSchedule` beside a plain fit of Keras 3, and tfmot beside a plain fit of
tf_keras, one process a stack. Each arm is one long fit that waits for its turn, so that
all have their train step compiled; a turn of an arm with updates holds whole periods of
its schedule. In a round all arms take turns in random order; a ratio is taken within a
round. "plain again" over "plain" shows the noise. Beside the median stands its interval
from the order statistics. A limit is met when the interval's lower end is within it.

Memory: the highest rise of the peak over what is resident before an update, in kernels
of 40 MB, the new mask of a byte a weight included. This part needs Linux.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from _overhead import (
    FREQUENCIES,
    HEADINGS,
    PLAIN,
    Figure,
    choices,
    one_off,
    ratios,
    take_turns,
    tfmot_updates,
    updates,
)
from _report import console, print_rows, write_json

LIMITS = {"every 100": 1.05, "every 10": 1.20}
ROUNDS, STEPS = 15, {"plain": 100, "plain again": 100, "every 100": 100, "every 10": 50}
QUICK_ROUNDS, QUICK_STEPS = 3, {**STEPS, "plain": 20, "plain again": 20, "every 10": 20}
TITLES = {"keras": "Keras 3", "tf_keras": "tf_keras"}
Part = Callable[[bool], list[Figure]]


def steps_of(model: str) -> Part:
    """The part that measures the training steps of a model."""

    def part(quick: bool) -> list[Figure]:
        rounds, steps = (QUICK_ROUNDS, QUICK_STEPS) if quick else (ROUNDS, STEPS)
        turns = take_turns(model, rounds, steps, warm=10 if quick else 100)
        found = [
            Figure.of(f"{TITLES[stack]}, {arm}: a step", values, "ms")
            for (stack, arm), values in turns.items()
        ]
        for stack, arm in turns:
            if arm != PLAIN:
                limit = LIMITS.get(arm) if stack == "keras" else None
                share = ratios(turns, (stack, arm), (stack, PLAIN))
                name = f"{TITLES[stack]}, {arm}: over plain"
                found.append(Figure.of(name, share, "x", limit))
        for arm in FREQUENCIES:
            share = ratios(turns, ("keras", arm), ("tf_keras", arm))
            found.append(Figure.of(f"Keras 3 over tf_keras, {arm}", share, "x"))
        return found

    return part


def once(quick: bool) -> list[Figure]:
    """What begins and ends a fit."""
    return one_off(("MLP",) if quick else ("MLP", "CNN"), repeats=1 if quick else 5)


def masks(quick: bool) -> list[Figure]:
    """Updates of a large kernel."""
    if quick:
        return choices(3) + updates(3, ("uniform",))
    return choices(15) + updates(15, ("uniform", "global", "lamp")) + tfmot_updates(15)


PARTS: dict[str, tuple[str, Part]] = {
    "MLP": ("784-1200-784-10, 1,891,434 parameters, batch 128, CPU", steps_of("MLP")),
    "CNN": (
        "Two convolutions and two dense layers, 56,714 parameters, batch 128, CPU",
        steps_of("CNN"),
    ),
    "once": ("Whole fits of one step, CPU: attaching, tracing, wrapping", once),
    "masks": ("One kernel of 10 million weights, 80 % zeros", masks),
}


def main() -> None:
    """Measures, prints the tables, writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="in two minutes")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures")
    arguments = parser.parse_args()
    results: dict[str, object] = {"quick": arguments.quick}
    required: list[Figure] = []
    wanted = set(PARTS) - ({"CNN"} if arguments.quick else set())
    for name, (title, part) in PARTS.items():
        if name == arguments.only or (not arguments.only and name in wanted):
            found = part(arguments.quick)
            print_rows(title, HEADINGS, [figure.cells() for figure in found])
            results[name] = [figure.to_dict() for figure in found]
            required += [figure for figure in found if figure.limit is not None]
    missed = [figure.name for figure in required if not figure.met]
    verdict = f"NOT met: {', '.join(missed)}" if missed else "all met"
    console.print(f"Required: {len(required)} limits, {verdict}.")
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
