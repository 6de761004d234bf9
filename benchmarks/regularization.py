"""Does regularization pay, and does a trial find what helps?

    python benchmarks/regularization.py [--data mnist.npz] [--only NAME] [--json PATH]
                                        [--quick]

Three nets that overfit: two tables of scikit-learn (diabetes, 250 rows to train on;
breast cancer, 150) with two hidden layers of 128 units, and 1000 images of MNIST with
two convolutions and a layer of 128. Each is trained as it is, and with every preset of
`kf.regularizers` and of `kf.augmentation` that it can have; five seeds, each with a
training set of its own (MNIST keeps its test set) and the same new weights for all
presets. The test loss after the last epoch, without the penalty, is compared seed by
seed with that of the plain net; a preset counts as better or worse where the 95 % t
interval of the differences does not hold 0 (corrected for the overlap of the training
sets, Nadeau and Bengio 2003). Losers are printed too.

Then two nets that underfit, on scikit-learn's digits: one that is too narrow, one that
is regularized too much. `kf.try_remedies` must rank capacity or less regularization
first.

Each finished row is appended to `--json` and not run again; `--only` takes the rows
whose name, such as "diabetes/l2-strong/0" or "underfit/narrow/0", contains the text.
`--quick` takes one seed and few epochs: it shows that everything runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
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
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

import keras_fitkit as kf
from keras_fitkit.evidence.intervals import estimate

OUTPUT = Path("out/regularization.jsonl")
SEEDS, BATCH = (0, 1, 2, 3, 4), 32
TRAIN_ROWS = {"diabetes": 250, "breast-cancer": 150, "mnist": 1000}
EPOCHS = {"diabetes": 40, "breast-cancer": 40, "mnist": 20}
RATE = {"diabetes": 3e-3, "breast-cancer": 3e-3, "mnist": 2e-3}
PLAIN = "as it is"
PENALTIES = tuple(one.name for one in kf.regularizers.list_presets().presets)
STEPS = ("l1-", "l2-", "l1l2-", "dropout-", "spatial", "gaussian", "orthog", "max-n")
CLAIMED = ("dropout-medium", "l2-strong", "augmentation")
HEADINGS = ("preset", "test loss", "change", "95 %", "percent", "seeds", "")
# An underfitting net: what `try_remedies` must find.
EXPECTED = {"narrow": ("wider",), "regularized": ("no-regularization", "wider")}


@dataclasses.dataclass(frozen=True)
class Row:
    """One run."""

    data: str
    arm: str
    seed: int
    epochs: int

    @property
    def name(self) -> str:
        """What `--only` looks at."""
        return f"{self.data}/{self.arm}/{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """What a stored row must agree with to stand for this one."""
        recipe = [BATCH, RATE.get(self.data), TRAIN_ROWS.get(self.data)]
        return {"row": self.name, "epochs": self.epochs, "recipe": recipe}


def arms(data: str) -> list[str]:
    """The plain net and all presets."""
    kept = [name for name in PENALTIES if name.startswith(STEPS)]
    more = ["image"] if data == "mnist" else ["tabular-light", "tabular-medium"]
    return [PLAIN, *kept, *("augmentation" if one == "image" else one for one in more)]


class Bench:
    """Trains the nets; one net a preset, with new weights for each seed.

    Args:
        digits: MNIST as arrays.
    """

    def __init__(self, digits: dict[str, Any]) -> None:
        self._digits = digits
        self._nets: dict[tuple[str, str], Any] = {}

    def rows(self, data: str, seed: int) -> tuple[Any, Any, Any, Any]:
        """Training rows of the seed, and the test rows; tables are scaled by both."""
        rng = np.random.default_rng(seed)
        if data == "mnist":
            picked = rng.permutation(len(self._digits["x_train"]))[: TRAIN_ROWS[data]]
            train = (self._digits["x_train"][picked], self._digits["y_train"][picked])
            return (*train, self._digits["x_test"], self._digits["y_test"])
        load_it = load_diabetes if data == "diabetes" else load_breast_cancer
        x, y = load_it(return_X_y=True)
        order = rng.permutation(len(x))
        train, test = order[: TRAIN_ROWS[data]], order[TRAIN_ROWS[data] :]
        mean, spread = x[train].mean(axis=0), x[train].std(axis=0)
        x = ((x - mean) / spread).astype("float32")
        if data == "diabetes":
            y = (y - y[train].mean()) / y[train].std()
        y = y.astype("float32")
        return x[train], y[train], x[test], y[test]

    def net(self, data: str, arm: str, shape: tuple[int, ...]) -> Any:
        """The compiled net with a preset and the state of its optimizer at the start.

        Raises:
            ValueError: the preset has no place in it.
        """
        key = (data, arm)
        if key not in self._nets:
            model = plain_net(data, shape)
            if arm == "augmentation":
                model = kf.regularize(model, augment="digits")
            elif arm != PLAIN and not arm.startswith("tabular"):
                model = kf.regularize(model, arm)
            model.compile(keras.optimizers.Adam(RATE[data]), loss_of(data))
            model.optimizer.build(model.trainable_variables)
            state = [
                np.array(keras.ops.convert_to_numpy(keras.ops.copy(one)))
                for one in model.optimizer.variables
            ]
            self._nets[key] = model, state
        return self._nets[key]

    def run(self, row: Row) -> dict[str, Any]:
        """Trains one net; its losses without the penalty."""
        x, y, x_test, y_test = self.rows(row.data, row.seed)
        begin, cpu = time.perf_counter(), time.process_time()
        try:
            model, state = self.net(row.data, row.arm, x.shape[1:])
        except ValueError as error:
            return {"reason": str(error)}
        keras.utils.set_random_seed(row.seed)
        model.set_weights(matching(plain_net(row.data, x.shape[1:]), model))
        for variable, value in zip(model.optimizer.variables, state, strict=True):
            variable.assign(value)
        fit(model, row, x, y)
        return {
            "test": loss(model, x_test, y_test),
            "train": loss(model, x, y),
            "overlap": len(x_test) / len(x) if row.data != "mnist" else 0.0,
            "seconds": time.perf_counter() - begin,
            "cpu": time.process_time() - cpu,
        }


def matching(fresh: Any, model: Any) -> list[Any]:
    """New weights, by layer and name; what a preset added stays."""

    def name(weight: Any) -> str:
        return "/".join(weight.path.split("/")[-2:])

    new = dict(zip(map(name, fresh.weights), fresh.get_weights(), strict=True))
    pairs = zip(model.weights, model.get_weights(), strict=True)
    found = [new.pop(name(weight), value) for weight, value in pairs]
    assert not new, f"no place for {list(new)}"
    return found


def fit(model: Any, row: Row, x: Any, y: Any) -> None:
    """An ordinary fit; noise on tables comes from a data set."""
    named = {"epochs": row.epochs, "verbose": 0}
    if not row.arm.startswith("tabular"):
        model.fit(x, y, batch_size=BATCH, **named)
        return
    noisy = kf.augmentation(row.arm, seed=row.seed)
    model.fit(Noisy(x, y, noisy, row.seed), **named)


class Noisy(keras.utils.PyDataset):
    """Shuffled batches with other noise each time.

    Args:
        x: features.
        y: targets.
        augment: a `kf.augmentation`.
        seed: of the order.
    """

    def __init__(self, x: Any, y: Any, augment: Any, seed: int) -> None:
        super().__init__()
        self.x, self.y, self.augment = x, y, augment
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.x) // BATCH)

    def __getitem__(self, index: int) -> Any:
        """A batch."""
        rows = self.order[index * BATCH : (index + 1) * BATCH]
        return self.augment(self.x[rows], self.y[rows])

    def on_epoch_end(self) -> None:
        """Another order."""
        self.order = self.rng.permutation(len(self.x))


def plain_net(data: str, shape: tuple[int, ...]) -> Any:
    """New weights each time."""
    if data == "mnist":
        body = [
            layers.Conv2D(16, 3, strides=2, activation="relu", name="first"),
            layers.Conv2D(32, 3, strides=2, activation="relu", name="second"),
            layers.Flatten(name="flat"),
            layers.Dense(128, "relu", name="hidden"),
            layers.Dense(10, "softmax", name="head"),
        ]
    else:
        last = None if data == "diabetes" else "sigmoid"
        body = [
            layers.Dense(128, "relu", name="first"),
            layers.Dense(128, "relu", name="second"),
            layers.Dense(1, last, name="head"),
        ]
    return keras.Sequential([keras.Input(shape), *body])


def loss_of(data: str) -> str:
    """The loss of a data set."""
    return {
        "diabetes": "mse",
        "breast-cancer": "binary_crossentropy",
        "mnist": "sparse_categorical_crossentropy",
    }[data]


def loss(model: Any, x: Any, y: Any) -> float:
    """Without the penalty of the regularizers."""
    found = model.evaluate(x, y, batch_size=500, verbose=0)
    penalty = sum(
        float(keras.ops.convert_to_numpy(weight.regularizer(weight)))
        for weight in model.trainable_weights
        if getattr(weight, "regularizer", None) is not None
    )
    return float(found) - penalty


def underfitting(kind: str) -> Any:
    """A net for the digits that is too narrow, or regularized too much."""
    narrow = kind == "narrow"
    units, rate, l2 = (1, 0.0, 0.0) if narrow else (64, 0.6, 0.1)
    body: list[Any] = []
    for place in ("first", "second"):
        penalty = keras.regularizers.L2(l2) if l2 else None
        own = {"kernel_regularizer": penalty, "name": place}
        body.append(layers.Dense(units, "tanh", **own))
        body += [layers.Dropout(rate)] if rate else []
    model = keras.Sequential(
        [keras.Input((64,)), *body, layers.Dense(10, "softmax", name="head")]
    )
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    return model


def try_underfitting(row: Row) -> dict[str, Any]:
    """What `try_remedies` ranks first."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype("float32")
    begin, cpu = time.perf_counter(), time.process_time()
    report = kf.try_remedies(
        lambda: underfitting(row.arm),
        (x[:1200], y[:1200]),
        minutes=60,
        epochs=row.epochs,
        seeds=3 if row.epochs > 5 else 2,
        test_data=(x[1200:], y[1200:]),
        verbose=0,
    )
    console.print(report.render(), highlight=False, markup=False)
    confirmed = report.confirmation
    return {
        "state": report.state,
        "ranked": [
            [one.name, one.change.mean, one.change.low, one.change.high]
            for one in report.ranked
        ],
        "winner": None if report.winner is None else report.winner.name,
        "confirmed": None if confirmed is None else dataclasses.asdict(confirmed),
        "seconds": time.perf_counter() - begin,
        "cpu": time.process_time() - cpu,
    }


