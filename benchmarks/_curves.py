"""Labelled synthetic learning curves: noise-free shapes with a known truth, then noise.

`draw_curves(kind, count, epochs, seed)` draws runs of one kind. Every time below is in
percent of the run, so that a kind means the same for 20 epochs as for 100; the noise is
per epoch. Losses start near 1 (the constant predictor's) and are multiplied by a random
`scale` at the end, as a user's loss has no natural unit.

The ranges are those of the measurements in shared/facts/monitoring.md. They make the
labels true (tests/benchmarks/test_curves.py): a positive's noise-free validation loss
ends at least 1 % above its minimum, a negative's never rises by 1 % while its
training loss falls.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

NO_ONSET = -1


@dataclasses.dataclass(frozen=True)
class Curves:
    """Runs of one kind: losses of shape (runs, epochs), the rest of shape (runs,).

    `onset` is the epoch with the lowest noise-free validation loss in the positive
    kinds and `NO_ONSET` in all others. `scale` is the loss of the best constant
    predictor.
    """

    kind: str
    train: FloatArray
    validation: FloatArray
    true_train: FloatArray
    true_validation: FloatArray
    onset: IntArray
    scale: FloatArray

    def __len__(self) -> int:
        return len(self.onset)

    @property
    def epochs(self) -> int:
        """Length of each run."""
        return int(self.train.shape[1])

    def take(self, rows: npt.ArrayLike) -> Curves:
        """The runs at `rows` (indices or a mask)."""
        chosen = np.asarray(rows)
        return Curves(
            self.kind,
            *(
                getattr(self, field.name)[chosen]
                for field in dataclasses.fields(self)[1:]
            ),
        )


@dataclasses.dataclass(frozen=True)
class _Draw:
    """What every shape starts from: the clock, the pace, the floor, the gap."""

    rng: np.random.Generator
    count: int
    time: FloatArray
    floor: FloatArray
    decay_time: FloatArray
    gap: FloatArray

    def uniform(self, low: float, high: float) -> FloatArray:
        return self.rng.uniform(low, high, (self.count, 1))

    def log_uniform(self, low: float, high: float) -> FloatArray:
        return np.exp(self.rng.uniform(np.log(low), np.log(high), (self.count, 1)))

    def falling(self, decay_time: FloatArray) -> FloatArray:
        """From 1 towards `floor`."""
        return self.floor + (1 - self.floor) * np.exp(-self.time / decay_time)

    def memorising(self, slowest: float, fastest: float) -> FloatArray:
        """From 1 towards 0: what was the floor is learnt by heart."""
        by_heart = self.floor * np.exp(-self.time / self.log_uniform(slowest, fastest))
        return by_heart + (1 - self.floor) * np.exp(-self.time / self.decay_time)


_Shape = tuple[FloatArray, FloatArray]
"""Noise-free (training, validation)."""


def _healthy(draw: _Draw) -> _Shape:
    train = draw.falling(draw.decay_time)
    return train, train + draw.gap * (draw.floor + 0.3)


def _slow(draw: _Draw) -> _Shape:
    train = draw.falling(draw.log_uniform(40, 120))
    return train, train + draw.gap * (draw.floor + 0.3)


def _validation_easier(draw: _Draw) -> _Shape:
    train = draw.falling(draw.decay_time)
    return train, train * draw.uniform(0.6, 0.95)


def _learning_rate_drop(draw: _Draw) -> _Shape:
    train, validation = _healthy(draw)
    dropped = draw.time >= draw.rng.integers(20, 70, (draw.count, 1))
    return (
        train * np.where(dropped, draw.uniform(0.25, 0.7), 1),
        validation * np.where(dropped, draw.uniform(0.75, 0.97), 1),
    )


def _underfit(draw: _Draw) -> _Shape:
    learnt = 1 - np.exp(-draw.time / draw.log_uniform(5, 50))
    train = 1 - draw.uniform(0, 0.15) * learnt
    return train, train + draw.uniform(-0.02, 0.05)


def _diverge(draw: _Draw) -> _Shape:
    train, validation = _healthy(draw)
    since = draw.time - draw.rng.integers(10, 80, (draw.count, 1))
    exponent = np.minimum(since * draw.uniform(0.03, 0.4), 20)
    blow_up = np.where(since >= 0, np.exp(exponent) - 1, 0)
    return (
        train + blow_up * draw.uniform(0.05, 0.3),
        validation + blow_up * draw.uniform(0.05, 0.35),
    )


def _memorise(draw: _Draw) -> _Shape:
    """The gap widens for ever, but validation does not get worse."""
    train = draw.memorising(15, 50)
    return train, draw.falling(draw.decay_time) + draw.uniform(0.1, 0.4)


def _overfit(
    draw: _Draw,
    *,
    turn: tuple[int, int] = (8, 60),
    rise: tuple[float, float] = (0.15, 1.2),
) -> _Shape:
    """Validation falls; from the turn on a rise is added, straight or curved."""
    turning = draw.rng.integers(*turn, (draw.count, 1))
    train = draw.memorising(30, 120)
    gone = np.clip(draw.time - turning, 0, None) / (draw.time[0, -1] - turning)
    fall = np.exp(-draw.time / np.minimum(draw.decay_time, turning / 2.5 + 1))
    base = draw.floor + draw.uniform(0.05, 0.4)
    added = draw.uniform(*rise) * gone ** draw.uniform(0.6, 1.6)
    return train, base + (1 - draw.floor) * fall + added


def _overfit_mild(draw: _Draw) -> _Shape:
    return _overfit(draw, rise=(0.04, 0.12))


def _overfit_fast(draw: _Draw) -> _Shape:
    return _overfit(draw, turn=(3, 15))


def _double_descent(draw: _Draw) -> _Shape:
    """A hump on the validation curve, over before the run is."""
    train, validation = _healthy(draw)
    turning = draw.rng.integers(10, 25, (draw.count, 1))
    width = draw.uniform(8, 15)
    hump = np.exp(-(((draw.time - turning - 2 * width) / width) ** 2))
    return train, validation + draw.uniform(0.1, 0.4) * hump


def _grokking(draw: _Draw) -> _Shape:
    """Training solved at once; validation bad for most of the run, suddenly good."""
    sudden = draw.rng.integers(50, 85, (draw.count, 1))
    train = 0.98 * np.exp(-draw.time / draw.log_uniform(3, 8)) + 0.02
    worse = draw.uniform(0, 0.5) * (1 - np.exp(-draw.time / 10))
    better = draw.uniform(0.5, 0.8) / (1 + np.exp(-(draw.time - sudden) / 2))
    return train, 0.9 + worse - better


_SHAPES: dict[str, Callable[[_Draw], _Shape]] = {
    "overfit": _overfit,
    "overfit_noisy": _overfit,
    "overfit_mild": _overfit_mild,
    "overfit_fast": _overfit_fast,
    "healthy": _healthy,
    "noisy": _healthy,
    "slow": _slow,
    "val_easier": _validation_easier,
    "lr_drop": _learning_rate_drop,
    "underfit": _underfit,
    "diverge": _diverge,
    "memorise": _memorise,
    "double_descent": _double_descent,
    "grokking": _grokking,
}
_NOISE = {"noisy": (0.05, 0.15), "overfit_noisy": (0.03, 0.1)}

POSITIVE = ("overfit", "overfit_noisy", "overfit_mild", "overfit_fast")
DESCENT = ("double_descent", "grokking")
NEGATIVE = tuple(kind for kind in _SHAPES if kind not in POSITIVE + DESCENT)


def draw_curves(kind: str, count: int, epochs: int, seed: int) -> Curves:
    """Draws `count` runs of one kind.

    Args:
        kind: one of `POSITIVE`, `NEGATIVE` or `DESCENT`.
        count: number of runs.
        epochs: length of each run, at least 10.
        seed: the same arguments give the same curves.
    """
    rng = np.random.default_rng([zlib.crc32(kind.encode()), epochs, seed])
    draw = _start(count, epochs, rng)
    train, validation = _SHAPES[kind](draw)
    scale = draw.log_uniform(0.05, 50)
    noise = draw.log_uniform(*_NOISE.get(kind, (0.004, 0.04)))
    memory = draw.uniform(0, 0.5)
    noisy_train = _add_noise(train, draw.log_uniform(0.002, 0.015), memory, rng)
    noisy_validation = _add_noise(validation, noise, memory, rng)
    lowest = np.argmin(validation, axis=1)
    return Curves(
        kind,
        train=noisy_train * scale,
        validation=noisy_validation * scale,
        true_train=train * scale,
        true_validation=validation * scale,
        onset=lowest if kind in POSITIVE else np.full(count, NO_ONSET),
        scale=scale[:, 0],
    )


def _start(count: int, epochs: int, rng: np.random.Generator) -> _Draw:
    time = np.arange(epochs, dtype=float)[None] * (100 / epochs)
    decay_time = np.exp(rng.uniform(np.log(3), np.log(25), (count, 1)))
    floor = rng.uniform(0.02, 0.35, (count, 1))
    saturating = 1 - np.exp(-time / (decay_time * rng.uniform(0.8, 1.6, (count, 1))))
    gap = rng.uniform(0.02, 0.35, (count, 1)) * saturating
    return _Draw(rng, count, time, floor, decay_time, gap)


def _add_noise(
    curve: FloatArray, level: FloatArray, memory: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """First-order autoregressive noise, partly in proportion to the loss."""
    shock = rng.normal(size=curve.shape)
    noise = np.empty_like(shock)
    noise[:, 0] = shock[:, 0]
    fresh = np.sqrt(1 - memory[:, 0] ** 2)
    for epoch in range(1, curve.shape[1]):
        noise[:, epoch] = memory[:, 0] * noise[:, epoch - 1] + fresh * shock[:, epoch]
    noisy: FloatArray = curve + noise * level * (0.3 + 0.7 * np.clip(curve, 0, 2))
    return np.maximum(noisy, 1e-4)
