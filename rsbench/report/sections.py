"""What the pages of the site show between their headings: figures with their numbers, from results alone. No torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rsbench.errors import DependencyError, RsbenchError
from rsbench.report.build import METRICS, build_tables, title_of
from rsbench.report.comparison import compare
from rsbench.report.comparison_table import comparison_tables
from rsbench.report.cost import BASE, MEASURES, cost_key, cost_tables
from rsbench.report.curves import Band, Point, bands, mean_band, noise_bands, points, row_label
from rsbench.report.groups import TableKey, by_table, flatten, method_label
from rsbench.report.pages import History
from rsbench.report.ranking import Ranking, ranking, ranking_table
from rsbench.report.rivals import with_rivals
from rsbench.report.table import Cell, Column, Row, Table
from rsbench.results.schema import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AUROC = "pairs.detection.auroc"
"""AUROC of an epoch in a flattened line of a history."""

NO_QUERIES = "no interval over queries"
"""Beginning of the note of a comparison that was made without ranks of queries."""

Keyed = Sequence[tuple[TableKey, Table]]
Drawing = Callable[[], "Figure"]


@dataclass(frozen=True)
class Picture:
    """A figure with what it says.

    Attributes:
        title: heading, where it has one of its own.
        text: caption.
        alt: the same without eyes; the numbers stand in a table below.
        draw: makes the figure.
    """

    title: str
    text: str
    alt: str
    draw: Drawing


@dataclass(frozen=True)
class Section:
    """Part of a page.

    Attributes:
        title: heading.
        pictures: figures.
        tables: their numbers.
        notes: what was left out, and why.
        ranked: ranking to draw a diagram of.
    """

    title: str
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    ranked: Ranking | None = None


def noise_sections(results: Sequence[Result]) -> list[Section]:
    """MR against the noise rate, one section per table; the best marked with its rivals where scipy is installed."""
    tables = build_tables(results, wide=True)
    with suppress(DependencyError):
        tables = with_rivals(tables, results)
    return [_noise_section(table) for table in tables]


def _noise_section(table: Table) -> Section:
    lines = noise_bands(table)
    if len({x for line in lines.values() for x in line.x}) < 2:
        return Section(table.title, (), (table,), ("One noise rate alone: no curve.",))
    text = "mR of the best epoch against the noise rate; bands: ± sample standard deviation over seeds (none for one)."
    picture = Picture("", text, f"{text} {_ends(lines)}", lambda: bands({"": lines}, "noise rate", "mR, %"))
    return Section(table.title, (picture,), (table,))


def _ends(lines: Mapping[str, Band]) -> str:
    """First and last value of each line, for those who do not see the figure."""
    return " ".join(f"{n}: {b.mean[0]:.2f} at {b.x[0]:g}, {b.mean[-1]:.2f} at {b.x[-1]:g}." for n, b in lines.items())


def detection_sections(tables: Keyed, histories: Mapping[str, History]) -> list[Section]:
    """AUROC of the clean scores per epoch, one section per table that has any."""
    found = []
    for key, table in tables:
        panels = _detection(table, histories)
        if panels:
            text = "AUROC of the clean scores against the truth, per epoch, mean over seeds; bands: ± sample standard "
            text += "deviation. A blind score has 0.5."
            alt = " ".join(f"Noise {rate}: {_ends(lines)}" for rate, lines in panels.items())
            titled = {f"noise {rate}": lines for rate, lines in panels.items()}
            picture = Picture("", text, f"{text} {alt}", lambda t=titled: bands(t, "epoch", "AUROC", True))  # type: ignore[misc]
            found.append(Section(title_of(key), (picture,), (_detection_table(panels),)))
    return found


def _detection(table: Table, histories: Mapping[str, History]) -> dict[str, dict[str, Band]]:
    """Noise rate -> name of a row -> its line; rows of which a run has no AUROC are left out."""
    found: dict[str, dict[str, Band]] = {}
    for at, row in enumerate(table.rows):
        line = mean_band([_auroc(histories.get(name, ())) for name in row.runs])
        if line is not None:
            found.setdefault(row.block, {})[row_label(table, at)] = line
    return found


def _auroc(history: History) -> dict[int, float]:
    found = {}
    for line in history:
        value, epoch = flatten(line).get(AUROC), line.get("epoch")
        if isinstance(value, int | float) and isinstance(epoch, int):
            found[epoch] = float(value)
    return found


def _detection_table(panels: Mapping[str, Mapping[str, Band]]) -> Table:
    ends = (("first", "First epoch", 0), ("last", "Last epoch", -1))
    columns = (
        Column("noise", "Noise", number=True),
        Column("method", "Method"),
        *(Column(key, title, number=True) for key, title, _ in ends),
        Column("highest", "Highest mean", number=True),
        Column("at", "in epoch", number=True),
    )
    rows = []
    for rate, lines in panels.items():
        for name, line in lines.items():
            top = max(range(len(line.x)), key=line.mean.__getitem__)
            cells = [Cell(rate), Cell(name), *(_spread(line.mean[i], line.std[i]) for _, _, i in ends)]
            rows.append(Row((*cells, Cell(f"{line.mean[top]:.3f}"), Cell(f"{line.x[top]:g}")), rate))
    return Table("AUROC over epochs", columns, tuple(rows))


def _spread(mean: float, std: float) -> Cell:
    text = f"{mean:.3f}" if math.isnan(std) else f"{mean:.3f} ± {std:.3f}"
    return Cell(text, mean, None if math.isnan(std) else std)


def cost_sections(tables: Keyed, results: Sequence[Result], against: str | None) -> list[Section]:
    """Cost against quality, one section per table; then the cost tables."""
    runs = {str(r["hash"]): r for r in results}
    found = [s for key, table in tables if (s := _cost_section(title_of(key), table, runs)) is not None]
    try:
        costs = cost_tables(results, against if _has(results, against) else None)
    except RsbenchError as error:
        return [*found, Section("Cost", notes=(str(error),))]
    return [*found, Section("Time, memory and parameters", tables=tuple(costs))]


def _has(results: Sequence[Result], method: str | None) -> bool:
    return any(r.get("status") == "done" and method_label(r["spec"]) == method for r in results)


def _cost_section(title: str, table: Table, runs: Mapping[str, Result]) -> Section | None:
    """Points of equal noise and of one machine share a panel; times of different machines say nothing together."""
    panels: dict[str, dict[str, Point]] = {}
    machines = {cost_key(runs[name])[5:] for row in table.rows for name in row.runs}
    mixed = 0
    for at, row in enumerate(table.rows):
        own = [runs[name] for name in row.runs]
        point, places = _point(table, row, own), {cost_key(r)[5:] for r in own}
        if point is None or len(places) > 1:
            mixed += len(places) > 1
            continue
        where = f"noise {row.block}" + (f", {', '.join(places.pop()[:3])}" if len(machines) > 1 else "")
        panels.setdefault(where, {})[row_label(table, at)] = point
    notes = (f"{mixed} row(s) left out: their runs were made on different machines.",) if mixed else ()
    if not panels:
        return Section(title, notes=notes) if notes else None
    text = "mR of the best epoch against seconds per epoch (training, filtration, validation); bars: ± sample standard "
    text += "deviation over seeds. Runs beside others on one machine take longer."
    alt = " ".join(f"{w}: {'; '.join(_said(n, p) for n, p in found.items())}." for w, found in panels.items())
    draw: Drawing = lambda: points(panels, "seconds per epoch", "mR, %")  # noqa: E731
    return Section(title, (Picture("", text, f"{text} {alt}", draw),), notes=notes)


def _said(name: str, point: Point) -> str:
    return f"{name} {point.x:.3g} s, mR {point.y:.2f}"


_SECONDS = next(value for column, _, value in MEASURES if column.key == "epoch")


def _point(table: Table, row: Row, runs: Sequence[Result]) -> Point | None:
    quality = row.cells[[c.key for c in table.columns].index("mr")]
    seconds = [s for r in runs if (s := _SECONDS(r)) is not None]
    if quality.mean is None or len(seconds) < len(runs):
        return None
    spread = statistics.stdev(seconds) if len(seconds) > 1 else math.nan
    return Point(statistics.fmean(seconds), quality.mean, spread, math.nan if quality.std is None else quality.std)


def statistics_sections(results: Sequence[Result], against: str | None) -> list[Section]:
    """Differences to a base method with their intervals, then average ranks of each table.

    Args:
        results: as chosen.
        against: label of the base method; ``infonce`` where it was run, if None.
    """
    return [_comparison(results, against or BASE), *_rankings(results)]


def _comparison(results: Sequence[Result], base: str) -> Section:
    title = f"Differences to {base}"
    try:
        tables = comparison_tables(compare(results, [], base))
    except RsbenchError as error:
        return Section(title, notes=(f"No comparison: {error}",))
    told = "intervals over queries, from ranks kept beside runs: rsbench compare"
    kept = [replace(t, notes=tuple(told if n.startswith(NO_QUERIES) else n for n in t.notes)) for t in tables]
    return Section(title, tables=tuple(kept))


def _rankings(results: Sequence[Result]) -> Iterator[Section]:
    for key, runs in by_table(results).items():
        title = f"Average ranks: {title_of(key)}"
        try:
            found = ranking(runs)
            yield Section(title, tables=(ranking_table(found),), ranked=found)
        except RsbenchError as error:
            yield Section(title, notes=(f"No ranking: {error}",))


def method_table(board: Table, method: str, runs: Mapping[str, Result]) -> Table | None:
    """Rows of the leaderboard of one method and its variants; None where there is none.

    Args:
        board: of ``leaderboard``.
        method: registered name.
        runs: by hash.
    """
    metrics = [at for at, c in enumerate(board.columns) if c.key in {m.key for m, _ in METRICS}]
    rows = [row for row in board.rows if str(runs[row.runs[0]]["spec"]["method"]) == method]
    plain = [_unmarked(row, metrics) for row in rows]
    note = ("Marks of best rows stand in the leaderboard alone.",)
    return replace(board, title=f"Results of {method}", rows=tuple(plain), notes=note) if rows else None


def _unmarked(row: Row, at: Sequence[int]) -> Row:
    """A row whose marks would compare it with rows that are not shown."""
    cells = [replace(c, best=False, second=False) if i in at else c for i, c in enumerate(row.cells)]
    return replace(row, cells=tuple(cells))
