"""What `try_remedies` found."""

from __future__ import annotations

import dataclasses
import os
import statistics
from typing import Any, Literal

from keras_fitkit._core import arguments
from keras_fitkit.evidence import plots, tables
from keras_fitkit.evidence.intervals import Estimate, estimate

Outcome = Literal["helped", "hurt", "cannot tell", "not tried"]
_HEADINGS = (
    "remedy",
    "validation",
    "change",
    "95 %",
    "in percent",
    "best epoch",
    "runs",
    "verdict",
)


@dataclasses.dataclass(frozen=True)
class RemedyTrial:
    """One remedy against the baseline, seed by seed.

    Attributes:
        name: of the remedy.
        text: what it does.
        code: what to write for it.
        losses: validation loss after the run, by seed, without the penalty.
        changes: those minus the baseline's of the same seed.
        change: their mean and its interval.
        best_losses: the lowest validation loss of each run: too good, for it was picked
            on the validation rows; for comparison only.
        test_changes: the changes of the test loss; empty where there is none.
        reason: why it was not tried, or not with all seeds; "" where it was.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.evidence import Estimate, RemedyTrial
        >>> change = Estimate(-0.1, 0.01, -0.13, -0.07, 3)
        >>> trial = RemedyTrial(
        ...     "l2", "", "", (0.3,) * 3, (-0.1,) * 3, change, (0.3,) * 3
        ... )
        >>> trial.verdict
        'helped'
    """

    name: str
    text: str
    code: str
    losses: tuple[float, ...]
    changes: tuple[float, ...]
    change: Estimate
    best_losses: tuple[float, ...]
    test_changes: tuple[float, ...] = ()
    reason: str = ""

    @property
    def verdict(self) -> Outcome:
        """What the interval says: it lies below 0, above 0, or holds 0."""
        if not self.losses:
            return "not tried"
        if self.change.low is None or self.change.high is None:
            return "cannot tell"
        if self.change.high < 0:
            return "helped"
        return "hurt" if self.change.low > 0 else "cannot tell"


