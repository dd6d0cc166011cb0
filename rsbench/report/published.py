"""Published rows as tables, and beside ours. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from rsbench.errors import UnknownNameError, UsageError
from rsbench.report.beside import (
    Ours,
    Pairing,
    Slot,
    closest,
    departure_notes,
    difference,
    marks_cell,
    ours_of,
    printed_cell,
    published_cell,
    reasons,
    slot_of,
)
from rsbench.report.build import METRICS
from rsbench.report.table import EMPTY, Cell, Column, Row, Table
from rsbench.results.published import AGGREGATES, RECALLS, PublishedRow, load_published, papers
from rsbench.results.schema import Result

PUBLISHED_MR = Column("published_mr", "published mR", number=True)
DIFFERENCE = Column("difference", "ours - published", number=True)
MARKS = Column("marks", "Marks")
DIFFERS = Column("differs_in", "Ours differs in")
SOURCE = Column("source", "Published in")

UNPRINTED = ("last_mr", "auroc")
"""Figures of ours that no paper prints: they stay in the table without published numbers."""

WORDS = ("noise", "method", "backbone", "settings")
"""Columns that a further published row repeats; figures of ours stand once."""

Text = tuple[Column, Callable[[PublishedRow], Cell]]


@dataclass(frozen=True)
class Filter:
    """What a user wants to see: values of a field, as typed.

    Attributes:
        field: name of the flag.
        wanted: any of these; empty for all.
        of: value of a row.
    """

    field: str
    wanted: tuple[str, ...]
    of: Callable[[PublishedRow], str]


def noise_word(row: PublishedRow) -> str:
    """The noise rate, or ``real`` where no rate is known."""
    return row.noise_kind if row.noise_rate is None else f"{row.noise_rate:g}"


def browse(rows: Sequence[PublishedRow], filters: Sequence[Filter]) -> list[PublishedRow]:
    """The rows that match every filter.

    Raises:
        UnknownNameError: a value that no published row has.
        UsageError: values that exist, but on no row together.
    """
    kept = list(rows)
    for f in filters:
        known = {f.of(r) for r in rows}
        for value in f.wanted:
            if value not in known:
                raise UnknownNameError(f"published {f.field}", value, known, "see `rsbench published`")
        left = sorted({f.of(r) for r in kept})
        kept = [r for r in kept if not f.wanted or f.of(r) in f.wanted]
        if not kept:
            raise UsageError(f"no published row has {f.field} {','.join(f.wanted)} here; there is {', '.join(left)}")
    return kept


def published_tables(rows: Iterable[PublishedRow]) -> list[Table]:
    """One table per published table, figures as printed, marked rows with their reasons below.

    Args:
        rows: in printed order.
    """
    tables: dict[str, list[PublishedRow]] = {}
    for row in rows:
        tables.setdefault(row.benchmark, []).append(row)
    return [_browsed(name, found) for name, found in tables.items()]


def _browsed(name: str, rows: Sequence[PublishedRow]) -> Table:
    first, paper = rows[0], papers()[rows[0].paper]
    kinds = dict.fromkeys(r.noise_kind for r in rows if r.noise_kind != "none")
    columns = [*_words(rows), *_figures(rows)]
    if any(r.marks for r in rows):
        columns.append((MARKS, marks_cell))
    body = tuple(Row(tuple(cell(r) for _, cell in columns), f"{r.dataset} {noise_word(r)}") for r in rows)
    datasets = ", ".join(dict.fromkeys(r.dataset for r in rows))
    title = f"{name}: {paper.name} ({paper.venue}), table {first.table}: {datasets}, noise {', '.join(kinds) or 'none'}"
    notes = ["figures exactly as printed, recalls and mR in percent; nothing is corrected or filled in"]
    notes += spread_note(rows)
    return Table(title, tuple(c for c, _ in columns), body, (*notes, *reasons(rows)))


def spread_note(rows: Iterable[PublishedRow]) -> list[str]:
    """What a printed ± is, where there is one."""
    if any(r.deviations for r in rows):
        return ["± of published figures: standard deviation over runs as printed (n or n - 1 is not stated)"]
    return []


def _words(rows: Sequence[PublishedRow]) -> list[Text]:
    """Columns of words; the dataset where there are several, the backbone where one is printed."""
    columns: list[Text] = [(Column("row", "Row", number=True), lambda r: Cell(str(r.row)))]
    if len({r.dataset for r in rows}) > 1:
        columns.append((Column("dataset", "Dataset"), lambda r: Cell(r.dataset)))
    columns += [
        (Column("noise", "Noise", number=True), lambda r: Cell(noise_word(r))),
        (Column("label", "Printed as"), lambda r: Cell(r.title)),
        (Column("method", "Method"), lambda r: Cell(r.method)),
    ]
    if any(r.backbone for r in rows):
        columns.append((Column("backbone", "Backbone"), lambda r: Cell(r.backbone)))
    return columns


def _figures(rows: Sequence[PublishedRow]) -> list[Text]:
    columns = [c for c, _ in METRICS if c.key in RECALLS]
    printed = [k for k in AGGREGATES if any(k in r.printed for r in rows)]
    columns += [Column(k, AGGREGATES[k][2], number=True) for k in printed]
    return [(c, lambda r, key=c.key: printed_cell(r, key)) for c in columns]  # type: ignore[misc]


def beside(tables: Sequence[Table], results: Sequence[Result], pool: Sequence[str] = ()) -> list[Table]:
    """The tables with the published rows that stand for each of their rows.

    Args:
        tables: long tables of ``build_tables``.
        results: what they were made from.
        pool: as for ``build_tables``.
    """
    ours = {r["hash"]: o for o in ours_of(results, pool) for r in o.group.runs}
    rows = load_published()
    main = {_setting(r) for r in rows if not r.variant}
    slots = [slot_of(r) for r in rows if not (_full(r) and _setting(r) in main)]
    return [_beside(_printable(t), ours, slots) for t in tables]


def _printable(table: Table) -> Table:
    kept = [i for i, c in enumerate(table.columns) if c.key not in UNPRINTED]
    rows = tuple(replace(r, cells=tuple(r.cells[i] for i in kept)) for r in table.rows)
    notes = tuple(n for n in table.notes if not n.startswith("AUROC"))
    return replace(table, columns=tuple(table.columns[i] for i in kept), rows=rows, notes=notes)


def _full(row: PublishedRow) -> bool:
    """Whether a table of ablations prints the full method here; mostly a main row again."""
    return row.variant == "full" or row.variant.endswith("(full)")


def _setting(row: PublishedRow) -> tuple[str | float | None, ...]:
    return (row.paper, row.dataset, row.noise_kind, row.noise_rate, row.method)


def _beside(table: Table, ours: dict[str, Ours], slots: Sequence[Slot]) -> Table:
    matches = [closest(ours[r.runs[0]], slots) if r.runs and r.runs[0] in ours else ([], 0) for r in table.rows]
    pairings = [p for found, _ in matches for p in found]
    if not pairings:
        said = "no published row has a dataset, noise rate and method of this table; see `rsbench published`"
        return replace(table, notes=(*table.notes, said))
    marked = any(p.slot.row.marks for p in pairings)
    columns = (PUBLISHED_MR, DIFFERENCE, *([MARKS] if marked else []), DIFFERS, SOURCE)
    keys = [c.key for c in table.columns]
    rows: list[Row] = []
    for row, (found, _) in zip(table.rows, matches, strict=True):
        for at, p in enumerate(found or [None]):
            own = row.cells if at == 0 else _again(row.cells, keys)
            rows.append(replace(row, cells=(*own, *_published_cells(p, marked))))
    notes = (*table.notes, *_notes(pairings, sum(left for _, left in matches)))
    return Table(table.title, (*table.columns, *columns), tuple(rows), notes)


def _again(cells: Sequence[Cell], keys: Sequence[str]) -> tuple[Cell, ...]:
    return tuple(c if k in WORDS else Cell("") for c, k in zip(cells, keys, strict=True))


def _published_cells(pairing: Pairing | None, marked: bool) -> tuple[Cell, ...]:
    if pairing is None:
        return (EMPTY, EMPTY, *([Cell("")] if marked else []), Cell(""), EMPTY)
    row = pairing.slot.row
    label = f" ({row.title})" if row.method != pairing.ours.group.key.method else ""
    marks = (marks_cell(row),) if marked else ()
    differs = Cell(", ".join(pairing.departures))
    return (published_cell(pairing.slot), difference(pairing), *marks, differs, Cell(row.source + label))


def _notes(pairings: Sequence[Pairing], left: int) -> list[str]:
    rows = list(dict.fromkeys(p.slot.row for p in pairings))
    found = [
        "published mR as printed; ours - published is mean minus printed value, no test of it: "
        "read it with what ours differs in"
    ]
    found += departure_notes(pairings)
    found += spread_note(rows)
    runs = Counter(p.ours.group.runs[0]["hash"] for p in pairings)
    if max(runs.values()) > 1:
        found.append("a line without figures of ours: a further published row for the runs of the line above")
    if left:
        found.append(f"published rows that differ in more are left out: {left} (`rsbench published` shows all)")
    return [*found, *reasons(rows)]
