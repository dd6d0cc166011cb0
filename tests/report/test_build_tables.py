from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from synthetic_results import result_of, spec_of

from rsbench.errors import ResultError, UnknownNameError, UsageError
from rsbench.noise.index import NoiseSpec
from rsbench.report.build import build_tables
from rsbench.report.select import select
from rsbench.report.table import number
from rsbench.training.recipe import Recipe


def rows(table):
    """Cells by column key."""
    keys = [c.key for c in table.columns]
    return [dict(zip(keys, row.cells, strict=True)) for row in table.rows]


def told(table, words):
    return [n for n in table.notes if words in n]


def test_mean_and_sample_standard_deviation():
    values = [1.0, 2.5, 4.0]
    cell = number(values, 2)
    assert (cell.mean, cell.std, cell.n) == (2.5, pytest.approx(statistics.stdev(values)), 3)
    assert cell.text == "2.50 ± 1.50"


def test_one_seed_has_no_deviation_and_says_so():
    (table,) = build_tables([result_of(spec_of())])
    (row,) = rows(table)
    assert row["mr"].text == "20.00"
    assert row["mr"].std is None
    assert row["n"].text == "1"
    assert not row["mr"].best  # nothing to be better than
    assert told(table, "rows with n = 1 have no ±")


def test_blocks_by_rate_and_the_two_best_of_each(results):
    (table,) = build_tables(results)
    found = [(r["noise"].text, r["method"].text, r["mr"].text, r["mr"].best, r["mr"].second) for r in rows(table)]
    assert found == [
        ("0", "infonce", "22.50 ± 0.71", True, False),
        ("0", "srem", "21.50 ± 0.71", False, True),
        ("0.4", "srem", "19.50 ± 0.71", True, False),
        ("0.4", "infonce", "15.50 ± 0.71", False, True),
    ]
    assert [len(b) for b in table.blocks()] == [2, 2]
    assert [c.title for c in table.columns] == [
        "Noise", "Method", "R@1", "R@5", "R@10", "R@1", "R@5", "R@10", "mR", "last mR", "AUROC", "n",
    ]  # fmt: skip
    last = rows(table)[2]
    assert (last["last_mr"].mean, last["i2t_r1"].mean, last["t2i_r10"].mean) == (18.5, 14.5, 24.5)
    assert told(table, "sample standard deviation (n-1)")


def test_equal_means_share_the_mark():
    (table,) = build_tables([result_of(spec_of(m), v) for m, v in (("a", 3.0), ("b", 3.0), ("c", 2.0), ("d", 1.0))])
    assert [(r["mr"].best, r["mr"].second) for r in rows(table)] == [
        (True, False), (True, False), (False, True), (False, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "toy"},
        {"fingerprint": "e" * 64},
        {"split": "official"},
        {"recipe": Recipe(name="paper")},
        {"recipe": Recipe(selection="val_mr_round2")},
        {"noise": NoiseSpec("shuffle", "image", 0.4, "official")},
        {"noise": NoiseSpec("shuffle", "caption", 0.4, "generated")},
        {"noise": NoiseSpec("pmp", "caption", 0.4, "official")},
        {"held_out": False},
    ],
)
def test_what_must_not_stand_in_one_table(changes):
    tables = build_tables([result_of(spec_of()), result_of(spec_of(seed=1, **changes))])
    assert [len(t.rows) for t in tables] == [1, 1]
    assert len({t.title for t in tables} | {n for t in tables for n in t.notes}) > 2


def test_validation_runs_make_a_table_of_their_own():
    search = result_of(spec_of(held_out=False), 50.0)
    tables = build_tables([search, result_of(spec_of(), 20.0)])
    assert [rows(t)[0]["mr"].mean for t in tables] == [20.0, 50.0]
    assert "VALIDATION ONLY" in tables[1].title
    assert told(tables[1], "validation numbers only")


