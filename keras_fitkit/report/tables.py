"""Tables as text for a console, as Markdown and as HTML."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence

WIDTH = 160  # a console's, so that the text does not depend on where it is made


def console(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of rich, as plain text; all columns but the first to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    target = Console(
        file=io.StringIO(), width=WIDTH, color_system=None, markup=False, emoji=False
    )
    target.print(table, highlight=False)
    text = target.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    cells = [[one.replace("|", "\\|") for one in row] for row in (heads, *rows)]
    marks = ["---", *("---:" for _ in heads[1:])]
    lines = (f"| {' | '.join(row)} |" for row in (cells[0], marks, *cells[1:]))
    return "\n".join(lines)


def of_html(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of HTML, all texts escaped."""
    head = "".join(f"<th>{html.escape(one)}</th>" for one in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(one)}</td>' for one in row)}</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
