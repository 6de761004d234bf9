"""Rows of text, aligned; and the same for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]


def aligned(headings: Sequence[str], rows: Rows) -> list[str]:
    """Lines with the first column to the left, the others to the right."""
    cells = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def as_html(
    title: str, headings: Sequence[str], rows: Rows, notes: Sequence[str] = ()
) -> str:
    """A table with a title and remarks, escaped."""

    def line(cells: Sequence[str], kind: str) -> str:
        inner = "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    body = "".join(line(row, "td") for row in rows)
    rest = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    head = line(headings, "th")
    return f"<b>{html.escape(title)}</b><table>{head}{body}</table>{rest}"


def number(value: float | None) -> str:
    """Four digits, or ? where there is none."""
    return "?" if value is None or value != value else f"{value:.4g}"


def percent(share: float | None) -> str:
    """A signed percentage, or ? where there is none."""
    return "?" if share is None or share != share else f"{100 * share:+.1f} %"