def test_clean_runs_stand_in_every_table_that_differs_in_the_noise_alone():
    image = NoiseSpec("shuffle", "image", 0.4, "generated")
    runs = [result_of(spec_of(rate=0)), result_of(spec_of()), result_of(spec_of(noise=image))]
    assert [[r["noise"].text for r in rows(t)] for t in build_tables(runs)] == [["0", "0.4"], ["0", "0.4"]]
    (alone,) = build_tables(runs[:1])
    assert "no noise" in alone.title


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"params": {"tau": 0.1}}, {"tau=0.05", "tau=0.1"}),
        ({"recipe": Recipe(lr=2e-3)}, {"recipe.lr=0.001", "recipe.lr=0.002"}),
        ({"precision": "bf16"}, {"precision=fp32", "precision=bf16"}),
        ({"backbone_params": {"width": 2}}, {"backbone_params.width=—", "backbone_params.width=2"}),
        ({"revisions": {"method": 2, "dataset": 1}}, {"revisions.method=1", "revisions.method=2"}),
    ],
)
def test_settings_that_differ_make_rows_that_say_so(changes, shown):
    (table,) = build_tables([result_of(spec_of()), result_of(spec_of(**changes))])
    assert {r["settings"].text for r in rows(table)} == shown
    assert [r["n"].text for r in rows(table)] == ["1", "1"]


def test_parameters_of_different_methods_are_not_compared_but_recipes_are():
    other = spec_of("vse", params={"margin": 0.2})
    (table,) = build_tables([result_of(spec_of()), result_of(other)])
    assert "settings" not in [c.key for c in table.columns]
    (table,) = build_tables([result_of(spec_of()), result_of(replace(other, recipe=Recipe(batch_size=64)))])
    assert {r["settings"].text for r in rows(table)} == {"recipe.batch_size=128", "recipe.batch_size=64"}


def test_a_list_per_seed_is_one_row_and_counted():
    runs = [result_of(spec_of(seed=s, noise_sha256=f"{s}" * 64)) for s in range(3)]
    (row,) = rows(build_tables(runs)[0])
    assert (row["n"].text, row["noise_files"].text) == ("3", "3")


def test_the_same_seeds_on_two_lists_are_two_rows():
    runs = [result_of(spec_of(seed=s, noise_sha256=f"{f}" * 64)) for s in range(2) for f in "ab"]
    (table,) = build_tables(runs)
    assert {r["settings"].text for r in rows(table)} == {"noise file=aaaaaaaa", "noise file=bbbbbbbb"}
    assert {r["n"].text for r in rows(table)} == {"2"}


def test_pooling_on_request():
    runs = [result_of(spec_of(seed=s, params={"tau": 0.1 * s}), 10.0 + s) for s in (1, 3)]
    (table,) = build_tables(runs, pool=["params.tau"])
    (row,) = rows(table)
    assert (row["mr"].mean, row["n"].text) == (12.0, "2")
    assert told(table, "pooled on request although they differ: params.tau")


@pytest.mark.parametrize("field", ["dataset", "fingerprint", "revisions.dataset"])
def test_pooling_of_test_sets_is_refused(field):
    with pytest.raises(UsageError, match=f"'{field}' cannot be pooled: it would mix test sets"):
        build_tables([result_of(spec_of())], pool=[field])


def test_pooling_of_an_unknown_field_names_the_near_ones():
    with pytest.raises(UnknownNameError, match=r"unknown field to pool 'params\.taw'; did you mean params\.tau"):
        build_tables([result_of(spec_of())], pool=["params.taw"])


def test_failed_runs_never_count():
    failed = {**result_of(spec_of(seed=1)), "status": "failed", "error": "NaN"}
    (table,) = build_tables([result_of(spec_of()), failed])
    assert rows(table)[0]["n"].text == "1"
    assert told(table, "1 failed run(s) left out: srem 0.4 seed 1")
    with pytest.raises(ResultError, match="none of the 1 runs is finished"):
        build_tables([failed])


def test_nan_marks_the_cell_and_never_wins():
    bad = result_of(spec_of("a", seed=0), 90.0)
    bad["test"]["best"]["mr"] = float("nan")
    bad["test"]["best"]["i2t_r1"] = None
    runs = [bad, result_of(spec_of("a", seed=1), 90.0), result_of(spec_of("b"), 3.0), result_of(spec_of("c"), 2.0)]
    found = {r["method"].text: r for r in rows(build_tables(runs)[0])}
    assert (found["a"]["mr"].text, found["a"]["mr"].mean) == ("NaN in 1 of 2", None)
    assert found["a"]["i2t_r1"].text == "only 1 of 2"
    assert found["b"]["mr"].best
    assert found["c"]["mr"].second


