"""What `states.judge` answers: a state, since when, how bad, and its numbers."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias

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


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A state with the index (into the curves) where it began and its numbers."""

    state: State
    since: int | None = None
    severity: Severity = "none"
    evidence: Evidence = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