def rows_of(quick: bool) -> list[Row]:
    """All rows; those of the claims first, then seed by seed."""
    seeds = SEEDS[:2] if quick else SEEDS
    made = [
        Row(data, arm, seed, 2 if quick else EPOCHS[data])
        for seed in seeds
        for data in TRAIN_ROWS
        for arm in (arms(data) if not quick else [PLAIN, *CLAIMED[:2]])
    ]
    made.sort(key=lambda row: row.arm not in (PLAIN, *CLAIMED))
    kinds = list(EXPECTED)[-1:] if quick else list(EXPECTED)
    return [*(Row("underfit", kind, 0, 5 if quick else 20) for kind in kinds), *made]


def report(rows: Sequence[Row], store: Store, quick: bool) -> None:
    """A table for each data set, and whether the claims hold."""
    for data in TRAIN_ROWS:
        of_data = [row for row in rows if row.data == data]
        found = {row: store.find(row) for row in of_data}
        plain = {row.seed: found[row] for row in of_data if row.arm == PLAIN}
        cells = [
            _cells(arm, [(row, found[row]) for row in of_data if row.arm == arm], plain)
            for arm in dict.fromkeys(row.arm for row in of_data)
        ]
        done = sorted(filter(None, cells), key=_by)
        if done:
            print_rows(f"{data}: test loss", HEADINGS, done)
    for row in rows:
        stored = store.find(row) if row.data == "underfit" else None
        if stored is None or quick:
            continue
        first = stored["ranked"][0][0]
        good = stored["winner"] in EXPECTED[row.arm]
        word = "[green]as it must[/]" if good else "[red]NOT as it must[/]"
        console.print(
            f"underfit, {row.arm} ({stored['state']}): {first} ranked first, winner "
            f"{stored['winner']}: {word}"
        )


