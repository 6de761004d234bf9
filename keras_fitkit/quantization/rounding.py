"""Which way each weight is rounded, so that what a layer gives out changes least.

Rounding to the nearest value changes each weight least. What matters is the output: the
errors of weights whose inputs go together can cancel. All of it is in second moments of
what reaches the layer, so the search needs no gradients and no further passes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

SWEEPS, ROUNDS = 4, 5
DAMPING = 0.01  # of the mean second moment: a sample is not all there is
BLOCK = 64  # weights of an output after which the slopes of all are computed anew
FRACTIONS = np.linspace(0.2, 1.0, 81)  # of the step that reaches the largest weight
FAR = 3.0  # a step is refitted to at most so many times another
TINY = 1e-12


@dataclasses.dataclass
class Moments:
    """Sums over what reaches a layer of a rounded model, and what it should give out.

    All are sums of distances from about the mean: with inputs far from zero nothing
    would be left of the digits of a single float otherwise.

    Attributes:
        gram: (groups, rows, rows), products of inputs.
        cross: (groups, rows, outputs), of inputs and wanted outputs.
        power: (groups, outputs), squares of the wanted outputs.
        inputs, outputs: (groups, rows) and (groups, outputs), sums.
        shift, level: of inputs and outputs, the means of the first that were added.
        count: of places.
    """

    gram: Any = 0.0
    cross: Any = 0.0
    power: Any = 0.0
    inputs: Any = 0.0
    outputs: Any = 0.0
    shift: Any = None
    level: Any = None
    count: int = 0

    def add(self, patches: Array, wanted: Array) -> None:
        """Takes in (groups, places, rows) and (groups, places, outputs)."""
        if self.shift is None:
            self.shift, self.level = _middle(patches), _middle(wanted)
        patches, wanted = patches - self.shift[:, None], wanted - self.level[:, None]
        turned = patches.swapaxes(1, 2)
        self.gram = self.gram + (turned @ patches).astype("float64")
        self.cross = self.cross + (turned @ wanted).astype("float64")
        self.power = self.power + np.square(wanted, dtype="float64").sum(1)
        self.inputs = self.inputs + patches.sum(1, dtype="float64")
        self.outputs = self.outputs + wanted.sum(1, dtype="float64")
        self.count += patches.shape[1]

    def mean_error(self, rows: Array) -> Array:
        """Mean of wanted minus found outputs without bias: (groups, outputs)."""
        given, wanted = self._means()
        mean: Array = wanted - np.einsum("gk,gko->go", given, rows)
        return mean

    def quadratic(self, centred: bool) -> Quadratic:
        """The mean squared error of the outputs; `centred`: without their means."""
        gram, cross = self.gram / self.count, self.cross / self.count
        power = self.power / self.count
        mean, wanted = self.inputs / self.count, self.outputs / self.count
        gram = gram - _outer(mean, mean)
        cross = cross - _outer(mean, wanted)
        power = power - wanted**2
        if not centred:
            mean, wanted = self._means()
            gram = gram + _outer(mean, mean)
            cross = cross + _outer(mean, wanted)
            power = power + wanted**2
        return Quadratic(gram, cross, power)

    def _means(self) -> tuple[Array, Array]:
        """Of inputs and of outputs, from zero."""
        given = self.shift.astype("float64") + self.inputs / self.count
        return given, self.level.astype("float64") + self.outputs / self.count


def _middle(values: Array) -> Array:
    middle: Array = values.mean(1, dtype="float64").astype(values.dtype)
    return middle


def _outer(left: Array, right: Array) -> Array:
    return left[:, :, None] * right[:, None, :]


@dataclasses.dataclass(frozen=True)
class Quadratic:
    """The mean squared error of a layer's outputs, of its matrices.

    Attributes:
        gram, cross, power: as in `Moments`, means.
    """

    gram: Array
    cross: Array
    power: Array

    def error(self, rows: Array) -> Array:
        """(groups, outputs)."""
        found: Array = (rows * (self.gram @ rows - 2 * self.cross)).sum(1) + self.power
        return found.clip(0.0)

    def damped(self, rows: Array) -> Quadratic:
        """With a little of the plain distance from `rows`: the sample is small."""
        size = self.gram.shape[1]
        much = DAMPING * np.trace(self.gram, axis1=1, axis2=2)[:, None, None] / size
        much = np.maximum(much, TINY)
        return Quadratic(
            self.gram + much * np.eye(size),
            self.cross + much * rows,
            self.power + much[:, 0] * (rows**2).sum(1),
        )


def nearest(rows: Array, step: Array, last: int) -> Array:
    """The integers next to the weights."""
    return np.clip(np.round(rows / step), -last, last)


def best_step(rows: Array, last: int, shared: bool) -> Array:
    """The step that moves the weights least: (groups, 1, outputs).

    Args:
        rows: the matrices.
        last: the largest integer of the grid.
        shared: whether there is one step for all.
    """
    axes = (0, 1, 2) if shared else (1,)
    largest = np.abs(rows).max(axes, keepdims=True) / last
    best, found = np.full_like(largest, np.inf), largest
    for fraction in FRACTIONS:
        step = np.maximum(largest * fraction, TINY)
        moved = (nearest(rows, step, last) * step - rows) ** 2
        error = moved.sum(axes, keepdims=True)
        found = np.where(error < best, step, found)
        best = np.minimum(error, best)
    return np.broadcast_to(found, (len(rows), 1, rows.shape[2])).copy()


def search(
    quadratic: Quadratic, codes: Array, step: Array, last: int, free: Array
) -> Array:
    """Integers with a smaller error: one weight after another, as long as it helps.

    Each weight goes where the error is smallest with the others as they are, in all
    outputs at once; the error never rises.

    Args:
        quadratic: the error.
        codes: where the search begins: (groups, rows, outputs).
        step: of the grid: (groups, 1, outputs).
        last: the largest integer of the grid.
        free: which weights may change.
    """
    codes, step = codes.copy(), step[:, 0]
    gram, rows = quadratic.gram, codes.shape[1]
    slope = gram @ (codes * step[:, None]) - quadratic.cross
    curve = np.maximum(np.diagonal(gram, axis1=1, axis2=2), TINY)
    for _ in range(SWEEPS):
        still = True
        for start in range(0, rows, BLOCK):
            block = slice(start, start + BLOCK)
            moves = np.zeros_like(codes[:, block])
            for row in range(start, min(start + BLOCK, rows)):
                wanted = codes[:, row] - slope[:, row] / (curve[:, row, None] * step)
                change = np.clip(np.round(wanted), -last, last) - codes[:, row]
                moved = np.where(free[:, row], change, 0.0) * step
                gain = moved * (curve[:, row, None] * moved + 2 * slope[:, row])
                moved = np.where(gain < 0, moved, 0.0)
                if moved.any():
                    codes[:, row] += np.round(moved / step)
                    slope[:, block] += gram[:, block, row, None] * moved[:, None]
                    moves[:, row - start] = moved
            if moves.any():  # the others learn of all of them at once: far faster
                still = False
                known = slope[:, block].copy()
                slope += gram[:, :, block] @ moves
                slope[:, block] = known
        if still:
            break
    return codes


def refitted(quadratic: Quadratic, codes: Array, step: Array, shared: bool) -> Array:
    """The step with the smallest error for these integers."""
    axes = (0, 1, 2) if shared else (1,)
    above = (codes * quadratic.cross).sum(axes, keepdims=True)
    below = (codes * (quadratic.gram @ codes)).sum(axes, keepdims=True)
    found = np.broadcast_to(above / np.maximum(below, TINY), step.shape)
    near = (found < FAR * step) & (found > step / FAR)
    return np.where(near & (below > TINY), found, step)
