"""What `import keras_fitkit` costs over `import keras`, in CPU seconds.

Each round starts one process an arm, in a changing order: `import keras` alone, the
package, and its peer tensorflow_model_optimization, both after `import keras`. A round
gives one difference an arm. The table has the median difference and its 95 % interval
from the order statistics, which needs no assumption on the noise.

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
BASE, OURS, PEER = "keras", "keras_fitkit", "tensorflow_model_optimization"
CODE = "import keras, {module}, time; print(time.process_time())"


def main() -> None:
    """Measures, prints the table, appends the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="6 rounds instead of 15")
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="append the rows there"
    )
    arguments = parser.parse_args()
    rows = table(measure(rounds=6 if arguments.quick else 15))
    print_table(rows)
    if arguments.json:
        with arguments.json.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def measure(rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each arm in each round."""
    arms = [BASE, OURS, PEER]
    for arm in arms:  # not counted: compiles and reads the files once
        cpu_seconds(arm)
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for done in range(1, rounds + 1):
        for arm in random.sample(arms, len(arms)):
            seconds[arm].append(cpu_seconds(arm))
        print(f"\rround {done} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return seconds


def cpu_seconds(module: str) -> float:
    """CPU time, user and system, of a new process that imports keras and `module`."""
    command = [sys.executable, "-c", CODE.format(module=module)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = subprocess.run(
        command, env=quiet, check=True, text=True, capture_output=True
    )
    return float(found.stdout.splitlines()[-1])


def table(seconds: dict[str, list[float]]) -> list[dict[str, object]]:
    """One row an arm: its own median, the difference to keras, the verdict."""
    rows: list[dict[str, object]] = []
    for arm, values in seconds.items():
        row: dict[str, object] = {"import": arm, "cpu_s": statistics.median(values)}
        if arm != BASE:
            pairs = zip(values, seconds[BASE], strict=True)
            extra = [value - base for value, base in pairs]
            low, high, coverage = median_interval(extra)
            row |= {
                "extra_s": statistics.median(extra),
                "low_s": low,
                "high_s": high,
                "coverage": coverage,
                "pairs": len(extra),
            }
            if arm == OURS:
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
    print(
        f"{'after import keras':<32}{'CPU s':>8}{'extra s':>9}  95 % interval   limit"
    )
    for row in rows:
        line = f"{row['import']:<32}{row['cpu_s']:8.2f}"
        if "extra_s" in row:
            line += f"{row['extra_s']:9.3f}  [{row['low_s']:.3f}, {row['high_s']:.3f}]"
        if "met" in row:
            line += f"   {row['limit_s']:.1f}: {'met' if row['met'] else 'MISSED'}"
        print(line)
    last = rows[-1]
    print(f"{last['pairs']} pairs; the interval covers {last['coverage']:.1%}.")


if __name__ == "__main__":
    main()
