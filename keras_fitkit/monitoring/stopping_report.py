"""What ended a fit, as `EarlyStopping.report` tells it."""

from __future__ import annotations

import dataclasses
import html
import math
from typing import Any

CONDITIONS: dict[str, str] = {
    "patience": "no improvement for `patience` epochs",
    "gl": "Prechelt's generalization loss",
    "pq": "Prechelt's progress quotient",
    "up": "Prechelt's successive strips",
    "stopping_threshold": "the value is good enough",
    "divergence_threshold": "the value is too bad",
    "max_seconds": "the time is up",
    "non_finite_weights": "the weights hold NaN or infinity",
    "other": "another callback or the user's code stopped the fit",
    "finished": "all epochs ran",
    "running": "the fit is running, or was interrupted",
    "not run": "no fit yet",
}
"""What each value of `StoppingReport.condition` means; any other is a user's rule."""

NOT_STOPPED = frozenset({"finished", "running", "not run"})


@dataclasses.dataclass(frozen=True, repr=False)
class StoppingReport:
    """Which condition ended a fit. Made by `EarlyStopping.report`.

    Epochs in attributes are 0-based, as in Keras's `History.epoch`; those in any text
    are 1-based, as on Keras's progress bar.

    Attributes:
        stopped: whether the fit ended before its last epoch was due, or in it by a
            condition of its own.
        condition: "patience", "gl", "pq", "up", "stopping_threshold",
            "divergence_threshold", "max_seconds", "non_finite_weights", "other"
            (another callback or the user's code stopped the fit), "finished" (all
            epochs ran), "running" (or interrupted), "not run", or the name of the
            user's rule.
        epoch: the last epoch that was seen, None before the first.
        best_epoch: the epoch of the best value, None when there is none.
        best: the best (smoothed) value of the first metric, None when there is none.
        monitor: the monitored names.
        why: the condition in numbers, one sentence.
        values: for each metric `value` (the last finite one, smoothed if asked for),
            `raw` (the last one), `best`, `best_epoch` and `wait`.
        seconds: wall-clock seconds of the fit so far.
        restored: whether the best weights were put back into the model.
        notes: what else a reader must know.

    Example:
        >>> report = StoppingReport(
        ...     condition="patience",
        ...     epoch=7,
        ...     best_epoch=2,
        ...     best=0.25,
        ...     monitor=("val_loss",),
        ...     why="`val_loss` did not improve for 5 epochs.",
        ... )
        >>> report.stopped, report.to_dict()["best"]
        (True, 0.25)
        >>> print(report.render())
        Stopped in epoch 8: no improvement for `patience` epochs
          `val_loss` did not improve for 5 epochs.
          best: val_loss = 0.25 in epoch 3, weights not restored
          time: 0.0 s

    Raises:
        TypeError: a field of an unknown name.
    """

    condition: str
    epoch: int | None
    best_epoch: int | None
    best: float | None
    monitor: tuple[str, ...]
    why: str
    values: dict[str, dict[str, float | int | None]] = dataclasses.field(
        default_factory=dict
    )
    seconds: float = 0.0
    restored: bool = False
    notes: tuple[str, ...] = ()

    @property
    def stopped(self) -> bool:
        """Whether something ended the fit other than its last epoch."""
        return self.condition not in NOT_STOPPED

    @property
    def summary(self) -> str:
        """The condition in one line."""
        meaning = CONDITIONS.get(self.condition, f"the rule {self.condition}")
        if not self.stopped:
            return f"Not stopped: {meaning}"
        where = "" if self.epoch is None else f" in epoch {self.epoch + 1}"
        return f"Stopped{where}: {meaning}"

    def render(self) -> str:
        """The report as text."""
        lines = [self.summary]
        if self.why:
            lines.append(f"  {self.why}")
        lines.append(f"  best: {self._best_text()}")
        lines += [f"  note: {note}" for note in self.notes]
        lines.append(f"  time: {self.seconds:.1f} s")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes; NaN becomes None."""
        plain = {
            "stopped": self.stopped,
            "summary": self.summary,
            **{
                field.name: getattr(self, field.name)
                for field in dataclasses.fields(self)
            },
        }
        plain["monitor"], plain["notes"] = list(self.monitor), list(self.notes)
        plain["values"] = {
            name: {key: _finite(value) for key, value in row.items()}
            for name, row in self.values.items()
        }
        return plain

    def _best_text(self) -> str:
        if self.best is None or self.best_epoch is None:
            return "none, because no epoch with a finite value has counted"
        kept = "weights restored" if self.restored else "weights not restored"
        where = f"epoch {self.best_epoch + 1}, {kept}"
        return f"{self.monitor[0]} = {self.best:.6g} in {where}"

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<StoppingReport: {self.summary}>"

    def _repr_html_(self) -> str:
        lines = self.render().splitlines()
        items = "".join(f"<li>{html.escape(line.strip())}</li>" for line in lines[1:])
        return f"<b>{html.escape(lines[0])}</b><ul>{items}</ul>"


def _finite(value: float | int | None) -> float | int | None:
    return value if value is not None and math.isfinite(value) else None
