"""Numbers that papers print, as typed rows with their source; nothing is corrected or filled in. No torch."""

from __future__ import annotations

import csv
import functools
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib.resources import files
from typing import Any

RECALLS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")
"""The six recalls, named as in our own results."""

AGGREGATES = {"mr": (Fraction(1, 6), Fraction("0.02"), "mR"), "rsum": (Fraction(1), Fraction("0.15"), "rSum")}
"""Aggregate -> its factor on the sum of the recalls, the deviation that printing explains, its name."""

_STD = "_std"


@dataclass(frozen=True)
class Mark:
    """Why a row should not be quoted without a remark.

    Attributes:
        kind: ``aggregate`` (does not follow from its recalls), ``conflict`` (another paper prints other values),
            or a kind of ``published/marks.toml``.
    """

    kind: str
    reason: str


@dataclass(frozen=True)
class Paper:
    """A paper whose tables are kept."""

    key: str
    name: str
    venue: str


@dataclass(frozen=True)
class PublishedRow:
    """One printed set of recalls.

    Attributes:
        paper: key of ``papers()``.
        table: number of the table in the paper.
        row: number of the row in that table, from 1, in our order.
        dataset: ``rsitmd``, ``rsicd``, ``nwpu``, ``rs5m``, ``flickr30k``, ``coco1k`` (mean of five folds), ``coco5k``,
            ``cc152k``.
        noise_kind: ``none``, ``shuffle``, ``pmp`` or ``real``.
        noise_rate: nominal rate; None for ``real``.
        method: one word, the same in all papers.
        label: as printed; empty where an ablation has no label.
        backbone: as printed for this row, else empty.
        variant: ablation rows only; ``full`` or ``... (full)`` repeats a main row.
        printed: figures as printed, by the names of our own metrics; ``mr``, ``rsum`` and ``*_std`` where given.
        marks: remarks that belong beside the row.
    """

    paper: str
    table: int
    row: int
    dataset: str
    noise_kind: str
    noise_rate: float | None
    method: str
    label: str
    backbone: str
    variant: str
    printed: Mapping[str, str] = field(hash=False)
    marks: tuple[Mark, ...] = ()

    @property
    def benchmark(self) -> str:
        """Name of the table, such as ``rrsitr-table1``."""
        return f"{self.paper}-table{self.table}"

    @property
    def source(self) -> str:
        """Where it is printed, in words."""
        return f"{papers()[self.paper].name} table {self.table}, row {self.row}"

    @property
    def title(self) -> str:
        """The printed label, with the variant where it says more."""
        label = self.label or papers()[self.paper].name
        return label if self.variant in ("", label) else f"{label}: {self.variant}"

    @property
    def figures(self) -> dict[str, float]:
        """Recalls and aggregates as numbers."""
        return {k: float(v) for k, v in self.printed.items() if not k.endswith(_STD)}

    @property
    def deviations(self) -> dict[str, float]:
        """Standard deviations over runs, by metric, where printed (n or n - 1 is not stated)."""
        return {k.removesuffix(_STD): float(v) for k, v in self.printed.items() if k.endswith(_STD)}


@functools.cache
def papers() -> dict[str, Paper]:
    """The papers by key."""
    return {key: Paper(key, **facts) for key, facts in tomllib.loads(_text("papers.toml")).items()}


@functools.cache
def _rows() -> tuple[PublishedRow, ...]:
    found = [_row(record) for record in _records("results.csv")]
    conflicts = dict(_conflicts(found))
    remarks = tomllib.loads(_text("marks.toml"))["mark"]
    return tuple(replace(r, marks=(*_aggregate(r), *conflicts.get(r, ()), *_remarks(r, remarks))) for r in found)


def load_published() -> list[PublishedRow]:
    """Every row of every table, with its marks."""
    return list(_rows())


