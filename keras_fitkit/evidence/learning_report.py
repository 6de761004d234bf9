"""What `learning_curve` found."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

from keras_fitkit._core import arguments
from keras_fitkit.evidence import plots, tables
from keras_fitkit.evidence.intervals import Answer, Estimate, estimate, would_lower
from keras_fitkit.evidence.running import relative

_HEADINGS = ("rows", "share", "runs", "training", "validation", "95 %", "gap")


@dataclasses.dataclass(frozen=True)
class SizeRun:
    """One run of a learning curve.

    Attributes:
        fraction: of the training rows.
        rows: how many those are.
        seed: of split, order, weights.
        train, validation: the losses at the epoch that counts, without the penalty.
        epoch: that epoch, from 0; None where there was no finite loss.
        state: of `kf.Diagnosis` at the end of the run.
        wider: whether the model had more capacity than `build_fn` gives.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.evidence import SizeRun
        >>> SizeRun(0.1, 100, 0, 0.2, 0.5, 7, "overfitting").validation
        0.5
    """

    fraction: float
    rows: int
    seed: int
    train: float
    validation: float
    epoch: int | None
    state: str
    wider: bool = False


@dataclasses.dataclass(frozen=True)
class SizePoint:
    """The runs of one size.

    Attributes:
        fraction: of the training rows.
        rows: how many those are.
        train, validation: the losses, an `Estimate` over the seeds.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.evidence import Estimate, SizePoint
        >>> one = Estimate(0.5, 0.1, 0.4, 0.6, 3)
        >>> SizePoint(0.1, 100, one, one).rows
        100
    """

    fraction: float
    rows: int
    train: Estimate
    validation: Estimate


@dataclasses.dataclass(frozen=True, repr=False)
class LearningCurveReport:
    """Losses against the number of rows, and what that says. By `kf.learning_curve`.

    Attributes:
        runs: a `SizeRun` each.
        overlap: rows of validation over rows of training where each seed has a split of
            its own, 0 where all share the validation rows given.
        least: a fall of the loss that is worth having, as a fraction.
        capacity: how many times as wide the wider model was, or None.
        no_capacity: why there was no wider model; "" where there was one.
        notes: what else a reader must know.

    Raises:
        TypeError: a field is missing.
        OSError: from `plot`, when the picture cannot be written.

    Example:
        >>> from keras_fitkit.evidence import LearningCurveReport, SizeRun
        >>> runs = [
        ...     SizeRun(
        ...         share, int(1000 * share), seed, 0.1, loss + 0.001 * seed, 9, "?"
        ...     )
        ...     for share, loss in ((0.5, 0.4), (1.0, 0.3))
        ...     for seed in range(3)
        ... ]
        >>> report = LearningCurveReport(tuple(runs), 0.0, 0.02, None, "not asked for")
        >>> report.more_data
        'would help'
        >>> print(report.doubling)
        -0.3322 (-0.335 to -0.3295)
    """

    runs: tuple[SizeRun, ...]
    overlap: float
    least: float
    capacity: float | None
    no_capacity: str = ""
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> tuple[SizePoint, ...]:
        """The sizes, smallest first."""
        shares = sorted({run.fraction for run in self.runs})
        return tuple(self._point(share) for share in shares)

    @property
    def wider(self) -> Estimate | None:
        """Validation loss of the wider model with all rows; None: there was none."""
        found = [run.validation for run in self.runs if run.wider]
        return estimate(found, overlap=self.overlap) if found else None

    @property
    def doubling(self) -> Estimate:
        """What twice the rows would change, as a fraction of the validation loss.

        From the last two sizes, run by run: (L2 - L1) / log2(n2 / n1) / L2. It takes
        the curve to go on as it did last; curves flatten, so the fall is rather less.
        """
        first, second = (self._of(p.fraction) for p in self.points[-2:])
        changes = []
        for seed, run in second.items():
            before = first[seed]
            steps = math.log2(run.rows / before.rows)
            fall = (run.validation - before.validation) / steps
            changes.append(relative(fall, run.validation))
        return estimate(changes, overlap=self.overlap)

    @property
    def widening(self) -> Estimate | None:
        """What the wider model changed, as a fraction of the validation loss."""
        plain = self._of(self.points[-1].fraction)
        changes = [
            relative(
                run.validation - plain[run.seed].validation, plain[run.seed].validation
            )
            for run in self.runs
            if run.wider
        ]
        return estimate(changes, overlap=self.overlap) if changes else None

    @property
    def more_data(self) -> Answer:
        """Whether twice the rows "would help", "would not", or "cannot tell"."""
        return would_lower(self.doubling, self.least)

    @property
    def more_capacity(self) -> Answer:
        """The same for a wider model; "cannot tell" where none was trained."""
        found = self.widening
        return "cannot tell" if found is None else would_lower(found, self.least)

    @property
    def verdict(self) -> str:
        """Both answers in one sentence."""
        wide = "" if self.widening is None else f" ({_span(self.widening)})"
        return (
            f"more data: {self.more_data} ({_span(self.doubling)} for twice the rows); "
            f"more capacity: {self.more_capacity}{wide}"
        )

    @property
    def summary(self) -> str:
        """The report in one line."""
        last = self.points[-1]
        return (
            f"validation loss {last.validation} with {last.rows} rows; {self.verdict}"
        )

    def render(self) -> str:
        """The report as text: a line a size, and the rule of the verdict."""
        lines = [self.verdict, *tables.aligned(_HEADINGS, self._cells())]
        return "\n".join([*lines, *self._remarks()])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        wide = self.widening
        return {
            "more_data": self.more_data,
            "more_capacity": self.more_capacity,
            "doubling": dataclasses.asdict(self.doubling),
            "widening": None if wide is None else dataclasses.asdict(wide),
            "points": [dataclasses.asdict(point) for point in self.points],
            "runs": [dataclasses.asdict(run) for run in self.runs],
            "notes": list(self.notes),
        }

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """A matplotlib figure: both losses against the number of rows.

        Args:
            path: where to write it as well, or None.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: matplotlib is missing; names the extra to install.
        """
        target = None if path is None else arguments.path("path", path)
        return plots.sizes(self, target)

    def _of(self, fraction: float) -> dict[int, SizeRun]:
        return {
            run.seed: run
            for run in self.runs
            if run.fraction == fraction and not run.wider
        }

    def _point(self, fraction: float) -> SizePoint:
        runs = list(self._of(fraction).values())
        train, validation = (
            estimate([getattr(run, name) for run in runs], overlap=self.overlap)
            for name in ("train", "validation")
        )
        return SizePoint(fraction, runs[0].rows, train, validation)

    def _cells(self) -> list[list[str]]:
        rows = [
            _row(f"{p.rows:,}", f"{100 * p.fraction:.3g} %", p.train, p.validation)
            for p in self.points
        ]
        wider = [run for run in self.runs if run.wider]
        if wider and self.wider is not None:
            train = estimate([run.train for run in wider])
            name = f"{wider[0].rows:,}, {self.capacity:g} x wide"
            rows.append(_row(name, "100 %", train, self.wider))
        return rows

    def _remarks(self) -> list[str]:
        rule = (
            f"rule: 'would help' where the 95 % interval of the change lies below 0 "
            f"and its mean is a fall of {100 * self.least:g} % or more, 'would not' "
            "where the interval rules out such a fall"
        )
        missing = f"no wider model: {self.no_capacity}" if self.no_capacity else ""
        return [text for text in (rule, missing, *self.notes) if text]

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<LearningCurveReport: {self.summary}>"

    def _repr_html_(self) -> str:
        return tables.as_html(self.verdict, _HEADINGS, self._cells(), self._remarks())


def _span(change: Estimate) -> str:
    if change.low is None or change.high is None:
        return tables.percent(change.mean)
    low, high = (tables.percent(end) for end in (change.low, change.high))
    return f"{tables.percent(change.mean)}, {low} to {high}"


def _row(name: str, share: str, train: Estimate, validation: Estimate) -> list[str]:
    ends = (validation.low, validation.high)
    span = "?" if None in ends else " to ".join(tables.number(end) for end in ends)
    gap = tables.number(validation.mean - train.mean)
    means = [tables.number(one.mean) for one in (train, validation)]
    return [name, share, str(validation.count), *means, span, gap]
