"""Tables on the screen and one JSON file."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from _scoring import Score
from rich.console import Console
from rich.table import Table

from keras_fitkit._core.files import atomic_path

console = Console(width=None if sys.stdout.isatty() else 120)


@dataclasses.dataclass(frozen=True)
class Requirement:
    """A figure that issue 2 asks for: at least `limit`, or at most where `at_most`."""

    name: str
    value: float
    limit: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure itself is within the limit, whatever its interval."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def to_dict(self) -> dict[str, object]:
        """Everything, as plain values."""
        return {**dataclasses.asdict(self), "met": self.met}


def print_scores(title: str, scores: Iterable[tuple[str, Score]], ours: int) -> None:
    """One row a rule; the first `ours` are ours."""
    table = Table(title=title, title_justify="left")
    table.add_column("rule")
    for heading in (
        "P",
        "R",
        "F1",
        "95 %",
        "false alarms",
        "95 %",
        "early",
        "missed",
        "delay",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, (name, score) in enumerate(scores):
        table.add_row(
            name,
            f"{score.precision:.3f}",
            f"{score.recall:.3f}",
            f"{score.f1:.3f}",
            "{:.3f}-{:.3f}".format(*score.f1_interval()),
            f"{score.false_alarm_rate:.3f} ({score.false_alarms})",
            "{:.3f}-{:.3f}".format(*score.false_alarm_interval()),
            str(score.early),
            str(score.missed),
            "-" if score.delay is None else f"{score.delay:.0f}",
            style="bold" if row < ours else None,
            end_section=row == ours - 1,
        )
    console.print(table)


def print_matrix(
    title: str, states: Sequence[str], matrix: Mapping[str, Mapping[str, int]]
) -> None:
    """A confusion matrix: true states down, verdicts across."""
    verdicts = [*states, "unknown"]
    table = Table(title=title, title_justify="left")
    table.add_column("true state")
    for verdict in verdicts:
        table.add_column(verdict, justify="right", overflow="fold")
    table.add_column("right", justify="right", no_wrap=True)
    for state in states:
        counts = matrix[state]
        right = counts.get(state, 0) / max(1, sum(counts.values()))
        cells = [str(counts.get(verdict, 0) or ".") for verdict in verdicts]
        table.add_row(state, *cells, f"{right:.2f}")
    console.print(table)


def print_rows(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """A plain table: words in the first column, figures in the others."""
    table = Table(title=title, title_justify="left")
    for column, heading in enumerate(headings):
        table.add_column(heading, justify="right" if column else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_requirements(requirements: Iterable[Requirement]) -> None:
    """What issue 2 needs, and whether it is so."""
    rows = [
        (
            requirement.name,
            f"{requirement.value:.3f}",
            f"{'<=' if requirement.at_most else '>='} {requirement.limit:.2f}",
            "[green]met[/]" if requirement.met else "[red]NOT met[/]",
        )
        for requirement in requirements
    ]
    print_rows("Required", ("figure", "measured", "limit", ""), rows)


def write_json(path: Path, results: dict[str, object]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
