"""Runs with values that are no numbers: which of them broke, and which have gaps."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from keras_fitkit.monitoring.curve_maths import Array
from keras_fitkit.monitoring.curves import Curves
from keras_fitkit.monitoring.verdict import Evidence, Verdict


def not_finite(curves: Curves) -> Verdict | None:
    """Diverging: a value, or a weight, is no finite number any more."""
    if curves.bad_weights is not None:
        epoch, names = curves.bad_weights
        since = int(np.searchsorted(curves.epochs, epoch))
        found: Evidence = {"non_finite_weights": ", ".join(names), "epoch": epoch + 1}
        return Verdict("diverging", min(since, len(curves.epochs) - 1), "severe", found)
    for name, values in (
        (curves.monitor, _shown(curves)),
        (f"val_{curves.monitor}", curves.validation),
    ):
        if len(values) == 0 or math.isfinite(values[-1]):
            continue
        # A gap in the log (an epoch without validation) is NaN too: only a value that
        # was finite before, or a training value, says that something broke.
        broke = _broke(values) if name == curves.monitor else _became_infinite(values)
        if broke is not None:
            found = {
                f"{name}_last": str(values[-1]),
                "epoch": int(curves.epochs[broke]) + 1,
            }
            return Verdict("diverging", broke, "severe", found)
    return _validation_lost(curves)


def _shown(curves: Curves) -> Array:
    return curves.train if curves.keras_train is None else curves.keras_train


def _missing_at_end(curves: Curves) -> tuple[npt.NDArray[np.int_], bool]:
    """The last epochs without validation, and whether it had no gap before them.

    Epochs without a finite training value do not count. No epochs when there never was
    a finite validation value.
    """
    trained = np.flatnonzero(np.isfinite(_shown(curves)))
    finite = np.isfinite(curves.validation[trained])
    found = np.flatnonzero(finite)
    if len(found) == 0:
        return trained[:0], False
    every_epoch = len(found) >= 2 and bool(finite[: found[-1] + 1].all())
    return trained[found[-1] + 1 :], every_epoch


def _validation_lost(curves: Curves) -> Verdict | None:
    """Diverging: validation came every epoch and is NaN from some epoch to the end."""
    lost, every_epoch = _missing_at_end(curves)
    if not every_epoch or len(lost) < 2:
        return None
    name, epoch = f"val_{curves.monitor}", int(curves.epochs[lost[0]]) + 1
    found: Evidence = {
        "reason": f"{name} is NaN since epoch {epoch}",
        f"{name}_last": str(curves.validation[-1]),
        "epoch": epoch,
    }
    return Verdict("diverging", int(lost[0]), "severe", found)


def gap_at_end(curves: Curves) -> tuple[str, ...]:
    """A note when validation is missing at the end for longer than ever before."""
    lost, _ = _missing_at_end(curves)
    found = np.flatnonzero(np.isfinite(curves.validation))
    longest = int(np.max(np.diff(found, prepend=-1), initial=1))
    if len(lost) < longest:
        return ()
    since = int(curves.epochs[lost[0]]) + 1
    return (
        f"val_{curves.monitor} is NaN or absent since epoch {since}; the verdict is on "
        "the epochs before",
    )


def _broke(values: Array) -> int | None:
    finite = np.flatnonzero(np.isfinite(values))
    return int(finite[-1]) + 1 if len(finite) else 0


def _became_infinite(values: Array) -> int | None:
    return int(np.flatnonzero(np.isinf(values))[0]) if np.isinf(values[-1]) else None
