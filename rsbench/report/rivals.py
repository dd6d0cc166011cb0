"""Mark the best of a table only together with those that chance may have put behind it. No torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from rsbench.errors import UsageError
from rsbench.evaluation.significance import LEVEL, t_interval
from rsbench.report.build import METRICS, value_of
from rsbench.report.groups import row_key
from rsbench.report.table import Column, Row, Table
from rsbench.results.schema import Result

NOTE = (
    "best mean of each noise rate and its rivals within noise in bold (plain text: *...*): rows whose "
    f"{100 * LEVEL:.0f} % interval of the difference to the best over paired seeds (Student's, for each row alone) "
    "holds 0, or that share fewer than two seeds with it"
)
_METRIC_KEYS = {column.key for column, _ in METRICS}
_PLAIN_NOTE = "best mean of each noise rate in bold"

BySeed = Mapping[int, float]


def with_rivals(tables: Sequence[Table], results: Sequence[Result]) -> list[Table]:
    """Tables of ``build_tables``, long or wide, in which one mark stands for the best and its rivals within noise.

    Args:
        tables: their rows name their runs.
        results: what they were built from.

    Raises:
        DependencyError: scipy is not installed.
        UsageError: a table without runs of ours.
    """
    runs = {r["hash"]: r for r in results}
    marked = []
    for table in tables:
        if not any(row.runs for row in table.rows):
            raise UsageError(f"rivals cannot be marked in '{table.title}': its rows name no runs of ours")
        values = [[_by_seed(c, [runs[h] for h in row.runs if h in runs]) for c in table.columns] for row in table.rows]
        rows, start = [], 0
        for block in table.blocks():
            rows += mark_rivals(block, values[start : start + len(block)])
            start += len(block)
        notes = [*(note for note in table.notes if not note.startswith(_PLAIN_NOTE)), NOTE]
        marked.append(replace(table, rows=tuple(rows), notes=tuple(notes)))
    return marked


def _by_seed(column: Column, runs: Sequence[Result]) -> BySeed:
    """Run seed -> value of a column of figures, the mean where runs of a seed were pooled."""
    metric, _, rate = column.key.partition("_") if column.key.startswith("mr_") else (column.key, "", "")
    found: dict[int, list[float]] = defaultdict(list)
    for run in runs if metric in _METRIC_KEYS else ():
        value = value_of(run, metric, "test" if run["spec"].get("held_out", True) else "val")
        if value is not None and math.isfinite(value) and rate in ("", f"{row_key(run['spec']).rate:g}"):
            found[int(run["spec"]["seed"])].append(value)
    return {seed: fmean(values) for seed, values in found.items()}


def mark_rivals(rows: Sequence[Row], values: Sequence[Sequence[BySeed]]) -> list[Row]:
    """Flag the best mean of each column, and every mean that it is not shown to exceed.

    Args:
        rows: of one rate.
        values: row by row and column by column run seed -> value; empty where no runs stand behind a cell.

    Raises:
        DependencyError: scipy is not installed.
    """
    marked = [list(row.cells) for row in rows]
    for at in range(len(marked[0]) if marked else 0):
        means = {i: m for i, cells in enumerate(marked) if (m := cells[at].mean) is not None and values[i][at]}
        if len(set(means.values())) < 2:  # nothing to be better than
            continue
        best = max(means, key=means.__getitem__)
        for i in means:
            marked[i][at] = replace(marked[i][at], best=_level(values[i][at], values[best][at]), second=False)
    return [replace(row, cells=tuple(cells)) for row, cells in zip(rows, marked, strict=True)]


def _level(one: BySeed, best: BySeed) -> bool:
    """Whether the seeds in common leave it open that both are the same."""
    interval = t_interval([best[s] - one[s] for s in seeds]) if len(seeds := one.keys() & best.keys()) > 1 else None
    return interval is None or interval.holds_zero
