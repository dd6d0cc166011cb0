"""Which runs are paired, what the table says of them, ranks over blocks, and marks within noise."""

from __future__ import annotations

import csv
import io
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import stats
from synthetic_results import result_of, spec_of, write

from rsbench.errors import ResultError, UnknownNameError, UsageError
from rsbench.noise.index import NoiseSpec
from rsbench.report.build import build_tables
from rsbench.report.comparison import compare
from rsbench.report.comparison_table import comparison_tables
from rsbench.report.diagram import check_plot, plot_ranking, text_diagram
from rsbench.report.formats import render
from rsbench.report.ranking import Ranking, ranking, ranking_table
from rsbench.report.rivals import with_rivals
from rsbench.results.ranks import ranks_files, read_ranks
from rsbench.training.recipe import Recipe


def runs(method, mrs, rate=0.4, **changes):
    return [result_of(spec_of(method, rate, seed, **changes), mr) for seed, mr in mrs.items()]


def cells(table, at=0):
    return {c.key: cell for c, cell in zip(table.columns, table.rows[at].cells, strict=True)}


def one(results, *, methods=("srem",), against="rcl", ranks=None):
    (table,) = comparison_tables(compare(results, methods, against, ranks))
    return table


SREM = {0: 20.0, 1: 22.0, 2: 21.0, 3: 25.0, 4: 23.0}
RCL = {0: 19.0, 1: 20.0, 2: 20.5, 3: 21.0, 4: 23.5}


def test_a_row_is_what_scipy_says_of_its_pairs():
    table = one([*reversed(runs("srem", SREM)), *runs("rcl", RCL)])
    row, differences = cells(table), [SREM[s] - RCL[s] for s in SREM]
    wanted = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert row["difference"].mean == pytest.approx(statistics.fmean(differences))
    assert row["difference"].std == pytest.approx(statistics.stdev(differences))
    assert (row["low"].mean, row["high"].mean) == pytest.approx((wanted.low, wanted.high))
    assert row["p"].mean == 6 / 32, (
        "1 + 2 + .5 + 4 ± .5 and 1 + 2 - .5 + 4 + .5 are at least 7, and so are their mirrors"
    )
    assert (row["mr"].text, row["mr_against"].text) == ("22.20 ± 1.92", "20.80 ± 1.68")
    assert (row["pairs"].text, row["verdict"].text) == ("5", "no difference shown")
    assert "p_holm" not in row, "one test needs no correction"
    assert any("5 pairs 0.0625" in n for n in table.notes)
    assert any("no interval over queries" in n for n in table.notes)


def test_text_and_markdown():
    found = [one([*runs("srem", {0: 21.0, 1: 22.5}), *runs("rcl", {0: 20.0, 1: 20.5})])]
    head, rule, row = render(found, "markdown").splitlines()[2:5]
    assert head == "| Noise | Method | mR | mR of rcl | Difference | 95 % seeds from | to | p | Pairs | By seeds |"
    assert rule.count("---:") == 8
    assert row == (
        "| 0.4 | srem | 21.75 ± 1.06 | 20.25 ± 0.35 | +1.50 | -4.85 | +7.85 | 0.5000 | 2 | no difference shown |"
    )
    assert render(found, "text").splitlines()[0].endswith("recipe common: test; difference to rcl")
    (record,) = csv.DictReader(io.StringIO(render(found, "csv")))
    assert float(record["low"]) == pytest.approx(1.5 - 12.7062047 * math.sqrt(0.5) / math.sqrt(2) * 1.0)


def test_seeds_of_one_side_are_left_out_and_named():
    table = one([*runs("srem", SREM), *runs("rcl", {1: 20.0, 2: 20.5, 9: 1.0})])
    row = cells(table)
    assert row["pairs"].text == "2"
    assert row["difference"].mean == pytest.approx(statistics.fmean((2.0, 0.5)))
    assert "srem at 0.4: seeds on one side only left out: 0, 3, 4, 9" in table.notes


