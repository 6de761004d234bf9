"""What `kf.check` found."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

SEVERITIES = ("error", "warning", "note")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One mistake.

    Attributes:
        rule: which one, such as "duplicates".
        severity: "error", the training learns something else than what is meant;
            "warning", it learns worse or its scores mislead; "note", worth knowing.
        text: what was found, with the numbers.
        fix: code, or what to do.
        evidence: the numbers by name.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> from keras_fitkit.regularizers import Finding
        >>> finding = Finding("no validation", "warning", "none given", "pass some")
        >>> str(finding)
        'warning: none given'
    """

    rule: str
    severity: str
    text: str
    fix: str
    evidence: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.severity}: {self.text}"


@dataclasses.dataclass(frozen=True, repr=False)
class CheckReport:
    """The findings of `kf.check`, and what it could not look at.

    `bool(report)` is `report.ok`; `rich.print(report)` shows a table.

    Attributes:
        findings: a `Finding` each, the worst ones first.
        unchecked: what could not be looked at, by rule, with the reason.
        rows: how many training rows were looked at.
        validation_rows: how many validation rows.
        where: where the rows come from, in words.

    Raises:
        TypeError: a field is missing.

    Example:
        >>> import numpy as np, keras, keras_fitkit as kf
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> x = np.random.default_rng(0).normal(size=(60, 3))
        >>> report = kf.check(model, (x[:40], x[:40, 0]), (x[40:], x[40:, 0]))
        >>> report.ok
        True
        >>> print(report)
        nothing found; 40 training rows and 20 validation rows looked at
    """

    findings: tuple[Finding, ...]
    unchecked: dict[str, str] = dataclasses.field(default_factory=dict)
    rows: int = 0
    validation_rows: int = 0
    where: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is no error and no warning; a note is neither."""
        return all(one.severity == "note" for one in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    def of(self, rule: str) -> tuple[Finding, ...]:
        """The findings of one rule."""
        return tuple(one for one in self.findings if one.rule == rule)

    @property
    def summary(self) -> str:
        """The report in one line."""
        counts = [
            (sum(one.severity == kind for one in self.findings), kind)
            for kind in SEVERITIES
        ]
        told = [f"{n} {kind}{'s' * (n != 1)}" for n, kind in counts if n]
        text = ", ".join(told) or "nothing found"
        rows = f"{self.rows:,} training rows"
        if self.validation_rows:
            rows += f" and {self.validation_rows:,} validation rows"
        text = f"{text}; {rows} looked at"
        left = len(self.unchecked)
        return f"{text}; {left} rule{'s' * (left != 1)} not checked" if left else text

    def render(self) -> str:
        """The report as text: each finding, and its fix below it."""
        lines = [self.summary]
        for one in self.findings:
            lines.append(f"{one.severity:<8}{one.rule}: {one.text}")
            first, *rest = one.fix.splitlines()
            lines += [f"    fix {first}", *(f"        {line}" for line in rest)]
        lines += [f"not checked {rules}: {why}" for why, rules in self._reasons()]
        return "\n".join(lines)

    def _reasons(self) -> list[tuple[str, str]]:
        """Each reason for which something was not checked, and the rules."""
        found: dict[str, list[str]] = {}
        for rule, why in self.unchecked.items():
            found.setdefault(why, []).append(rule)
        return [(why, ", ".join(rules)) for why, rules in found.items()]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that `json.dumps` takes."""
        return {"ok": self.ok, "summary": self.summary, **dataclasses.asdict(self)}

    def __rich__(self) -> Any:
        """A table for rich, which Keras brings."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.summary, title_justify="left", show_lines=True)
        for heading in ("", "rule", "what was found, and what to do"):
            table.add_column(heading, overflow="fold")
        colours = dict(zip(SEVERITIES, ("red", "yellow", "blue"), strict=True))
        for one in self.findings:
            severity = Text(one.severity, style=colours[one.severity])
            told = Text(f"{one.text}\n").append(one.fix, style="bold")
            table.add_row(severity, Text(one.rule), told)
        for why, rules in self._reasons():
            table.add_row(Text("not checked", style="dim"), Text(rules), Text(why))
        return table

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<CheckReport: {self.summary}>"

    def _repr_html_(self) -> str:
        told = [
            (one.severity, one.rule, one.text, one.fix) for one in self.findings
        ] + [("not checked", rules, why, "") for why, rules in self._reasons()]
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[:3])
            + f"<td><pre>{html.escape(row[3])}</pre></td></tr>"
            for row in told
        )
        return f"<b>{html.escape(self.summary)}</b><table>{rows}</table>"
