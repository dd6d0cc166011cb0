"""The neutral table: what every output format is made from."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

PLUS_MINUS = " ± "


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: name in CSV and JSON.
        title: heading.
        group: heading over several neighbouring columns, or "".
        number: right-aligned.
    """

    key: str
    title: str
    group: str = ""
    number: bool = False


@dataclass(frozen=True)
class Cell:
    """A value as shown, with the numbers behind it.

    Attributes:
        text: what is printed; ``—`` where there is nothing to print.
        mean: mean over runs, None for words and marked cells.
        std: sample standard deviation (n-1), None for a single run.
        n: number of runs behind ``mean``.
        best: highest mean of its block and column.
        second: second highest.
    """

    text: str
    mean: float | None = None
    std: float | None = None
    n: int = 0
    best: bool = False
    second: bool = False

    def split(self) -> tuple[str, str]:
        """The text before and after its ±; the latter is "" where no deviation is shown."""
        if self.std is None:
            return self.text, ""
        mean, _, std = self.text.partition(PLUS_MINUS)
        return mean, std


@dataclass(frozen=True)
class Row:
    """Cells in column order; a rule separates rows of different ``block``.

    Attributes:
        cells: one per column.
        block: rows of one block stand together.
        runs: hashes of the results behind the row.
    """

    cells: tuple[Cell, ...]
    block: str = ""
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A title, columns, rows in blocks, and what a reader must know to trust them."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def blocks(self) -> list[list[Row]]:
        """Rows cut where the block changes."""
        cut: list[list[Row]] = []
        for row in self.rows:
            if cut and cut[-1][-1].block == row.block:
                cut[-1].append(row)
            else:
                cut.append([row])
        return cut

    def groups(self) -> list[tuple[str, int]]:
        """Group headings with the number of columns they span, left to right."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and column.group and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; cells by column key."""
        keys = [c.key for c in self.columns]
        rows = [{k: asdict(c) for k, c in zip(keys, row.cells, strict=True)} for row in self.rows]
        return {
            "title": self.title,
            "columns": [asdict(c) for c in self.columns],
            "rows": rows,
            "notes": list(self.notes),
        }


EMPTY = Cell("—")

_ON_SPREAD = ("mean ±", "±", "rows with n = 1 have no ±")
"""Beginnings of notes that speak of deviations alone."""


def without_std(table: Table) -> Table:
    """The table with means alone."""
    rows = (replace(r, cells=tuple(replace(c, text=c.split()[0], std=None) for c in r.cells)) for r in table.rows)
    notes = [n for n in table.notes if not n.startswith(_ON_SPREAD)]
    return replace(
        table, rows=tuple(rows), notes=(*notes, "figures are means; their deviations are left out on request")
    )


def number(values: list[float | None], digits: int) -> Cell:
    """Mean ± sample standard deviation of the runs of a row.

    A run without the value or with NaN marks the cell: a mean over the others would pass for all of them.

    Args:
        values: one per run, None where the run has no such value.
        digits: decimals.
    """
    present = [v for v in values if v is not None]
    if not present:
        return EMPTY
    bad = sum(not math.isfinite(v) for v in present)
    if bad:
        return Cell(f"NaN in {bad} of {len(values)}")
    if len(present) < len(values):
        return Cell(f"only {len(present)} of {len(values)}")
    n, mean = len(present), math.fsum(present) / len(present)
    if n == 1:
        return Cell(f"{mean:.{digits}f}", mean, None, 1)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in present) / (n - 1))
    return Cell(f"{mean:.{digits}f}{PLUS_MINUS}{std:.{digits}f}", mean, std, n)
