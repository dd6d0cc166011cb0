"""Results -> tables laid out as the field's papers lay them out. No torch, no pandas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rsbench.errors import ResultError, UnknownNameError
from rsbench.report.groups import Group, RowKey, TableKey, by_row, by_table, check_pool
from rsbench.report.notes import notes_of
from rsbench.report.table import EMPTY, Cell, Column, Row, Table, number
from rsbench.results.schema import Result

I2T, T2I = "Image-to-Text", "Text-to-Image"

METRICS: tuple[tuple[Column, int], ...] = (
    (Column("i2t_r1", "R@1", I2T, True), 2),
    (Column("i2t_r5", "R@5", I2T, True), 2),
    (Column("i2t_r10", "R@10", I2T, True), 2),
    (Column("t2i_r1", "R@1", T2I, True), 2),
    (Column("t2i_r5", "R@5", T2I, True), 2),
    (Column("t2i_r10", "R@10", T2I, True), 2),
    (Column("mr", "mR", "", True), 2),
    (Column("last_mr", "last mR", "", True), 2),
    (Column("auroc", "AUROC", "", True), 3),
)
"""Metric columns with their decimals."""

SORTS = (*(c.key for c, _ in METRICS), "method", "backbone")


def build_tables(
    results: Sequence[Result], *, sort: str = "mr", pool: Sequence[str] = (), wide: bool = False
) -> list[Table]:
    """One table per dataset content, split, noise kind/unit/source, selection, recipe and part.

    Args:
        results: as ``load_results`` gives them; failed ones are left out and counted in the notes.
        sort: order of the rows of one rate: a metric (highest first), ``method`` or ``backbone``.
        pool: settings that are averaged over although they differ.
        wide: noise rates as columns of mR.

    Raises:
        ResultError: no finished run.
        UnknownNameError: no such order or pooled field.
        UsageError: a field that must not be pooled.
    """
    if sort not in SORTS:
        raise UnknownNameError("order", sort, SORTS)
    if pool:
        check_pool(pool, results)
    tables = []
    for key, runs in by_table(results).items():
        done = [r for r in runs if r.get("status") == "done"]
        if done:
            groups = sorted(by_row(done, pool), key=lambda g: g.key)
            notes = notes_of(key, groups, [r for r in runs if r.get("status") != "done"], pool)
            tables.append((_wide if wide else _long)(key, groups, notes, sort))
    if not tables:
        raise ResultError(f"none of the {len(results)} runs is finished; run them again with: rsbench run")
    return tables


def title_of(key: TableKey) -> str:
    """What the runs of a table share, in one line."""
    noise = "no noise" if key.noise is None else f"{key.noise[0]} noise per {key.noise[1]} ({key.noise[2]})"
    test = "test" if key.folds == 1 else f"test, means over {key.folds} folds"
    part = test if key.held_out else "VALIDATION ONLY (search runs, no test numbers)"
    return f"{key.dataset}, split {key.split}, {noise}, recipe {key.recipe}: {part}"


def value_of(result: Result, key: str, part: str) -> float | None:
    """A metric of a run on ``test`` or ``val``: NaN where it is no number, None where there is none."""
    found: dict[str, Any] = result.get(part, {})  # type: ignore[assignment]
    if key == "auroc":
        value = result.get("detection", {}).get("best", {}).get("auroc")
    elif key == "last_mr":
        value = found.get("last", {}).get("mr")
    else:
        value = found.get("best", {}).get(key)
    if value is None:
        return None
    return float(value) if isinstance(value, int | float) else float("nan")


def metric_cell(group: Group, key: str, digits: int, held_out: bool) -> Cell:
    """Mean ± standard deviation of one metric over the runs of a row."""
    part = "test" if held_out else "val"
    return number([value_of(r, key, part) for r in group.runs], digits)


def _scope(name: str, key: RowKey) -> tuple[str, ...]:
    """Rows among which a setting is compared: one method's own parameters say nothing about another's."""
    if name.startswith(("params.", "revisions.method", "noise file")):
        return key[1:]
    if name.startswith(("backbone_params.", "revisions.backbone")):
        return (key.backbone,)
    if name.startswith("noise."):  # runs without noise have no scorer
        return (f"{key.rate:g}",)
    return ()


def _settings(groups: Sequence[Group]) -> Callable[[Group], str]:
    """Words for the settings in which comparable rows differ."""
    values: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    names = dict.fromkeys(k for g in groups for k in g.settings)
    for group in groups:
        for name in names:
            values[name, _scope(name, group.key)].add(repr(group.settings.get(name)))

    def words(group: Group) -> str:
        shown = [n for n in names if len(values[n, _scope(n, group.key)]) > 1]
        return ", ".join(f"{n.removeprefix('params.')}={group.settings.get(n, '—')}" for n in shown)

    return words


def _fact(group: Group, name: str, default: Any) -> str:
    return "/".join(dict.fromkeys(str(r.get("method", {}).get(name, default)) for r in group.runs))


def _backbone(group: Group) -> str:
    return f"{group.key.backbone} {group.key.weights} {group.key.tuning}"


def _label_columns(groups: Sequence[Group]) -> list[tuple[Column, Callable[[Group], str]]]:
    """Columns of words; those in which all rows agree are left to the notes."""
    words = _settings(groups)
    optional: list[tuple[Column, Callable[[Group], str], Callable[[str], bool]]] = [
        (Column("settings", "Settings"), words, bool),
        (Column("networks", "Networks", number=True), lambda g: _fact(g, "networks", 1), lambda t: t != "1"),
        (Column("uses_prior", "Uses prior"), lambda g: _fact(g, "uses_prior", ""), bool),
    ]
    columns: list[tuple[Column, Callable[[Group], str]]] = [(Column("method", "Method"), lambda g: g.key.method)]
    if len({g.key[2:] for g in groups}) > 1:
        columns.append((Column("backbone", "Backbone"), _backbone))
    columns += [(c, text) for c, text, told in optional if any(told(text(g)) for g in groups)]
    return columns


def _long(key: TableKey, groups: Sequence[Group], notes: Sequence[str], sort: str) -> Table:
    labels = _label_columns(groups)
    tail: list[tuple[Column, Callable[[Group], str]]] = [(Column("n", "n", number=True), lambda g: str(len(g.runs)))]
    if any(len(g.noise_files) > 1 and g.key.rate > 0 for g in groups):
        tail.append((Column("noise_files", "noise files", number=True), lambda g: str(len(g.noise_files))))
    rate = Column("noise", "Noise", number=True)
    columns = (rate, *(c for c, _ in labels), *(c for c, _ in METRICS), *(c for c, _ in tail))
    rows = []
    for group in groups:
        cells = [Cell(f"{group.key.rate:g}")]
        cells += [Cell(text(group)) for _, text in labels]
        cells += [metric_cell(group, c.key, digits, key.held_out) for c, digits in METRICS]
        cells += [Cell(text(group)) for _, text in tail]
        rows.append(Row(tuple(cells), f"{group.key.rate:g}", tuple(r["hash"] for r in group.runs)))
    blocks = [_sorted(block, columns, sort) for block in Table("", columns, tuple(rows)).blocks()]
    marked = [row for block in blocks for row in mark(block)]
    return Table(title_of(key), columns, tuple(marked), tuple(notes))


def _sorted(rows: list[Row], columns: Sequence[Column], sort: str) -> list[Row]:
    keys = [c.key for c in columns]
    if sort not in keys:
        return rows
    at = keys.index(sort)
    if sort in ("method", "backbone"):
        return sorted(rows, key=lambda r: r.cells[at].text)
    return sorted(rows, key=lambda r: -_mean(r.cells[at]))


def _mean(cell: Cell) -> float:
    return float("-inf") if cell.mean is None else cell.mean


def mark(rows: Sequence[Row]) -> list[Row]:
    """Flag the best and the second best mean of each column among rows of one rate; equal means share a flag."""
    marked = [list(r.cells) for r in rows]
    for at in range(len(marked[0]) if marked else 0):
        means = sorted({c[at].mean for c in marked if c[at].mean is not None}, reverse=True)  # type: ignore[type-var]
        if len(means) < 2:  # nothing to be better than
            continue
        for cells in marked:
            place = cells[at].mean
            cells[at] = replace(cells[at], best=place == means[0], second=place == means[1])
    return [replace(r, cells=tuple(c)) for r, c in zip(rows, marked, strict=True)]


def _wide(key: TableKey, groups: Sequence[Group], notes: Sequence[str], sort: str) -> Table:
    """Methods down, noise rates across, mR in the cells."""
    labels = _label_columns(groups)
    rates = sorted({g.key.rate for g in groups})
    columns = (*(c for c, _ in labels), *(Column(f"mr_{r:g}", f"{r:g}", "mR by noise rate", True) for r in rates))
    lines: dict[tuple[str, ...], dict[float, Cell]] = defaultdict(dict)
    runs: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group in groups:
        words = tuple(text(group) for _, text in labels)
        lines[words][group.key.rate] = metric_cell(group, "mr", 2, key.held_out)
        runs[words] += [r["hash"] for r in group.runs]
    rows = [
        Row((*map(Cell, words), *(cells.get(r, EMPTY) for r in rates)), runs=tuple(runs[words]))
        for words, cells in lines.items()
    ]
    told = [n for n in notes if not n.startswith("AUROC")] + ["cells are mR; n of each cell: see the long table"]
    if sort not in ("method", "backbone"):
        rows.sort(key=lambda r: -_mean(r.cells[-1]))
    return Table(title_of(key), columns, tuple(mark(rows)), tuple(told))
