"""What the runs of a trial come to: each remedy against the model as it is."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_fitkit.evidence import remedies
from keras_fitkit.evidence.intervals import estimate
from keras_fitkit.evidence.remedies import Candidate
from keras_fitkit.evidence.remedy_report import RemedyReport, RemedyTrial
from keras_fitkit.evidence.trial import AS_IT_IS, Trial
from keras_fitkit.evidence.trial_files import TrialRun


def carry_out(trial: Trial, own: Sequence[Candidate] | None) -> RemedyReport:
    """All runs, and the report."""
    epochs = trial.plan(own)
    seeds = trial.settings.seeds
    base = [trial.run(AS_IT_IS, seed, epochs) for seed in seeds]
    baseline = [run for run in base if run is not None]
    state = collections.Counter(run.state for run in baseline).most_common(1)[0][0]
    refused: dict[str, str] = {}
    if own is None:
        own = remedies.chosen(state, images=trial.images)
        own = _possible(trial, own, refused)
    done: dict[str, list[TrialRun]] = {one.name: [] for one in own}
    for seed in seeds:
        for one in own:
            if one.free:
                continue
            found = trial.run(one, seed, epochs)
            if found is not None:
                done[one.name].append(found)
    worst = _worst([*baseline, *(run for runs in done.values() for run in runs)])
    trials = [
        _early(one, trial, baseline, worst)
        if one.free
        else _judged(
            _written(one, trial, epochs), trial, baseline, done[one.name], worst
        )
        for one in own
    ]
    trials += [_skipped(remedies.CATALOGUE[name], why) for name, why in refused.items()]
    verdict = next(run.summary for run in baseline if run.state == state)
    losses = tuple(_last(run, worst) for run in baseline)
    rows = 0 if trial.test is None else len(keras.tree.flatten(trial.test[0])[0])
    notes = _notes(trial, baseline, done, worst)
    return RemedyReport(
        tuple(trials), losses, state, verdict, epochs, seeds, rows, notes
    )


def _possible(
    trial: Trial, own: Sequence[Candidate], refused: dict[str, str]
) -> tuple[Candidate, ...]:
    """Those that the model can have; of the others `refused` gets the reason."""
    kept = []
    for one in own:
        try:
            one.make(trial.build, trial.row)
        except Exception as error:
            refused[one.name] = str(error)
            continue
        kept.append(one)
    return tuple(kept)


def _written(one: Candidate, trial: Trial, epochs: int) -> Candidate:
    """The candidate with the numbers of this trial in its code."""
    if "{" not in one.code or one.name not in remedies.CATALOGUE:
        return one
    rate = 0.0
    if one.rate != 1.0:
        found = trial.build().optimizer.learning_rate
        rate = one.rate * float(keras.ops.convert_to_numpy(keras.ops.copy(found)))
    code = one.code.format(epochs=one.epochs * epochs, rate=rate)
    return dataclasses.replace(one, code=code)


def _judged(
    one: Candidate,
    trial: Trial,
    baseline: Sequence[TrialRun],
    runs: Sequence[TrialRun],
    worst: float,
) -> RemedyTrial:
    """A remedy with runs of its own, against the baseline."""
    before = {run.seed: run for run in baseline}
    losses = tuple(_last(run, worst) for run in runs)
    changes = tuple(
        loss - _last(before[run.seed], worst)
        for run, loss in zip(runs, losses, strict=True)
    )
    tests = [run.test[-1] - before[run.seed].test[-1] for run in runs if run.test]
    missing = len(baseline) - len(runs)
    reason = f"no time left for {missing} of {len(baseline)} seeds" if missing else ""
    return RemedyTrial(
        one.name,
        one.text,
        one.code,
        losses,
        changes,
        estimate(changes, overlap=trial.overlap),
        tuple(run.best for run in runs),
        tuple(tests) if all(map(math.isfinite, tests)) else (),
        reason,
    )


def _early(
    one: Candidate, trial: Trial, baseline: Sequence[TrialRun], worst: float
) -> RemedyTrial:
    """Early stopping: each seed stops where the other seeds were best on average.

    The lowest loss of a seed's own curve would be picked on the rows that judge it.
    """
    losses, tests, stops = [], [], []
    for run in baseline:
        curves = np.array([other.validation for other in baseline if other is not run])
        curves = np.where(np.isfinite(curves), curves, worst)
        stop = int(np.argmin(curves.mean(axis=0)))
        stops.append(stop + 1)
        losses.append(run.validation[stop])
        tests += [run.test[stop] - run.test[-1]] if run.test else []
    losses = [loss if math.isfinite(loss) else worst for loss in losses]
    changes = tuple(
        loss - _last(run, worst) for loss, run in zip(losses, baseline, strict=True)
    )
    epochs = sorted(stops)[len(stops) // 2]
    return RemedyTrial(
        one.name,
        one.text,
        f"{one.code}  # about epoch {epochs} here",
        tuple(losses),
        changes,
        estimate(changes, overlap=trial.overlap),
        tuple(run.best for run in baseline),
        tuple(tests),
    )


def _skipped(one: Candidate, reason: str) -> RemedyTrial:
    return RemedyTrial(
        one.name, one.text, one.code, (), (), estimate(()), (), (), reason
    )


def _last(run: TrialRun, worst: float) -> float:
    found = run.validation[-1]
    return found if math.isfinite(found) else worst


def _worst(runs: Sequence[TrialRun]) -> float:
    """The largest finite loss that was seen: a run that ends as NaN counts as that."""
    finite = [v for run in runs for v in run.validation if math.isfinite(v)]
    return max(finite, default=math.nan)


def _notes(
    trial: Trial,
    baseline: Sequence[TrialRun],
    done: dict[str, list[TrialRun]],
    worst: float,
) -> tuple[str, ...]:
    notes = [
        "all runs share the validation rows: the intervals are over weights and order, "
        "not over other rows"
        if trial.fixed
        else "each seed holds out rows of its own; intervals as Nadeau and Bengio 2003"
    ]
    runs = [*baseline, *(run for found in done.values() for run in found)]
    broken = [run for run in runs if not math.isfinite(run.validation[-1])]
    if broken:
        named = ", ".join(sorted({run.arm for run in broken}))
        notes.append(
            f"{len(broken)} runs ended without a finite loss ({named}); they count as "
            f"{worst:.4g}, the largest that was seen"
        )
    return tuple(notes)