def test_one_seed_has_no_interval_and_it_is_said():
    table = one([*runs("srem", {0: 21.0}), *runs("rcl", {0: 20.0})])
    row = cells(table)
    assert (row["difference"].text, row["mr"].text) == ("+1.00", "21.00")
    assert row["low"].text == row["high"].text == row["p"].text == "—"
    assert row["verdict"].text == "one pair: no interval"
    assert any("no ±, no interval, no p" in n for n in table.notes)


@pytest.mark.parametrize("bad", [float("nan"), None, "n/a"])
def test_nan_and_missing_figures_are_never_averaged(bad):
    broken = runs("srem", {0: 21.0, 1: 22.0})
    broken[0]["test"]["best"]["mr"] = bad
    row = cells(one([*broken, *runs("rcl", {0: 20.0, 1: 20.0})]))
    assert row["mr"].mean is None and row["mr"].text in ("NaN in 1 of 2", "only 1 of 2")
    assert {row[k].text for k in ("difference", "low", "high", "p", "verdict")} == {"—"}


def test_failed_runs_do_not_count():
    failed = [r | {"status": "failed"} for r in runs("srem", {5: 99.0})]
    row = cells(one([*runs("srem", SREM), *failed, *runs("rcl", RCL | {5: 1.0})]))
    assert row["pairs"].text == "5"


