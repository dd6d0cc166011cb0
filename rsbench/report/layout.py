"""Our runs in the rows and columns of a published table. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsbench.report.beside import (
    Ours,
    Pairing,
    Slot,
    departure_notes,
    difference,
    fits,
    marks_cell,
    ours_of,
    pair,
    published_cell,
    reasons,
)
from rsbench.report.build import METRICS, metric_cell
from rsbench.report.folds import over_folds
from rsbench.report.groups import Group, row_key, table_key
from rsbench.report.notes import doubts
from rsbench.report.published import DIFFERENCE, DIFFERS, MARKS, PUBLISHED_MR, noise_word, spread_note
from rsbench.report.table import EMPTY, Cell, Column, Row, Table
from rsbench.results.published import AGGREGATES, RECALLS
from rsbench.results.schema import Result

OURS = Column("ours", "Ours")


def layout_table(
    title: str, slots: Sequence[Slot], results: Sequence[Result], *, notes: Sequence[str] = (), pool: Sequence[str] = ()
) -> Table:
    """A published table with our figures in it, in printed order; a row that no run stands for has dashes.

    Args:
        title: of the table.
        slots: its rows.
        results: what may stand in it; failed runs and those on validation alone never do.
        notes: what else a reader must know.
        pool: settings that are averaged over although they differ.
    """
    groups = {n: ours_of(over_folds(results, n), pool) for n in {s.wanted.folds for s in slots}}
    pairs = [[pair(o, slot) for o in groups[slot.wanted.folds] if fits(o, slot)] for slot in slots]
    found = list({id(p.ours): p.ours for some in pairs for p in some}.values())
    facts = [_facts(o) for o in found]
    varying = [n for n in dict.fromkeys(n for f in facts for n in f) if len({repr(f.get(n)) for f in facts}) > 1]
    several = any(len(some) > 1 for some in pairs)
    columns = _columns(slots, several)
    rows = []
    for slot, some in zip(slots, pairs, strict=True):
        each: list[Pairing | None] = [*some] or [None]
        for p in each:
            cells = tuple(_cell(c, slot, p, varying) for c in columns)
            runs = tuple(r["hash"] for r in p.ours.group.runs) if p else ()
            rows.append(Row(cells, f"{slot.row.dataset} {noise_word(slot.row)}", runs))
    every = [p for some in pairs for p in some]
    told = _notes(slots, every, sum(not some for some in pairs), _failed(slots, results))
    return Table(title, columns, tuple(rows), (*notes, *told))


def _columns(slots: Sequence[Slot], several: bool) -> tuple[Column, ...]:
    """Those of the printed table, then what ours needs."""
    rows = [s.row for s in slots]
    dataset = [Column("dataset", "Dataset")] if len({r.dataset for r in rows}) > 1 else []
    backbone = [Column("backbone", "Backbone as printed")] if len({r.backbone for r in rows}) > 1 else []
    aggregates = [k for k in AGGREGATES if any(k in r.printed for r in rows)] or ["mr"]
    return (
        *dataset,
        Column("noise", "Noise", number=True),
        Column("method", "Method"),
        *backbone,
        *([OURS] if several else []),
        *(c for c, _ in METRICS if c.key in RECALLS),
        *(Column(k, AGGREGATES[k][2], number=True) for k in aggregates),
        Column("n", "n", number=True),
        PUBLISHED_MR if "mr" in aggregates else Column("published_mr", "published", number=True),
        DIFFERENCE,
        *([MARKS] if any(r.marks for r in rows) else []),
        DIFFERS,
    )


def _cell(column: Column, slot: Slot, pairing: Pairing | None, varying: Sequence[str]) -> Cell:
    row = slot.row
    words = {"dataset": row.dataset, "noise": noise_word(row), "method": row.title, "backbone": row.backbone}
    if column.key in words:
        return Cell(words[column.key])
    if column.key == "published_mr":
        return published_cell(slot)
    if column.key == "marks":
        return marks_cell(row)
    if pairing is None:
        return Cell("") if column in (OURS, DIFFERS) else EMPTY
    if column.key == "difference":
        return difference(pairing)
    if column.key in ("ours", "differs_in", "n"):
        return Cell(_own_words(column.key, pairing, varying))
    return metric_cell(pairing.ours.group, column.key, 2, pairing.ours.key.held_out)


def _own_words(key: str, pairing: Pairing, varying: Sequence[str]) -> str:
    if key == "n":
        return str(len(pairing.ours.group.runs))
    if key == "differs_in":
        return ", ".join(pairing.departures)
    facts = _facts(pairing.ours)
    return ", ".join(f"{n.removeprefix('params.')}={facts[n]}" for n in varying if n in facts)


def _facts(ours: Ours) -> dict[str, Any]:
    """Everything that tells one row of ours from another of the same method and rate."""
    key, row = ours.key, ours.group.key
    noise = {"unit": key.noise[1], "source": key.noise[2]} if key.noise else {}
    named = {"dataset": key.dataset, "fingerprint": key.fingerprint[:8], "split": key.split, "recipe": key.recipe}
    models = {"backbone": row.backbone, "weights": row.weights, "tuning": row.tuning}
    return {**named, "selection": key.selection, **noise, **models, **ours.group.settings}


def _notes(slots: Sequence[Slot], pairings: Sequence[Pairing], gaps: int, failed: Sequence[Result]) -> list[str]:
    found = [f"{gaps} of {len(slots)} printed rows have no run of ours with their method, dataset and noise (—)"]
    found += spread_note(s.row for s in slots)
    if not pairings:
        return [*found, *doubts([], [], failed), *reasons([s.row for s in slots])]
    groups = list({id(p.ours.group): p.ours.group for p in pairings}.values())
    found.append("mean ± sample standard deviation (n-1) over the n runs of ours, one per seed, in percent")
    if any(len(g.runs) == 1 for g in groups):
        found.append("rows with n = 1 have no ±: one run says nothing about the spread")
    found.append("ours - published is mean minus printed value, no test of it: read it with what ours differs in")
    if not all(p.comparable for p in pairings):
        found.append("no difference where ours was tested on other data than the published row")
    runs = [r for g in groups for r in g.runs]
    return [*found, *departure_notes(pairings), *doubts(groups, runs, failed), *reasons([s.row for s in slots])]


def _failed(slots: Sequence[Slot], results: Sequence[Result]) -> list[Result]:
    """Failed runs that would stand in the table."""
    found = []
    for result in results:
        one = Ours(table_key(result["spec"]), Group(row_key(result["spec"]), {}, (result,)))
        if result.get("status") != "done" and one.key.held_out and any(fits(one, slot) for slot in slots):
            found.append(result)
    return found
