"""Published rows as tables, beside ours, and our runs in the place of theirs."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import pytest
from synthetic_results import figures, result_of, spec_of

from rsbench.errors import UnknownNameError, UsageError
from rsbench.report import latex
from rsbench.report.beside import base_of, slot_of
from rsbench.report.build import build_tables
from rsbench.report.folds import over_folds
from rsbench.report.formats import render
from rsbench.report.layout import layout_table
from rsbench.report.published import Filter, beside, browse, noise_word, published_tables
from rsbench.report.table import Cell, Column, Row, Table
from rsbench.results.published import load_published, select
from rsbench.training.recipe import Recipe

PAPER = replace(Recipe(), name="paper")
SEEDS = (3, 13, 25, 42, 65)


def published(name, **wanted):
    return [slot_of(r) for r in select(load_published(), **wanted) if r.benchmark == name]


def faithful(method="rrsitr", rate=0.4, mr=30.0, seeds=SEEDS, **changes):
    fields = {"backbone": "clip-vit-b32", "recipe": PAPER} | changes
    return [result_of(spec_of(method, rate, s, **fields), mr + at) for at, s in enumerate(seeds)]


def table_beside(results):
    (table,) = beside(build_tables(results), results)
    return table


def cells(table, row=0):
    return dict(zip((c.key for c in table.columns), table.rows[row].cells, strict=True))


def test_a_published_table_is_shown_as_printed():
    rows = select(load_published(), paper="rrsitr", table=1, noise=0.8)
    (table,) = published_tables([r for r in rows if r.method in ("pir", "rrsitr")])
    assert render([table], "markdown").splitlines() == [
        "### rrsitr-table1: RRSITR (CVPR 2026), table 1: rsitmd, noise shuffle",
        "",
        "| Row | Noise | Printed as | Method | Backbone | I2T R@1 | I2T R@5 | I2T R@10 | T2I R@1 | T2I R@5 | T2I R@10 "
        "| mR |",
        "| ---: | ---: | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(line for line in render([table], "markdown").splitlines() if line.startswith(("| 38 |", "| 44 |"))),
        "",
        "- figures exactly as printed, recalls and mR in percent; nothing is corrected or filled in",
        "- ± of published figures: standard deviation over runs as printed (n or n - 1 is not stated)",
    ]
    (row,) = [r for r in rows if r.method == "rrsitr"]
    assert cells(table, 1)["mr"].text == f"{row.printed['mr']} ± {row.printed['mr_std']}"


def test_every_published_figure_is_in_some_table_and_unchanged():
    rows = load_published()
    tables = published_tables(rows)
    assert len(tables) == 18
    shown = [cells(t, at) for t in tables for at in range(len(t.rows))]
    assert len(shown) == 485
    for row, found in zip(rows, shown, strict=True):
        printed = {k: v for k, v in row.printed.items() if not k.endswith("_std")}
        assert {k: found[k].text.split(" ± ")[0] for k in printed} == printed
        assert bool(row.marks) == bool("marks" in found and found["marks"].text)


def test_marked_rows_have_their_reason_below():
    (table,) = published_tables(select(load_published(), paper="pmpguard", table=1, dataset="rsicd", noise=0.8))
    assert cells(table)["marks"].text == "aggregate, reading, order"
    assert "aggregate: PMPGuard table 1, row 49: printed mR 2.49, its recalls give 2.10" in table.notes
    assert any(n.startswith("pattern: PMPGuard table 1, rows 55, 57, 59: ") for n in table.notes), "one line, not three"


def test_tables_without_mr_show_their_sum():
    (table,) = published_tables(select(load_published(), paper="srem", table=2))
    assert [c.title for c in table.columns][-2:] == ["rSum", "Marks"] or table.columns[-1].title == "rSum"
    assert cells(table)["noise"].text == "real"
    (vanilla, *_) = [published_tables(select(load_published(), paper="srem", table=3))[0]]
    assert "—" in {c.text for c in vanilla.rows[0].cells}, "the triple that is lost stays a gap"


def test_browsing_takes_names_and_combinations():
    rows = load_published()
    found = browse(rows, [Filter("method", ("srem", "ncr"), lambda r: r.method), Filter("noise", ("0.4",), noise_word)])
    assert {(r.method, r.noise_rate) for r in found} == {("srem", 0.4), ("ncr", 0.4)}
    with pytest.raises(UnknownNameError, match="unknown published method 'srme'; did you mean srem"):
        browse(rows, [Filter("method", ("srme",), lambda r: r.method)])
    with pytest.raises(UsageError, match=r"no published row has noise 0\.4 here; there is 0$"):
        browse(rows, [Filter("paper", ("rdb",), lambda r: r.paper), Filter("noise", ("0.4",), noise_word)])


def test_the_difference_is_mean_minus_printed():
    table = table_beside(faithful())
    found = cells(table)
    mine = (30 + 31 + 32 + 33 + 34) / 5
    assert found["published_mr"].text == "32.51 ± 0.63"
    assert found["difference"].mean == pytest.approx(mine - 32.51, abs=1e-12)
    assert found["difference"].text == "-0.51"
    assert found["differs_in"].text == "", "same backbone, split, recipe and seeds"
    assert found["source"].text == "RRSITR table 2, row 22"
    assert not {"marks", "auroc", "last_mr"} & set(found)
    assert not any(n.startswith("AUROC") for n in table.notes)


@pytest.mark.parametrize(
    ("changes", "word", "note"),
    [
        ({"backbone": "lite"}, "backbone", "ours lite, published clip-vit-b32 (rrsitr-table2)"),
        ({"recipe": Recipe()}, "recipe", "ours common, published paper"),
        ({"split": "official"}, "split", "ours official, published rrsitr"),
        ({"dataset": "rsicd-2k"}, "training set", "ours rsicd-2k, published rsicd"),
        ({"seeds": (3, 13)}, "seeds", "ours 3, 13, published 3, 13, 25, 42, 65"),
    ],
)
def test_what_differs_is_always_said(changes, word, note):
    table = table_beside(faithful(**changes))
    assert cells(table)["differs_in"].text == word
    assert (cells(table)["difference"].text == "—") == (word == "split"), "another split has other test images"
    assert any(n.startswith(f"differs in {word}: {note}") for n in table.notes)


def test_another_noise_kind_is_named_only_where_nothing_closer_is_printed():
    def noisy(method, kind, backbone="swin-bert"):
        noise = replace(spec_of().noise, kind=kind, source="generated")
        return [result_of(spec_of(method, 0.4, s, noise=noise, backbone=backbone, recipe=PAPER)) for s in (0, 1)]

    assert "noise kind" in cells(table_beside(noisy("rrsitr", "pmp")))["differs_in"].text
    table = table_beside(noisy("pir", "pmp"))
    assert cells(table)["source"].text.startswith("PMPGuard table 1") and len(table.rows) == 1
    assert any("differ in more are left out: 1 " in n for n in table.notes)
    assert cells(table_beside(noisy("pir", "shuffle")))["source"].text.startswith("RRSITR table 2")


def test_papers_that_print_the_same_row_get_a_line_each():
    table = table_beside([result_of(spec_of("pir", 0, s, backbone="lite", recipe=PAPER), 20.0) for s in (0, 1)])
    assert [cells(table, at)["source"].text for at in range(2)] == ["PMPGuard table 1, row 5", "RDB table 1, row 6"]
    assert cells(table, 0)["marks"].text == "aggregate, conflict" and "conflict" in cells(table, 1)["marks"].text
    assert cells(table, 1)["method"].text == "pir" and cells(table, 1)["mr"].text == "", "figures of ours stand once"
    assert any("further published row" in n for n in table.notes)
    assert any(
        n.startswith("conflict: PMPGuard table 1, row 5: RDB table 1, row 6 prints mR 24.46") for n in table.notes
    )


def test_no_counterpart_is_a_dash_or_a_note():
    mixed = table_beside(faithful(rate=0.4) + faithful("srem", rate=0.4))
    at = [cells(mixed, i)["method"].text for i in range(2)].index("srem")
    assert (cells(mixed, at)["published_mr"].text, cells(mixed, at)["difference"].text) == ("—", "—")
    alone = table_beside(faithful("srem", rate=0.4))
    assert "published_mr" not in cells(alone)
    assert any("no published row has a dataset, noise rate and method of this table" in n for n in alone.notes)
    other = table_beside(faithful(rate=0.3))
    assert any("no published row" in n for n in other.notes)


def test_real_noise_stands_beside_real_noise_alone():
    def runs(kind, rate):
        noise = replace(spec_of().noise, kind=kind, rate=rate, source="official")
        return [result_of(spec_of("srem", 0.4, s, dataset="cc152k", noise=noise), 60.0) for s in (0, 1)]

    table = table_beside(runs("real", 0.0))
    assert [cells(table, i)["source"].text.split(",")[0] for i in range(2)] == ["ReCon table 1", "SREM table 2"]
    assert cells(table)["difference"].text == "—", "another split"
    assert "published_mr" not in cells(table_beside(runs("shuffle", 0.4)))


def test_a_mean_that_is_none_has_no_difference():
    results = faithful()
    results[1]["test"]["best"]["mr"] = float("nan")
    found = cells(table_beside(results))
    assert (found["mr"].text, found["difference"].text) == ("NaN in 1 of 5", "—")
    assert not any(isinstance(c.mean, float) and math.isnan(c.mean) for c in found.values())


def test_ablations_stand_beside_ablations_alone():
    results = faithful(variant="no_spl", dataset="rsitmd", rate=0.8)
    found = cells(table_beside(results))
    assert (found["source"].text, found["published_mr"].text) == (
        "RRSITR table 4, row 2 (#2: w/o SPL module)",
        "29.80",
    )
    full = table_beside(faithful(dataset="rsitmd", rate=0.8))
    assert [cells(full, 0)["source"].text, len(full.rows)] == ["RRSITR table 1, row 44", 1], "the repeated row is not"


def test_layout_keeps_printed_order_and_gaps():
    slots = published("rrsitr-table2", noise=0.4)
    table = layout_table("ours", slots, faithful())
    assert [cells(table, i)["method"].text for i in range(11)] == [s.row.title for s in slots]
    assert [c.key for c in table.columns] == [
        "noise", "method", "backbone", "i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10", "mr", "n",
        "published_mr", "difference", "differs_in",
    ]  # fmt: skip
    gap, mine = cells(table, 0), cells(table, 10)
    assert (gap["mr"].text, gap["n"].text, gap["published_mr"].text, gap["difference"].text) == (
        "—", "—", "13.01 ± 0.10", "—"
    )  # fmt: skip
    assert (mine["mr"].text, mine["n"].text, mine["difference"].text) == ("32.00 ± 1.58", "5", "-0.51")
    assert "10 of 11 printed rows have no run of ours with their method, dataset and noise (—)" in table.notes


def test_layout_in_text():
    slots = [s for s in published("rrsitr-table2", noise=0.4) if s.row.method in ("cup", "rrsitr")]
    lines = render([layout_table("ours", slots, faithful(seeds=(3,), backbone="lite"))], "text").splitlines()
    assert [" ".join(line.split()) for line in lines if "----" not in line] == [
        "ours",
        "",
        "Noise Method Backbone as printed I2T R@1 I2T R@5 I2T R@10 T2I R@1 T2I R@5 T2I R@10 mR n published mR "
        "ours - published Ours differs in",
        "0.4 CUP — — — — — — — — 25.20 ± 0.59 —",
        "0.4 RRSITR ViT-B-32 (OpenCLIP) 25.00 30.00 35.00 25.00 30.00 35.00 30.00 1 32.51 ± 0.63 -2.51 backbone, seeds",
        "",
        "1 of 2 printed rows have no run of ours with their method, dataset and noise (—)",
        "± of published figures: standard deviation over runs as printed (n or n - 1 is not stated)",
        "mean ± sample standard deviation (n-1) over the n runs of ours, one per seed, in percent",
        "rows with n = 1 have no ±: one run says nothing about the spread",
        "ours - published is mean minus printed value, no test of it: read it with what ours differs in",
        "differs in backbone: ours lite, published clip-vit-b32 (rrsitr-table2)",
        "differs in seeds: ours 3, published 3, 13, 25, 42, 65 (rrsitr-table2)",
    ]


def test_layout_takes_no_run_that_does_not_fit():
    slots = [s for s in published("rrsitr-table2", noise=0.4) if s.row.method == "rrsitr"]
    pmp = replace(spec_of().noise, kind="pmp", source="generated")
    wrong = [
        *faithful(dataset="rsitmd"),
        *faithful(rate=0.8),
        *faithful(rate=0),
        *faithful(variant="no_spl"),
        *faithful("srem"),
        *faithful(noise=pmp),
        *faithful(held_out=False),
        *(r | {"status": "failed"} for r in faithful()),
    ]
    table = layout_table("ours", slots, wrong)
    assert len(table.rows) == 1 and cells(table)["mr"].text == "—"


def test_layout_shows_every_setting_that_fits_on_its_own_line():
    slots = [s for s in published("rrsitr-table2", noise=0.4) if s.row.method == "rrsitr"]
    table = layout_table(
        "ours", slots, faithful() + faithful(backbone="lite", mr=10.0) + faithful(recipe=Recipe(), mr=5.0)
    )
    assert [cells(table, i)["difference"].text for i in range(3)] == ["-0.51", "-20.51", "-25.51"]
    words = [cells(table, i)["ours"].text for i in range(3)]
    assert len(set(words)) == 3 and "backbone=lite" in words[1] and "recipe=common" in words[2]


def test_layout_on_another_dataset_has_no_difference():
    slots = [slot_of(s.row, "toy") for s in published("rrsitr-table2", noise=0.4) if s.row.method == "rrsitr"]
    table = layout_table("ours", slots, faithful(dataset="toy"))
    assert (cells(table)["mr"].text, cells(table)["difference"].text) == ("32.00 ± 1.58", "—")
    assert any("tested on other data" in n for n in table.notes)


def test_layout_names_failed_runs_and_missing_seeds():
    slots = [s for s in published("rrsitr-table2") if s.row.method == "rrsitr" and s.row.noise_rate in (0.4, 0.8)]
    runs = faithful(rate=0.4) + faithful(rate=0.8, seeds=(3, 13, 25, 42))
    failed = result_of(spec_of("rrsitr", 0.8, 65, backbone="clip-vit-b32", recipe=PAPER)) | {"status": "failed"}
    notes = layout_table("ours", slots, [*runs, failed]).notes
    assert "rrsitr at 0.8: no seed 65" in notes
    assert any("1 failed run(s) left out: rrsitr 0.8 seed 65" in n for n in notes)


def test_layout_of_a_table_with_sums_compares_sums():
    (slot,) = published("srem-table1", dataset="flickr30k", noise=0.4, method="srem")
    mine = [
        result_of(
            spec_of("srem", 0.4, 0, dataset="flickr30k", split="official", backbone="regions", recipe=PAPER), 80.0
        )
    ]
    found = cells(layout_table("ours", [slot], mine))
    assert found["rsum"].text == "480.00" and found["published_mr"].text == f"rSum {slot.row.printed['rsum']}"
    assert found["difference"].text == f"rSum {480.0 - float(slot.row.printed['rsum']):+.2f}"


def test_folds_are_no_whole_test_set():
    (slot,) = published("srem-table1", dataset="coco1k", noise=0.4, method="srem")
    spec = spec_of("srem", 0.4, 0, dataset="coco", split="official", backbone="regions", recipe=PAPER)
    found = cells(layout_table("ours", [slot], [result_of(spec, 60.0)]))
    assert (found["differs_in"].text, found["difference"].text) == ("test set", "—")
    both = result_of(spec, 60.0, folds={"n": 5, "best": figures(80.0), "last": figures(79.0)})
    found = cells(layout_table("ours", [slot], [both]))
    assert (found["differs_in"].text, found["rsum"].text) == ("", "480.00")
    assert found["difference"].text == f"rSum {480.0 - float(slot.row.printed['rsum']):+.2f}"


def test_each_row_of_one_run_beside_the_published_rows_of_its_own_test_set():
    spec = spec_of("recon", 0.2, 0, dataset="coco", split="official", backbone="regions", recipe=PAPER)
    both = result_of(spec, 60.0, folds={"n": 5, "best": figures(80.0), "last": figures(79.0)})
    printed = {1: ("ReCon table 3,", 60.0), 5: ("ReCon table 2,", 80.0)}
    for n, (name, mr) in printed.items():
        table = table_beside(over_folds([both], n))
        assert ("means over 5 folds" in table.title) == (n == 5)
        (row,) = table.rows
        found = {c.key: cell.text for c, cell in zip(table.columns, row.cells, strict=True)}
        assert found["source"].startswith(name) and "test set" not in found["differs_in"]
        assert found["mr"] == f"{mr:.2f}"


def test_marks_reach_a_csv():
    table = table_beside([result_of(spec_of("pir", 0, 0), 20.0)])
    records = list(csv.DictReader(io.StringIO(render([table], "csv"))))
    assert records[0]["published_mr"] == "21.99" and records[0]["marks"] == "aggregate, conflict"
    assert float(records[0]["difference"]) == pytest.approx(20 - 21.99)


def test_parts_of_a_dataset_stand_for_it_and_unknown_names_for_themselves():
    assert (base_of("rsicd-2k"), base_of("rsicd"), base_of("of my own")) == ("rsicd", "rsicd", "of my own")


def test_latex_of_a_negative_number_and_of_brackets_after_a_line_break():
    rows = (Row((Cell("[a]"), Cell("-1.50", -1.5))), Row((Cell("*b"), Cell("+1.50", 1.5))))
    text = latex.render([Table("t", (Column("m", "M"), Column("d", "D", number=True)), rows)])
    assert r"{[}a{]} & $-$1.50 \\" in text and r"{*}b & +1.50 \\" in text
    assert latex.escape('a--b---c "d" Čech þ') == "a-{}-b-{}-{}-c ''d'' Cech ?"
