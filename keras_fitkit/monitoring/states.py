"""From curves to a state: the evidence, and the order in which it is weighed.

Every threshold is a named constant here. They were tuned on one seed of the labelled
curves of `benchmarks/diagnosis.py`, which reports on another.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_fitkit.monitoring import curve_maths, rules
from keras_fitkit.monitoring.curve_maths import Array
from keras_fitkit.monitoring.curves import Curves
from keras_fitkit.monitoring.rules import Rule

State = Literal[
    "healthy",
    "overfitting",
    "underfitting",
    "undertrained",
    "diverging",
    "plateau",
    "validation_easier",
    "unknown",
]
Severity = Literal["none", "mild", "moderate", "severe"]
Evidence: TypeAlias = dict[str, float | int | str | None]

MIN_EPOCHS = 5  # fewer finite epochs tell nothing
SKILL = (
    0.25  # share of the constant predictor's loss a model must remove to have learnt
)
FALLING = 0.05  # improvement in the last third: training still falls
FAST = 0.14  # validation improved by more in the last third: more epochs would pay
FAST_TRAIN = 0.155  # and so did training
FLAT = 0.025  # training improved by less in the last third: flat
WORTHLESS = -1.0  # a skill below this does not measure skill
EASIER = 0.03  # validation better than training by this fraction, lastingly
LIGHT = 0.3  # smoothing for numbers that are shown
DIVERGING = 0.05  # training above its minimum by this fraction
DIVERGING_SIGMAS = 6.0  # and by this many standard deviations of its smoothed noise


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A state with the index (into the curves) where it began and its numbers."""

    state: State
    since: int | None = None
    severity: Severity = "none"
    evidence: Evidence = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def judge(curves: Curves, rule: Rule) -> Verdict:
    """The verdict on the last epoch of `curves`."""
    broken = _not_finite(curves)
    if broken is not None:
        return broken
    where = np.flatnonzero(curves.usable)
    if len(where) < MIN_EPOCHS:
        reason: Evidence = {"reason": _too_few(curves, len(where))}
        return Verdict("unknown", evidence=reason, notes=_gap_at_end(curves))
    train, validation = (
        curves.oriented(curves.train),
        curves.oriented(curves.validation),
    )
    evidence = _measure(curves, where, train, validation)
    state, since, severity = _state(curves, rule, train, validation, evidence)
    began = None if since is None else int(where[since])
    notes = (*_gap_at_end(curves), *_no_skill(curves, evidence))
    return Verdict(state, began, severity, evidence, notes)


def _not_finite(curves: Curves) -> Verdict | None:
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


def _gap_at_end(curves: Curves) -> tuple[str, ...]:
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


def _no_skill(curves: Curves, evidence: Evidence) -> tuple[str, ...]:
    if curves.constant is None or evidence["skill"] is not None:
        return ()
    return (
        f"the best constant predictor's {curves.monitor}, {curves.constant:.4g}, is no "
        f"measure for training's {evidence['train_last']:.4g}, so no skill is given: "
        "look at the scale of the targets and of the first layer's inputs",
    )


def _broke(values: Array) -> int | None:
    finite = np.flatnonzero(np.isfinite(values))
    return int(finite[-1]) + 1 if len(finite) else 0


def _became_infinite(values: Array) -> int | None:
    return int(np.flatnonzero(np.isinf(values))[0]) if np.isinf(values[-1]) else None


def _too_few(curves: Curves, count: int) -> str:
    if not np.isfinite(curves.validation).any():
        return (
            f"there is no finite val_{curves.monitor}: pass validation_data (or "
            "validation_split) to fit, and look for NaN in it"
        )
    after = " since another callback stopped changing the model" if curves.start else ""
    plural = "epoch" if count == 1 else "epochs"
    have = f"only {count} {plural} with both values{after}"
    return f"{have}; at least {MIN_EPOCHS} are needed"


def _measure(
    curves: Curves, where: npt.NDArray[np.int_], train: Array, validation: Array
) -> Evidence:
    smoothed = curve_maths.smooth(validation, LIGHT)
    best = int(np.argmin(smoothed))
    third = max(3, math.ceil(len(train) / 3))
    return {
        "epochs": len(where),
        "train_last": curves.as_given(train[-1]),
        "validation_last": curves.as_given(validation[-1]),
        "validation_best": curves.as_given(validation[best]),
        "best_epoch": int(curves.epochs[int(where[best])]) + 1,
        "validation_rise": _relative(smoothed[-1] - smoothed[best], smoothed[best]),
        "validation_noise": curve_maths.noise_level(validation),
        "gap_first": float(validation[0] - train[0]),
        "gap_last": float(validation[-1] - train[-1]),
        "gap_trend_z": curve_maths.mann_kendall_z((validation - train)[-15:]),
        "train_improvement_last_third": improvement(train, third),
        "validation_improvement_last_third": improvement(validation, third),
        "constant_predictor": curves.constant,
        "skill": skill(curves, curves.as_given(float(np.median(train[-3:])))),
    }


