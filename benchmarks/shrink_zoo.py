"""Does `kf.shrink` work on every family of `keras.applications`?

    python benchmarks/shrink_zoo.py [--only NAME] [--json PATH] [--quick]

The smallest model of each family with random weights, and a transformer encoder and a
small ViT of `keras.layers`, at sparsity 0.5 by "l2". For each: the output equals that
of the original with the same channels masked out where they are used (1e-4 of its
scale); the result trains one step, is saved and loaded, converted to LiteRT and run
there. The table shows parameters and MACs before and after, CPU seconds of the channel
graph and of the whole shrink, and the share of channels that may not go, with the
reason where it is above 20 %. Limits: graph of ResNet50 below 1 s, the whole shrink of
MobileNetV2 below 10 s.

Each finished row is appended to `--json` and not run again. `--quick` takes three.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from _quality_rows import Store
from _report import console, print_rows
from keras import layers

import keras_fitkit as kf
from keras_fitkit.pruning.structural import choosing, importance
from keras_fitkit.pruning.structural.channel_graph import ChannelGraph
from keras_fitkit.pruning.structural.masking import masked

OUTPUT = Path("out/shrink_zoo.jsonl")
SPARSITY, TOLERANCE, MUCH = 0.5, 1e-4, 0.2
# The smallest inputs that each takes, with the top.
FAMILIES = {
    "ConvNeXtTiny": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "InceptionResNetV2": 75,
    "InceptionV3": 75,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "NASNetMobile": 224,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "VGG16": 32,
    "Xception": 71,
}
QUICK = ("MobileNetV3Small", "ResNet50", "ViT")
HEADINGS = (
    "model",
    "parameters",
    "MACs",
    "graph",
    "shrink",
    "difference",
    "frozen",
    "trains, saves, LiteRT",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One model."""

    name: str

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        return {"row": self.name, "sparsity": SPARSITY}