@pytest.mark.parametrize(
    ("results", "methods", "against", "error", "message"),
    [
        (runs("srem", SREM), ["srem"], "rcl", UnknownNameError, "unknown method in these results 'rcl'"),
        (runs("srem", SREM), ["srem"], "sren", UnknownNameError, "did you mean srem"),
        (runs("srem", SREM), ["srem:full"], "srem", UsageError, "compared with itself"),
        (runs("srem", SREM), [], "srem", ResultError, "no other method and srem have no run in common"),
        (runs("srem", SREM) + runs("rcl", RCL, 0.8), ["srem"], "rcl", ResultError, "no run in common"),
        (runs("srem", {0: 1.0}) + runs("rcl", {1: 1.0}), ["srem"], "rcl", ResultError, "no run in common"),
        (
            runs("srem", {0: 1.0}, 0) + runs("srem", {0: 2.0}, 0, noise=NoiseSpec("none", "caption", 0, "generated", 7))
            + runs("rcl", {0: 1.0}, 0),
            ["srem"], "rcl", ResultError, "two runs of srem at noise 0 have seed 0",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_compared(results, methods, against, error, message):
    with pytest.raises(error, match=message):
        compare(results, methods, against)


def test_holm_counts_every_test_of_all_tables_once():
    image = NoiseSpec("shuffle", "image", 0.4, "generated", 42)
    results = []
    for method, shift in (("srem", 0.0), ("vse", 3.0), ("rcl", 1.0)):
        for rate, changes in ((0, {}), (0.4, {}), (0.4, {"noise": image})):
            results += runs(method, {s: 20 + shift + 0.1 * s * (method == "srem") for s in range(6)}, rate, **changes)
    tables = comparison_tables(compare(results, [], "rcl"))
    assert len(tables) == 2, "runs without noise stand in both"
    assert any("corrected for the 6 tests" in n for n in tables[0].notes), "2 methods x (clean, caption, image)"
    rows = [cells(t, at) for t in tables for at in range(len(t.rows))]
    assert {r["p"].mean for r in rows} == {2 / 64}
    assert {r["p_holm"].mean for r in rows} == {6 * 2 / 64}


def test_equal_settings_are_paired_first_and_others_are_told():
    slow = Recipe(epochs=9)
    both = [*runs("rcl", RCL), *runs("rcl", {s: v - 5 for s, v in RCL.items()}, recipe=slow)]
    table = one([*runs("srem", SREM, recipe=slow), *both])
    assert len(table.rows) == 1
    assert cells(table)["difference"].mean == pytest.approx(6.4)
    table = one([*runs("srem", SREM, recipe=slow), *runs("rcl", RCL)])
    assert any("settings differ: recipe.epochs 9 against 15" in n for n in table.notes)


def test_two_settings_of_a_method_are_two_rows_that_say_so():
    table = one([*runs("srem", SREM), *runs("srem", SREM, params={"tau": 0.1}), *runs("rcl", RCL)])
    assert [cells(table, at)["settings"].text for at in (0, 1)] == ["tau=0.05", "tau=0.1"]


def test_other_noise_lists_are_told():
    table = one([*runs("srem", SREM, noise_sha256="a" * 64), *runs("rcl", RCL)])
    assert any("different noise lists" in n for n in table.notes)


def keep(folder, result, i2t, t2i):
    """Ranks beside a run, and its figures as they follow from them."""
    i2t, t2i = np.asarray(i2t, np.int32), np.asarray(t2i, np.int32)
    recalls = [100 * float((r < k).mean()) for r in (i2t, t2i) for k in (1, 5, 10)]
    result["test"]["best"]["mr"] = sum(recalls) / 6
    write(folder, result)
    save_file({"i2t": i2t, "t2i": t2i}, folder / result["hash"] / "ranks.safetensors")
    return result


def test_intervals_over_queries_come_from_runs_that_keep_their_ranks(tmp_path):
    draw = np.random.default_rng(0)
    good = [keep(tmp_path, r, draw.integers(0, 9, 40), draw.integers(0, 9, 90)) for r in runs("srem", SREM)]
    poor = [keep(tmp_path, r, draw.integers(0, 30, 40), draw.integers(0, 30, 90)) for r in runs("rcl", RCL)]
    files = ranks_files([tmp_path])
    assert set(files) == {r["hash"] for r in good + poor}
    assert read_ranks(files[good[0]["hash"]]).mr == pytest.approx(good[0]["test"]["best"]["mr"])
    table = one(good + poor, ranks=files)
    row = cells(table)
    assert row["queries_low"].mean < row["difference"].mean < row["queries_high"].mean
    assert row["queries_low"].mean > 0
    assert any("not other seeds" in n for n in table.notes)
    stale = read_ranks(files[poor[0]["hash"]])
    poor[0]["test"]["best"]["mr"] += 1.0
    del files[poor[1]["hash"]]
    assert len(stale.i2t) == 40
    table = one(good + poor, ranks=files)
    assert any("3 of 5 pairs keep the ranks" in n for n in table.notes), "one has none, one is of other figures"


def test_damaged_ranks_are_named(tmp_path):
    result = keep(tmp_path, runs("srem", {0: 1.0})[0], [0, 1], [0, 1])
    file = tmp_path / result["hash"] / "ranks.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ResultError, match=r"ranks.safetensors is damaged"):
        read_ranks(file)


def three_methods():
    found, wobble = [], (0.3, -0.4, 0.2, -0.3)
    for rate in (0, 0.4, 0.8):
        srem = {s: 25 - 5 * rate + 0.5 * s for s in range(4)}
        found += runs("srem", srem, rate) + runs("rcl", {s: v + wobble[s] for s, v in srem.items()}, rate)
        found += runs("vse", {s: 15.0 - 5 * rate + s % 2 for s in range(4)}, rate)
    return found


def test_ranking_is_that_of_scipy_over_all_blocks():
    results = three_methods()
    found = ranking(results)
    table = {}
    for r in results:
        spec = r["spec"]
        table.setdefault((spec["noise"]["rate"], spec["seed"]), {})[spec["method"]] = r["test"]["best"]["mr"]
    scores = np.array([[row[m] for m in found.methods] for row in table.values()])
    assert found.blocks == len(scores) == 12
    assert found.ranks == pytest.approx(stats.rankdata(-scores, axis=1).mean(0))
    assert found.test.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert found.methods[-1] == "vse" and found.ranks[-1] == 3.0
    assert found.critical == pytest.approx(2.343 * math.sqrt(3 * 4 / (6 * 12)), rel=1e-3)
    shown = ranking_table(found)
    assert [cells(shown, at)["groups"].text for at in range(3)] == ["a", "a", "—"]
    assert any("not independent" in n for n in shown.notes)


def test_runs_without_noise_are_one_block_whatever_stands_beside_them():
    image = NoiseSpec("shuffle", "image", 0.4, "generated", 42)
    results = [r for m in ("srem", "rcl") for r in runs(m, SREM, 0) + runs(m, SREM, noise=image) + runs(m, RCL)]
    assert ranking(results).blocks == 15
    assert ranking(results).test is None, "two methods"


def test_blocks_that_lack_a_method_are_left_out_and_counted():
    results = [*three_methods(), *runs("srem", {9: 50.0})]
    results[0]["test"]["best"]["mr"] = float("nan")
    found = ranking(results)
    assert (found.blocks, found.left_out) == (11, 2)
    assert any("2 blocks left out" in n for n in ranking_table(found).notes)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (runs("srem", SREM), "at least two methods, found: srem"),
        ([r | {"status": "failed"} for r in runs("srem", SREM)], "none that is finished"),
        (runs("srem", SREM) + runs("rcl", RCL, 0.8), r"none of 10 blocks .* \(rcl 5, srem 5\)"),
        (runs("srem", SREM) + runs("srem", SREM, params={"tau": 1.0}), "two runs of srem on rsicd at noise 0.4"),
    ],
)
def test_what_cannot_be_ranked(results, message):
    with pytest.raises(ResultError, match=message):
        ranking(results)


CLOSE = Ranking(("rcl", "infonce", "srem", "vse"), (1.0, 2.4, 2.5, 4.0), 20, 0, True, None, 1.0)


def test_text_diagram():
    assert text_diagram(CLOSE) == [
        "         1                   2                   3                   4",
        "         +-------------------+-------------------+-------------------+",
        "CD       =====================                                          1.00",
        "rcl      o                                                              1.00",
        "infonce                              o                                  2.40",
        "srem                                   o                                2.50",
        "vse                                                                  o  4.00",
        "                                     ===                                no difference shown",
    ]


@pytest.mark.parametrize("form", ["png", "svg"])
def test_figure_is_the_same_each_time(tmp_path, form):
    odd = Ranking(("a$b_c", "<b>", "x" * 20), (1.2, 1.9, 2.9), 9, 0, False, None, 1.1)
    for found in (CLOSE, odd):
        first, second = tmp_path / f"a.{form}", tmp_path / f"b.{form}"
        plot_ranking(found, first)
        plot_ranking(found, second)
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_figures_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match=r"ends in .png or .svg"):
        check_plot(tmp_path / "cd.jpeg")
    with pytest.raises(UsageError, match="there is no folder"):
        check_plot(tmp_path / "absent" / "cd.png")


