"""Tables as one CSV: full precision, mean and standard deviation in columns of their own."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rsbench.report.table import Cell, Column, Table


def _fields(column: Column, cell: Cell) -> dict[str, str]:
    if cell.mean is None:
        return {column.key: cell.text}
    return {column.key: repr(cell.mean), f"{column.key}_std": "" if cell.std is None else repr(cell.std)}


def _record(table: Table, cells: Sequence[Cell]) -> dict[str, str]:
    record = {"table": table.title}
    for column, cell in zip(table.columns, cells, strict=True):
        record |= _fields(column, cell)
    return record


def render(tables: Sequence[Table]) -> str:
    """One header for all tables; the first column names the table. Notes are left to the other formats."""
    records = [_record(t, row.cells) for t in tables for row in t.rows]
    measured = {f"{c.key}_std": c.key for t in tables for c in t.columns}
    names: dict[str, None] = {"table": None}
    for key in (c.key for t in tables for c in t.columns):
        names[key] = None
        names |= {s: None for s, own in measured.items() if own == key and any(s in r for r in records)}
    out = io.StringIO()
    writer = csv.DictWriter(out, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()
