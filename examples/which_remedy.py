"""Which remedy helps? Asked of real data, not of a textbook.

    python examples/which_remedy.py [--regularized] [--minutes MINUTES] [--seeds SEEDS]
                                    [--path FOLDER] [--plot PICTURE]

A net learns how diabetes went on in 300 patients, of scikit-learn's data: far too few
for its 2 x 128 units. Then

1. `kf.cross_validate` says what it scores, how far that varies, and what is remembered
   of single rows;
2. `kf.learning_curve` says whether more data would help, or more capacity;
3. `kf.try_remedies` tries what the verdict asks for, and ranks it by what it changed on
   rows held out; 142 other rows confirm the winner, or do not.

With `--regularized` the net has far too much dropout and L2: what textbooks say of few
rows, regularize, would be wrong. With `--path` the runs of the last part are kept: kill
the script, call it again, and it goes on.
"""

from __future__ import annotations

import argparse
import functools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.datasets import load_diabetes

import keras_fitkit as kf

ROWS, EPOCHS = 300, 20


def patients() -> tuple[np.ndarray, np.ndarray]:
    """The data in a random order, scaled by the first rows."""
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    scaled = [
        (one - one[:ROWS].mean(axis=0)) / one[:ROWS].std(axis=0)
        for one in (x[order], y[order])
    ]
    return scaled[0].astype("float32"), scaled[1].astype("float32")


def build(regularized: bool = False) -> keras.Model:
    """A fresh model, compiled: what each study calls again and again."""
    layers = keras.layers
    penalty = keras.regularizers.L2(3.0) if regularized else None
    body: list[keras.Layer] = []
    for name in ("first", "second"):
        body.append(layers.Dense(128, "relu", kernel_regularizer=penalty, name=name))
        body += [layers.Dropout(0.5)] if regularized else []
    head = layers.Dense(1, name="head")
    model = keras.Sequential([keras.Input((10,)), *body, head])
    model.compile(keras.optimizers.Adam(1e-2), "mse", metrics=["mae"])
    return model


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--path", default=None, help="a folder for the runs")
    parser.add_argument("--plot", default=None, help="a picture of the ranking")
    parser.add_argument("--regularized", action="store_true")
    options = parser.parse_args()
    made = functools.partial(build, options.regularized)
    begin = time.perf_counter()
    x, y = patients()
    train, test = (x[:ROWS], y[:ROWS]), (x[ROWS:], y[ROWS:])

    print("What does it score, and how far does that vary?")
    print(kf.cross_validate(made, *train, folds=4, epochs=EPOCHS), end="\n\n")

    print("Would more data help, or more capacity?")
    seeds = tuple(range(options.seeds))
    curve = kf.learning_curve(
        made, *train, fractions=(0.25, 0.5, 1.0), seeds=seeds, epochs=EPOCHS
    )
    print(curve, end="\n\n")

    print("Which remedy helps?")
    report = kf.try_remedies(
        made,
        train,
        minutes=options.minutes,
        seeds=options.seeds,
        epochs=EPOCHS,
        test_data=test,
        path=options.path,
    )
    print(report)
    if options.plot:
        report.plot(options.plot)
    print(f"All in {time.perf_counter() - begin:.0f} s.")


if __name__ == "__main__":
    main()