def transformer() -> keras.Model:
    """An encoder of two blocks over 32 tokens."""
    inputs = keras.Input((32,), dtype="int32")
    x = layers.Embedding(1000, 64)(inputs)
    for _ in range(2):
        x = _encoder_block(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def vit() -> keras.Model:
    """Patches of 4 x 4 of images of 32 x 32, two blocks."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(64, 4, strides=4, name="patches")(inputs)
    x = layers.Reshape((64, 64))(x)
    for _ in range(2):
        x = _encoder_block(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def _encoder_block(x: Any) -> Any:
    """Pre-norm attention and a hidden layer of four times the width."""
    width = x.shape[-1]
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(4, width // 4)(y, y)])
    y = layers.LayerNormalization()(x)
    y = layers.Dense(width)(layers.Dense(4 * width, "gelu")(y))
    return layers.Add()([x, y])


def build(name: str) -> keras.Model:
    """A model with weights of which none is zero."""
    keras.utils.set_random_seed(0)
    if name in ("transformer", "ViT"):
        model = transformer() if name == "transformer" else vit()
    else:
        size = FAMILIES[name]
        kind = getattr(keras.applications, name)
        model = kind(weights=None, input_shape=(size, size, 3))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("bias", "beta", "gamma", "moving_mean"):
            noise = 0.1 * rng.normal(size=variable.shape)
            variable.assign(keras.ops.convert_to_numpy(variable.value) + noise)
    return model


def run(name: str) -> dict[str, Any]:
    """Shrinks a model and tries what came out."""
    model = build(name)
    begin = time.process_time()
    graph = ChannelGraph(model)
    graph_seconds = time.process_time() - begin
    dropped = chosen(graph, model)
    begin = time.process_time()
    small, report = kf.shrink(model, SPARSITY, return_report=True)
    seconds = time.process_time() - begin
    groups = kf.channel_groups(model)
    reasons = collections.Counter[str]()
    for one in groups.frozen:
        if "an output of the" not in one.reason:
            reasons[one.reason.rpartition(": ")[2]] += one.channels
    x = inputs_of(model)
    return {
        "params": [report.params_before, report.params_after],
        "macs": [report.macs_before, report.macs_after],
        "graph_seconds": graph_seconds,
        "seconds": seconds,
        "difference": difference(masked(graph, dropped), small, x),
        "frozen": groups.frozen_share,
        "reason": reasons.most_common(1)[0][0] if reasons else "",
        "works": works(small, x),
    }


def chosen(graph: ChannelGraph, model: Any) -> Any:
    """The channels that `kf.shrink` takes out."""
    scores = importance.scores_of(graph, graph.groups, "l2", None, model)
    ranking = choosing.Ranking(graph.groups, scores, 1, 1)
    whole = graph.channels

    def left(cut: float) -> float:
        return 1 - sum(map(len, ranking.dropped(cut))) / whole

    return choosing.joined(
        ranking.dropped(choosing.meet(ranking.cuts(), left, 1 - SPARSITY))
    )


def inputs_of(model: Any) -> np.ndarray:
    """Two rows."""
    (tensor,) = model.inputs
    rng, shape = np.random.default_rng(1), (2, *tensor.shape[1:])
    if "int" in tensor.dtype:
        return rng.integers(0, 1000, shape).astype("int32")
    return rng.normal(size=shape).astype("float32")


def difference(model: Any, other: Any, x: Any) -> float:
    """The largest one of the outputs, over the scale of the output."""
    one, two = (each.predict(x, verbose=0) for each in (model, other))
    return float(np.abs(one - two).max() / np.abs(one).max())


def works(small: Any, x: Any) -> str:
    """Trains a step, saves, loads, converts and runs: "yes", or what failed."""
    done = "training"
    try:
        before = small.predict(x, verbose=0)
        small.compile("sgd", "mse")
        small.train_on_batch(x, np.zeros_like(before))
        with tempfile.TemporaryDirectory() as folder:
            done = "saving"
            small.save(Path(folder) / "small.keras")
            loaded = keras.models.load_model(Path(folder) / "small.keras")
            if difference(small, loaded, x) > TOLERANCE:
                return "saving: other predictions"
            done = "LiteRT"
            kf.export_litert(small, Path(folder) / "small.tflite", mode="float32")
            found = kf.run_litert(Path(folder) / "small.tflite", x)
        expected = small.predict(x, verbose=0)
        if np.abs(found - expected).max() > 1e-3 * np.abs(expected).max():
            return "LiteRT: other predictions"
    except Exception as error:
        return f"{done}: {str(error).splitlines()[0][:80]}"
    return "yes"


def report(rows: list[Row], store: Store) -> None:
    """The table, and what is required."""
    cells, missed = [], []
    for row in rows:
        found = store.find(row)
        if found is None:
            continue
        if found["difference"] > TOLERANCE or found["works"] != "yes":
            missed.append(row.name)
        frozen = f"{found['frozen']:.0%}"
        if found["frozen"] > MUCH:
            frozen += f": {found['reason']}"
        cells.append(
            (
                row.name,
                "{:,} -> {:,}".format(*found["params"]),
                "{:.1f}M -> {:.1f}M".format(*(one / 1e6 for one in found["macs"])),
                f"{found['graph_seconds']:.2f} s",
                f"{found['seconds']:.1f} s",
                f"{found['difference']:.1e}",
                frozen,
                found["works"],
            )
        )
    print_rows(f"kf.shrink(model, {SPARSITY})", HEADINGS, cells)
    console.print(f"Required: {'NOT met: ' + ', '.join(missed) if missed else 'met'}.")


def main() -> None:
    """Runs what is not done yet, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="NAME", help="rows by part of it")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--quick", action="store_true", help="three models")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / OUTPUT.name if options.quick else OUTPUT
        store = Store(options.json or default)
        names = QUICK if options.quick else (*FAMILIES, "transformer", "ViT")
        rows = [Row(name) for name in names if options.only in name]
        if not rows:
            parser.error(f"--only {options.only!r} is in no name, as {names[0]!r}")
        for done, row in enumerate(rows, start=1):
            if store.find(row) is None:
                store.add(row, run(row.name))
                keras.backend.clear_session()
                console.print(f"row {done} of {len(rows)}: {row.name}")
        report(rows, store)


if __name__ == "__main__":
    main()
