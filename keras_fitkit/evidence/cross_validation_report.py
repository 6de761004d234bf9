"""What `cross_validate` found."""

from __future__ import annotations

import collections
import dataclasses
import os
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit.evidence import plots, tables
from keras_fitkit.evidence.intervals import Estimate, estimate
from keras_fitkit.evidence.membership import MembershipReport
from keras_fitkit.monitoring import Diagnosis

IGNORES = (
    "95 % t intervals with the correction of Nadeau and Bengio for training sets that "
    "overlap; folds are not independent, so no such interval is exact"
)


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """One fold.

    Attributes:
        fold: its number, from 0.
        train_rows, validation_rows: how many there were.
        scores: loss and metrics of the rows that were held out, after the fit; the loss
            is without the penalty of the regularizers.
        train_scores: the same of (at most 512) rows that were trained on, measured in
            the same way: inference mode, weights after the fit.
        diagnosis: the verdict of `kf.OverfitMonitor` on the curves of this fold.
        membership: how much is remembered of single rows; None where the losses of
            rows could not be had.
        seconds: of the fit.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import keras_fitkit as kf
        >>> verdict = kf.diagnose({"loss": [1.0] * 9, "val_loss": [1.0] * 9})
        >>> from keras_fitkit.evidence import FoldResult
        >>> fold = FoldResult(
        ...     0, 80, 20, {"loss": 0.5}, {"loss": 0.3}, verdict, None, 1.0
        ... )
        >>> fold.gap
        0.2
    """

    fold: int
    train_rows: int
    validation_rows: int
    scores: dict[str, float]
    train_scores: dict[str, float]
    diagnosis: Diagnosis
    membership: MembershipReport | None
    seconds: float

    @property
    def gap(self) -> float:
        """The honest gap: loss of the held-out rows minus that of trained ones."""
        return self.scores["loss"] - self.train_scores["loss"]

    def to_dict(self) -> dict[str, Any]:
        """The fold as plain values that `json.dumps` takes."""
        kept = self.membership
        return {
            "fold": self.fold,
            "train_rows": self.train_rows,
            "validation_rows": self.validation_rows,
            "scores": self.scores,
            "train_scores": self.train_scores,
            "gap": self.gap,
            "diagnosis": self.diagnosis.to_dict(),
            "membership": None if kept is None else kept.to_dict(),
            "seconds": self.seconds,
        }


@dataclasses.dataclass(frozen=True, repr=False)
class CrossValidationReport:
    """The scores of all folds, with their spread. Made by `kf.cross_validate`.

    Attributes:
        folds: a `FoldResult` each.
        split: how the folds were made, in words.
        epochs: of each fit.
        seed: of the folds and the fits.

    Raises:
        TypeError: a field is missing.
        OSError: from `plot`, when the picture cannot be written.

    Example:
        >>> import keras, numpy as np, keras_fitkit as kf
        >>> def build():
        ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        ...     model.compile(keras.optimizers.SGD(0.1), "mse")
        ...     return model
        >>> x = np.random.default_rng(0).normal(size=(30, 3)).astype("float32")
        >>> report = kf.cross_validate(
        ...     build, x, x.sum(axis=1), folds=3, epochs=5, verbose=0
        ... )
        >>> report.scores["loss"].count, report.split
        (3, 'random')
    """

    folds: tuple[FoldResult, ...]
    split: str
    epochs: int
    seed: int

    @property
    def scores(self) -> dict[str, Estimate]:
        """Each metric of the held-out rows: mean over the folds and its interval."""
        return {
            name: self._estimate([fold.scores[name] for fold in self.folds])
            for name in self.folds[0].scores
        }

    @property
    def train_scores(self) -> dict[str, Estimate]:
        """The same of rows that were trained on; they show nothing by themselves."""
        return {
            name: self._estimate([fold.train_scores[name] for fold in self.folds])
            for name in self.folds[0].train_scores
        }

    @property
    def gap(self) -> Estimate:
        """The honest gap of the loss: positive where held-out rows fare worse."""
        return self._estimate([fold.gap for fold in self.folds])

    @property
    def states(self) -> dict[str, int]:
        """How many folds ended in each state of `kf.Diagnosis`, most frequent first."""
        found = collections.Counter(fold.diagnosis.state for fold in self.folds)
        return dict(found.most_common())

    @property
    def membership(self) -> Estimate | None:
        """The membership AUC over the folds; None where it could not be had."""
        kept = [fold.membership for fold in self.folds]
        found = [one.auc for one in kept if one is not None]
        return self._estimate(found) if len(found) == len(kept) else None

    @property
    def verdict(self) -> str:
        """The most frequent state, and in how many folds."""
        state, count = next(iter(self.states.items()))
        return f"{state.replace('_', ' ')} in {count} of {len(self.folds)} folds"

    @property
    def summary(self) -> str:
        """The report in one line."""
        found = ", ".join(f"{name} {one}" for name, one in self.scores.items())
        return f"{found}; gap {self.gap}; {self.verdict}"

    def render(self) -> str:
        """The report as text: a line a fold, and the means."""
        lines = [self.summary, *tables.aligned(self._headings(), self._cells())]
        return "\n".join([*lines, *self._notes()])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        kept = self.membership
        return {
            "scores": {n: dataclasses.asdict(e) for n, e in self.scores.items()},
            "gap": dataclasses.asdict(self.gap),
            "membership": None if kept is None else dataclasses.asdict(kept),
            "states": self.states,
            "split": self.split,
            "epochs": self.epochs,
            "seed": self.seed,
            "folds": [fold.to_dict() for fold in self.folds],
        }

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """A matplotlib figure: the two losses of each fold, and the mean's interval.

        Args:
            path: where to write it as well, or None.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: matplotlib is missing; names the extra to install.
        """
        target = None if path is None else arguments.path("path", path)
        return plots.folds(self, target)

    def _estimate(self, values: list[float]) -> Estimate:
        held = sum(fold.validation_rows for fold in self.folds)
        trained = sum(fold.train_rows for fold in self.folds)
        return estimate(values, overlap=held / trained)

    def _headings(self) -> list[str]:
        names = list(self.folds[0].scores)
        return ["fold", *names, "train loss", "gap", "remembers", "verdict"]

    def _cells(self) -> list[list[str]]:
        made = []
        for fold in self.folds:
            values = [*fold.scores.values(), fold.train_scores["loss"], fold.gap]
            kept = "?" if fold.membership is None else f"{fold.membership.auc:.2f}"
            found = [tables.number(value) for value in values]
            made.append([str(fold.fold + 1), *found, kept, fold.diagnosis.state])
        means = [*self.scores.values(), self.train_scores["loss"], self.gap]
        kept = "?" if self.membership is None else f"{self.membership.mean:.2f}"
        found = [tables.number(one.mean) for one in means]
        made.append(["mean", *found, kept, self.verdict])
        spread = [tables.number(one.sd) for one in means]
        made.append(["sd", *spread, "", ""])
        return made

    def _notes(self) -> list[str]:
        rows = self.folds[0]
        return [
            f"folds: {self.split}, about {rows.train_rows} rows to train on and "
            f"{rows.validation_rows} held out; {self.epochs} epochs, seed {self.seed}",
            f"intervals: {IGNORES}",
            "remembers: membership AUC of the loss, 0.5 for nothing; no guarantee of "
            "privacy",
        ]

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<CrossValidationReport: {self.summary}>"

    def _repr_html_(self) -> str:
        return tables.as_html(
            self.summary, self._headings(), self._cells(), self._notes()
        )
