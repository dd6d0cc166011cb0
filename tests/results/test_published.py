"""Published numbers as they are printed, and the remarks beside them."""

from __future__ import annotations

import csv
import tomllib
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from rsbench.results.published import (
    RECALLS,
    PublishedRow,
    load_costs,
    load_published,
    load_settings,
    papers,
    select,
)

TABLES = {
    "rrsitr": (44, 44, 44, 9),
    "pmpguard": (60, 30, 3, 30),
    "recon": (13, 78, 8, 5),
    "rdb": (31, 3, 4),
    "srem": (66, 8, 5),
}
"""Rows of each table, counted in the papers."""


@pytest.fixture(scope="module")
def rows() -> list[PublishedRow]:
    return load_published()


def kinds(row: PublishedRow) -> set[str]:
    return {mark.kind for mark in row.marks}


def test_every_row_of_every_table_is_there(rows: list[PublishedRow]) -> None:
    counted = Counter((r.paper, r.table) for r in rows)
    assert counted == {(p, i): n for p, sizes in TABLES.items() for i, n in enumerate(sizes, 1)}
    assert set(papers()) == set(TABLES)
    for (paper, table), n in counted.items():
        assert [r.row for r in select(rows, paper=paper, table=table)] == list(range(1, n + 1))


def test_a_row_keeps_what_is_printed(rows: list[PublishedRow]) -> None:
    (row,) = select(rows, paper="rrsitr", table=1, noise=0.8, method="rrsitr")
    assert row.printed["mr"] == "35.93" and row.figures["mr"] == 35.93
    assert set(row.deviations) == {*RECALLS, "mr"}
    assert (row.source, row.benchmark, row.title) == ("RRSITR table 1, row 44", "rrsitr-table1", "RRSITR")
    (row,) = select(rows, paper="pmpguard", table=1, dataset="rsitmd", noise=0.2, method="pir")
    assert row.printed["i2t_r1"] == "10.4", "one decimal, as in the paper"
    assert select(rows, kind="real", method="srem", table=2)[0].noise_rate is None


def test_recalls_are_percentages_in_order(rows: list[PublishedRow]) -> None:
    for row in rows:
        for side in ("i2t", "t2i"):
            recalls = [row.figures[f"{side}_r{k}"] for k in (1, 5, 10) if f"{side}_r{k}" in row.figures]
            assert recalls == sorted(recalls) and all(0 <= r <= 100 for r in recalls)
            assert len(recalls) == 3 or (row.paper, row.table, row.row, side) == ("srem", 3, 1, "t2i")


def test_aggregates_that_do_not_follow_are_marked_and_kept(rows: list[PublishedRow]) -> None:
    marked = Counter((r.paper, r.table) for r in rows if "aggregate" in kinds(r))
    assert marked == {
        ("pmpguard", 1): 33, ("pmpguard", 2): 18, ("pmpguard", 3): 3, ("pmpguard", 4): 19, ("rdb", 1): 3, ("srem", 1): 1
    }  # fmt: skip
    (row,) = select(rows, paper="rdb", dataset="rsitmd", method="uniadapter")
    assert row.printed["mr"] == "39.23"
    assert [m.reason for m in row.marks if m.kind == "aggregate"] == ["printed mR 39.23, its recalls give 37.73"]


def test_the_aggregate_is_that_of_plain_floats(rows: list[PublishedRow]) -> None:
    for row in rows:
        if "mr" in row.figures and "aggregate" not in kinds(row):
            assert abs(row.figures["mr"] - sum(row.figures[k] for k in RECALLS) / 6) < 0.0201
        if "rsum" in row.figures and "aggregate" not in kinds(row):
            assert abs(row.figures["rsum"] - sum(row.figures[k] for k in RECALLS)) < 0.1501


def test_papers_that_disagree_name_each_other(rows: list[PublishedRow]) -> None:
    marked = [r for r in rows if "conflict" in kinds(r)]
    assert len(marked) == 34, "17 pairs"
    assert not any(r.variant for r in marked)
    (row,) = select(rows, paper="pmpguard", dataset="rsicd", kind="none", method="pir")
    assert [m.reason for m in row.marks if m.kind == "conflict"] == ["RDB table 1, row 6 prints mR 24.46"]
    (other,) = select(rows, paper="rdb", dataset="rsicd", method="pir")
    assert other.row == 6


