"""The verdict on a fit: state, since when, the numbers behind it, what to do."""

from __future__ import annotations

import dataclasses
import html
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_fitkit.monitoring import rules, states
from keras_fitkit.monitoring.advice import Facts, Remedy, advice_for
from keras_fitkit.monitoring.curves import Curves, Mode
from keras_fitkit.monitoring.rules import Rule
from keras_fitkit.monitoring.verdict import Severity, State

if TYPE_CHECKING:
    import os

MEANING: dict[str, str] = {
    "healthy": "validation is still improving, or ended close to its best",
    "overfitting": "validation got worse while training kept improving",
    "underfitting": "the model has learnt little more than the constant predictor",
    "undertrained": "both curves were still falling fast when the run ended",
    "diverging": "training itself got worse or is no longer a number",
    "plateau": "both curves are flat and no longer improve",
    "validation_easier": "validation is lastingly better than training",
    "unknown": "there is too little to judge",
}

_LABELS = {
    "train_last": "training, last epoch",
    "validation_last": "validation, last epoch",
    "validation_best": "validation, best epoch (smoothed)",
    "validation_rise": "validation above its best (smoothed)",
    "validation_noise": "validation noise (1 sd)",
    "gap_first": "gap, first epoch",
    "gap_last": "gap, last epoch",
    "gap_trend_z": "gap trend (Mann-Kendall z)",
    "train_improvement_last_third": "training improved in the last third",
    "validation_improvement_last_third": "validation improved in the last third",
    "constant_predictor": "best constant predictor",
    "skill": "error removed beyond the constant predictor",
    "train_rows": "rows of training that were measured",
    "validation_rows": "rows of validation",
}
_SHARES = frozenset(
    "validation_rise train_improvement_last_third skill "
    "validation_improvement_last_third".split()
)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Diagnosis:
    """What became of a fit. Made by `OverfitMonitor.report` and `diagnose`.

    Epoch numbers in attributes are 0-based, as in Keras's `History.epoch`; those in
    `evidence` and in any text are 1-based, as on Keras's progress bar.

    Attributes:
        state: "healthy", "overfitting", "underfitting", "undertrained", "diverging",
            "plateau", "validation_easier" or "unknown".
        since_epoch: 0-based epoch at which the state began, or None.
        severity: "none", "mild", "moderate" or "severe". For overfitting: validation
            less than 10 %, less than 30 %, or more above its best; of a score within
            [0, 1] these are shares of the error, 1 - score.
        summary: the verdict in one sentence (a property).
        evidence: the numbers behind the state by name; one that could not be had is
            None. `epochs` (that were judged), `train_last`, `validation_last`,
            `validation_best` and `best_epoch` (of the smoothed curve),
            `validation_rise` (above that best, as a fraction), `validation_noise` (1
            sd), `gap_first`, `gap_last`, `gap_trend_z` (Mann-Kendall, last 15 epochs),
            `train_improvement_last_third`, `validation_improvement_last_third`
            (fractions), `constant_predictor`, `skill` (error removed beyond it),
            `train_rows`, `validation_rows`; where they apply `reason`, `flagged_epoch`
            (of the rule), `recovered`, `non_finite_weights`, `epoch` (in which a
            number broke) and `<name>_last` (what it became).
        advice: what to do, most useful first, each with `text` and `call`.
        train_source: where the training values come from.
        notes: what else a reader must know.
        curves: the curves that were judged.

    Example:
        >>> import keras_fitkit as kf
        >>> loss = [2.0, 1.0, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02]
        >>> val_loss = [2.1, 1.2, 0.9, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4]
        >>> verdict = kf.diagnose({"loss": loss, "val_loss": val_loss})
        >>> verdict.state, verdict.since_epoch, verdict.severity
        ('overfitting', 3, 'severe')
        >>> print(verdict.advice[0].call)
        kf.EarlyStopping(patience=5, restore_best_weights=True)

    Raises:
        OSError: from `plot`, when the picture cannot be written.
    """

    state: State
    since_epoch: int | None
    severity: Severity
    evidence: dict[str, float | int | str | None]
    advice: tuple[Remedy, ...]
    train_source: str
    notes: tuple[str, ...]
    curves: Curves

    @property
    def summary(self) -> str:
        """The verdict in one sentence."""
        since = (
            "" if self.since_epoch is None else f" since epoch {self.since_epoch + 1}"
        )
        degree = "" if self.severity == "none" else f" ({self.severity})"
        name = self.state.replace("_", " ")
        reason = self.evidence.get("reason")
        why = f", because {reason}" if reason else f": {MEANING[self.state]}"
        return f"{name}{since}{degree}{why}."

    def render(self) -> str:
        """The whole report as text: verdict, evidence, what to do."""
        lines = [f"{self.curves.monitor}: {self.summary}", "", "Evidence"]
        lines += [f"  {label:<46} {value}" for label, value in self._rows()]
        lines.append(f"  training values: {self.train_source}")
        lines += [f"  note: {note}" for note in self.notes]
        if self.advice:
            lines += ["", "What to do (only a trial tells which helps on this data)"]
        for number, remedy in enumerate(self.advice, 1):
            lines.append(f"  {number}. {remedy.text}")
            if remedy.call:
                lines.append(f"     {remedy.call}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes; NaN becomes None."""
        return {
            "monitor": self.curves.monitor,
            "mode": self.curves.mode,
            "state": self.state,
            "since_epoch": self.since_epoch,
            "severity": self.severity,
            "summary": self.summary,
            "evidence": {name: _plain(value) for name, value in self.evidence.items()},
            "advice": [dataclasses.asdict(remedy) for remedy in self.advice],
            "train_source": self.train_source,
            "notes": list(self.notes),
        }

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """A matplotlib figure of the curves, the gap and the verdict.

        Args:
            path: where to write it as well (the ending decides the format), or None.

        Returns:
            The `matplotlib.figure.Figure`; the caller's own figures stay untouched.

        Raises:
            ImportError: matplotlib is missing; names the extra to install.
        """
        from keras_fitkit.monitoring.plots import plot_diagnosis

        return plot_diagnosis(self, path)

    def _rows(self) -> list[tuple[str, str]]:
        rows = []
        for name, value in self.evidence.items():
            if name == "reason":
                continue
            if value is None:
                reason = self.curves.constant_note or "see the note"
                note = reason if name in _CONSTANT else ""
                text = f"not known{f' ({note})' if note else ''}"
            elif name in _SHARES:
                # + 0.0: a share that rounds to -0.0 is shown as 0.0
                text = f"{round(100 * float(value), 1) + 0.0:.1f} %"
            else:
                text = f"{value:.4g}" if isinstance(value, float) else str(value)
            rows.append((self._label(name), text))
        return rows

    def _label(self, name: str) -> str:
        if name == "validation_rise" and self.curves.mode == "max":
            error = "error (1 - score) above" if self.curves.bounded else "below"
            return f"validation {error} its best (smoothed)"
        return _LABELS.get(name, name.replace("_", " "))

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<Diagnosis of {self.curves.monitor}: {self.summary}>"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{html.escape(label)}</td><td>{html.escape(text)}</td></tr>"
            for label, text in self._rows()
        )
        steps = [
            f"{html.escape(remedy.text)} <code>{html.escape(remedy.call)}</code>"
            for remedy in self.advice
        ]
        todo = "".join(f"<li>{step}</li>" for step in steps)
        title = html.escape(f"{self.curves.monitor}: {self.summary}")
        source = html.escape(f"training values: {self.train_source}")
        return f"<b>{title}</b><table>{cells}</table><p>{source}</p><ol>{todo}</ol>"