def select(
    rows: Iterable[PublishedRow],
    *,
    paper: str | None = None,
    table: int | None = None,
    dataset: str | None = None,
    noise: float | None = None,
    kind: str | None = None,
    method: str | None = None,
) -> list[PublishedRow]:
    """The rows that match everything that is given.

    Args:
        rows: from ``load_published``.
        paper: key of ``papers()``.
        table: number of the table.
        dataset: as in ``PublishedRow``.
        noise: nominal rate.
        kind: noise kind.
        method: one word, as in ``PublishedRow``.
    """
    given = {"paper": paper, "table": table, "dataset": dataset, "noise_rate": noise, "noise_kind": kind}
    wanted = {k: v for k, v in (given | {"method": method}).items() if v is not None}
    return [r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())]


def load_costs() -> list[dict[str, str]]:
    """Printed training costs (SREM table 4): one dict per value, columns of ``published/efficiency.csv``."""
    return _records("efficiency.csv")


def load_settings(paper: str | None = None) -> list[dict[str, str]]:
    """What papers state about their own training: one dict per value, columns of ``published/hyperparameters.csv``.

    Args:
        paper: key of ``papers()``, None for all.
    """
    return [r for r in _records("hyperparameters.csv") if paper in (None, r["paper"])]


def _text(name: str) -> str:
    return files("rsbench.results").joinpath("published", name).read_text(encoding="utf-8")


def _records(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(_text(name).splitlines()))


def _row(record: Mapping[str, str]) -> PublishedRow:
    figures = (*RECALLS, *AGGREGATES)
    printed = (*figures, *(f"{name}{_STD}" for name in figures))
    return PublishedRow(
        paper=record["paper"],
        table=int(record["table"]),
        row=int(record["row"]),
        dataset=record["dataset"],
        noise_kind=record["noise_kind"],
        noise_rate=float(record["noise_rate"]) if record["noise_rate"] else None,
        method=record["method"],
        label=record["label"],
        backbone=record["backbone"],
        variant=record["variant"],
        printed={name: record[name] for name in printed if record.get(name)},
    )


def _aggregate(row: PublishedRow) -> Iterator[Mark]:
    """A mark for each aggregate that its own six recalls do not give, in exact arithmetic."""
    if any(k not in row.printed for k in RECALLS):
        return
    total = sum(Fraction(row.printed[k]) for k in RECALLS)
    for key, (factor, slack, name) in AGGREGATES.items():
        if key in row.printed and abs(Fraction(row.printed[key]) - total * factor) > slack:
            yield Mark("aggregate", f"printed {name} {row.printed[key]}, its recalls give {float(total * factor):.2f}")


def _conflicts(rows: Iterable[PublishedRow]) -> Iterator[tuple[PublishedRow, tuple[Mark, ...]]]:
    """Main rows of one method in one setting for which two papers print different values."""
    same: dict[tuple[Any, ...], list[PublishedRow]] = {}
    for row in rows:
        if not row.variant:
            same.setdefault((row.method, row.dataset, row.noise_kind, row.noise_rate), []).append(row)
    for group in same.values():
        for row in group:
            others = [o for o in group if o.paper != row.paper and o.figures != row.figures]
            if others:
                yield row, tuple(Mark("conflict", f"{o.source} prints {_aggregates(o)}") for o in others)


def _aggregates(row: PublishedRow) -> str:
    return ", ".join(f"{name} {row.printed[k]}" for k, (_, _, name) in AGGREGATES.items() if k in row.printed)


def _remarks(row: PublishedRow, remarks: Iterable[Mapping[str, Any]]) -> Iterator[Mark]:
    """Remarks whose every selector fits the row."""
    mine = {"tables": row.table, "methods": row.method, "datasets": row.dataset, "variants": row.variant}
    for remark in remarks:
        fits = all(value in remark.get(key, (value,)) for key, value in mine.items())
        if remark["paper"] == row.paper and fits and row.noise_rate in remark.get("rates", (row.noise_rate,)):
            yield Mark(remark["kind"], remark["reason"])
