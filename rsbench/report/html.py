"""Tables as one HTML page that asks no host for anything: dark and light, in print, without colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as _escape

from rsbench.report.table import Cell, Column, Row, Table

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; width: fit-content; max-width: calc(100% - 2em); }
.rsbench { margin: 0 0 2.5em; overflow-x: auto; }
.rsbench table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.rsbench caption { text-align: left; font-weight: bold; padding: .3em 0; }
.rsbench th, .rsbench td { padding: .15em .6em; text-align: left; white-space: nowrap; }
.rsbench .number { text-align: right; }
.rsbench th[colspan] { text-align: center; border-bottom: 1px solid; }
.rsbench thead { border-top: 2px solid; border-bottom: 1px solid; }
.rsbench tbody { border-bottom: 1px solid; }
.rsbench tbody:last-child { border-bottom: 2px solid; }
.rsbench .std { font-size: 80%; }
.rsbench ul { font-size: 87%; padding-left: 1.2em; max-width: 75em; }
@media print {
  body { max-width: none; } .rsbench { overflow: visible; }
  .rsbench th, .rsbench td { padding: .1em .3em; }
}
""".strip()


def escape(text: str) -> str:
    """Text that a browser shows as it is; control characters are left out."""
    return _escape("".join(c for c in " ".join(text.split()) if c.isprintable()))


def _cell(cell: Cell, column: Column) -> str:
    mean, std = cell.split()
    text = escape(mean) + (f' <span class="std">± {escape(std)}</span>' if std else "")
    if cell.best:
        text = f"<strong>{text}</strong>"
    elif cell.second:
        text = f"<u>{text}</u>"
    return f"<td{_number(column)}>{text}</td>"


def _number(column: Column) -> str:
    return ' class="number"' if column.number else ""


def _heads(table: Table) -> list[str]:
    """One line of headings, or two where neighbouring columns share a heading."""
    if not any(c.group for c in table.columns):
        return [_line(_head(c) for c in table.columns)]
    above, at = [], 0
    for name, width in table.groups():
        column = table.columns[at]
        above.append(f'<th scope="colgroup" colspan="{width}">{escape(name)}</th>' if name else _head(column, 2))
        at += width
    return [_line(above), _line(_head(c) for c in table.columns if c.group)]


def _head(column: Column, rows: int = 1) -> str:
    down = f' rowspan="{rows}"' if rows > 1 else ""
    return f'<th scope="col"{down}{_number(column)}>{escape(column.title)}</th>'


def _line(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _body(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    lines = [_line(_cell(c, column) for c, column in zip(r.cells, columns, strict=True)) for r in rows]
    return ["<tbody>", *lines, "</tbody>"]


def fragment(tables: Sequence[Table]) -> str:
    """The tables alone, for a page of yours; ``STYLE`` is their style sheet."""
    return "\n".join(_section(t) for t in tables)


def _section(table: Table) -> str:
    body = [line for block in table.blocks() for line in _body(block, table.columns)]
    notes = ["<ul>", *(f"<li>{escape(n)}</li>" for n in table.notes), "</ul>"] if table.notes else []
    head = ["<thead>", *_heads(table), "</thead>"]
    caption = f"<caption>{escape(table.title)}</caption>"
    return "\n".join(['<section class="rsbench">', "<table>", caption, *head, *body, "</table>", *notes, "</section>"])


def render(tables: Sequence[Table]) -> str:
    """A whole page with all tables; bold is best, underlined second."""
    title = escape(tables[0].title) if len(tables) == 1 else f"{len(tables)} tables"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title>",
            f"<style>\n{STYLE}\n</style>",
            "</head>",
            "<body>",
            fragment(tables),
            "</body>",
            "</html>",
            "",
        ]
    )
