"""The true state of a synthetic run, by definition on its noise-free curves.

A kind's name decides nothing here: a "healthy" run may long have reached its plateau,
an overfitting one may not have turned yet. Runs that fall between two definitions
have no state; they are left out and counted. Improvements are relative falls over the
last third of the run. The definitions are asked in the order of `STATES`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from _curves import NEGATIVE, POSITIVE, BoolArray, Curves, FloatArray, draw_curves

DIVERGED = 0.10
"""diverging: the training loss ends this far above its minimum."""
EASIER = 0.05
"""validation_easier: this fraction below the training loss, all last two thirds."""
OVERFIT_RISE = 0.05
"""overfitting: validation ends this far above its minimum, training does not rise,"""
OVERFIT_SINCE = 0.15
"""and the minimum lies at least this fraction of the run back."""
UNLEARNT = 0.75
"""underfitting: training stays above this fraction of the constant predictor's loss"""
UNDERFIT_FLAT = 0.02
"""and improves by less than this."""
STILL_IMPROVING = 0.15
"""undertrained: validation improves by more than this."""
HEALTHY = (0.02, 0.12)
"""healthy: validation improves by a fraction in this range."""
ONE_STEP = 0.5
"""Neither of these two where one epoch makes this share of it: a learning-rate drop."""
PLATEAU = 0.01
"""plateau: validation and training both change by less than this."""

STATES = (
    "diverging",
    "validation_easier",
    "overfitting",
    "underfitting",
    "undertrained",
    "healthy",
    "plateau",
)
BETWEEN = ""
_BATCH = 40
_AT_ONCE = 5
_MOST_ROUNDS = 100


@dataclasses.dataclass(frozen=True)
class StateRun:
    """One run with its true state."""

    kind: str
    state: str
    train: FloatArray
    validation: FloatArray
    constant: float


def true_states(curves: Curves) -> list[str]:
    """The state of each run, `BETWEEN` where no definition holds."""
    tests = _definitions(curves)
    return [
        next((state for state in STATES if tests[state][run]), BETWEEN)
        for run in range(len(curves))
    ]


def draw_states(count: int, epochs: int, seed: int) -> tuple[list[StateRun], int, int]:
    """Up to `count` runs of each state, evenly from the kinds that reach it.

    Returns:
        The runs, how many runs were looked at, and how many of those were between two
        states.
    """
    wanted = dict.fromkeys(STATES, count)
    runs: list[StateRun] = []
    drawn = between = 0
    for rounds in range(_MOST_ROUNDS):
        for kind in POSITIVE + NEGATIVE:
            curves = draw_curves(
                kind, _BATCH, epochs, seed=seed * _MOST_ROUNDS + rounds
            )
            found = np.array(true_states(curves))
            drawn += len(found)
            between += int((found == BETWEEN).sum())
            for state in STATES:
                chosen = np.flatnonzero(found == state)[: min(_AT_ONCE, wanted[state])]
                wanted[state] -= len(chosen)
                runs.extend(_run(curves, int(index), state) for index in chosen)
        if not any(wanted.values()):
            break
    return runs, drawn, between


def _run(curves: Curves, index: int, state: str) -> StateRun:
    return StateRun(
        kind=curves.kind,
        state=state,
        train=curves.train[index],
        validation=curves.validation[index],
        constant=float(curves.scale[index]),
    )


def _definitions(curves: Curves) -> dict[str, BoolArray]:
    train, validation = curves.true_train, curves.true_validation
    epochs = curves.epochs
    better, train_better = _improvement(validation), _improvement(train)
    train_rise = train[:, -1] / train.min(axis=1) - 1
    rise = validation[:, -1] / validation.min(axis=1) - 1
    turned = np.argmin(validation, axis=1) <= (1 - OVERFIT_SINCE) * (epochs - 1)
    easier = (validation < train * (1 - EASIER))[:, epochs // 3 :].all(axis=1)
    not_easier = validation[:, -1] > train[:, -1] * (1 - EASIER / 5)
    learnt = train[:, -1] <= UNLEARNT * curves.scale
    calm = (train_rise < DIVERGED / 5) & not_easier
    usual = calm & learnt & (rise < OVERFIT_RISE / 5)
    steady = calm & (_largest_step(validation) < ONE_STEP * better)
    return {
        "diverging": train_rise > DIVERGED,
        "validation_easier": easier & (train_rise < DIVERGED / 5),
        "overfitting": calm & turned & (rise > OVERFIT_RISE),
        "underfitting": calm & ~learnt & (np.abs(train_better) < UNDERFIT_FLAT),
        "undertrained": steady & (better > STILL_IMPROVING),
        "healthy": usual & steady & (better > HEALTHY[0]) & (better < HEALTHY[1]),
        "plateau": usual
        & (np.abs(better) < PLATEAU)
        & (np.abs(train_better) < PLATEAU),
    }


def _improvement(curve: FloatArray) -> FloatArray:
    last = _last_third(curve)
    return np.asarray((last[:, 0] - last[:, -1]) / last[:, 0])


def _largest_step(curve: FloatArray) -> FloatArray:
    last = _last_third(curve)
    return np.asarray(-np.diff(last, axis=1).min(axis=1) / last[:, 0])


def _last_third(curve: FloatArray) -> FloatArray:
    return curve[:, -1 - curve.shape[1] // 3 :]