def test_missing_seeds_partial_data_and_mixed_versions_are_told():
    partial = {"parts": {"test": 30}, "missing": 7}
    runs = [result_of(spec_of("a", seed=s), environment={"rsbench": f"0.{s}"}, dataset=partial) for s in (0, 1)]
    (table,) = build_tables([*runs, result_of(spec_of("b"), dataset=partial)])
    assert told(table, "b at 0.4: no seed 1")
    assert told(table, "partial dataset: 7 images missing")
    assert told(table, "made by rsbench 0.0, 0.1")


def test_networks_and_prior_are_shown_where_they_matter():
    two = {"networks": 2, "uses_prior": "noise rate", "detector": "similarity"}
    (table,) = build_tables([result_of(spec_of("a"), method=two), result_of(spec_of("b"))])
    found = {r["method"].text: r for r in rows(table)}
    assert (found["a"]["networks"].text, found["a"]["uses_prior"].text) == ("2", "noise rate")
    assert (found["b"]["networks"].text, found["b"]["uses_prior"].text) == ("1", "")
    assert told(table, "detector native: b; detector similarity: a")


def test_variants_and_backbones_are_rows():
    runs = [result_of(spec_of()), result_of(spec_of(variant="wo_energy")), result_of(spec_of(weights="laion"))]
    found = {(r["method"].text, r["backbone"].text) for r in rows(build_tables(runs)[0])}
    assert found == {("srem", "lite hub heads"), ("srem:wo_energy", "lite hub heads"), ("srem", "lite laion heads")}


def test_wide_tables_have_the_rates_across(results):
    (table,) = build_tables([*results, result_of(spec_of("rcl"), 17.0)], wide=True)
    assert [c.title for c in table.columns] == ["Method", "0", "0.4"]
    assert [[c.text for c in r.cells] for r in table.rows] == [
        ["srem", "21.50 ± 0.71", "19.50 ± 0.71"],
        ["rcl", "—", "17.00"],
        ["infonce", "22.50 ± 0.71", "15.50 ± 0.71"],
    ]
    assert table.rows[2].cells[1].best
    assert table.rows[1].cells[2].second


def test_orders(results):
    by_name = [r["method"].text for r in rows(build_tables(results, sort="method")[0])]
    assert by_name == ["infonce", "srem", "infonce", "srem"]
    with pytest.raises(UnknownNameError, match="unknown order 'mR'"):
        build_tables(results, sort="mR")


def test_filters(results):
    results = [*results, result_of(spec_of(variant="x"))]
    assert {r["spec"]["method"] for r in select(results, methods=["infonce"])} == {"infonce"}
    assert len(select(results, methods=["srem"])) == 5
    assert len(select(results, methods=["srem:x"])) == 1
    assert len(select(results, methods=["srem:full"], noise=["0.40"])) == 2
    with pytest.raises(UnknownNameError, match="unknown method in these results 'infonse'; did you mean infonce"):
        select(results, methods=["infonse"])
    for rate in ("0.3", "many"):
        with pytest.raises(UsageError, match=f"no result has noise rate '{rate}'; rates there: 0, 0.4"):
            select(results, noise=[rate])


def test_filters_on_noise_keep_runs_without_noise(results):
    image = spec_of(noise=NoiseSpec("shuffle", "image", 0.4, "generated", 42))
    pmp = spec_of(noise=NoiseSpec("pmp", "caption", 0.4, "generated", 42, scorer="run:0"))
    mixed = [*results, result_of(image), result_of(pmp)]
    assert len(select(mixed, kinds=["shuffle"])) == len(results) + 1
    assert len(select(mixed, kinds=["shuffle"], units=["caption"])) == len(results)
    clean = sum(r["spec"]["noise"]["kind"] == "none" for r in results)
    assert [r["spec"]["noise"]["kind"] for r in select(mixed, kinds=["pmp"])].count("none") == clean > 0
    assert len(select(mixed, kinds=["pmp"])) == clean + 1
    with pytest.raises(UnknownNameError, match="unknown noise unit in these results 'pair'"):
        select(mixed, units=["pair"])
