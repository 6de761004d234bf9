"""What `import keras_fitkit` costs over `import keras`, in CPU seconds.

Every process imports keras first and then the package, or its peer
tensorflow_model_optimization, and reads its CPU clock before, between and after: one
pair. (Two processes a pair would differ by more than the limit from TensorFlow's start
alone.) The two arms take turns. The table has the median of each arm and its 95 %
interval from the order statistics, which needs no assumption on the noise.

    python benchmarks/import_cost.py [--quick] [--json results.jsonl]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

LIMIT = 0.3
OURS, PEER = "keras_fitkit", "tensorflow_model_optimization"
CODE = """
from time import process_time
import keras
first = process_time()
import {module}
print(first, process_time() - first)
"""
Seconds = dict[str, list[float]]


def main() -> None:
    """Measures, prints the table, appends the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="6 pairs instead of 15")
    parser.add_argument("--json", type=Path, metavar="PATH", help="append the rows")
    arguments = parser.parse_args()
    rows = table(measure(rounds=6 if arguments.quick else 15))
    print_table(rows)
    if arguments.json:
        with arguments.json.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def measure(rounds: int) -> Seconds:
    """CPU seconds of keras, and of each arm after it, in each round."""
    arms = [OURS, PEER]
    for arm in arms:  # not counted: compiles and reads the files once
        cpu_seconds(arm)
    seconds: Seconds = {"keras": [], OURS: [], PEER: []}
    for done in range(1, rounds + 1):
        for arm in random.sample(arms, len(arms)):
            base, extra = cpu_seconds(arm)
            seconds["keras"].append(base)
            seconds[arm].append(extra)
        print(f"\rround {done} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return seconds


def cpu_seconds(module: str) -> tuple[float, float]:
    """CPU time, user and system, of `import keras`, and of `module` after it."""
    command = [sys.executable, "-c", CODE.format(module=module)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = subprocess.run(
        command, env=quiet, check=True, text=True, capture_output=True
    )
    base, extra = found.stdout.split()[-2:]
    return float(base), float(extra)


def table(seconds: Seconds) -> list[dict[str, object]]:
    """One row an import: median, interval, pairs, and for ours the verdict."""
    rows: list[dict[str, object]] = []
    for name, values in seconds.items():
        low, high, coverage = median_interval(values)
        row: dict[str, object] = {
            "import": name,
            "cpu_s": statistics.median(values),
            "low_s": low,
            "high_s": high,
            "coverage": coverage,
            "processes": len(values),
        }
        if name == OURS:
            row |= {"limit_s": LIMIT, "met": low <= LIMIT}
        rows.append(row)
    return rows


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """The narrowest pair of order statistics that covers the median with >= 95 %."""
    ordered, n = sorted(values), len(values)
    tail, rank = 0.5**n, 0  # tail: chance that the median lies below ordered[rank]
    while rank + 1 < n // 2:
        wider = tail + math.comb(n, rank + 1) * 0.5**n
        if 2 * wider > 0.05:
            break
        tail, rank = wider, rank + 1
    return ordered[rank], ordered[n - 1 - rank], 1 - 2 * tail


def print_table(rows: list[dict[str, object]]) -> None:
    """The rows as text."""
    print(f"{'import':<44}{'CPU s':>8}  {'95 % interval':<16}{'processes':>9}  limit")
    for row in rows:
        after = "" if row["import"] == "keras" else ", after keras"
        interval = f"[{row['low_s']:.3f}, {row['high_s']:.3f}]"
        line = f"{row['import']}{after}".ljust(44) + f"{row['cpu_s']:8.3f}  "
        line += f"{interval:<16}{row['processes']:>9}"
        if "met" in row:
            line += f"  {row['limit_s']} s {'met' if row['met'] else 'MISSED'}"
        print(line)


if __name__ == "__main__":
    main()
