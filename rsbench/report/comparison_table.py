"""Comparisons as neutral tables. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from rsbench.evaluation.significance import ENUMERATED, LEVEL, RESAMPLES, Interval, holm, mean_std, smallest_p
from rsbench.report.build import title_of
from rsbench.report.comparison import Comparison
from rsbench.report.groups import Group, TableKey
from rsbench.report.table import EMPTY, Cell, Column, Row, Table, number

Maker = tuple[Column, Callable[[Comparison], Cell]]
PERCENT = f"{100 * LEVEL:.0f} %"


def comparison_tables(found: Sequence[Comparison]) -> list[Table]:
    """One table per dataset, split, noise and recipe; within a rate the highest difference first.

    p values are adjusted over the distinct comparisons of all tables: runs without noise stand in every table of their
    dataset and count once.

    Raises:
        DependencyError: scipy is not installed.
        ResultError: damaged ranks.
    """
    adjusted = _adjusted(found)
    tables: dict[TableKey, list[Comparison]] = defaultdict(list)
    for comparison in found:
        tables[comparison.key].append(comparison)
    return [_table(key, rows, adjusted) for key, rows in tables.items()]


def _runs(comparison: Comparison) -> tuple[str, ...]:
    return tuple(str(run.get("hash")) for pair in comparison.pairs for run in pair)


def _adjusted(found: Sequence[Comparison]) -> dict[tuple[str, ...], float]:
    """Runs of each comparison -> p after Holm's correction."""
    tests = {_runs(c): c.p for c in found if c.p is not None}
    return dict(zip(tests, holm(list(tests.values())), strict=True))


def _table(key: TableKey, found: Sequence[Comparison], adjusted: dict[tuple[str, ...], float]) -> Table:
    ordered = sorted(found, key=lambda c: (c.first.key.rate, -_mean(c.differences)))
    makers = _makers(ordered, adjusted)
    rows = [Row(tuple(cell(c) for _, cell in makers), f"{c.first.key.rate:g}") for c in ordered]
    return Table(
        f"{title_of(key)}; difference to {ordered[0].second.key.method}",
        tuple(column for column, _ in makers),
        tuple(rows),
        tuple(_notes(ordered, adjusted)),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("-inf")


def _words(column: Column, text: Callable[[Comparison], str]) -> Maker:
    return column, lambda c: Cell(text(c))


def _signed(value: float | None, std: float | None = None, n: int = 1) -> Cell:
    return EMPTY if value is None else Cell(f"{value:+.2f}", value, std, n)


def _bounds(name: str, title: str, interval: Callable[[Comparison], Interval | None]) -> list[Maker]:
    """Two columns; in CSV and JSON they carry the numbers in full."""

    def bound(at: int) -> Callable[[Comparison], Cell]:
        return lambda c: _signed(None if (found := interval(c)) is None else found[at])

    return [
        (Column(f"{name}low", f"{title} from", "", True), bound(1)),
        (Column(f"{name}high", "to", "", True), bound(2)),
    ]


def _probability(value: float | None) -> Cell:
    return EMPTY if value is None else Cell(f"{value:.4f}", value, None, 1)


def _makers(found: Sequence[Comparison], adjusted: dict[tuple[str, ...], float]) -> list[Maker]:
    """Columns with what stands in them; those that would be empty or alike in all rows are left out."""
    base = found[0].second.key.method
    makers = [_words(Column("noise", "Noise", "", True), lambda c: f"{c.first.key.rate:g}")]
    makers.append(_words(Column("method", "Method"), lambda c: c.first.key.method))
    if len({c.first.key[2:] for c in found}) > 1:
        makers.append(_words(Column("backbone", "Backbone"), lambda c: " ".join(c.first.key[2:])))
    settings = _settings(found)
    if any(map(settings, found)):
        makers.append(_words(Column("settings", "Settings"), settings))
    makers += [
        (Column("mr", "mR", "", True), lambda c: number(c.values[0], 2)),
        (Column("mr_against", f"mR of {base}", "", True), lambda c: number(c.values[1], 2)),
        (
            Column("difference", "Difference", "", True),
            lambda c: _signed(*mean_std(c.differences), len(c.pairs)) if c.differences else EMPTY,
        ),
        *_bounds("", f"{PERCENT} seeds", lambda c: c.interval),
    ]
    if any(c.queries for c in found):
        makers += _bounds("queries_", f"{PERCENT} queries", lambda c: c.queries)
    makers.append((Column("p", "p", "", True), lambda c: _probability(c.p)))
    if len(adjusted) > 1:
        makers.append((Column("p_holm", "p Holm", "", True), lambda c: _probability(adjusted.get(_runs(c)))))
    makers.append(_words(Column("pairs", "Pairs", "", True), lambda c: str(len(c.pairs))))
    return [*makers, _words(Column("verdict", "By seeds"), lambda c: c.verdict)]


def _settings(found: Sequence[Comparison]) -> Callable[[Comparison], str]:
    """Words for the settings that tell apart rows of one method and rate."""
    rows: dict[object, list[Group]] = defaultdict(list)
    for comparison in found:
        for group in (comparison.first, comparison.second):
            if group not in rows[group.key]:
                rows[group.key].append(group)

    def own(group: Group) -> str:
        alike = rows[group.key]
        names = sorted({n for g in alike for n in g.settings if g.settings[n] != group.settings.get(n)})
        return ", ".join(f"{n.removeprefix('params.')}={group.settings.get(n, '—')}" for n in names)

    def words(comparison: Comparison) -> str:
        first, second = own(comparison.first), own(comparison.second)
        return f"{first or '—'} against {second}" if second else first

    return words


def _notes(found: Sequence[Comparison], adjusted: dict[tuple[str, ...], float]) -> list[str]:
    part = "test" if found[0].key.held_out else "VALIDATION"
    told = [
        f"{part} mR of the best epoch in percent, mean ± sample standard deviation (n-1) over the paired seeds; "
        "runs are paired by seed"
    ]
    sizes = sorted({len(c.pairs) for c in found if c.p is not None})
    if sizes:
        least = ", ".join(f"{n} pairs {smallest_p(n):.3g}" for n in sizes)
        told += [
            f"{PERCENT} seeds: Student's interval of the paired difference, for each row alone; the last column says "
            "whether it holds 0",
            f"p: sign-flip test over seeds, two-sided, exact up to {ENUMERATED} pairs; smallest p possible: {least}",
        ]
    if len(adjusted) > 1:
        reached = min(1.0, min(map(smallest_p, sizes)) * len(adjusted)) if sizes else 1.0
        told.append(f"p Holm: corrected for the {len(adjusted)} tests shown; the smallest one possible: {reached:.3g}")
    if any(c.queries for c in found):
        told.append(
            f"{PERCENT} queries: bootstrap over the test queries, {RESAMPLES:,} draws of images and of captions, "
            "averaged over the paired runs: other queries for these very models, not other seeds"
        )
    else:
        told.append("no interval over queries: no pair of runs keeps ranks that belong to its figures")
    if any(len(c.pairs) == 1 for c in found):
        told.append("one pair says nothing about the spread: no ±, no interval, no p")
    return told + [note for c in found for note in c.notes]
