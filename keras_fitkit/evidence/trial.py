"""The runs of `try_remedies`: how long, in which order, and what they come to."""

from __future__ import annotations

import collections
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_fitkit._core import arguments, random_state
from keras_fitkit._core.console import say
from keras_fitkit.evidence import folds, inputs, remedies, running
from keras_fitkit.evidence.intervals import estimate
from keras_fitkit.evidence.remedies import BASELINE, Candidate
from keras_fitkit.evidence.remedy_report import RemedyReport, RemedyTrial
from keras_fitkit.evidence.trial_files import Store, TrialRun

LEAST_EPOCHS, MOST_EPOCHS = 5, 100
SHARE = 0.8  # of the time is planned: a wider model takes longer
AS_IT_IS = Candidate(BASELINE, "", "")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The plain arguments of a trial."""

    minutes: float
    seeds: tuple[int, ...]
    split: float
    epochs: int | None
    batch_size: int
    verbose: int


class Trial:
    """Makes and keeps the runs.

    Args:
        build: gives a new, compiled model.
        row: inputs of one row, to build models with.
        data: (x, y).
        fixed: validation (x, y) for all runs, or None.
        test: (x, y) that chooses nothing, or None.
        settings: the plain arguments.
        store: what was run before.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        row: Any,
        data: running.Data,
        fixed: running.Data | None,
        test: running.Data | None,
        settings: Settings,
        store: Store,
    ) -> None:
        self.build, self.row, self.settings, self.store = build, row, settings, store
        self.fixed, self.test = fixed, test
        self._data = data
        self._count = len(keras.tree.flatten(data[0])[0])
        self._held = 0 if fixed else max(1, round(settings.split * self._count))
        if self._count - self._held < 2:
            received = f"{self._count} rows"
            allowed = "(x, y) with rows enough to hold some out"
            raise ValueError(arguments.message("data", allowed, received))
        self._classes = inputs.classes(data[1], "auto", 2, "two parts")
        self._begin, self._earlier = time.perf_counter(), store.seconds

    @property
    def overlap(self) -> float:
        """Rows held out over rows to train on; 0 where all runs share the former."""
        return self._held / (self._count - self._held)

    @property
    def spent(self) -> float:
        """Minutes so far, those of earlier calls as well."""
        return (self._earlier + time.perf_counter() - self._begin) / 60

    @property
    def images(self) -> bool:
        """Whether the inputs are one array of images."""
        shapes = [leaf.shape for leaf in keras.tree.flatten(self._data[0])]
        return len(shapes) == 1 and len(shapes[0]) == 4

    def plan(self, own: Sequence[Candidate] | None) -> int:
        """The epochs of a run.

        Raises:
            ValueError: the minutes do not suffice for 5.
        """
        epochs = self.settings.epochs or self.store.epochs
        if epochs is None:
            epochs = self._epochs_for(own)
        self.store.plan(epochs)
        return epochs

    def _epochs_for(self, own: Sequence[Candidate] | None) -> int:
        model = self.build()
        cold = self._fit(model, 1, 0)
        epoch = self._fit(model, 2, 0).seconds / 2
        setup = max(0.0, cold.seconds - epoch)
        arms = 1 + sum(one.epochs for one in own if not one.free) if own else None
        runs = (arms or remedies.MOST) * len(self.settings.seeds)
        each = SHARE * 60 * self.settings.minutes / runs - setup
        epochs = min(MOST_EPOCHS, math.floor(each / epoch))
        if epochs < LEAST_EPOCHS:
            needed = runs * (setup + LEAST_EPOCHS * epoch) / SHARE / 60
            hint = (
                f"An epoch takes {epoch:.2g} s and a start {setup:.2g} s here, and "
                f"there are {runs} runs: {LEAST_EPOCHS} epochs each need "
                f"{needed:.2g} minutes."
            )
            given = self.settings.minutes
            allowed = f"enough for {LEAST_EPOCHS} epochs a run"
            raise ValueError(arguments.message("minutes", allowed, given, hint))
        return epochs

    def _parts(self, seed: int) -> tuple[running.Data, running.Data]:
        rng = np.random.default_rng(seed)
        order = folds.order(self._count, self._classes, rng)
        train = running.part(self._data, order[self._held :])
        return train, self.fixed or running.part(self._data, order[: self._held])

    def _fit(self, model: Any, epochs: int, seed: int, *more: Any) -> running.Run:
        return running.fit(
            model,
            *self._parts(seed),
            epochs=epochs,
            batch_size=self.settings.batch_size,
            seed=seed,
            callbacks=more,
        )

    def run(self, one: Candidate, seed: int, epochs: int) -> TrialRun | None:
        """A run, made or stored; None where the time is over (never the baseline)."""
        stored = self.store.get(one.name, seed)
        if stored is not None:
            return stored
        first = one is AS_IT_IS
        if self.spent > self.settings.minutes and not first:
            return None
        keras.utils.set_random_seed(seed)
        model = one.make(self.build, self.row)
        tests: list[float] = []
        watch = [self._watch(tests)] if first and self.test else []
        done = self._fit(model, one.epochs * epochs, seed, *watch)
        if self.test and not first:
            tests.append(self._tested(model))
        found = TrialRun(
            one.name,
            seed,
            done.train,
            done.validation,
            done.diagnosis.state,
            done.diagnosis.summary,
            done.seconds,
            tuple(tests),
        )
        self.store.add(found)
        if self.settings.verbose:
            say(
                f"{one.name}, seed {seed}: validation {found.validation[-1]:.4g}, "
                f"training {found.train[-1]:.4g}, {found.state} ({found.seconds:.0f} "
                f"s; {self.spent:.1f} of {self.settings.minutes:g} min)"
            )
        return found

    def _tested(self, model: Any) -> float:
        return running.scores(model, self.test, self.settings.batch_size)["loss"]  # type: ignore[arg-type]

    def _watch(self, losses: list[float]) -> Any:
        """The test loss in each epoch: early stopping needs it where it stops."""

        def measure(epoch: int, logs: Any) -> None:
            with random_state.model_preserved(watch.model):
                losses.append(self._tested(watch.model))

        watch = keras.callbacks.LambdaCallback(on_epoch_end=measure)
        return watch


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
