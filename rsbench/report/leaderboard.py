"""All rows of all tables as one table that can be sorted and filtered, and all runs as another. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rsbench.errors import DependencyError, ResultError
from rsbench.report.build import I2T, METRICS, build_tables, title_of, value_of
from rsbench.report.groups import TableKey, by_table, method_label, row_key, table_key
from rsbench.report.rivals import with_rivals
from rsbench.report.table import EMPTY, Cell, Column, Row, Table
from rsbench.results.schema import Result

NAMED = (
    Column("dataset", "Dataset"),
    Column("noise_kind", "Noise kind"),
    Column("noise", "Rate", number=True),
    Column("method", "Method"),
)
MADE_WITH = (Column("backbone", "Backbone"), Column("recipe", "Recipe"))
OPTIONAL = (
    Column("noise_files", "Noise files", number=True),
    Column("networks", "Networks", number=True),
    Column("uses_prior", "Uses prior"),
    Column("settings", "Settings"),
)
FILTERS = tuple(c.key for c in (*NAMED, *MADE_WITH))
"""Columns with a choice above the table."""

RUN_FILTERS = (*FILTERS, "status")


def tables_of(results: Sequence[Result]) -> tuple[list[tuple[TableKey, Table]], list[str]]:
    """The long tables with their keys, the best marked with its rivals within noise, and what a reader must know.

    Returns:
        No table where no run is finished; the notes say so.
    """
    keys = [key for key, runs in by_table(results).items() if any(r.get("status") == "done" for r in runs)]
    try:
        tables = build_tables(results)
    except ResultError as error:
        return [], [str(error)]
    try:
        tables, notes = with_rivals(tables, results), []
    except DependencyError as error:
        notes = [f"Marks show the highest and the second highest mean alone, no test of them: {error}"]
    return list(zip(keys, tables, strict=True)), notes


def leaderboard(tables: Sequence[tuple[TableKey, Table]], results: Sequence[Result]) -> Table | None:
    """Rows of all tables under one heading; None where there is none.

    Args:
        tables: of ``tables_of``.
        results: that they were made of.
    """
    runs = {str(r["hash"]): r for r in results}
    present = {c.key for _, table in tables for c in table.columns}
    figures = sorted((_named(c) for c, _ in METRICS), key=lambda c: c.key != "mr")  # what is read first stands first
    optional = (c for c in OPTIONAL if c.key in present)
    columns = (*NAMED, *figures, Column("n", "n", number=True), *MADE_WITH, *optional)
    rows = [_row(key, table, row, runs, columns) for key, table in tables for row in table.rows]
    return Table("Leaderboard", columns, tuple(rows)) if rows else None


def _named(column: Column) -> Column:
    """A column that needs no heading above it."""
    side = "" if not column.group else "i2t " if column.group == I2T else "t2i "
    return replace(column, title=side + column.title, group="")


def _row(key: TableKey, table: Table, row: Row, runs: Mapping[str, Result], columns: Sequence[Column]) -> Row:
    cells = dict(zip((c.key for c in table.columns), row.cells, strict=True))
    cells |= _facts(runs[row.runs[0]], key)
    return Row(tuple(cells.get(c.key, Cell("")) for c in columns), title_of(key), row.runs)


def _facts(run: Result, key: TableKey) -> dict[str, Cell]:
    """What a table says in its title or notes, as cells."""
    row = row_key(run["spec"])
    kind = "none" if key.noise is None else f"{key.noise[0]} per {key.noise[1]} ({key.noise[2]})"
    words = {
        "dataset": f"{key.dataset}, split {key.split}" + ("" if key.held_out else " (VALIDATION)"),
        "noise_kind": kind,
        "noise": f"{row.rate:g}",
        "method": row.method,
        "backbone": f"{row.backbone} {row.weights} {row.tuning}",
        "recipe": key.recipe,
    }
    return {name: Cell(text) for name, text in words.items()}


def runs_table(results: Sequence[Result]) -> Table:
    """One row per run, failed ones among them."""
    columns = (
        *NAMED,
        Column("seed", "Seed", number=True),
        Column("status", "Status"),
        Column("mr", "mR", number=True),
        Column("val_mr", "val mR", number=True),
        Column("epochs", "Epochs", number=True),
        Column("warnings", "Warnings", number=True),
        *MADE_WITH,
    )
    rows = [_run_row(run, columns) for run in sorted(results, key=_order)]
    notes = ("mR of the best epoch in percent: test part, and the validation part that chose the epoch",)
    return Table("Runs", columns, tuple(rows), notes)


def _order(run: Result) -> tuple[object, ...]:
    spec = run["spec"]
    return (str(spec["dataset"]), row_key(spec), int(spec["seed"]), str(run["hash"]))


def _run_row(run: Result, columns: Sequence[Column]) -> Row:
    done = run.get("status") == "done"
    cells = _facts(run, table_key(run["spec"])) | {
        "method": Cell(method_label(run["spec"])),
        "seed": Cell(str(run["spec"]["seed"])),
        "status": Cell(str(run.get("status"))),
        "mr": _figure(run, "test") if done else EMPTY,
        "val_mr": _figure(run, "val") if done else EMPTY,
        "epochs": Cell(str(run.get("epochs", "—"))),
        "warnings": Cell(str(len(run.get("warnings", [])))),
    }
    return Row(tuple(cells[c.key] for c in columns), "", (str(run["hash"]),))


def _figure(run: Result, part: str) -> Cell:
    value = value_of(run, "mr", part)
    return EMPTY if value is None else Cell("NaN") if value != value else Cell(f"{value:.2f}", value, None, 1)
