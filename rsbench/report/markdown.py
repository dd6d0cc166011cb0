"""Tables in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rsbench.report.table import Cell, Column, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&])")


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.best:
        return f"**{text}**"
    return f"<u>{text}</u>" if cell.second else text


def _heading(column: Column) -> str:
    short = {"Image-to-Text": "I2T ", "Text-to-Image": "T2I "}
    return short.get(column.group, f"{column.group}: " if column.group else "") + column.title


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def render(tables: Sequence[Table]) -> str:
    """All tables, each with its title above and its notes below."""
    return "\n".join(_render(t) for t in tables)


def _render(table: Table) -> str:
    lines = [f"### {escape(table.title)}", "", _line([escape(_heading(c)) for c in table.columns])]
    lines.append(_line(["---:" if c.number else "---" for c in table.columns]))
    lines += [_line([_cell(c) for c in row.cells]) for row in table.rows]
    return "\n".join([*lines, "", *(f"- {escape(n)}" for n in table.notes), ""])
