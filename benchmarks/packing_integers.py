"""Integer grids in packed files, beside NNCodec and xz.

    python benchmarks/packing_integers.py [--peer-python PATH] [--json PATH] [--quick]

The kernels of LeNet-300-100 as integers: drawn from a normal distribution on the grid
of int8, on one of 16 steps, and the latter with 90 % zeros. NNCodec, the reference
software of ISO/IEC 15938-17, gets the integers themselves, without rounding of its own,
and must give the same ones back; ours gets them as the float32 weights of a model, and
is the whole file of `kf.save_packed`, description included; xz (preset 6) gets one byte
for each. "entropy" is that of each kernel's integers. `--peer-python` is an interpreter
that has nncodec (`pip install nncodec`: it is built from source, which takes minutes).
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from _report import console, print_rows

import keras_fitkit as kf

SIZES = ((784, 300), (300, 100), (100, 10))
CHILD = Path(__file__).with_name("_nncodec_child.py")
HEADINGS = (
    "integers",
    "entropy",
    "ours",
    "",
    "NNCodec",
    "",
    "xz",
    "ours s",
    "NNCodec s",
)


def grids(seed: int) -> dict[str, list[Any]]:
    """The kernels of each kind."""
    rng = np.random.default_rng(seed)
    normal = [rng.normal(size=size) for size in SIZES]
    few = [np.digitize(one, np.linspace(-2, 2, 15)) - 7 for one in normal]
    kept = [rng.random(size) < 0.1 for size in SIZES]
    return {
        "int8": [np.clip(np.rint(32 * one), -127, 127) for one in normal],
        "16 steps": few,
        "16 steps, 90 % zeros": [a * b for a, b in zip(few, kept, strict=True)],
    }


def entropy(values: Any) -> float:
    """Bytes of the empirical entropy."""
    counts = np.unique(values, return_counts=True)[1]
    return float(np.sum(counts * np.log2(counts.sum() / counts)) / 8)


def ours(kernels: list[Any]) -> tuple[int, float]:
    """Bytes of the whole file, and CPU seconds to write and to read it."""
    layers = [keras.layers.Dense(size[1], use_bias=False) for size in SIZES]
    model = keras.Sequential([keras.Input((SIZES[0][0],)), *layers])
    model.set_weights([one.astype("float32") for one in kernels])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "integers.kfz"
        begin = time.process_time()
        size = kf.save_packed(model, path).file_bytes
        back = kf.load_packed(path).get_weights()
        seconds = time.process_time() - begin
    assert all(np.array_equal(a, b) for a, b in zip(back, kernels, strict=True))
    return size, seconds


def theirs(kernels: list[Any], python: str) -> Mapping[str, Any]:
    """What the child says."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.npz"
        arrays = {f"w{i}": one.astype("int32") for i, one in enumerate(kernels)}
        np.savez(path, **arrays)
        command = [python, str(CHILD), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{CHILD.name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["same"], "NNCodec gave other integers back"
    return found


def main() -> None:
    """Measures all kinds, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", metavar="PATH", help="has nncodec")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows")
    parser.add_argument("--quick", action="store_true", help="the same: it is quick")
    options = parser.parse_args()
    cells, stored = [], []
    for name, kernels in grids(0).items():
        bound = sum(map(entropy, kernels))
        size, seconds = ours(kernels)
        plain = b"".join(one.astype("int8").tobytes() for one in kernels)
        row = {"row": name, "entropy": bound, "ours": size, "ours_cpu": seconds}
        row["xz"] = len(lzma.compress(plain, preset=6))
        peer = ("not given", "", "")
        if options.peer_python:
            found = theirs(kernels, options.peer_python)
            row.update(nncodec=found["bytes"], nncodec_cpu=sum(found["cpu"]))
            ratio = f"{found['bytes'] / bound:.3f}"
            peer = (f"{found['bytes']:,}", ratio, f"{row['nncodec_cpu']:.2f}")
        stored.append(row)
        cells.append(
            (
                name,
                f"{bound:,.0f}",
                f"{size:,}",
                f"{size / bound:.3f}",
                *peer[:2],
                f"{row['xz']:,}",
                f"{seconds:.2f}",
                peer[2],
            )
        )
    print_rows("Bytes, and over the entropy; CPU seconds", HEADINGS, cells)
    if options.json:
        options.json.write_text(json.dumps(stored, indent=1))
        console.print(f"Written to {options.json}.")


if __name__ == "__main__":
    main()