def test_rivals_within_noise_share_the_mark_of_the_best():
    results = three_methods()
    for wide in (False, True):
        (table,) = with_rivals(build_tables(results, wide=wide), results)
        rows = [{c.key: cell for c, cell in zip(table.columns, r.cells, strict=True)} for r in table.rows]
        for row in rows:
            best = row["mr_0.4" if wide else "mr"].best
            assert best == (row["method"].text in ("srem", "rcl"))
        assert not any(cell.second for row in rows for cell in row.values())
        assert not any(row["method"].best for row in rows)
        assert any("rivals within noise" in n for n in table.notes)
        assert not any("no significance test" in n for n in table.notes)


def test_marks_follow_the_paired_interval_not_the_spread():
    steady = {s: 20.0 + 5 * s for s in range(4)}
    results = [*runs("srem", steady), *runs("rcl", {s: v - 1 - 0.01 * s for s, v in steady.items()})]
    (table,) = with_rivals(build_tables(results), results)
    assert [cells(table, at)["mr"].best for at in (0, 1)] == [True, False], "1 below in every pair, whatever the spread"


def test_one_seed_in_common_cannot_tell_rivals_apart():
    results = [*runs("srem", {0: 30.0}), *runs("rcl", {0: 10.0, 1: 11.0})]
    (table,) = with_rivals(build_tables(results), results)
    assert [cells(table, at)["mr"].best for at in (0, 1)] == [True, True]


def test_rivals_need_runs():
    (table,) = build_tables(runs("srem", SREM))
    bare = replace(table, rows=tuple(replace(r, runs=()) for r in table.rows))
    with pytest.raises(UsageError, match="name no runs of ours"):
        with_rivals([bare], [])
