"""How small and how fast are packed files, beside gzip and xz?

    python benchmarks/packing.py [--only NAME] [--json PATH] [--quick]

Nets with normal random weights (He's scale), as they are, with 90 % of each kernel
pruned by magnitude, with 16 clusters a kernel, and in int8 (`kf.quantize_model`, then
`kf.strip_quantization`). Ours is the whole file of `kf.save_packed`; "entropy" is the
empirical entropy of the symbols that it codes; gzip (level 6) and xz (preset 6) get the
weights as one piece of plain float32. Times are CPU seconds of the whole call, Keras's
part included. A Dense layer of 5000 x 5000 has the 25 million weights; xz is not asked
about those: it takes minutes.

NNCodec rounds floats by itself; packing_integers.py has it beside ours, on integers.

Each finished row is appended to `--json` and not run again. `--quick` takes the small
net alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import lzma
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from _quality_rows import Store
from _report import console, print_rows

import keras_fitkit as kf

OUTPUT = Path("out/packing.jsonl")
NETS = ("LeNet-300-100", "5000 x 5000", "MobileNetV2")
SIZES = {"LeNet-300-100": (784, 300, 100, 10), "5000 x 5000": (5000, 5000)}
KINDS = ("dense", "90 % pruned", "16 clusters", "int8")
WITHOUT_XZ = ("5000 x 5000",)
CLUSTERS, SPARSITY, LOOK = 16, 0.9, 20_000
HEADINGS = (
    *("net", "weights", "plain", "ours", "entropy", "ours/entropy"),
    *("gzip", "xz", "ours s", "gzip s", "xz s"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One model."""

    net: str
    kind: str

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.net}/{self.kind}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        return {"row": self.name, "clusters": CLUSTERS, "sparsity": SPARSITY}


def build(row: Row) -> keras.Model:
    """The model."""
    keras.utils.set_random_seed(0)
    if row.net == "MobileNetV2":
        model = keras.applications.MobileNetV2(weights=None)
    else:
        first, *units = SIZES[row.net]
        dense = [keras.layers.Dense(one) for one in units]
        model = keras.Sequential([keras.Input((first,)), *dense])
    rng = np.random.default_rng(0)
    how = {"90 % pruned": pruned, "16 clusters": clustered}.get(row.kind)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            fan = np.prod(variable.shape[:-1])
            value = rng.normal(0, (2 / fan) ** 0.5, variable.shape).astype("float32")
            variable.assign(value if how is None else how(value))
    if row.kind == "int8":
        model = kf.strip_quantization(kf.quantize_model(model, "int8"))
    return model


def pruned(value: Any) -> Any:
    """Without the smallest weights."""
    limit = np.quantile(np.abs(value), SPARSITY)
    return np.where(np.abs(value) > limit, value, np.float32(0))


def clustered(value: Any) -> Any:
    """Each weight at the nearest of the centres that k-means finds in some of them."""
    flat = value.reshape(-1)
    look = flat[:: max(1, flat.size // LOOK)]
    centres = np.quantile(look, (np.arange(CLUSTERS) + 0.5) / CLUSTERS)
    for _ in range(20):
        near = np.abs(look[:, None] - centres).argmin(1)
        for one in range(CLUSTERS):
            if (near == one).any():
                centres[one] = look[near == one].mean()
    centres = np.sort(centres).astype("float32")
    between = (centres[1:] + centres[:-1]) / 2
    return centres[np.digitize(value, between)]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and the CPU seconds of it."""
    start = time.process_time()
    found = call()
    return found, time.process_time() - start


def run(row: Row, folder: Path) -> dict[str, Any]:
    """Measures one model."""
    model = build(row)
    path = folder / "model.kfz"
    kf.packed_size(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    size, pack = timed(lambda: kf.save_packed(model, path))
    again, unpack = timed(lambda: kf.load_packed(path))
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()
    found: dict[str, Any] = {
        "count": model.count_params(),
        "plain": size.unpacked_bytes,
        "entropy": size.entropy_bytes,
        "weights": size.weights_bytes,
        "ours": [size.file_bytes, pack, unpack],
    }
    plain = b"".join(one.tobytes() for one in model.get_weights())
    peers: dict[str, tuple[Callable[..., bytes], Callable[[bytes], bytes]]] = {
        "gzip": (lambda data: gzip.compress(data, 6), gzip.decompress),
        "xz": (lambda data: lzma.compress(data, preset=6), lzma.decompress),
    }
    for name, (there, back) in peers.items():
        if name != "xz" or row.net not in WITHOUT_XZ:
            packed, seconds = timed(lambda there=there: there(plain))
            _, other = timed(lambda back=back, packed=packed: back(packed))
            found[name] = [len(packed), seconds, other]
    return found


def report(rows: list[Row], store: Store) -> None:
    """The table."""
    cells = []
    for row in rows:
        found = store.find(row)
        if found is None:
            continue
        ours = found["ours"][0]
        cells.append(
            (
                row.net,
                row.kind,
                f"{found['plain']:,}",
                f"{ours:,}",
                f"{found['entropy']:,.0f}",
                f"{ours / found['entropy']:.3f}",
                *(_bytes(found.get(name)) for name in ("gzip", "xz")),
                *(_seconds(found.get(name)) for name in ("ours", "gzip", "xz")),
            )
        )
    print_rows("Bytes; CPU seconds to pack and unpack", HEADINGS, cells)


def _bytes(found: list[float] | None) -> str:
    return "-" if found is None else f"{found[0]:,}"


def _seconds(found: list[float] | None) -> str:
    return "-" if found is None else f"{found[1]:.2f}, {found[2]:.2f}"


def main() -> None:
    """Runs what is not done yet, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="NAME", help="rows by part of it")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--quick", action="store_true", help="the small net")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / OUTPUT.name if options.quick else OUTPUT
        store = Store(options.json or default)
        nets = NETS[:1] if options.quick else NETS
        rows = [Row(net, kind) for net in nets for kind in KINDS]
        rows = [row for row in rows if options.only in row.name]
        if not rows:
            parser.error(
                f"--only {options.only!r} is in no name, as 'LeNet-300-100/int8'"
            )
        for done, row in enumerate(rows, start=1):
            if store.find(row) is None:
                store.add(row, run(row, Path(folder)))
                keras.backend.clear_session()
                console.print(f"row {done} of {len(rows)}: {row.name}")
        report(rows, store)


if __name__ == "__main__":
    main()