def skill(curves: Curves, train_last: float) -> float | None:
    """Share of the constant predictor's error that the model removed, or None.

    None too when the constant is no measure: not positive, or training is worse than
    twice it.
    """
    constant = curves.constant
    if constant is None or not math.isfinite(constant):
        return None
    if curves.mode == "min":
        found = 1.0 - train_last / constant if constant > 0 else -math.inf
    elif 0.0 <= constant < 1.0 and 0.0 <= train_last <= 1.0:
        found = (train_last - constant) / (1.0 - constant)
    else:
        return None
    return found if found >= WORTHLESS else None


def improvement(values: Array, count: int) -> float:
    """Relative fall over the last `count` values, by a straight line (least squares).

    The line uses every value, so that it resists noise better than the median slope.
    """
    last = values[-count:]
    slope, begin = np.polyfit(np.arange(len(last)), last, 1)
    return min(_relative(-float(slope) * (len(last) - 1), float(begin)), 1.0)


def _relative(part: float, whole: float) -> float:
    return (
        float(part) / abs(float(whole)) if whole else (0.0 if part == 0 else math.inf)
    )


def _state(
    curves: Curves,
    rule: Rule,
    train: Array,
    validation: Array,
    evidence: Evidence,
) -> tuple[State, int | None, Severity]:
    trend = rules.OverfitTrend.for_run(len(train))
    up = curve_maths.rise(train, trend.decay, DIVERGING, DIVERGING_SIGMAS)
    worse = curve_maths.rise(validation, trend.decay, trend.relative, trend.sigmas)
    if up.risen[-1] and worse.height[-1] > 0:
        return "diverging", int(np.argmin(up.smoothed)), "severe"
    flagged = np.flatnonzero(rules.flags(rule, train, validation))
    if len(flagged):
        evidence["flagged_epoch"] = int(curves.epochs[curves.usable][flagged[0]]) + 1
        before = float(np.min(worse.smoothed[: flagged[0] + 1]))
        lasting = 0.5 * float(worse.threshold[flagged[0]])
        if worse.smoothed[-1] > before + lasting:
            since = int(np.argmin(curve_maths.smooth(validation, LIGHT)))
            return (
                "overfitting",
                since,
                _severity(float(evidence["validation_rise"] or 0)),
            )
        evidence["recovered"] = "validation fell below its earlier minimum again"
    since_easier = _easier_since(train, validation)
    if since_easier is not None:
        return "validation_easier", since_easier, "moderate"
    return _progress(validation, evidence)


def _severity(rise: float) -> Severity:
    if rise < 0.10:
        return "mild"
    return "moderate" if rise < 0.30 else "severe"


def _easier_since(train: Array, validation: Array) -> int | None:
    """Index since which validation is lastingly better than training, or None."""
    excess = (train - validation) / np.maximum(np.abs(train), 1e-12)
    half = excess[-max(MIN_EPOCHS, len(excess) // 2) :]
    error = float(np.std(half)) / math.sqrt(len(half))
    lasting = np.mean(half > 0) >= 0.9
    if not (lasting and np.mean(half) > max(EASIER, 3.0 * error)):
        return None
    negative = np.flatnonzero(excess <= 0)
    late = negative[negative < len(excess) - len(half)]
    return int(late[-1]) + 1 if len(late) else 0


def _progress(
    validation: Array, evidence: Evidence
) -> tuple[State, int | None, Severity]:
    """How far learning got. Underfitting is said against a constant predictor only."""
    train_falls = float(evidence["train_improvement_last_third"] or 0.0)
    falls = float(evidence["validation_improvement_last_third"] or 0.0)
    found = evidence["skill"]
    if found is not None and float(found) < SKILL:
        if train_falls > FALLING:
            return "undertrained", None, "moderate"
        return "underfitting", 0, "severe" if float(found) < SKILL / 5 else "moderate"
    if falls > FAST and train_falls > FAST_TRAIN:
        return "undertrained", None, "mild"
    count = int(evidence["epochs"] or 0)
    if count < rules.SHORT_RUN and train_falls > FLAT and falls < -FLAT:
        evidence["reason"] = (
            f"{count} epochs are too few to tell overfitting from noise: "
            f"validation got worse while training improved; from {rules.SHORT_RUN} on "
            "the rule can tell"
        )
        return "unknown", None, "none"
    if train_falls <= FLAT or falls <= 0.0:
        return "plateau", _flat_since(validation), "none"
    return "healthy", None, "none"


def _flat_since(validation: Array) -> int:
    smoothed = curve_maths.smooth(validation, LIGHT)
    near = np.abs(smoothed - smoothed[-1]) <= 0.03 * abs(smoothed[-1])
    outside = np.flatnonzero(~near)
    return int(outside[-1]) + 1 if len(outside) else 0