def _by(cells: Sequence[str]) -> float:
    return float(cells[1]) if cells[1] else float("inf")


def _cells(arm: str, found: Sequence[Any], plain: dict[int, Any]) -> Any:
    """The row of a preset, or None where nothing of it is done."""
    done = [(row, one) for row, one in found if one is not None]
    if not done:
        return None
    if "reason" in done[0][1]:
        return (arm, "", "", "", "", "", "no place for it in this net")
    pairs = [(one, plain[row.seed]) for row, one in done if plain.get(row.seed)]
    mean = float(np.mean([one["test"] for _, one in done]))
    if arm == PLAIN or not pairs:
        train = float(np.mean([one["train"] for _, one in done]))
        note = f"training loss {train:.3g}"
        return (arm, f"{mean:.4f}", "", "", "", str(len(done)), note)
    changes = [one["test"] - base["test"] for one, base in pairs]
    change = estimate(changes, overlap=pairs[0][0]["overlap"])
    share = change.mean / float(np.mean([base["test"] for _, base in pairs]))
    if change.low is None or change.high is None:
        span, verdict = "", ""
    else:
        span = f"{change.low:+.4f} to {change.high:+.4f}"
        worse = "worse" if change.low > 0 else "no difference"
        verdict = "better" if change.high < 0 else worse
    return (
        arm,
        f"{mean:.4f}",
        f"{change.mean:+.4f}",
        span,
        f"{100 * share:+.0f} %",
        str(len(pairs)),
        verdict,
    )


def main() -> None:
    """Runs what is not done yet, prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="PATH", help="mnist.npz")
    parser.add_argument("--only", default="", metavar="NAME", help="rows by part of it")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"default: {OUTPUT}")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / OUTPUT.name if options.quick else OUTPUT
        store = Store(options.json or default)
        rows = rows_of(options.quick)
        chosen = [row for row in rows if options.only in row.name]
        if not chosen:
            parser.error(f"--only {options.only!r} is in no name, as {rows[0].name!r}")
        bench = Bench(quick_data() if options.data is None else load(options.data))
        todo = [row for row in chosen if store.find(row) is None]
        for done, row in enumerate(todo, start=1):
            run = try_underfitting if row.data == "underfit" else bench.run
            store.add(row, run(row))
            console.print(f"row {done} of {len(todo)}: {row.name}")
        report(rows, store, options.quick)


if __name__ == "__main__":
    main()
