"""Tables for the terminal: colours and rules by rich, plain marks when piped."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from rsbench.report.table import Cell, Column, Table


def _one_line(text: str) -> str:
    """Without line breaks and control characters, which a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def _plain_cell(cell: Cell) -> str:
    text = _one_line(cell.text)
    if cell.best:
        return f"*{text}*"
    return f"_{text}_" if cell.second else text


def _heading(column: Column, newline: str) -> str:
    short = {"Image-to-Text": "I2T", "Text-to-Image": "T2I"}
    group = short.get(column.group, "" if not column.group else "mR at")
    title = _one_line(column.title)
    return f"{group}{newline}{title}" if group else title


def render(tables: Sequence[Table]) -> str:
    """All tables as plain text; ``*best*`` and ``_second_``."""
    return "\n".join(_render(t) for t in tables)


def _render(table: Table) -> str:
    body = tabulate(
        [[_plain_cell(c) for c in row.cells] for row in table.rows],
        headers=[_heading(c, " ") for c in table.columns],
        tablefmt="simple",
        colalign=["right" if c.number else "left" for c in table.columns],
        disable_numparse=True,
    )
    return "\n".join(
        [_one_line(table.title), "", _ruled(body, table), "", *(f"  {_one_line(n)}" for n in table.notes), ""]
    )


def _ruled(body: str, table: Table) -> str:
    """Repeat the header's rule between blocks."""
    lines = body.split("\n")
    head, rule, rows = lines[0], lines[1], iter(lines[2:])
    parts = ["\n".join(next(rows) for _ in block) for block in table.blocks()]
    return "\n".join([head, rule, f"\n{rule}\n".join(parts)])


def show(console: Console, tables: Sequence[Table]) -> None:
    """Print the tables: drawn by rich on a terminal, as ``render`` gives them on a pipe."""
    if not console.is_terminal:
        console.print(render(tables), markup=False, soft_wrap=True, end="")
        return
    for table in tables:
        console.print(_drawn(table))
        for note in table.notes:
            console.print(Text(f"  {_one_line(note)}", style="dim"))
        console.print()


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(title=Text(_one_line(table.title)), title_justify="left", header_style="bold")
    for column in table.columns:
        drawn.add_column(Text(_heading(column, "\n")), justify="right" if column.number else "left")
    for block in table.blocks():
        for row in block:
            drawn.add_row(*(_styled(c) for c in row.cells))
        drawn.add_section()
    return drawn


def _styled(cell: Cell) -> Text:
    style = "bold" if cell.best else "underline" if cell.second else ""
    return Text(_one_line(cell.text), style=style)