_CONSTANT = frozenset({"constant_predictor", "skill"})


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def diagnose_run(curves: Curves, rule: Any = "auto") -> Diagnosis:
    """The verdict on `curves` by `rule` ("auto", "gl", "pq", "up" or a callable)."""
    chosen: Rule = rules.resolve(rule, int(np.count_nonzero(curves.usable)))
    name = rules.name_of(rule)
    verdict = states.judge(curves, chosen, name)
    since = None if verdict.since is None else int(curves.epochs[verdict.since])
    facts = Facts(
        honest=curves.honest,
        wide_gap=_wide_gap(verdict.evidence),
        epochs=int(curves.epochs[-1]) + 1 if len(curves.epochs) else 0,
        optimizer=curves.optimizer,
        rows_known=curves.rows[0] is not None,
        rule=name,
        unclear="epochs" in verdict.evidence,
    )
    return Diagnosis(
        state=verdict.state,
        since_epoch=since,
        severity=verdict.severity,
        evidence=verdict.evidence,
        advice=advice_for(verdict.state, facts),
        train_source=curves.train_source,
        notes=(*curves.notes, *verdict.notes),
        curves=curves,
    )


def _wide_gap(evidence: dict[str, Any]) -> bool:
    gap, value = evidence.get("gap_last"), evidence.get("validation_last")
    return bool(gap and value and gap > 0.25 * abs(value))


def diagnose_curves(
    train: Any,
    validation: Any,
    *,
    monitor: str = "loss",
    mode: Mode = "min",
    constant: float | None = None,
    honest: bool = True,
    rule: Any = "auto",
    rows: tuple[int | None, int | None] = (None, None),
) -> Diagnosis:
    """The verdict on two bare sequences, one value an epoch, oldest first.

    For `benchmarks/diagnosis.py` and tests.
    """
    first = np.asarray(train, dtype=float)
    second = np.asarray(validation, dtype=float)
    curves = Curves(
        monitor=monitor,
        mode=mode,
        epochs=np.arange(len(first)),
        train=first,
        validation=second,
        honest=honest,
        constant=constant,
        constant_note="" if constant is not None else "the run did not record it",
        rows=rows,
    )
    return diagnose_run(curves, rule)
