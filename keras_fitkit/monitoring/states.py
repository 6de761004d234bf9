"""From curves to a state: the order in which the evidence is weighed.

Every threshold is a named constant here or in `evidence`. They were tuned on one seed
of the labelled curves of `benchmarks/diagnosis.py`, which reports on another.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TypeAlias

import numpy as np

from keras_fitkit.monitoring import broken_runs, curve_maths, evidence, rules
from keras_fitkit.monitoring.curve_maths import Array
from keras_fitkit.monitoring.curves import Curves
from keras_fitkit.monitoring.evidence import LIGHT, MIN_EPOCHS
from keras_fitkit.monitoring.rules import Rule
from keras_fitkit.monitoring.verdict import Evidence, Severity, State, Verdict

# Share of the constant predictor's loss that a model must remove to have learnt.
SKILL = 0.25
FALLING = 0.05  # improvement in the last third: training still falls
FAST = 0.14  # validation improved by more in the last third: more epochs would pay
FAST_TRAIN = 0.155  # and so did training
FLAT = 0.025  # it changed by less in the last third: flat
DIVERGING = 0.05  # training above its minimum by this fraction
DIVERGING_SIGMAS = 6.0  # and by this many standard deviations of its smoothed noise
DIVERGING_SHARE = 0.05  # and by this share of all that was learnt
LASTING = 3  # epochs for which a rise must stand
UNCLEAR = 0.10  # validation above its minimum by this fraction, without a flag
UNCLEAR_SIGMAS = 8.0  # and by this many standard deviations of its smoothed noise
LINE_SIGMAS = 3.0  # standard errors by which validation must improve to do so still

_Answer: TypeAlias = tuple[State, int | None, Severity]


@dataclasses.dataclass(frozen=True)
class _Case:
    """One run: its oriented curves, the rule, and the evidence that is filled in."""

    curves: Curves
    rule: Rule
    name: str
    train: Array
    validation: Array
    evidence: Evidence

    @functools.cached_property
    def worse(self) -> curve_maths.Rise:
        """How far validation stands above its minimum, as the rule "auto" sees it."""
        return self.rise_of_validation(self._trend.relative, self._trend.sigmas)

    def rise_of_validation(self, relative: float, sigmas: float) -> curve_maths.Rise:
        """The same with another threshold."""
        return curve_maths.rise(self.validation, self._trend.decay, relative, sigmas)

    @functools.cached_property
    def up(self) -> curve_maths.Rise:
        """How far training does.

        A training loss on its floor is small, and its noise a large part of it: a rise
        must be a part of what was learnt as well.
        """
        found = curve_maths.rise(
            self.train, self._trend.decay, DIVERGING, DIVERGING_SIGMAS
        )
        highest = np.maximum.accumulate(found.smoothed)
        learnt = highest - np.minimum.accumulate(found.smoothed)
        threshold = np.maximum(found.threshold, DIVERGING_SHARE * learnt)
        return dataclasses.replace(found, threshold=threshold)

    @property
    def _trend(self) -> rules.OverfitTrend:
        return rules.OverfitTrend.for_run(len(self.train))

    def number(self, name: str) -> float:
        """A number of the evidence, 0.0 where there is none."""
        return float(self.evidence[name] or 0.0)


def judge(curves: Curves, rule: Rule, name: str = "auto") -> Verdict:
    """The verdict on the last epoch of `curves` by `rule`, which is called `name`."""
    broken = broken_runs.not_finite(curves)
    if broken is not None:
        return broken
    where = np.flatnonzero(curves.usable)
    at_end = broken_runs.gap_at_end(curves)
    if len(where) < MIN_EPOCHS:
        reason: Evidence = {"reason": _too_few(curves, len(where))}
        return Verdict("unknown", evidence=reason, notes=at_end)
    train, validation = (
        curves.oriented(curves.train),
        curves.oriented(curves.validation),
    )
    found = evidence.measure(curves, where, train, validation)
    case = _Case(curves, rule, name, train, validation, found)
    state, since, severity = _state(case)
    began = None if since is None else int(where[since])
    return Verdict(state, began, severity, found, (*at_end, *_no_skill(case, state)))


def _no_skill(case: _Case, state: State) -> tuple[str, ...]:
    """What is missing for underfitting to be told, where that may change the state."""
    curves = case.curves
    if curves.constant is None:
        if state not in ("healthy", "plateau", "undertrained"):
            return ()
        why = curves.constant_note or "not measured"
        return (
            "underfitting cannot be told here: it is judged against the best constant "
            f"predictor, which is not known ({why})",
        )
    if case.evidence["skill"] is not None:
        return ()
    return (
        f"the best constant predictor's {curves.monitor}, {curves.constant:.4g}, is no "
        f"measure for training's {case.evidence['train_last']:.4g}, so no skill is "
        "given: look at the scale of the targets and of the first layer's inputs",
    )


def _too_few(curves: Curves, count: int) -> str:
    if len(curves.epochs) == 0:
        return "there is no fit yet" if curves.live else "there is no epoch in it"
    if not np.isfinite(curves.validation).any():
        return (
            f"there is no finite val_{curves.monitor}: pass validation_data (or "
            "validation_split) to fit, and look for NaN in it"
        )
    after = " since another callback stopped changing the model" if curves.start else ""
    plural = "epoch" if count == 1 else "epochs"
    have = f"only {count} {plural} with both values{after}"
    return f"{have}; at least {MIN_EPOCHS} are needed"


def _state(case: _Case) -> _Answer:
    up = case.up
    lasting = curve_maths.in_a_row(up.risen, LASTING)[-1]
    if lasting and case.worse.height[-1] > 0:
        return "diverging", int(np.argmin(up.smoothed)), "severe"
    flagged = np.flatnonzero(rules.flags(case.rule, case.train, case.validation))
    if len(flagged):
        epochs = case.curves.epochs[case.curves.usable]
        case.evidence["flagged_epoch"] = int(epochs[flagged[0]]) + 1
        if _still_above(case, int(flagged[0])):
            since = evidence.best_index(case.validation)
            severity = _severity(case.number("validation_rise"))
            return "overfitting", since, severity
        case.evidence["recovered"] = "validation fell below its earlier minimum again"
    easier = evidence.easier_since(case.curves, case.train, case.validation)
    if easier is not None:
        return "validation_easier", easier, "moderate"
    return _progress(case)


def _still_above(case: _Case, flagged: int) -> bool:
    """Whether validation ends above what its minimum was before the flag."""
    before = float(np.min(case.worse.smoothed[: flagged + 1]))
    lasting = 0.5 * float(case.worse.threshold[flagged])
    return bool(case.worse.smoothed[-1] > before + lasting)


def _severity(rise: float) -> Severity:
    if rise < 0.10:
        return "mild"
    return "moderate" if rise < 0.30 else "severe"


def _progress(case: _Case) -> _Answer:
    """How far learning got. Underfitting is said against a constant predictor only."""
    train_falls = case.number("train_improvement_last_third")
    falls = case.number("validation_improvement_last_third")
    skill = case.evidence["skill"]
    unlearnt = skill is not None and float(skill) < SKILL
    if unlearnt and train_falls <= FALLING:
        severe = float(skill or 0.0) < SKILL / 5
        return "underfitting", 0, "severe" if severe else "moderate"
    unclear = _unclear(case)
    if unclear:
        case.evidence["reason"] = unclear
        return "unknown", None, "none"
    if unlearnt:
        case.evidence["reason"] = (
            f"training still improved by {_percent(train_falls)} in the last third, "
            f"and so far removed {_percent(float(skill or 0.0))} of the error of the "
            "best constant predictor"
        )
        return "undertrained", None, "moderate"
    if falls > FAST and train_falls > FAST_TRAIN:
        return "undertrained", None, "mild"
    if train_falls <= FLAT or falls <= 0.0:
        return _plateau(case, train_falls, falls)
    return "healthy", None, "none"


def _unclear(case: _Case) -> str:
    """What got worse without a rule that says what it is; "" when nothing did."""
    up, worse = case.up, case.worse
    if up.risen[-1] and worse.height[-1] > 0:
        above = evidence.relative(float(up.height[-1]), float(up.smoothed.min()))
        return (
            f"training ended {_percent(above)} above its best, for less than {LASTING} "
            "epochs: too short to tell divergence from a spike"
        )
    epochs = len(case.train)
    falls = case.number("validation_improvement_last_third")
    train_falls = case.number("train_improvement_last_third")
    risen = case.rise_of_validation(UNCLEAR, UNCLEAR_SIGMAS).risen
    if curve_maths.in_a_row(risen, LASTING)[-1] and "recovered" not in case.evidence:
        return _not_flagged(case)
    if epochs < rules.SHORT_RUN and train_falls > FLAT and falls < -FLAT:
        return (
            f"{epochs} epochs are too few to tell overfitting from noise in this run: "
            "validation got worse while training improved"
        )
    return ""


def _not_flagged(case: _Case) -> str:
    best = int(np.argmin(case.worse.smoothed))
    smoothed = case.up.smoothed
    falls = evidence.relative(float(smoothed[best] - smoothed[-1]), smoothed[best])
    above = case.curves.worse_than_best(_percent(case.number("validation_rise")))
    if falls > FLAT:
        trained = f"training improved by {_percent(falls)}"
    elif falls < -FLAT:
        trained = f"training got worse by {_percent(-falls)}"
    else:
        trained = "training stood still"
    return f"{above} while {trained}; rule {case.name!r} did not flag it"


def _plateau(case: _Case, train_falls: float, falls: float) -> _Answer:
    """Plateau, or healthy where validation still improves beyond its noise."""
    third = evidence.last_third(case.train)
    noise = LINE_SIGMAS * evidence.improvement_error(case.validation, third)
    still = max(FALLING, noise)
    texts = [
        _does("training", train_falls, FLAT),
        _does("validation", falls, still),
    ]
    if not all(text.endswith("is flat") for text in texts):
        case.evidence["reason"] = " and ".join(texts) + " (in the last third)"
    if falls > still:
        return "healthy", None, "none"
    return "plateau", _flat_since(case.validation), "none"


def _does(name: str, falls: float, flat: float) -> str:
    if abs(falls) <= flat:
        return f"{name} is flat"
    if falls > 0:
        return f"{name} still improves by {_percent(falls)}"
    return f"{name} got worse by {_percent(-falls)}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if abs(share) < 1 else f"{100 * share:.0f} %"


def _flat_since(validation: Array) -> int:
    smoothed = curve_maths.smooth(validation, LIGHT)
    near = np.abs(smoothed - smoothed[-1]) <= 0.03 * abs(smoothed[-1])
    outside = np.flatnonzero(~near)
    return int(outside[-1]) + 1 if len(outside) else 0
