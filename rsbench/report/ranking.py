"""Average ranks of methods over data sets, noise rates and seeds, with Nemenyi's critical difference. No torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from rsbench.errors import ResultError
from rsbench.evaluation.significance import LEVEL, Friedman, average_ranks, cliques, critical_difference, friedman
from rsbench.report.build import value_of
from rsbench.report.groups import TableKey, noise_file, row_key, table_key
from rsbench.report.table import Cell, Column, Row, Table
from rsbench.results.schema import Result


@dataclass(frozen=True)
class Ranking:
    """Methods, best first.

    Attributes:
        methods: labels.
        ranks: average ranks, 1 = highest test mR in every block.
        blocks: number of blocks in which every method has a run.
        left_out: number of blocks in which some method has none.
        seeds: whether a data set and rate gives more than one block.
        test: Friedman's, None where it says nothing.
        critical: Nemenyi's critical difference at 0.05.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    blocks: int
    left_out: int
    seeds: bool
    test: Friedman | None
    critical: float

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First and last position of methods between which no difference is shown."""
        return list(cliques(self.ranks, self.critical))


Block = tuple[TableKey, tuple[object, ...], str, int]


def ranking(results: Sequence[Result]) -> Ranking:
    """Rank the methods by test mR within every block (table, rate, backbone, noise list, seed) that has all of them.

    Raises:
        ResultError: fewer than two methods, no block with all of them, or a method with two settings in one block.
        DependencyError: scipy is not installed.
    """
    blocks = _blocks(results)
    methods = sorted({m for found in blocks.values() for m in found})
    if len(methods) < 2:
        raise ResultError(
            f"a ranking needs at least two methods, found: {', '.join(methods) or 'none that is finished'}"
        )
    whole = {key: found for key, found in blocks.items() if len(found) == len(methods)}
    if not whole:
        counts = ", ".join(f"{m} {sum(m in found for found in blocks.values())}" for m in methods)
        raise ResultError(
            f"none of {len(blocks)} blocks (data set, noise list, backbone, seed) has a run of every method "
            f"({counts}); choose methods that were run alike with --method, or narrow with --noise"
        )
    scores = [[found[m] for m in methods] for found in whole.values()]
    order = sorted(zip(map(float, average_ranks(scores)), methods, strict=True))
    return Ranking(
        methods=tuple(method for _, method in order),
        ranks=tuple(rank for rank, _ in order),
        blocks=len(whole),
        left_out=len(blocks) - len(whole),
        seeds=len({key[:3] for key in whole}) < len(whole),
        test=friedman(scores),
        critical=critical_difference(len(methods), len(whole)),
    )


def _blocks(results: Sequence[Result]) -> Mapping[Block, Mapping[str, float]]:
    """MR of each method in each block; runs that failed, or whose mR is missing or NaN, are no part of it."""
    found: dict[Block, dict[str, float]] = defaultdict(dict)
    for run in (r for r in results if r.get("status") == "done"):
        spec, row, key = run["spec"], row_key(run["spec"]), table_key(run["spec"])
        block = found[key, (row.rate, *row[2:]), noise_file(run), int(spec["seed"])]
        value = value_of(run, "mr", "test" if key.held_out else "val")
        if row.method in block:
            raise ResultError(
                f"two runs of {row.method} on {key.dataset} at noise {row.rate:g} have seed {spec['seed']}: their "
                "settings differ (see rsbench table); name the folders of one setting"
            )
        if value is not None and math.isfinite(value):
            block[row.method] = value
    return found


def ranking_table(found: Ranking) -> Table:
    """Methods by average rank; methods that share a letter are no difference shown."""
    columns = (
        Column("place", "Place", "", True),
        Column("method", "Method"),
        Column("rank", "Average rank", "", True),
        Column("groups", "Groups"),
    )
    rows = []
    for at, (method, rank) in enumerate(zip(found.methods, found.ranks, strict=True)):
        letters = "".join(
            c for c, (first, last) in zip(ascii_lowercase, found.groups, strict=False) if first <= at <= last
        )
        cells = (Cell(str(at + 1)), Cell(method), Cell(f"{rank:.2f}", rank, None, found.blocks), Cell(letters or "—"))
        rows.append(Row(cells))
    title = f"average ranks of {len(rows)} methods by mR over {found.blocks} blocks"
    return Table(title, columns, tuple(rows), tuple(_notes(found)))


def _notes(found: Ranking) -> list[str]:
    told = [
        "a block is one data set, split, recipe, noise list, backbone and seed; rank 1 = highest mR of the best epoch, "
        "equal values share the mean of their ranks",
        f"methods that share a letter are closer than Nemenyi's critical difference {found.critical:.2f} at "
        f"{1 - LEVEL:.2g}: no difference shown",
    ]
    if found.test is not None:
        told.append(f"Friedman's test of equal ranks: chi-squared {found.test.statistic:.2f}, p {found.test.p:.2g}")
    if found.left_out:
        told.append(f"{found.left_out} blocks left out: a method has no finished run, or no mR, there")
    if found.seeds:
        told.append(
            "seeds of one data set and rate share their data, so that blocks are not independent: the critical "
            "difference holds for these data sets, and is too small for others"
        )
    return told