@dataclasses.dataclass(frozen=True, repr=False)
class RemedyReport:
    """Remedies ranked by what they changed. Made by `kf.try_remedies`.

    Attributes:
        trials: a `RemedyTrial` each, in the order in which they were tried.
        baseline: validation losses of the model as it is, by seed.
        state: the most frequent verdict on the baseline.
        diagnosis: that verdict in a sentence.
        epochs: of a run.
        seeds: of the runs.
        test_rows: of the test data; 0 where there was none.
        notes: what else a reader must know.

    Raises:
        TypeError: a field is missing.
        OSError: from `plot`, when the picture cannot be written.

    Example:
        >>> from keras_fitkit.evidence import Estimate, RemedyReport, RemedyTrial
        >>> change = Estimate(-0.1, 0.05, -0.22, 0.02, 3)
        >>> trial = RemedyTrial(
        ...     "l2", "", "", (0.3,) * 3, (-0.1,) * 3, change, (0.3,) * 3
        ... )
        >>> report = RemedyReport((trial,), (0.4,) * 3, "healthy", "", 9, (0, 1, 2), 0)
        >>> print(report.verdict)
        nothing helped beyond chance, of 1 remedy tried
    """

    trials: tuple[RemedyTrial, ...]
    baseline: tuple[float, ...]
    state: str
    diagnosis: str
    epochs: int
    seeds: tuple[int, ...]
    test_rows: int
    notes: tuple[str, ...] = ()

    @property
    def ranked(self) -> tuple[RemedyTrial, ...]:
        """What was tried, the largest fall of the validation loss first."""
        tried = [trial for trial in self.trials if trial.losses]
        return tuple(sorted(tried, key=lambda trial: trial.change.mean))

    @property
    def winner(self) -> RemedyTrial | None:
        """The first of those that helped beyond chance; None: nothing did."""
        helped = [trial for trial in self.ranked if trial.verdict == "helped"]
        return helped[0] if helped else None

    @property
    def confirmation(self) -> Estimate | None:
        """What the winner changed on the test data, which chose nothing."""
        first = self.winner
        if first is None or not first.test_changes:
            return None
        return estimate(first.test_changes)

    @property
    def verdict(self) -> str:
        """Which remedy helped most, in one sentence."""
        first, count = self.winner, len(self.ranked)
        if first is None:
            kinds = "remedy" if count == 1 else "remedies"
            return f"nothing helped beyond chance, of {count} {kinds} tried"
        before = statistics.fmean(self.baseline)
        share = tables.percent(first.change.mean / before) if before > 0 else ""
        return (
            f"{first.name} helped most: validation loss {first.change} {share}".rstrip()
        )

    @property
    def summary(self) -> str:
        """The report in one line."""
        return f"baseline {self.state.replace('_', ' ')}; {self.verdict}"

    @property
    def code(self) -> str:
        """What to write for the winner; "" where nothing helped."""
        return "" if self.winner is None else self.winner.code

    def render(self) -> str:
        """The report as text: the ranking, the code, what to be careful about."""
        lines = [self.summary, f"the baseline: {self.diagnosis}"]
        lines += tables.aligned(_HEADINGS, self._cells())
        lines += self._remarks()
        if self.code:
            lines += ["", *(f"    {line}" for line in self.code.splitlines())]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        confirmed = self.confirmation
        return {
            **dataclasses.asdict(self),
            "trials": [
                {
                    **dataclasses.asdict(trial),
                    "change": dataclasses.asdict(trial.change)
                    if trial.losses
                    else None,
                    "verdict": trial.verdict,
                }
                for trial in self.trials
            ],
            "verdict": self.verdict,
            "winner": None if self.winner is None else self.winner.name,
            "confirmation": None
            if confirmed is None
            else dataclasses.asdict(confirmed),
        }

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """A matplotlib figure: each change with its interval, best on top.

        Args:
            path: where to write it as well, or None.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: matplotlib is missing; names the extra to install.
        """
        target = None if path is None else arguments.path("path", path)
        return plots.remedies(self, target)

    def _cells(self) -> list[list[str]]:
        base = statistics.fmean(self.baseline)
        rows = [
            [
                "baseline",
                tables.number(base),
                "",
                "",
                "",
                "",
                f"{len(self.baseline)}",
                "",
            ]
        ]
        for trial in self.ranked:
            change = trial.change
            ends = (change.low, change.high)
            span = "?" if None in ends else " to ".join(map(tables.number, ends))
            share = tables.percent(change.mean / base) if base > 0 else "?"
            rows.append(
                [
                    trial.name,
                    tables.number(statistics.fmean(trial.losses)),
                    tables.number(change.mean),
                    span,
                    share,
                    tables.number(statistics.fmean(trial.best_losses)),
                    str(len(trial.losses)),
                    trial.verdict,
                ]
            )
        return rows

    def _remarks(self) -> list[str]:
        count = len(self.ranked)
        chance = 1 - 0.975**count
        remarks = [
            f"{trial.name}: {'not tried' if not trial.losses else 'not finished'}, "
            f"{trial.reason}"
            for trial in self.trials
            if trial.reason
        ]
        remarks += [
            f"{self.epochs} epochs a run, {len(self.seeds)} seeds; changes are of the "
            "loss after the last epoch, without the penalty, paired by seed",
            f"with {count} tried, chance alone makes one or more of them look helpful "
            f"in {100 * chance:.0f} % of such trials, and the first of a ranking looks "
            "better than it is",
            *self.notes,
            self._confirmed(),
        ]
        return remarks

    def _confirmed(self) -> str:
        if not self.test_rows:
            return "not confirmed: pass test_data=, rows that choose nothing"
        if self.confirmation is None:
            return "test data: there is no winner to confirm"
        found = self.confirmation
        sure = found.high is not None and found.high < 0
        word = "confirmed" if sure else "NOT confirmed"
        return f"{word} on {self.test_rows} test rows: change {found}"

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<RemedyReport: {self.summary}>"

    def _repr_html_(self) -> str:
        notes = [self.diagnosis, *self._remarks(), self.code]
        return tables.as_html(
            self.summary, _HEADINGS, self._cells(), [n for n in notes if n]
        )
