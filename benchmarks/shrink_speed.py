"""Do fewer multiplications mean less time? Shrunk nets beside the originals.

    python benchmarks/shrink_speed.py [--only NAME] [--json PATH] [--quick]
                                      [--peer-python PATH]

MobileNetV2, ResNet50, VGG16 (inputs of 96 x 96, random weights) and a small CNN, shrunk
to sparsity 0.5 by "l2" with `round_to` 1 and 8. `kf.measure_latency` calls original and
shrunk net in turns: a compiled Keras call (batch 8) and LiteRT in float32 on one thread
(batch 1). Speed-ups are medians over the rounds of ratios of CPU time, with intervals;
beside them the ratio of the multiplications. The original beside itself shows what
noise is. Wanted: in LiteRT at least 0.8 of the ratio of the multiplications on ResNet50
and VGG16.

Beside it torch-pruning on the same nets, built in plain torch and cut to the same share
of each layer: `--peer-python` is an interpreter that has torch and torch-pruning (an
environment of its own). Its MACs and its speed-up are of eager torch on one thread
(batch 1): what can be compared is how much of the ratio of the multiplications arrives.

Each finished row is appended to `--json` and not run again. `--quick` takes the small
CNN and few rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from _quality_rows import Store
from _report import console, print_rows
from keras import layers

import keras_fitkit as kf

OUTPUT = Path("out/shrink_speed.jsonl")
SPARSITY, SIZE, BATCH = 0.5, 96, 8
RUNS, QUICK_RUNS = 31, 7
WANTED = 0.8
NAMES = ("small CNN", "MobileNetV2", "ResNet50", "VGG16")
LIMITED = ("ResNet50", "VGG16")
ROUNDING = ("itself", 1, 8)
HEADINGS = (
    *("net", "round_to", "MACs", "MAC ratio", "LiteRT", "Keras", "wanted"),
    *("torch-pruning: MAC ratio", "torch"),
)
CHILD = Path(__file__).with_name("_torch_pruning_child.py")
NO_PEER = "--peer-python not given"


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison."""

    net: str
    rounding: str
    runs: int

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.net}/{self.rounding}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        how = {"sparsity": SPARSITY, "size": SIZE, "batch": BATCH}
        return {"row": self.name, **dataclasses.asdict(self), **how}


@dataclasses.dataclass(frozen=True)
class PeerRow(Row):
    """The same by torch-pruning."""

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.net}/{self.rounding}/torch-pruning"


def run_peer(row: Row, python: str) -> dict[str, Any]:
    """Measures torch-pruning's net in a process of its own."""
    given = (row.net, row.rounding, SPARSITY, SIZE, row.runs)
    done = subprocess.run(
        [python, str(CHILD), *map(str, given)],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": last[:60]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def build(name: str) -> keras.Model:
    """A net with random weights."""
    keras.utils.set_random_seed(0)
    if name != "small CNN":
        kind = getattr(keras.applications, name)
        return kind(weights=None, input_shape=(SIZE, SIZE, 3))
    x = inputs = keras.Input((SIZE, SIZE, 3))
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def run(row: Row) -> dict[str, Any]:
    """Measures one net beside its original."""
    model = build(row.net)
    other = model
    if row.rounding != "itself":
        other = kf.shrink(model, SPARSITY, round_to=int(row.rounding))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, SIZE, SIZE, 3)).astype("float32")
    found: dict[str, Any] = {
        "macs": [kf.count_macs(one).total for one in (model, other)]
    }
    for runtime, batch in (("LiteRT", x[:1]), ("Keras", x)):
        report = kf.measure_latency(
            model, batch, against=other, runs=row.runs, runtimes=runtime
        )
        found[runtime] = [report.ratio(runtime), *(report.interval(runtime) or ())]
    return found


def report(rows: list[Row], store: Store) -> None:
    """The table."""
    cells = []
    for row in rows:
        found = store.find(row)
        if found is None:
            continue
        before, after = found["macs"]
        ratio, wanted = before / after, ""
        if row.net in LIMITED and row.rounding != "itself":
            best = found["LiteRT"][0] >= WANTED * ratio
            wanted = f">= {WANTED * ratio:.2f}x {'met' if best else 'NOT met'}"
        cells.append(
            (
                row.net,
                row.rounding,
                f"{before / 1e6:.0f}M -> {after / 1e6:.0f}M",
                f"{ratio:.2f}x",
                *(_speed(found[runtime]) for runtime in ("LiteRT", "Keras")),
                wanted,
                *_peer_cells(store.find(PeerRow(row.net, row.rounding, row.runs))),
            )
        )
    print_rows("How many times faster (interval)", HEADINGS, cells)


def _peer_cells(found: dict[str, Any] | None) -> tuple[str, str]:
    if found is None:
        return NO_PEER, ""
    if "failed" in found:
        return found["failed"], ""
    before, after = found["macs"]
    return f"{before / after:.2f}x", _speed(found["speed"])


def _speed(found: list[float]) -> str:
    middle, *interval = found
    text = f"{middle:.2f}x"
    return f"{text} ({interval[0]:.2f}-{interval[1]:.2f})" if interval else text


def main() -> None:
    """Runs what is not done yet, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="NAME", help="rows by part of it")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--quick", action="store_true", help="the small CNN")
    parser.add_argument(
        "--peer-python", metavar="PATH", help="an interpreter with torch-pruning"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / OUTPUT.name if options.quick else OUTPUT
        store = Store(options.json or default)
        names = NAMES[:1] if options.quick else NAMES
        runs = QUICK_RUNS if options.quick else RUNS
        rows = [Row(name, str(one), runs) for name in names for one in ROUNDING]
        rows = [row for row in rows if options.only in row.name]
        if not rows:
            parser.error(f"--only {options.only!r} is in no name, as '{names[0]}/8'")
        for done, row in enumerate(rows, start=1):
            if store.find(row) is None:
                store.add(row, run(row))
                keras.backend.clear_session()
                console.print(f"row {done} of {len(rows)}: {row.name}")
            peer = PeerRow(row.net, row.rounding, row.runs)
            if options.peer_python and store.find(peer) is None:
                store.add(peer, run_peer(row, options.peer_python))
                console.print(f"row {done} of {len(rows)}: {peer.name}")
        report(rows, store)


if __name__ == "__main__":
    main()
