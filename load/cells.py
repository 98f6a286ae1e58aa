"""Cells and tables of the report."""

from __future__ import annotations

from collections.abc import Sequence

FOLDER = "docs/load"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)) + "\n"


def number(value: float | None, digits: int = 1) -> str:
    """Show a figure, or a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"