def test_remarks_stand_where_they_belong(rows: list[PublishedRow]) -> None:
    (row,) = select(rows, paper="pmpguard", table=1, dataset="rsicd", noise=0.8, method="l2rm")
    assert {"aggregate", "reading", "order"} <= kinds(row)
    assert not kinds(select(rows, paper="rrsitr", table=1, noise=0.2, method="rrsitr")[0])
    spread = {(r.table, r.dataset, r.noise_rate, r.method) for r in rows if "spread" in kinds(r) and r.table < 4}
    weak = {
        (r.table, r.dataset, r.noise_rate, r.method)
        for r in select(rows, paper="rrsitr")
        if r.figures["mr"] < 1 and r.table < 4
    }
    assert spread - weak == {(2, "rsicd", 0.6, "kamcl"), (3, "nwpu", 0.6, "kamcl")}, "the others are those with mR < 1"
    assert weak <= spread


def test_every_remark_is_about_some_row(rows: list[PublishedRow]) -> None:
    text = files("rsbench.results").joinpath("published", "marks.toml").read_text(encoding="utf-8")
    used = {(m.kind, m.reason) for r in rows for m in r.marks}
    for remark in tomllib.loads(text)["mark"]:
        assert (remark["kind"], remark["reason"]) in used
        assert set(remark) <= {"paper", "tables", "methods", "datasets", "rates", "variants", "kind", "reason"}
        for key, name in (
            ("methods", "method"),
            ("datasets", "dataset"),
            ("variants", "variant"),
            ("rates", "noise_rate"),
        ):
            mine = {getattr(r, name) for r in rows if r.paper == remark["paper"] and r.table in remark["tables"]}
            assert set(remark.get(key, ())) <= mine, f"{remark['reason']}: {key} that the table has not"


def test_better_at_more_noise_is_marked(rows: list[PublishedRow]) -> None:
    """Found again with plain floats: aggregates that rise with the noise rate."""
    found = set()
    for low in rows:
        for high in select(rows, paper=low.paper, table=low.table, dataset=low.dataset, method=low.method):
            rates = sorted(
                {r.noise_rate for r in select(rows, paper=low.paper, table=low.table, dataset=low.dataset)} - {None}
            )
            near = low.noise_rate in rates and rates.index(low.noise_rate) + 1 < len(rates)
            if near and high.variant == low.variant and high.noise_rate == rates[rates.index(low.noise_rate) + 1]:
                found |= {high for k in ("mr", "rsum") if high.figures.get(k, 0) > low.figures.get(k, 0)}
    assert found and found == {r for r in rows if "order" in kinds(r) and r.method != "ncr"}


def test_costs_and_settings() -> None:
    costs = load_costs()
    assert len(costs) == 9
    assert {c["metric"] for c in costs} == {"filtration_time", "training_time", "gpu_memory"}
    assert len(load_settings()) == 111
    assert {s["paper"] for s in load_settings("rdb")} == {"rdb"}
    (lr,) = [s for s in load_settings("rrsitr") if s["name"] == "learning_rate"]
    assert (lr["value"], lr["location"]) == ("7e-6", "4.2 Implementation Details")


def test_the_package_says_what_was_collected(rows: list[PublishedRow], shared: Path) -> None:
    """Against the collection that the package was made from, where it lies beside the real data."""
    source = shared.parent / "published" / "results.csv"
    if not source.exists():
        pytest.skip("needs the collected numbers beside the real data")
    with source.open(encoding="utf-8", newline="") as file:
        for record, row in zip(csv.DictReader(file), rows, strict=True):
            figures = {k: v for k, v in record.items() if v and k.removesuffix("_std") in (*RECALLS, "mr", "rsum")}
            assert dict(row.printed) == figures
            words = ("paper", "dataset", "noise_kind", "method", "backbone", "variant")
            assert all(getattr(row, k) == record[k] for k in words)
            assert (str(row.table), row.label) == (record["table"], record["method_label"])
            assert row.noise_rate == (float(record["noise_rate"]) if record["noise_rate"] else None)
