"""What blocks cost beside a plain 3x3 convolution, and GroupedConv2D beside its rivals.

    python benchmarks/blocks.py [--quick] [--only PART] [--json PATH]

Parts:

- `grouped`: CPU time of forward and backward of a grouped 3x3 convolution on
  TensorFlow: the raw op, `GroupedConv2D` ("kf"), a convolution for each group
  ("split"), and Keras's `Conv2D(groups=)`. With oneDNN switched on, without which the
  raw op has no gradients on a CPU.
- `grouped-plain`: the same with oneDNN switched off; there is no raw arm.
- `blocks`: for each block parameters, MACs and, relative to the 3x3 convolution with
  norm and ReLU, LiteRT in float32 and int8 (one thread, batch 1) and TensorFlow forward
  and training (batch 8), 56 x 56 x 64.

In a round all arms take turns in random order; a ratio is taken within a round. Beside
the median stands its interval from the order statistics. A limit is met when the
interval's lower end is within it.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
from pathlib import Path

from _blocks_child import GROUPED, blocks
from _child import Child
from _overhead import HEADINGS, Figure
from _report import console, print_rows, write_json

ROUNDS, QUICK_ROUNDS = 15, 3
LIMIT = 1.3  # of issue 8: GroupedConv2D over the raw op
KINDS = {
    "float32": "LiteRT float32",
    "int8": "LiteRT int8",
    "forward": "TF forward",
    "train": "TF training",
}
QUICK_BLOCKS = ("conv 3x3", "separable", "inverted t2", "RepConv fused")
PARTS = ("grouped", "grouped-plain", "blocks")


def take_turns(
    child: Child, counts: dict[str, int], rounds: int, label: str
) -> dict[str, list[float]]:
    """CPU milliseconds of a pass of every arm in each round."""
    turns: dict[str, list[float]] = {arm: [] for arm in counts}
    rng = random.Random(0)
    for arm in counts:
        child.ask("start", arm=arm, warm=2)
    for done in range(1, rounds + 1):
        for arm in rng.sample(list(counts), len(counts)):
            seconds = child.ask("steps", arm=arm, count=counts[arm])
            turns[arm].append(1000 * seconds / counts[arm])
        print(f"\r{label}: round {done} of {rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return turns


def ratio(
    name: str, over: list[float], under: list[float], limit: float | None = None
) -> Figure:
    """The median of the ratios of each round."""
    share = [a / b for a, b in zip(over, under, strict=True)]
    return Figure.of(name, share, "x", limit)


def measure_grouped(part: str, quick: bool) -> list[Figure]:
    """Forward and backward of each form, and ratios to the fastest plain one."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1" if part == "grouped" else "0"
    found: list[Figure] = []
    with Child("_blocks_child.py") as child:
        raw = child.ask("has_raw_gradients")
        forms = (["raw"] if raw else []) + ["split", "kf", "keras"]
        for shape in list(GROUPED)[: 1 if quick else None]:
            arms = {form: f"grouped|{shape}|{form}" for form in forms}
            counts = {arm: 1 if arm.endswith("keras") else 4 for arm in arms.values()}
            rounds = QUICK_ROUNDS if quick else ROUNDS
            turns = take_turns(child, counts, rounds, f"{part}, {shape}")
            for form, arm in arms.items():
                found.append(Figure.of(f"{shape} {form}", turns[arm], "ms"))
            under = "raw" if raw else "split"
            for form in forms:
                limit = LIMIT if form == "kf" and raw else None
                if form != under:
                    name = f"{shape} {form} over {under}"
                    values = (turns[arms[form]], turns[arms[under]])
                    found.append(ratio(name, *values, limit))
    return found


def measure_blocks(quick: bool) -> list[dict[str, object]]:
    """A row for each block: sizes, and times relative to the first one."""
    height, channels = (28, 32) if quick else (56, 64)
    names = QUICK_BLOCKS if quick else tuple(blocks(channels))
    rounds = QUICK_ROUNDS if quick else ROUNDS
    os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
    rows: list[dict[str, object]] = []
    with Child("_blocks_child.py") as child:
        sizes = {
            name: child.ask("sizes", block=name, height=height, channels=channels)
            for name in names
        }
        arms = {
            (name, kind): f"{kind}|{name}|{height}|{channels}"
            for name in names
            for kind in KINDS
        }
        counts = {
            arm: 4 if kind in ("float32", "int8") else 1
            for (_, kind), arm in arms.items()
        }
        turns = take_turns(child, counts, rounds, "blocks")
    first = names[0]
    for name in names:
        row: dict[str, object] = {"block": name, **sizes[name]}
        row["mac_ratio"] = sizes[name]["macs"] / sizes[first]["macs"]
        for kind in KINDS:
            over, under = turns[arms[name, kind]], turns[arms[first, kind]]
            row[kind] = ratio(name, over, under).to_dict()
            row[f"{kind}_ms"] = statistics.median(over)
        rows.append(row)
    return rows


def print_blocks(rows: list[dict[str, object]]) -> None:
    """The table of the guide."""
    cells = [
        (
            str(row["block"]),
            f"{row['params']:,}",
            f"{row['mac_ratio']:.3f}",
            *(f"{row[kind]['value']:.2f}" for kind in KINDS),  # type: ignore[index]
        )
        for row in rows
    ]
    title = (
        f"Relative to the 3x3 convolution; {platform.machine()}, {os.cpu_count()} cores"
    )
    print_rows(title, ("block", "parameters", "MACs", *KINDS.values()), cells)


def main() -> None:
    """Measures, prints the tables, writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="in two minutes")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures")
    arguments = parser.parse_args()
    results: dict[str, object] = {"quick": arguments.quick}
    missed: list[str] = []
    for part in (arguments.only,) if arguments.only else PARTS:
        if part == "blocks":
            rows = measure_blocks(arguments.quick)
            print_blocks(rows)
            results[part] = rows
        else:
            found = measure_grouped(part, arguments.quick)
            title = "Forward and backward, batch 8, oneDNN "
            title += "on" if part == "grouped" else "off"
            print_rows(title, HEADINGS, [figure.cells() for figure in found])
            results[part] = [figure.to_dict() for figure in found]
            missed += [figure.name for figure in found if not figure.met]
    verdict = f"NOT met: {', '.join(missed)}" if missed else "all met"
    console.print(f"Required: {verdict}.")
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
