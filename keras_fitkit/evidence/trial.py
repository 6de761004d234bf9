"""The runs of `try_remedies`: how long, on which rows, made or stored."""

from __future__ import annotations

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
from keras_fitkit.evidence.remedies import BASELINE, Candidate
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
